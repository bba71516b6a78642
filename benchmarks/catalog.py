"""What does the data side cost at the size of a survey? A row for each step that goes through a whole catalogue.

    python benchmarks/catalog.py [--rows 8700000] [--work FOLDER] [--only crossmatch]

crossmatch
    Claim: 30,000 galaxies are found in 8.7 million rows of 100 columns in under 60 s and 6 GB on two cores. The Parquet
    file is made once, in ``--work`` (4.6 GB). On a slice of it the plain way (pandas reads all, astropy's
    ``match_to_catalog_sky``) and ours take turns, and both must find the same rows.

check
    Claim: ``zoobot3d check`` on two cores, starting its processes included, reads and compares a master catalogue's
    pictures, cutouts, marks and GZ3D files faster than the plain way merely opens each with the package's own readers
    in one process. 200 simulated galaxies, each under several names.

extract
    Claim: ``catalog`` reads HDU 5 and the volunteers of a GZ3D file in less than half of the time that reading all of
    it takes. Also the time of ``extract-marks`` and ``make-masks``; all in one process.

again
    Claim: a second ``fetch gz3d`` lists 29,800 files and compares them with the disk, and a second ``fetch cutouts``
    checks 10,000 galaxies, in under 20 s each; the plain way reads the files to know that they are good.

Every run is a process of its own on two cores; the wall-clock time includes starting Python, the memory is its highest
resident size. Writes ``catalog.json``, with a row for each step that was ever run, and ``catalog.png``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from matplotlib.axes import Axes

from rows import provenance
from zoobot_3d.schema import COL_FITS, COL_GZ3D, COL_JPG, COL_MARKS, DEFAULT_MASTER, GZ_DESI_QUESTIONS

CORES = 2
SIMULATED = 200
GZ3D_FILES, CUTOUTS = 29_800, 10_000
STEPS = {"plain": "read_gz3d", "catalog": "catalog", "extract": "extract-marks", "masks": "make-masks"}
GROUP = 500_000
WIDTH = 100
CLAIM = {"seconds": 60.0, "gigabytes": 6.0}
Row = dict[str, object]


# Runs in processes of their own


def crossmatch_ours(galaxies: Path, catalogue: Path, out: Path) -> None:
    from zoobot_3d.prepare.crossmatch import crossmatch

    print(crossmatch(galaxies, catalogue, out, progress=False))


def crossmatch_plain(galaxies: Path, catalogue: Path, out: Path) -> None:
    """Do what a notebook does: everything in memory, no duplicates resolved, no other lists."""
    import astropy.units as u
    from astropy.coordinates import SkyCoord

    ours, theirs = pd.read_parquet(galaxies), pd.read_parquet(catalogue)
    row, separation, _ = SkyCoord(ours.ra, ours.dec, unit="deg").match_to_catalog_sky(
        SkyCoord(theirs.ra, theirs.dec, unit="deg")
    )
    near = separation < 3 * u.arcsec
    found = theirs.iloc[row[near]].reset_index(drop=True)[["dr8_id", "ra", "dec"]]
    found["separation"] = separation[near].arcsec
    found["mangaid"] = ours.mangaid[near].to_numpy()
    found.to_parquet(out)


def check_ours(master: Path) -> None:
    from zoobot_3d.prepare.check import check_catalog

    report = check_catalog(master, cluster=f"local:{CORES}", progress=False)
    assert not len(report.problems), report.problems


def check_plain(master: Path) -> None:
    """Do what a careful script does: open every file."""
    from zoobot_3d.io import read_cutout, read_picture
    from zoobot_3d.marks.gz3d import read_gz3d
    from zoobot_3d.marks.volunteer_marks import VolunteerMarks

    readers = {COL_JPG: read_picture, COL_FITS: read_cutout, COL_MARKS: VolunteerMarks.from_json, COL_GZ3D: read_gz3d}
    frame = pd.read_parquet(master)
    for column, read in readers.items():
        for path in frame[column]:
            read(master.parent.parent / path)


def extract(survey: Path, out: Path) -> None:
    from zoobot_3d.marks.gz3d import read_gz3d
    from zoobot_3d.prepare.extract import catalog, extract_marks
    from zoobot_3d.prepare.mask_files import make_masks

    files = sorted((survey / "gz3d").iterdir())
    quiet = {"shard_size": len(files), "progress": False}  # one shard: in this process
    steps: dict[str, Callable[[], object]] = {
        "plain": lambda: [read_gz3d(path) for path in files],
        "catalog": lambda: catalog(survey / "gz3d", out / "gz3d.parquet", **quiet),
        "extract": lambda: extract_marks(survey / "gz3d", out / "marks", **quiet),
        "masks": lambda: make_masks(out / "marks", out / "masks", **quiet),
    }
    read_gz3d(files[0])  # imports
    for name, step in steps.items():
        start = time.perf_counter()
        step()
        print(f"{name} {1e3 * (time.perf_counter() - start) / len(files):.3f} ms")


def again_gz3d(root: Path) -> None:
    from zoobot_3d.simulate.faulty_server import LoopbackServer, Response
    from zoobot_3d.sources.fetch import FetchOptions
    from zoobot_3d.sources.gz3d_archive import fetch_gz3d

    page = (root / "listing.html").read_bytes()
    with LoopbackServer({"/": lambda request: Response(page, "text/html")}) as server:
        summary = fetch_gz3d(root, url=server.url + "/", options=FetchOptions(rate=0), progress=False)
    assert summary.skipped == GZ3D_FILES, str(summary)


def again_cutouts(root: Path) -> None:
    from zoobot_3d.sources.legacy_survey import fetch_cutouts

    summary = fetch_cutouts(pd.read_parquet(root / "galaxies.parquet"), root, progress=False)
    assert summary.skipped == CUTOUTS, str(summary)


def again_plain(root: Path) -> None:
    """Read a sample of GZ3D files and cutouts; the rest would take as long each."""
    from zoobot_3d.io import read_cutout
    from zoobot_3d.marks.gz3d import read_gz3d

    for column, read in ((COL_GZ3D, read_gz3d), (COL_FITS, read_cutout)):
        paths = pd.read_parquet(root / "data" / "master.parquet")[column]
        start = time.perf_counter()
        for path in paths:
            read(root / path)
        print(f"{column} {1e3 * (time.perf_counter() - start) / len(paths):.3f} ms")


RUNS: dict[str, Callable[..., None]] = {
    "ours": crossmatch_ours,
    "plain": crossmatch_plain,
    "check": check_ours,
    "check_plain": check_plain,
    "extract": extract,
    "again_gz3d": again_gz3d,
    "again_cutouts": again_cutouts,
    "again_plain": again_plain,
}


def measure(run: str, *paths: Path) -> dict[str, float]:
    """Wall-clock seconds and peak resident gigabytes of one run."""
    start = time.perf_counter()
    command = [sys.executable, __file__, "--run", run, *map(str, paths)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    seconds = time.perf_counter() - start
    peak = re.search(r"peak (\d+) kB", done.stdout)
    assert peak is not None, done.stdout
    spent = dict(re.findall(r"^(\w+) ([\d.]+) ms$", done.stdout, re.MULTILINE))
    measured = {"seconds": round(seconds, 2), "gigabytes": round(int(peak[1]) * 1024 / 1e9, 2)}
    return measured | {f"{name}_ms": float(value) for name, value in spent.items()}


def run_here(run: str, paths: list[str]) -> None:
    """Be the process that is measured."""
    RUNS[run](*map(Path, paths))
    print("peak", re.search(r"VmHWM:\s*(\d+ kB)", Path("/proc/self/status").read_text())[1])


# crossmatch


def write_catalogue(path: Path, n_rows: int) -> None:
    """Write a catalogue as wide as GZ DESI, a row group at a time: name, position, fractions, other measurements."""
    names = [name for question in GZ_DESI_QUESTIONS for name in question.fraction_columns()]
    names += [f"measurement_{i}" for i in range(WIDTH - 5 - len(names))]
    part = path.with_suffix(".part")
    writer: pq.ParquetWriter | None = None
    for start in range(0, n_rows, GROUP):
        rng = np.random.default_rng((n_rows, start))
        n = min(GROUP, n_rows - start)
        ra, dec = draw_sky(rng, n)
        brick, number = rng.integers(1, 662_174, n), np.arange(start, start + n)
        columns: dict[str, object] = {
            "dr8_id": pa.array(np.char.add(np.char.add(brick.astype(str), "_"), number.astype(str))),
            "brickid": brick,
            "objid": number,
            "ra": ra,
            "dec": dec,
        }
        columns |= {name: rng.random(n, np.float32) for name in names}
        table = pa.table(columns)
        writer = writer or pq.ParquetWriter(part, table.schema)
        writer.write_table(table)
    assert writer is not None
    writer.close()
    part.replace(path)


def draw_sky(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions over a third of the sky, as in the Legacy Surveys; deg."""
    low, high = np.sin(np.radians([-18.0, 60.0]))
    return rng.uniform(60, 300, n) % 360, np.degrees(np.arcsin(rng.uniform(low, high, n)))


