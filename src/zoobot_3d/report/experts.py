"""What experts prefer: blind judgements of arms and bars found by this model, by volunteers and by SpArcFiRe.

Reads two formats: the export of a Zooniverse project, as in Walmsley & Spindler 2023, and the JSON lines of our own
judging page (docs/formats.md). Knows tables and files; draws nothing.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from scipy.stats import binomtest

from zoobot_3d.errors import BadFileError
from zoobot_3d.schema import CLASSES

__all__ = ["QUALITIES", "SOURCES", "TIE", "Judgements", "read_judgements"]

SOURCES = {"model": "this model", "volunteers": "volunteers", "sparcfire": "SpArcFiRe"}
"""Who found the arms or bars, and what they are called in tables and figures."""

TIE = "tie"
QUALITIES = {"perfect": "perfect", "mostly": "minor errors", "poorly": "major errors", "failed": "failed"}
"""How good a mask is, from best to worst, and the words of figures."""

_ROWS: dict[str, dict[str, str]] = {
    "spiral": {"top row": "sparcfire", "middle row": "volunteers", "bottom row": "model"},
    "bar": {"top row": "volunteers", "bottom row": "model"},
}
"""What the rows of the published project's pictures were; experts were not told."""

_STARTS = {"perfect": "perfect", "mostly well": "mostly", "mostly poorly": "poorly", "totally failed": "failed"}
_NO_TIE_BREAK = "i can't decide"
_MOST_BYTES = 500_000_000


