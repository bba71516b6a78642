import csv
import json

import pytest

from zoobot_3d import cli
from zoobot_3d.errors import BadFileError
from zoobot_3d.report.experts import read_judgements

CANNOT = "I can't decide, they're so similar!"
FINE, POOR = "Mostly well (some minor errors)", "Mostly poorly, some major errors"


def annotations(*answers) -> str:
    return json.dumps([{"task": f"T{i}", "task_label": "?", "value": answer} for i, answer in enumerate(answers)])


def write_zooniverse(path, rows):
    """Rows of (workflow, annotations)."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["classification_id", "user_name", "workflow_name", "annotations", "subject_ids"])
        for number, (workflow, told) in enumerate(rows):
            writer.writerow([number, f"not-logged-in-{number % 7}", workflow, told, 9000 + number % 50])
    return path


@pytest.fixture
def published(tmp_path):
    """Rows with the published totals: 367 spirals (287, 75, 5) and 133 bars (90, 28 ties, 15)."""
    spirals = (("Bottom row", 287, "Middle row"), ("Middle row", 75, "Bottom row"), ("Top row", 5, "Bottom row"))
    rows = [("Spiral", annotations(best, "Perfectly", second, FINE)) for best, n, second in spirals for _ in range(n)]
    rows += [("Bar", annotations("Bottom row", "Perfectly", POOR))] * 90
    rows += [("Bar", annotations(CANNOT))] * 28
    rows += [("Bar", annotations("Top row", FINE, "Totally failed"))] * 15
    return write_zooniverse(tmp_path / "export.csv", rows)


def test_the_published_bar_charts_come_back(published):
    found = read_judgements(published)
    told = found.preferences().set_index(["class", "source"])
    shares = {key: f"{100 * share:.1f}" for key, share in told["share"].items()}
    assert shares == {
        ("spiral", "model"): "78.2",
        ("spiral", "volunteers"): "20.4",
        ("spiral", "sparcfire"): "1.4",
        ("bar", "model"): "67.7",
        ("bar", "volunteers"): "11.3",
        ("bar", "tie"): "21.1",
    }
    assert told.loc[("spiral", "model"), "of"] == 367 and told.loc[("bar", "model"), "of"] == 133
    assert found.unusable == () and found.replaced == 0


def test_intervals_are_wilsons(published):
    """By hand for 5 of 367: centre (p + z2/2n) / (1 + z2/n), half width z sqrt(p(1-p)/n + z2/4n2) / (1 + z2/n)."""
    row = read_judgements(published).preferences().set_index(["class", "source"]).loc[("spiral", "sparcfire")]
    p, n, z = 5 / 367, 367, 1.959964
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * (p * (1 - p) / n + z**2 / (4 * n**2)) ** 0.5 / (1 + z**2 / n)
    assert (row["low"], row["high"]) == pytest.approx((centre - half, centre + half), abs=1e-6)


def test_duels_leave_ties_out(published):
    duels = read_judgements(published).duels().set_index(["class", "against"])
    bars = duels.loc[("bar", "volunteers")]
    assert (bars["n"], bars["of"], bars["ties"]) == (90, 105, 28)
    assert bars["p"] < 1e-12
    assert duels.loc[("spiral", "sparcfire"), "of"] == 292


def test_qualities_belong_to_the_right_source(published):
    told = read_judgements(published).qualities().set_index(["class", "source"])
    assert told.loc[("bar", "model"), ["perfect", "failed", "of"]].tolist() == [90, 15, 105]
    assert told.loc[("bar", "volunteers"), ["mostly", "poorly", "of"]].tolist() == [15, 90, 105]
    assert told.loc[("spiral", "sparcfire"), ["perfect", "of"]].tolist() == [5, 5]
    assert told.loc[("spiral", "model"), "share"] == 1.0
    assert told.loc[("bar", "model"), "share"] == pytest.approx(90 / 105)


# Our own page


def line(**changed) -> str:
    row = {"galaxy": "g1", "class": "spiral", "left": "model", "right": "volunteers", "choice": "left", "judge": "a"}
    return json.dumps({**row, "date": "2026-11-30T12:00:00Z", **changed})


def test_sides_are_undone(tmp_path):
    file = tmp_path / "judgements.jsonl"
    told = {"left": "perfect", "right": "failed"}
    lines = [line(quality=told), line(galaxy="g2", left="volunteers", right="model", choice="right", quality=told)]
    file.write_text("\n".join([*lines, line(galaxy="g3", choice="tie"), ""]))
    found = read_judgements(file)
    shares = found.preferences().set_index("source")["share"]
    assert shares.to_dict() == {"model": pytest.approx(2 / 3), "volunteers": 0, "tie": pytest.approx(1 / 3)}
    told = found.qualities().set_index("source")
    assert told.loc["model", ["perfect", "failed"]].tolist() == [1, 1]
    assert told.loc["volunteers", ["perfect", "failed"]].tolist() == [1, 1]


def test_the_last_judgement_of_the_same_masks_counts(tmp_path):
    file = tmp_path / "judgements.jsonl"
    changed_mind = line(left="volunteers", right="model", choice="left")
    file.write_text(
        "\n".join([line(), changed_mind, line(judge="b"), line(right="sparcfire"), line(**{"class": "bar"})])
    )
    found = read_judgements(file)
    assert (len(found.best), found.replaced) == (4, 1)
    assert found.best.query("judge == 'a' and `class` == 'spiral'")["best"].tolist() == ["volunteers", "model"]


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ("{not json", "line 2: "),
        (line(choice="middle"), "line 2: choice 'middle' is none of left, right, tie"),
        (line(left="magic"), "line 2: left 'magic' is none of model"),
        (line(right="model"), "line 2: left and right are the same source"),
        (line(quality={"left": "great"}), "line 2: quality 'great' is none of perfect"),
        ('{"galaxy": "g"}', "line 2: no 'left'"),
        ("[]", "line 2: "),
    ],
)
def test_a_broken_line_is_counted_with_its_reason(tmp_path, broken, reason):
    file = tmp_path / "judgements.jsonl"
    file.write_text(f"{line()}\n{broken}\n")
    found = read_judgements(file)
    assert len(found.best) == 1 and found.unusable[0].startswith(reason)


@pytest.mark.parametrize(
    ("workflow", "told", "reason"),
    [
        ("Rings", annotations("Top row"), "neither spiral nor bar"),
        ("Bar", annotations("Middle row"), "best 'middle row' is none of top row, bottom row"),
        ("Bar", annotations("Top row", "So so"), "quality 'so so' is not known"),
        ("Bar", "[]", "no answer"),
        ("Bar", "oops", "Expecting value"),
    ],
)
def test_a_file_without_a_usable_judgement_is_an_error(tmp_path, workflow, told, reason):
    with pytest.raises(BadFileError, match=reason):
        read_judgements(write_zooniverse(tmp_path / "export.csv", [(workflow, told)]))


def test_another_table_is_refused(tmp_path):
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    with pytest.raises(BadFileError, match="no column annotations, workflow_name"):
        read_judgements(tmp_path / "x.csv")
    with pytest.raises(BadFileError, match="No such file"):
        read_judgements(tmp_path / "missing.csv")


def test_the_command_writes_a_figure_with_its_fonts(published, tmp_path, capsys):
    assert cli.main(["experts", str(published), "--out", str(tmp_path / "out")]) == 0
    told = capsys.readouterr().out
    assert "78.2%" in told and "287 of 367" in told and "500 judgements" in told
    pdf = (tmp_path / "out" / "experts.pdf").read_bytes()
    assert b"/FontFile2" in pdf and b"/Type3" not in pdf  # TrueType, embedded
    facts = json.loads((tmp_path / "out" / "experts.json").read_text())
    assert facts["preferences"][0]["n"] == 287 and facts["judgements"] == 500