def write_galaxies(path: Path, catalogue: Path, n: int) -> None:
    """Write galaxies: three quarters lie in the catalogue, to 0.5 arcsec; a tenth of these were observed twice."""
    rng = np.random.default_rng(n)
    table = pq.read_table(catalogue, columns=["ra", "dec"])
    rows = rng.choice(table.num_rows, int(0.675 * n), replace=False)
    rows = np.concatenate([rows, rows[: int(0.075 * n)]])
    ra, dec = table["ra"].to_numpy()[rows], table["dec"].to_numpy()[rows]
    east, north = rng.normal(0, 0.5 / 3600, (2, rows.size))
    ra, dec = (ra + east / np.cos(np.radians(dec))) % 360, dec + north
    other_ra, other_dec = draw_sky(rng, n - rows.size)
    frame = pd.DataFrame({"ra": np.concatenate([ra, other_ra]), "dec": np.concatenate([dec, other_dec])})
    frame.insert(0, "mangaid", [f"1-{i}" for i in range(n)])
    frame.to_parquet(path)


def same_matches(ours: Path, plain: Path) -> bool:
    """Every match of ours is in the plain one, and what ours lacks lost its row to a nearer galaxy."""
    duplicates = pd.read_parquet(ours.with_name(f"{ours.stem}_duplicates.parquet"))
    all_ours = (
        pd.concat([pd.read_parquet(ours), duplicates]).set_index("mangaid")[["dr8_id", "separation"]].sort_index()
    )
    theirs = pd.read_parquet(plain).set_index("mangaid")[["dr8_id", "separation"]].sort_index()
    same = all_ours.index.equals(theirs.index) and bool((all_ours.dr8_id == theirs.dr8_id).all())
    return same and bool(np.allclose(all_ours.separation, theirs.separation, atol=1e-6))