@dataclass(frozen=True)
class Judgements:
    """What experts said.

    Attributes
    ----------
    best : pandas.DataFrame
        A row a judgement: ``galaxy``, ``class``, ``judge``, ``best`` (a source or ``"tie"``) and ``shown`` (tuple of
        the sources).
    quality : pandas.DataFrame
        A row a mask whose quality was told: ``class``, ``source``, ``quality`` (a key of `QUALITIES`).
    unusable : tuple of str
        Lines that could not be used, with the reason.
    replaced : int
        Judgements that the same person gave again later; the last one counts.
    """

    best: pd.DataFrame
    quality: pd.DataFrame
    unusable: tuple[str, ...] = ()
    replaced: int = 0

    def preferences(self) -> pd.DataFrame:
        """Count who is preferred; the shares of a class add up to 1, ties counted.

        Returns
        -------
        pandas.DataFrame
            ``class``, ``source`` (or ``"tie"``), ``n`` of ``of``, ``share``, ``low`` and ``high``: the 95% interval of
            Wilson (1927, JASA 22, 209), which Brown, Cai & DasGupta (2001, Stat. Sci. 16, 101) recommend. It takes
            judgements for independent; several of one galaxy or person are not quite.
        """
        rows = []
        for name in CLASSES:
            chosen = self.best[self.best["class"] == name]
            shown = {source for sources in chosen["shown"] for source in sources}
            for source in (*SOURCES, TIE):
                n = int(chosen["best"].eq(source).sum())
                if n or source in shown:
                    rows.append({"class": name, "source": source, "n": n, "of": len(chosen), **_share(n, len(chosen))})
        return pd.DataFrame(rows, columns=["class", "source", "n", "of", "share", "low", "high"])

    def duels(self) -> pd.DataFrame:
        """Compare the model with each other source where one of the two was preferred; ties say nothing here.

        Returns
        -------
        pandas.DataFrame
            ``class``, ``against``, ``n`` preferred the model of ``of``, ``share``, ``low``, ``high`` as in
            `preferences`, ``ties``, and ``p``: of the two-sided sign test that both are equally good.
        """
        rows = []
        for name in CLASSES:
            chosen = self.best[self.best["class"] == name]
            for other in list(SOURCES)[1:]:
                met = chosen[[{"model", other} <= set(shown) for shown in chosen["shown"]]]
                n, lost = int(met["best"].eq("model").sum()), int(met["best"].eq(other).sum())
                if n + lost:
                    p = float(binomtest(n, n + lost).pvalue)
                    facts = {"class": name, "against": other, "n": n, "of": n + lost, **_share(n, n + lost)}
                    rows.append({**facts, "ties": int(met["best"].eq(TIE).sum()), "p": p})
        return pd.DataFrame(rows, columns=["class", "against", "n", "of", "share", "low", "high", "ties", "p"])

    def qualities(self) -> pd.DataFrame:
        """Count how good the masks of each source are.

        Returns
        -------
        pandas.DataFrame
            ``class``, ``source``, ``of``, a count for each of `QUALITIES`, and ``share``, ``low``, ``high`` of those
            that are perfect or have minor errors, with intervals as in `preferences`. Where experts judge the best and
            the second only, as in the published project, the masks of a weak source are its better ones.
        """
        rows = []
        for name in CLASSES:
            for source in SOURCES:
                told = self.quality[(self.quality["class"] == name) & (self.quality["source"] == source)]["quality"]
                if len(told):
                    counts = {quality: int(told.eq(quality).sum()) for quality in QUALITIES}
                    good = counts["perfect"] + counts["mostly"]
                    rows.append({"class": name, "source": source, "of": len(told), **counts, **_share(good, len(told))})
        return pd.DataFrame(rows, columns=["class", "source", "of", *QUALITIES, "share", "low", "high"])

    def tables(self) -> dict[str, list[list[str]]]:
        """Return the three tables as rows of text under a header, by title."""
        names = {**SOURCES, TIE: "cannot decide"}
        first, second, third = (t.to_dict("records") for t in (self.preferences(), self.duels(), self.qualities()))
        rows = [
            [["class", "preferred", "judgements", "share", "95% interval"]],
            [["class", "this model against", "preferred", "share", "95% interval", "ties", "p"]],
            [["class", "masks of", "perfect or minor errors", "share", "95% interval"]],
        ]
        rows[0] += [[r["class"], names[r["source"]], *_cells(r, r["n"])] for r in first]
        rows[1] += [
            [r["class"], names[r["against"]], *_cells(r, r["n"]), str(r["ties"]), f"{r['p']:.2g}"] for r in second
        ]
        rows[2] += [[r["class"], names[r["source"]], *_cells(r, r["perfect"] + r["mostly"])] for r in third]
        titles = (f"{len(self.best)} judgements", "without ties; p is of the sign test", "how good the masks are")
        return dict(zip(titles, rows, strict=True))

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers for JSON."""
        tables = {"preferences": self.preferences(), "duels": self.duels(), "qualities": self.qualities()}
        counts = {"judgements": len(self.best), "replaced": self.replaced, "unusable": list(self.unusable)}
        return {**counts, **{name: table.to_dict("records") for name, table in tables.items()}}


def read_judgements(path: str | os.PathLike[str]) -> Judgements:
    """Read judgements of a Zooniverse export (CSV) or of the judging page (JSON lines).

    Lines that cannot be used are counted with their reason. Of several judgements by the same person of the same masks
    of one galaxy, the last counts.

    Raises
    ------
    BadFileError
        If the file cannot be read, or has no judgement that can be used.
    """
    path = Path(path)
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise BadFileError(path, "larger than 500 MB", "give the judgements alone")
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BadFileError(path, str(getattr(error, "strerror", None) or "not text"), "give a CSV or JSONL") from None
    found: dict[tuple[Any, ...], tuple[dict[str, Any], dict[str, str]]] = {}
    unusable, replaced = [], 0
    for number, parse, raw in _json_lines(text) if text.lstrip().startswith("{") else _zooniverse(path, text):
        try:
            best, quality = parse(raw)
        except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            told = f"no {error}" if isinstance(error, KeyError) else " ".join(str(error).split()) or "cannot be read"
            unusable.append(f"line {number}: {told}")
            continue
        # Zooniverse shows nobody a picture twice; on our page, people may change their mind.
        again = number if parse is _parse_row else frozenset(best["shown"])
        key = (*(best[name] for name in ("galaxy", "class", "judge")), again)
        replaced += found.pop(key, None) is not None
        found[key] = best, quality
    if not found:
        why = unusable[0] if unusable else "it has no rows"
        raise BadFileError(path, f"no judgement can be used ({why})", "see docs/formats.md for the formats")
    masks = [
        {"class": best["class"], "source": source, "quality": quality}
        for best, qualities in found.values()
        for source, quality in qualities.items()
    ]
    return Judgements(
        pd.DataFrame([best for best, _ in found.values()]),
        pd.DataFrame(masks, columns=["class", "source", "quality"]),
        tuple(unusable),
        replaced,
    )


def _cells(row: Mapping[Hashable, Any], n: int) -> tuple[str, str, str]:
    return f"{n} of {row['of']}", f"{row['share']:.1%}", f"{row['low']:.1%} to {row['high']:.1%}"


def _share(n: int, of: int) -> dict[str, float]:
    interval = binomtest(n, of).proportion_ci(method="wilson")
    return {"share": n / of, "low": float(interval.low), "high": float(interval.high)}


# The judging page


def _json_lines(text: str) -> Iterator[tuple[int, Any, Any]]:
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            yield number, _parse_line, line


def _parse_line(line: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Read one line of the judging page."""
    row = json.loads(line)
    sides = {side: _one_of(row[side], SOURCES, side) for side in ("left", "right")}
    if sides["left"] == sides["right"]:
        raise ValueError("left and right are the same source")
    choice = _one_of(row["choice"], (*sides, TIE), "choice")
    best = {
        "galaxy": str(row["galaxy"]),
        "class": _one_of(row["class"], CLASSES, "class"),
        "judge": str(row["judge"]),
        "best": sides.get(choice, TIE),
        "shown": tuple(sides.values()),
    }
    told = {side: grade for side, grade in (row.get("quality") or {}).items() if grade is not None}
    return best, {sides[_one_of(s, sides, "quality")]: _one_of(g, QUALITIES, "quality") for s, g in told.items()}


