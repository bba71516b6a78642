"""Whatever one file raises, of whatever type, becomes its row; the other files go on."""

import errno
import os

import pandas as pd
import pytest

from tiny_survey import make_survey
from zoobot_3d import io
from zoobot_3d.catalog.reading import read_catalog
from zoobot_3d.dataset.data import MaskDataset
from zoobot_3d.errors import BadFileError, CatalogError
from zoobot_3d.marks.volunteer_marks import VolunteerMarks
from zoobot_3d.prepare.check import check_catalog
from zoobot_3d.prepare.extract import catalog, extract_marks
from zoobot_3d.prepare.mask_files import make_masks
from zoobot_3d.simulate.survey import simulate_survey

ERRORS = [RuntimeError("a bug\nof two lines"), MemoryError("too large"), UnicodeEncodeError("ascii", "é", 0, 1, "no")]


@pytest.fixture(scope="module")
def gz3d(tmp_path_factory):
    return simulate_survey(tmp_path_factory.mktemp("survey"), 3, workers=1, progress=False).root / "gz3d"


def raising(real, error, mark):
    """Wrap a reader so that it raises for the path that holds a mark."""

    def read(path, *arguments, **options):
        if mark in str(path):
            raise error
        return real(path, *arguments, **options)

    return read


@pytest.fixture(params=ERRORS, ids=lambda error: type(error).__name__)
def error(request):
    return request.param


@pytest.mark.parametrize("out", ["marks", "marks.parquet"])
def test_marks(gz3d, tmp_path, monkeypatch, error, out):
    from zoobot_3d.prepare import extract

    bad = sorted(gz3d.iterdir())[1].name
    monkeypatch.setattr(extract, "read_gz3d", raising(extract.read_gz3d, error, bad))
    summary = extract_marks(gz3d, tmp_path / out, progress=False)
    assert (summary.done, summary.failed) == (2, 1)
    (row,) = pd.read_csv(summary.failed_csv).to_dict("records")
    assert (
        row["file"] == bad and row["reason"].startswith(f"{bad}: {type(error).__name__}") and "\n" not in row["reason"]
    )


def test_the_catalogue(gz3d, tmp_path, monkeypatch, error):
    from zoobot_3d.prepare import extract

    bad = sorted(gz3d.iterdir())[1].name
    monkeypatch.setattr(extract, "read_gz3d_summary", raising(extract.read_gz3d_summary, error, bad))
    summary = catalog(gz3d, tmp_path / "gz3d.csv", progress=False)
    assert (summary.done, summary.failed) == (2, 1)


def test_mask_pictures(tmp_path, monkeypatch, error):
    monkeypatch.setattr(VolunteerMarks, "from_json", raising(VolunteerMarks.from_json, error, "g01"))
    summary = make_masks(make_survey(tmp_path, 3), tmp_path / "masks", progress=False)
    assert (summary.done, summary.failed) == (2, 1)


def test_the_check(tmp_path, monkeypatch, error):
    catalogue = make_survey(tmp_path, 3)
    monkeypatch.setattr("zoobot_3d.io.read_picture", raising(io.read_picture, error, "g01"))
    report = check_catalog(catalogue, progress=False)
    assert type(error).__name__ in str(report.problems.to_dict("records"))


def test_the_training_set(tmp_path, monkeypatch, error):
    frame = read_catalog(make_survey(tmp_path, 3))
    monkeypatch.setattr(VolunteerMarks, "from_json", raising(VolunteerMarks.from_json, error, "g01"))
    skipping = MaskDataset(frame, tmp_path, 32, 0.75, on_error="skip")
    assert [skipping[index]["n_asked"].sum() > 0 for index in range(3)] == [True, False, True]
    with pytest.raises(CatalogError, match=type(error).__name__):
        MaskDataset(frame, tmp_path, 32, 0.75)[1]


def test_a_full_disk_stops_a_batch_in_one_line(gz3d, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("zoobot_3d.io.files.os.fsync", full)
    with pytest.raises(BadFileError, match="No space left on device; make space"):
        extract_marks(gz3d, tmp_path / "marks", progress=False)
