"""How right are bars and arms that are measured on masks? Simulated galaxies, whose truth is known, and real ones.

    python benchmarks/measure.py [--bundle default] [--folder ../shared/realdata] [--galaxies 600] [--speed 1000]

**Simulated**: galaxies with arms or bars, all inclinations below 70 deg, drawn from ``--seed``, which no training set
uses. Each is measured on its true masks (the outlines of what the simulator painted, with the true inclination) and on
those that the bundle predicts from the picture (with that of the outer isophotes). Errors are relative to the true
bar length on the sky, and to the mean pitch of the true arms by length. ``covered`` is the part of galaxies whose
error is below the standard error that was quoted; the constants of the quoted errors were chosen on seeds 1 and 2.

**Real** (``--folder``; files that are no part of the project): one picture and one line for each comparison. r, bias
(median of ours minus theirs) and scatter (1.48 times the median absolute deviation); no factor is fitted.

- bars of Hoyle et al. 2011 (MNRAS 415, 3627), in SDSS r band: their kpc/h, with h = 0.7, to arcsec at the redshift;
- bars of Hoyle et al. 2011 in colour pictures without scale or redshift: full length over twice the radius of 90% of
  the light, which is measured on the picture;
- pitch angles of Hart et al. 2017 (MNRAS 472, 2263) in SDSS r band, beside those of SpArcFiRe in the same table;
- bars and pitch angles of the volunteers of Galaxy Builder (Lingard et al. 2020, 2021): the median of their bars, and
  the mean of the spirals that were fitted to their lines; once measured on their own masks, once on the bundle's.

**Speed** (``--speed N``): `zoobot3d measure` on N simulated galaxies in one process, with its CPU time, and in two,
without their prediction.

Writes ``measure.json`` and ``measure_*.png`` into ``--out``.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from astropy.cosmology import FlatLambdaCDM
from numpy.typing import NDArray

from zoobot_3d import __version__, load_segmenter
from zoobot_3d.infer.segmenter import Segmenter
from zoobot_3d.io import read_picture, write_atomic, write_figure
from zoobot_3d.marks.galaxy_builder import SDSS_PIXSCALE, Rules, read_galaxy_builder
from zoobot_3d.marks.rasterize import rasterize_marks
from zoobot_3d.measure.galaxy import Given, Measurement, measure_masks
from zoobot_3d.prepare.drawn import FIELD_RADII, grey_picture
from zoobot_3d.report.agreement import agreement as agree
from zoobot_3d.report.curves import one_to_one
from zoobot_3d.report.style import COLOURS
from zoobot_3d.schema import GZ_FIELD_PX
from zoobot_3d.simulate.galaxies import Galaxy, arm_ridges, bar_outline, draw_galaxy, render
from zoobot_3d.sky.grid import PixelGrid, resample
from zoobot_3d.sky.rgb import grz_from_rgb, rgb_from_grz

STEEPEST = 70.0
SURE = 8.0
"""Pitch angles with a larger quoted error (deg) are left out of the rows ``sure``."""
HOYLE_H = 0.7
HOYLE = FlatLambdaCDM(H0=70, Om0=0.3)


# Simulated galaxies


def true_masks(galaxy: Galaxy, grid: PixelGrid) -> NDArray[np.float32]:
    """Return the outlines of arms and bar as masks, (2, H, W) of 0 and 1."""
    strips = []
    for ridge in arm_ridges(galaxy, n_points=120):
        xi, eta, half = (values[ridge.n_inner :] for values in (ridge.xi, ridge.eta, ridge.half_width))
        step = np.hypot(np.gradient(xi), np.gradient(eta))
        across = -np.gradient(eta) / step * half, np.gradient(xi) / step * half
        left = np.column_stack(grid.offset_to_pixel(xi + across[0], eta + across[1]))
        right = np.column_stack(grid.offset_to_pixel(xi - across[0], eta - across[1]))
        strips += [np.array([left[i], left[i + 1], right[i + 1], right[i]]) for i in range(len(left) - 1)]
    corners = bar_outline(galaxy)
    bar = [] if corners is None else [np.column_stack(grid.offset_to_pixel(*corners.T))]
    return np.stack([(rasterize_marks([paths], grid.shape) > 0).astype(np.float32) for paths in (strips, bar)])


def simulated_row(kind: str, galaxy: Galaxy, measured: Measurement) -> dict[str, Any]:
    """Compare one measurement with the truth."""
    bar, arms = measured.bar, measured.arms
    row: dict[str, Any] = {"kind": kind, "inclination": galaxy.inclination, "barred": galaxy.bar is not None}
    row |= {"n_true": len(galaxy.arms), "n_arms": arms.n_arms, "bar_found": bool(np.isfinite(bar.length))}
    if galaxy.bar is not None:
        row |= {"length_true": 2 * galaxy.bar.length, "length": bar.length, "length_err": bar.length_err}
        row |= {"pa_off": (bar.pa - galaxy.bar.pa + 90) % 180 - 90, "pa_err": bar.pa_err}
        row |= {"deprojected_true": 2 * galaxy.bar.intrinsic_length, "deprojected": bar.length_deprojected}
        row |= {"deprojected_err": bar.length_deprojected_err}
    if galaxy.arms:
        lengths = [(arm.r_end - arm.r_start) / np.sin(np.radians(arm.pitch)) for arm in galaxy.arms]
        row["pitch_true"] = float(np.average([arm.pitch for arm in galaxy.arms], weights=lengths))
        row |= {"pitch": arms.pitch, "pitch_err": arms.pitch_err}
        row["hand_right"] = arms.hand == ("Z" if galaxy.arms[0].handedness > 0 else "S") if arms.hand else np.nan
    return row


def simulate(segmenter: Segmenter, n_galaxies: int, seed: int) -> pd.DataFrame:
    """Measure simulated galaxies on true and on predicted masks; two rows each."""
    rows: list[dict[str, Any]] = []
    for child in np.random.SeedSequence(seed).spawn(20 * n_galaxies):
        rng = np.random.default_rng(child)
        galaxy = draw_galaxy(rng, ra=180.0, dec=0.0)
        if galaxy.kind in ("elliptical", "edge-on") or galaxy.inclination >= STEEPEST:
            continue
        grid = PixelGrid((GZ_FIELD_PX, GZ_FIELD_PX), galaxy.pixscale, 180.0, 0.0)
        picture = rgb_from_grz(render(galaxy, grid, rng)[:, ::-1])
        # The simulator's disks are not thin: foreshortened as this inclination would a thin one.
        given = Given(inclination=float(np.degrees(np.arccos(galaxy.axis_ratio))), pa=galaxy.pa)
        rows.append(simulated_row("true", galaxy, measure_masks(true_masks(galaxy, grid), grid, given=given)))
        rows.append(simulated_row("predicted", galaxy, measure_masks(segmenter.segment(picture), grid, image=picture)))
        if len(rows) >= 2 * n_galaxies:
            break
    return pd.DataFrame(rows)


def covered(off: pd.Series, error: pd.Series) -> float:
    """Part of the answers whose error is below the quoted one."""
    known = off.notna() & error.notna()
    return round(float((off[known].abs() < error[known]).mean()), 3)


def _off(rows: pd.DataFrame) -> pd.Series:
    return rows["pitch"] - rows["pitch_true"]


def simulated_summary(table: pd.DataFrame) -> list[dict[str, Any]]:
    """One row for each kind of masks."""
    out = []
    for kind, rows in table.groupby("kind", sort=False):
        barred, spiral = rows[rows["barred"]], rows[rows["n_true"] > 0]
        seen = spiral[spiral["pitch"].notna()]
        off = barred["length"] - barred["length_true"]
        deep = barred["deprojected"] - barred["deprojected_true"]
        out.append(
            {
                "masks": kind,
                "galaxies": len(rows),
                "barred": len(barred),
                "spiral": len(spiral),
                "bar_no_answer": round(float(1 - barred["bar_found"].mean()), 3),
                "bar_where_none": round(float(rows.loc[~rows["barred"], "bar_found"].mean()), 3),
                "length_error": round(float((off / barred["length_true"]).abs().median()), 4),
                "length_bias": round(float((off / barred["length_true"]).median()), 4),
                "length_covered": covered(off, barred["length_err"]),
                "deprojected_error": round(float((deep / barred["deprojected_true"]).abs().median()), 4),
                "deprojected_covered": covered(deep, barred["deprojected_err"]),
                "bar_pa_error": round(float(barred["pa_off"].abs().median()), 2),
                "bar_pa_covered": covered(barred["pa_off"], barred["pa_err"]),
                "arms_no_answer": round(float(1 - len(seen) / len(spiral)), 3),
                "arms_where_none": round(float((rows.loc[rows["n_true"] == 0, "n_arms"] > 0).mean()), 3),
                "pitch_error": round(float((seen["pitch"] - seen["pitch_true"]).abs().median()), 2),
                "pitch_bias": round(float((seen["pitch"] - seen["pitch_true"]).median()), 2),
                "pitch_error_sure": round(float(_off(seen[seen["pitch_err"] < SURE]).abs().median()), 2),
                "hand_right_sure": round(
                    float(seen.loc[seen["pitch_err"] < SURE, "hand_right"].astype(float).mean()), 3
                ),
                "sure": round(float((seen["pitch_err"] < SURE).mean()), 3),
                "pitch_covered": covered(seen["pitch"] - seen["pitch_true"], seen["pitch_err"]),
                "hand_right": round(float(seen["hand_right"].astype(float).mean()), 3),
                "count_within_one": round(float(((seen["n_arms"] - seen["n_true"]).abs() <= 1).mean()), 3),
                "count_right": round(float((seen["n_arms"] == seen["n_true"]).mean()), 3),
            }
        )
    return out


# Real galaxies


def single_band(path: Path, petro: float) -> tuple[NDArray[np.float32], PixelGrid]:
    """Return an SDSS r image on the pixels of a Galaxy Zoo picture: as much of the galaxy, 424 px."""
    image = np.load(path)["image"].astype(np.float32)
    grid = PixelGrid((GZ_FIELD_PX, GZ_FIELD_PX), FIELD_RADII * petro / GZ_FIELD_PX)
    return resample(image, PixelGrid(image.shape, SDSS_PIXSCALE), grid), grid


def measured_band(segmenter: Segmenter, path: Path, petro: float, given: Given | None = None) -> Measurement:
    """Predict and measure a galaxy from one band."""
    light, grid = single_band(path, petro)
    return measure_masks(segmenter.segment(grey_picture(light)), grid, image=light, given=given)


def hoyle_bars(segmenter: Segmenter, folder: Path) -> pd.DataFrame:
    """Bar lengths in arcsec of `bar_subset`: theirs and ours, with errors."""
    rows = []
    for row in pd.read_csv(folder / "catalog.csv").to_dict("records"):
        measured = measured_band(segmenter, folder / f"{row['file']}.npz", row["Petrosian radius (degrees)"])
        scale = HOYLE.kpc_proper_per_arcmin(row["redshift"]).value / 60
        theirs = np.array([row["length_avg"], row["length_stdev"]]) / HOYLE_H / scale
        rows.append([*theirs, measured.bar.length, measured.bar.length_err])
    return pd.DataFrame(rows, columns=["theirs", "theirs_err", "ours", "ours_err"])


def radius_of_90_percent(picture: NDArray[np.uint8]) -> float:
    """Radius (px) of 90% of the r band's light within two Petrosian radii, from a colour picture."""
    light = grz_from_rgb(picture)[1][::-1]
    rows, columns = np.indices(light.shape)
    ring = np.hypot(columns - (light.shape[1] - 1) / 2, rows - (light.shape[0] - 1) / 2).astype(int)
    pixels = np.bincount(ring.ravel())
    # The median of a ring leaves out stars.
    profile = np.array([np.median(light[ring == r]) for r in range(light.shape[0] // 2)])
    profile -= np.median(profile[-15:])
    flux = np.cumsum(profile * pixels[: len(profile)])
    mean = flux / np.cumsum(pixels[: len(profile)])
    petrosian = int(np.argmax((profile < 0.2 * mean) & (np.arange(len(profile)) > 3)))
    total = flux[min(2 * petrosian, len(flux) - 1)]
    return float(np.argmax(flux >= 0.9 * total))


def decals_bars(segmenter: Segmenter, folder: Path) -> pd.DataFrame:
    """Bar lengths over twice the radius of 90% of the light, of Hoyle's bars in colour pictures."""
    table = pd.read_csv(folder / "catalog.csv")
    rows = []
    for row in table[table["hoyle_length_avg"] > 0].to_dict("records"):
        picture = read_picture(folder / row["file_loc"])
        grid = PixelGrid(picture.shape[:2], np.nan)
        bar = measure_masks(segmenter.segment(picture), grid, image=picture).bar
        size = 2 * radius_of_90_percent(picture)
        error = row["hoyle_length_stdev"] / row["hoyle_length_avg"] * row["hoyle_length_scaled"]
        ours_err = bar.length_px / size * 0.1
        rows.append([row["hoyle_length_scaled"], error, bar.length_px / size, ours_err])
    return pd.DataFrame(rows, columns=["theirs", "theirs_err", "ours", "ours_err"])


def hart_pitch(segmenter: Segmenter, folder: Path) -> pd.DataFrame:
    """Pitch angles of Hart et al. 2017, ours, and SpArcFiRe's of the same table."""
    rows = []
    for row in pd.read_csv(folder / "subject_metadata_with_pitch.csv").to_dict("records"):
        arms = measured_band(segmenter, folder / f"{row['dr7']}.npz", row["Petrosian radius (degrees)"]).arms
        sparcfire = row["psi_sparcfire"] if row["psi_sparcfire"] > 0 else np.nan
        rows.append([row["psi_gz2"], np.nan, arms.pitch, arms.pitch_err, sparcfire])
    return pd.DataFrame(rows, columns=["theirs", "theirs_err", "ours", "ours_err", "sparcfire"])


def drawn(segmenter: Segmenter, folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Bars (arcsec) and pitch angles (deg) of Galaxy Builder: theirs, ours on their masks, ours on predicted ones."""
    bars, pitches, rules = [], [], Rules()
    table = pd.read_csv(folder / "catalog.csv", dtype={"dr7objid": str})
    for name, petro in zip(table["dr7objid"], table["petro_theta_arcsec"], strict=True):
        light, grid = single_band(folder / f"{name}.npz", petro)
        native = np.load(folder / f"{name}.npz")["image"].shape
        galaxy = read_galaxy_builder(folder / f"{name}.json", native, petro)
        votes = galaxy.marks.votes(grid).astype(np.float32)
        asked = np.maximum(galaxy.marks.n_asked_array, 1).reshape(-1, 1, 1)
        theirs = measure_masks(votes / asked, grid, image=light)
        ours = measure_masks(segmenter.segment(grey_picture(light)), grid, image=light)
        marked = json.loads((folder / f"{name}.json").read_text())["volunteers"]
        # Bars that were never turned from where they appeared are none.
        turned = [one["bar"] for one in marked if one["bar"] and abs(one["bar"]["roll"] / (np.pi / 2)) % 1 > 1e-3]
        lengths = [2 * rules.bar_reach * bar["Re"] * SDSS_PIXSCALE for bar in turned]
        if len(lengths) >= 5:
            spread = np.std(lengths) / np.sqrt(len(lengths))
            bars.append([np.median(lengths), spread, *_of(theirs.bar, "length"), *_of(ours.bar, "length")])
        fitted = [arm["pitch_deg"] for arm in galaxy.fitted_arms]
        if fitted:
            error = np.std(fitted) / np.sqrt(len(fitted)) if len(fitted) > 1 else np.nan
            pitches.append([np.mean(fitted), error, *_of(theirs.arms, "pitch"), *_of(ours.arms, "pitch")])
    names = ["theirs", "theirs_err", "on_theirs", "on_theirs_err", "ours", "ours_err"]
    return pd.DataFrame(bars, columns=names), pd.DataFrame(pitches, columns=names)


def _of(measured: Any, name: str) -> tuple[float, float]:
    return getattr(measured, name), getattr(measured, f"{name}_err")


def sure(table: pd.DataFrame, ours: str = "ours") -> pd.DataFrame:
    """Rows whose quoted error is small."""
    return table[table[f"{ours}_err"] < SURE]


def agreement(table: pd.DataFrame, ours: str = "ours", theirs: str = "theirs") -> dict[str, Any]:
    """Correlation, bias and scatter of two columns."""
    told = asdict(agree(table[theirs], table[ours]))
    return {name: round(value, 2) for name, value in told.items() if np.isfinite(value)}


# Figures


def scatter_figure(path: Path, panels: list[tuple[pd.DataFrame, str, str, str]], unit: str, colour: str) -> None:
    """Draw ours against theirs, one panel each: (table, column of theirs, column of ours, title).

    Open symbols: pitch angles whose quoted error is above `SURE`.
    """
    drawn = []
    for table, theirs, ours, title in panels:
        names = {theirs: "theirs", f"{theirs}_err": "theirs_err", ours: "ours", f"{ours}_err": "ours_err"}
        drawn.append((table[[name for name in names if name in table]].rename(columns=names), title))
    write_figure(one_to_one(drawn, unit, colour, sure=SURE if unit == "deg" else np.inf), path, dpi=160)


def real(segmenter: Segmenter, folder: Path, out: Path) -> list[dict[str, Any]]:
    """Compare with what others measured; draw one figure a comparison."""
    builder = folder / "galaxy_builder"
    bars = hoyle_bars(segmenter, builder / "bar_subset")
    colour_bars = decals_bars(segmenter, folder / "gz_decals_jpg")
    pitch = hart_pitch(segmenter, builder / "pitch")
    their_bars, their_pitch = drawn(segmenter, builder / "drawn")
    arm, bar = COLOURS["spiral"], COLOURS["bar"]
    full = "arcsec, full length"
    scatter_figure(out / "measure_bars_hoyle.png", [(bars, "theirs", "ours", "Hoyle et al. 2011, SDSS r")], full, bar)
    title = "Hoyle et al. 2011, colour pictures"
    scatter_figure(out / "measure_bars_decals.png", [(colour_bars, "theirs", "ours", title)], "length / 2 r90", bar)
    panels = [(pitch, "theirs", "ours", "Hart et al. 2017"), (pitch, "theirs", "sparcfire", "SpArcFiRe, same galaxies")]
    scatter_figure(out / "measure_pitch_hart.png", panels, "deg", arm)
    sides = (("on_theirs", "on the volunteers' masks"), ("ours", "on predicted masks"))
    panels = [(their_bars, "theirs", side, f"Galaxy Builder, {title}") for side, title in sides]
    scatter_figure(out / "measure_bars_drawn.png", panels, full, bar)
    panels = [(their_pitch, "theirs", side, f"Galaxy Builder, {title}") for side, title in sides]
    scatter_figure(out / "measure_pitch_drawn.png", panels, "deg", arm)
    return [
        {"reference": "Hoyle et al. 2011, SDSS r (arcsec)", **agreement(bars)},
        {"reference": "Hoyle et al. 2011, colour pictures (length / 2 r90)", **agreement(colour_bars)},
        {"reference": "Hart et al. 2017 (deg)", **agreement(pitch)},
        {"reference": "  of them, quoted error below 8 deg", **agreement(sure(pitch))},
        {"reference": "Hart et al. 2017, by SpArcFiRe (deg)", **agreement(pitch, "sparcfire")},
        {"reference": "Galaxy Builder's bars, on its masks (arcsec)", **agreement(their_bars, "on_theirs")},
        {"reference": "Galaxy Builder's bars, on predicted masks (arcsec)", **agreement(their_bars)},
        {"reference": "Galaxy Builder's pitch, on its masks (deg)", **agreement(their_pitch, "on_theirs")},
        {"reference": "  of them, quoted error below 8 deg", **agreement(sure(their_pitch, "on_theirs"), "on_theirs")},
        {"reference": "Galaxy Builder's pitch, on predicted masks (deg)", **agreement(their_pitch)},
        {"reference": "  of them, quoted error below 8 deg", **agreement(sure(their_pitch))},
    ]


def speed(segmenter: Segmenter, n_galaxies: int) -> dict[str, Any]:
    """Time the command on predictions of simulated galaxies, with two processes."""
    from zoobot_3d.catalog.listing import list_galaxies
    from zoobot_3d.infer.predict import predict
    from zoobot_3d.measure.table import measure_table
    from zoobot_3d.simulate.survey import simulate_survey

    with TemporaryDirectory() as folder:
        survey = simulate_survey(Path(folder) / "survey", n_galaxies, seed=78, files="pictures", progress=False)
        predict(list_galaxies(survey.master), segmenter, Path(folder) / "masks")
        start, cpu = time.perf_counter(), time.process_time()
        measure_table(Path(folder) / "masks", Path(folder) / "one.parquet", shard_size=n_galaxies, progress=False)
        row: dict[str, Any] = {"galaxies": n_galaxies, "cpu_seconds": round(time.process_time() - cpu, 1)}
        row["seconds_in_one_process"] = round(time.perf_counter() - start, 1)
        start = time.perf_counter()
        measure_table(Path(folder) / "masks", Path(folder) / "two.parquet", cluster="local:2", progress=False)
        return row | {"seconds_in_two_processes": round(time.perf_counter() - start, 1)}


def main() -> None:
    """Measure, compare, print, write, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", default="default")
    parser.add_argument("--folder", type=Path, help="folder of real data; without it, only simulated galaxies")
    parser.add_argument("--galaxies", type=int, default=600)
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--speed", type=int, help="time the command on this many galaxies")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    segmenter = load_segmenter(args.bundle)
    table = simulate(segmenter, args.galaxies, args.seed)
    result: dict[str, Any] = {"zoobot_3d": __version__, "bundle": args.bundle, "seed": args.seed}
    result["simulated"] = simulated_summary(table)
    print(pd.DataFrame(result["simulated"]).T.to_string(header=False), flush=True)
    kinds = ("true", "predicted")
    for name, label, unit, theirs, colour in (
        ("length", "bars", "arcsec, full length", "length_true", COLOURS["bar"]),
        ("pitch", "pitch", "deg", "pitch_true", COLOURS["spiral"]),
    ):
        panels = [(table[table["kind"] == kind], theirs, name, f"simulated, {kind} masks") for kind in kinds]
        scatter_figure(args.out / f"measure_{label}_simulated.png", panels, unit, colour)
    if args.folder:
        result["real"] = real(segmenter, args.folder, args.out)
        print(pd.DataFrame(result["real"]).to_string(index=False), flush=True)
    if args.speed:
        result["speed"] = speed(segmenter, args.speed)
        print(result["speed"])
    write_atomic(args.out / "measure.json", json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