def _one_of(value: Any, allowed: Any, what: str) -> str:
    if value not in list(allowed):
        raise ValueError(f"{what} {value!r} is none of {', '.join(allowed)}")
    return str(value)


# Zooniverse


def _zooniverse(path: Path, text: str) -> Iterator[tuple[int, Any, Any]]:
    csv.field_size_limit(10_000_000)
    reader = csv.DictReader(text.splitlines())
    if missing := {"workflow_name", "annotations"} - set(reader.fieldnames or ()):
        raise BadFileError(path, f"no column {', '.join(sorted(missing))}", "see docs/formats.md for the formats")
    for row in reader:
        yield reader.line_num, _parse_row, row


def _parse_row(row: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
    """Read one classification: best, how good it is, the second (of three), how good that is; or a tie alone."""
    name = next((each for each in CLASSES if each in row["workflow_name"].lower()), None)
    if name is None:
        raise ValueError(f"workflow {row['workflow_name']!r} is neither spiral nor bar")
    rows = _ROWS[name]
    answers = [str(task["value"]).strip().lower() for task in json.loads(row["annotations"])]
    best = {
        "galaxy": row.get("subject_ids") or row.get("classification_id") or "",
        "class": name,
        "judge": row.get("user_name") or row.get("user_ip") or row.get("classification_id") or "",
        "shown": tuple(rows.values()),
    }
    if not best["galaxy"]:
        raise ValueError("no subject_ids or classification_id")
    if not answers:
        raise ValueError("no answer")
    if answers[0].startswith(_NO_TIE_BREAK):
        return {**best, "best": TIE}, {}
    first = rows[_one_of(answers[0], rows, "best")]
    grades = {first: _grade(answers[1])} if len(answers) > 1 else {}
    if len(rows) == 2 and len(answers) > 2:
        grades[next(source for source in rows.values() if source != first)] = _grade(answers[2])
    elif len(answers) > 3:
        grades[rows[_one_of(answers[2], rows, "second")]] = _grade(answers[3])
    return {**best, "best": first}, grades


def _grade(answer: str) -> str:
    for start, quality in _STARTS.items():
        if answer.startswith(start):
            return quality
    raise ValueError(f"quality {answer!r} is not known")