def crossmatch_row(args: argparse.Namespace, work: Path) -> Row:
    whole, slice_ = (work / f"catalogue_{n}_{WIDTH}.parquet" for n in (args.rows, args.slice))
    for path, n in ((whole, args.rows), (slice_, args.slice)):
        if not path.exists():
            start = time.perf_counter()
            write_catalogue(path, n)
            print(f"wrote {path.name}, {path.stat().st_size / 1e9:.2f} GB, in {time.perf_counter() - start:.0f} s")
    galaxies = [work / f"galaxies_{n}.parquet" for n in (args.rows, args.slice)]
    write_galaxies(galaxies[0], whole, args.galaxies)
    write_galaxies(galaxies[1], slice_, args.galaxies)
    runs = []
    for _ in range(args.rounds):
        for path in work.glob("matches*"):
            path.unlink()
        runs.append(measure("ours", galaxies[0], whole, work / "matches.parquet"))
        print(
            f"crossmatch {args.galaxies:,} x {args.rows:,}: {runs[-1]['seconds']:.1f} s, {runs[-1]['gigabytes']:.2f} GB"
        )
    turns: dict[str, list[dict[str, float]]] = {"ours": [], "plain": []}
    for _ in range(args.rounds):
        for name, results in turns.items():
            results.append(measure(name, galaxies[1], slice_, work / f"slice_{name}.parquet"))
            print(f"slice of {args.slice:,}, {name}: {results[-1]['seconds']:.1f} s, {results[-1]['gigabytes']:.2f} GB")
    if not same_matches(work / "slice_ours.parquet", work / "slice_plain.parquet"):
        raise SystemExit("ours and the plain way do not agree")

    def median(results: list[dict[str, float]], key: str) -> float:
        return float(np.median([result[key] for result in results]))

    ratios = {key: round(median(turns["plain"], key) / median(turns["ours"], key), 2) for key in CLAIM}
    print(f"plain / ours on the slice: {ratios['seconds']} in time, {ratios['gigabytes']} in memory; same matches")
    return {
        "galaxies": args.galaxies,
        "rows": args.rows,
        "columns": WIDTH,
        "file_gigabytes": round(whole.stat().st_size / 1e9, 2),
        "runs": runs,
        "median": {key: median(runs, key) for key in CLAIM},
        "claim": CLAIM,
        "slice_rows": args.slice,
        "slice_runs": turns,
        "slice_plain_over_ours": ratios,
    }


def crossmatch_plot(axes: Axes, row: Row) -> None:
    """Share of what is claimed, for the whole; how the plain way compares, on the slice."""
    turns = row["slice_runs"]
    labels, values = [], {key: [] for key in CLAIM}
    for label, runs in (
        (f"ours, {row['rows'] / 1e6:g} M rows", row["runs"]),
        (f"ours, {row['slice_rows'] / 1e6:g} M rows", turns["ours"]),
        (f"plain, {row['slice_rows'] / 1e6:g} M rows", turns["plain"]),
    ):
        labels.append(label)
        for key, series in values.items():
            series.append(np.median([run[key] for run in runs]) / row["claim"][key])
    place = np.arange(len(labels))
    axes.barh(place - 0.2, values["seconds"], 0.38, color="#0072B2", label=f"time (1 = {CLAIM['seconds']:g} s)")
    axes.barh(place + 0.2, values["gigabytes"], 0.38, color="#E69F00", label=f"memory (1 = {CLAIM['gigabytes']:g} GB)")
    axes.axvline(1, color="0.5", ls="--", lw=1)
    axes.set(yticks=place, yticklabels=labels, xlabel="share of what is claimed for the whole catalogue")
    axes.set_title(f"crossmatch, {row['galaxies']:,} galaxies, {row['columns']} columns", fontsize="medium")
    axes.invert_yaxis()
    axes.legend(frameon=False)


# check


def simulated(work: Path) -> Path:
    """Return the survey whose files are read; made once."""
    from zoobot_3d.simulate.survey import simulate_survey

    simulate_survey(work / "survey", SIMULATED, seed=1, progress=False)
    return work / "survey"


def many_names(survey: Path, root: Path, n: int) -> Path:
    """Link the survey's files under more names, with a master catalogue of ``n`` galaxies."""
    frame = pd.read_parquet(survey / DEFAULT_MASTER)
    parts = []
    for copy in range(-(-n // len(frame))):
        part = frame.copy()
        part["dr8_id"] = part["dr8_id"] + f"{copy:03d}"
        part["split"] = "train"
        for column in (COL_JPG, COL_FITS, COL_MARKS, COL_GZ3D):
            part[column] = [str(Path(path).parent / f"{copy:03d}_{Path(path).name}") for path in part[column]]
            for old, new in zip(frame[column], part[column], strict=True):
                (root / new).parent.mkdir(parents=True, exist_ok=True)
                if not (root / new).exists():
                    os.link(survey / old, root / new)
        parts.append(part)
    master = root / "data" / "master.parquet"
    master.parent.mkdir(parents=True, exist_ok=True)
    pd.concat(parts)[:n].to_parquet(master)
    return master


def check_row(args: argparse.Namespace, work: Path) -> Row:
    master = many_names(simulated(work), work / "check", args.check)
    turns: dict[str, list[dict[str, float]]] = {"check": [], "check_plain": []}
    for _ in range(args.rounds):
        for name, results in turns.items():
            results.append(measure(name, master))
            print(f"{name}, {args.check:,} galaxies, {4 * args.check:,} files: {results[-1]['seconds']:.1f} s")
    ours, plain = (float(np.median([run["seconds"] for run in runs])) for runs in turns.values())
    print(f"plain / ours: {plain / ours:.1f} in time; {1e3 * ours / args.check:.1f} ms a galaxy")
    return {
        "galaxies": args.check,
        "files": 4 * args.check,
        "runs": turns,
        "ms_per_galaxy": {"ours": round(1e3 * ours / args.check, 2), "plain": round(1e3 * plain / args.check, 2)},
        "plain_over_ours": round(plain / ours, 2),
    }


def check_plot(axes: Axes, row: Row) -> None:
    """Milliseconds a galaxy of both ways."""
    spent = row["ms_per_galaxy"]
    bars = axes.barh(["zoobot3d check", "plain, one process"], spent.values(), color=["#0072B2", "#999999"])
    axes.bar_label(bars, [f" {ms:.1f} ms" for ms in spent.values()])
    axes.set(xlabel="time per galaxy: picture, cutout, marks, GZ3D (ms)", xlim=(0, 1.2 * max(spent.values())))
    axes.set_title(f"check, {row['files']:,} files", fontsize="medium")
    axes.invert_yaxis()


# extract


def extract_row(args: argparse.Namespace, work: Path) -> Row:
    survey, runs = simulated(work), []
    for _ in range(args.rounds):
        with tempfile.TemporaryDirectory(dir=work) as folder:
            runs.append(measure("extract", survey, Path(folder)))
    spent = {name: float(np.median([run[f"{name}_ms"] for run in runs])) for name in STEPS}
    print(", ".join(f"{name} {ms:.1f} ms a file" for name, ms in spent.items()))
    return {
        "files": SIMULATED,
        "runs": runs,
        "ms_per_file": spent,
        "ratio": round(spent["plain"] / spent["catalog"], 2),
    }


def extract_plot(axes: Axes, row: Row) -> None:
    """Milliseconds a file of each step."""
    spent = row["ms_per_file"]
    labels = [STEPS[name] for name in spent]
    bars = axes.barh(labels, spent.values(), color=["#999999", "#0072B2", "#0072B2", "#0072B2"])
    axes.bar_label(bars, [f" {ms:.1f} ms" for ms in spent.values()])
    axes.set(xlabel="time per GZ3D file, one process (ms)", xlim=(0, 1.2 * max(spent.values())))
    axes.set_title("extract", fontsize="medium")
    axes.invert_yaxis()


# again


def again_row(args: argparse.Namespace, work: Path) -> Row:
    root = work / "again"
    many_names(simulated(work), root, SIMULATED)
    write_there(root)
    gz3d, cutouts, plain = (
        [measure(name, root) for _ in range(args.rounds)] for name in ("again_gz3d", "again_cutouts", "again_plain")
    )
    row: Row = {"claim_seconds": 20.0}
    for name, runs, n, column in (("gz3d", gz3d, GZ3D_FILES, COL_GZ3D), ("cutouts", cutouts, CUTOUTS, COL_FITS)):
        ours = float(np.median([run["seconds"] for run in runs]))
        each = float(np.median([run[f"{column}_ms"] for run in plain]))
        reading = each * n / 1e3
        row[name] = {"files": n, "seconds": ours, "reading_ms_each": round(each, 2), "ratio": round(reading / ours, 1)}
        print(
            f"{name}: {n:,} known as good in {ours:.1f} s; to read them, {each:.1f} ms each, {reading / ours:.0f} times"
        )
    return row


def write_there(root: Path) -> None:
    """Make what two finished fetches leave behind, with files of a few bytes in the place of real ones."""
    from zoobot_3d.schema import DEFAULT_LAYER
    from zoobot_3d.sources.gz3d_archive import COLUMNS as GZ3D_COLUMNS
    from zoobot_3d.sources.legacy_survey import COLUMNS as CUTOUT_COLUMNS

    def ledger(folder: str, columns: dict[str, str], values: dict[str, object]) -> None:
        frame = pd.DataFrame(values).reindex(columns=list(columns)).fillna({"warning": ""})
        frame.astype(columns).sort_values("id").to_parquet(root / folder / "fetched.parquet", index=False)

    names = [f"gz3d_1-{i}_127_{14_000_000 + i}.fits.gz" for i in range(GZ3D_FILES)]
    links = "\n".join(f'<a href="{name}">{name}</a> 2021-11-30 18:20 276K' for name in names)
    (root / "listing.html").write_text(f"<html><body><pre>{links}</pre></body></html>")
    ids = [f"{400_000 + i}_{i}" for i in range(CUTOUTS)]
    for folder, files in (("gz3d", names), ("images/fits", [f"{i}.fits" for i in ids])):
        (root / folder).mkdir(parents=True, exist_ok=True)
        for file in files:
            (root / folder / file).write_bytes(b"1234")
    (root / "images/jpg").mkdir(parents=True, exist_ok=True)
    for i in ids:
        (root / "images/jpg" / f"{i}.jpg").write_bytes(b"12")
    i = np.arange(GZ3D_FILES)
    stems = [name.removesuffix(".fits.gz") for name in names]
    gz3d = {"id": stems, "mangaid": [f"1-{k}" for k in i], "ifu": 127, "subject": 14_000_000 + i, "bytes": 4}
    ledger("gz3d", GZ3D_COLUMNS, gz3d | {COL_GZ3D: [f"gz3d/{name}" for name in names]})
    i = np.arange(CUTOUTS)
    galaxies = pd.DataFrame({"dr8_id": ids, "ra": np.round(150 + i * 0.01, 7), "dec": 2.0, "est_dr5_pixscale": 0.2})
    galaxies.to_parquet(root / "galaxies.parquet")
    cutouts = {"id": ids, "ra": galaxies["ra"], "dec": 2.0, "pixscale": 0.2, "size": 424, "layer": DEFAULT_LAYER}
    cutouts |= {"fits_bytes": 4, "jpg_bytes": 2, "status": "good", "warning": ""}
    paths = {COL_FITS: [f"images/fits/{i}.fits" for i in ids], COL_JPG: [f"images/jpg/{i}.jpg" for i in ids]}
    ledger("images", CUTOUT_COLUMNS, cutouts | paths)


def again_plot(axes: Axes, row: Row) -> None:
    """Seconds of a second fetch, and the limit."""
    labels = [f"{row[name]['files']:,} {name}" for name in ("gz3d", "cutouts")]
    bars = axes.barh(labels, [row[name]["seconds"] for name in ("gz3d", "cutouts")], color="#0072B2")
    axes.bar_label(bars, [f" {row[name]['seconds']:.1f} s" for name in ("gz3d", "cutouts")])
    axes.axvline(row["claim_seconds"], color="0.5", ls="--", lw=1)
    axes.set(xlabel="to know that all is there and good (s); dashed: the claim", xlim=(0, 22))
    axes.set_title("a second fetch", fontsize="medium")
    axes.invert_yaxis()


# A step is a function that measures and one that draws: add a line here for another.
ROWS: dict[str, tuple[Callable[[argparse.Namespace, Path], Row], Callable[[Axes, Row], None]]] = {
    "crossmatch": (crossmatch_row, crossmatch_plot),
    "check": (check_row, check_plot),
    "extract": (extract_row, extract_plot),
    "again": (again_row, again_plot),
}


@contextlib.contextmanager
def work_folder(path: Path | None) -> Iterator[Path]:
    """Folder for the big files: the one that was given, which keeps them, or one that goes away."""
    if path is not None:
        path.mkdir(parents=True, exist_ok=True)
        yield path
    else:
        with tempfile.TemporaryDirectory() as name:
            yield Path(name)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=8_700_000, help="of the catalogue")
    parser.add_argument("--galaxies", type=int, default=30_000)
    parser.add_argument("--slice", type=int, default=2_000_000, help="rows that the plain way also does")
    parser.add_argument("--check", type=int, default=500, help="galaxies to check")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=ROWS, help="one step")
    parser.add_argument("--work", type=Path, help="folder for the big files, which are used again")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--run", nargs="+", help=argparse.SUPPRESS)
    args = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    if args.run:
        return run_here(args.run[0], args.run[1:])
    args.out.mkdir(parents=True, exist_ok=True)
    file = args.out / "catalog.json"
    rows = json.loads(file.read_text()) if file.exists() else {}
    with work_folder(args.work) as work:
        for name, (step, _) in ROWS.items():
            if args.only in (None, name):
                machine = f"{platform.machine()}, {CORES} of {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
                head = provenance() | {"machine": machine}
                rows[name] = head | step(args, work)
                file.write_text(json.dumps(rows, indent=1) + "\n")
    done = [name for name in ROWS if name in rows]
    figure, panels = plt.subplots(len(done), figsize=(6.4, 2.8 * len(done)), layout="constrained", squeeze=False)
    for axes, name in zip(panels[:, 0], done, strict=True):
        ROWS[name][1](axes, rows[name])
    figure.savefig(args.out / "catalog.png", dpi=120)
    return None


if __name__ == "__main__":
    main()
