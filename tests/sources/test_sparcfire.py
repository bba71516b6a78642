import shutil

import cv2
import numpy as np
import pytest
from astropy.io import fits

from fake_sparcfire import ARC, SIDE, write
from zoobot_3d.errors import BadFileError
from zoobot_3d.io import read_picture
from zoobot_3d.sources import sparcfire
from zoobot_3d.sources.sparcfire import read_sparcfire, read_sparcfire_folder, sparcfire_table


def lit_at(rows, columns) -> np.ndarray:
    lit = np.zeros((SIDE, SIDE), bool)
    lit[rows, columns] = True
    return lit


def iou(a, b) -> float:
    return float((a & b).sum() / (a | b).sum())


# The frame, by hand: the pole is at (63, 63) of the standardised picture and at (120, 100) of the input


def test_a_round_galaxy_is_only_moved(tmp_path):
    result = read_sparcfire(write(tmp_path, "galaxy", lit=lit_at(slice(60, 64), slice(70, 80))))
    expected = np.zeros((200, 240), np.float32)
    expected[97:101, 127:137] = 1  # 3 up to 0 of the pole, 7 to 16 to its right
    np.testing.assert_array_equal(result.mask, expected)
    assert result.grid.shape == (200, 240)


def test_a_disk_along_x_is_turned_upright_and_stretched_across(tmp_path):
    """What lies 10 px right of the centre along the major axis is 10 px above the pole; 4 px above it, 8 px left."""
    lit = lit_at([53, 63], [63, 55])
    lit = cv2.dilate(lit.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0  # 5 px, and across the axis 2.5 of the input
    folder = write(tmp_path, "galaxy", lit=lit, diskAxisRatio=0.5, diskMajAxsAngleRadians=0.0)
    n, _, _, centres = cv2.connectedComponentsWithStats((read_sparcfire(folder).mask > 0.5).astype(np.uint8))
    assert n == 3
    found = sorted(tuple(centre) for centre in centres[1:])
    np.testing.assert_allclose(found, [(120, 96), (130, 100)], atol=0.51)


def test_pixels_that_are_lit_in_part_hold_the_part(tmp_path):
    """Three samples along a pixel: cropRad 21 makes 43 px of 127."""
    lit = lit_at(slice(0, SIDE), slice(0, 65))  # 1.5 standardised px right of the pole is the edge: 0.51 px
    mask = read_sparcfire(write(tmp_path, "galaxy", lit=lit, cropRad=21)).mask
    assert mask[100, 119] == 1 and mask[100, 122] == 0
    assert mask[100, 120] + mask[100, 121] == pytest.approx(1, abs=0.34)


def test_an_arc_of_positive_pitch_is_an_s(tmp_path):
    arc = read_sparcfire(write(tmp_path, "galaxy")).arcs[0]
    assert (arc.hand, arc.pitch) == ("S", 20.0)
    assert arc.length == pytest.approx(35.6)
    np.testing.assert_allclose((arc.x[-1], arc.y[-1]), (160, 100))  # the outer end: angle 0, radius 40
    inner = 40 * np.exp(-np.tan(np.radians(20)))
    np.testing.assert_allclose((arc.x[0], arc.y[0]), (120 + inner * np.cos(1), 100 - inner * np.sin(1)))
    # Outward it turns from above the centre to its right, on a picture: clockwise, as the package's S.


def test_rows_from_the_south_turn_masks_hands_and_arcs_round(tmp_path):
    folder = write(tmp_path, "galaxy")
    north, south = read_sparcfire(folder), read_sparcfire(folder, first_row="south")
    np.testing.assert_array_equal(south.mask, north.mask[::-1])
    assert (north.hand, south.hand, south.arcs[0].hand) == ("S", "Z", "Z")
    np.testing.assert_allclose(south.arcs[0].y, 199 - north.arcs[0].y)
    assert south.pitch == north.pitch == 20.0


def test_a_negative_mean_is_a_z(tmp_path):
    folder = write(tmp_path, "galaxy", arcs=({**ARC, "pitch_angle": -12.5},), pa_alenWtd_avg_domChiralityOnly=-12.5)
    result = read_sparcfire(folder)
    assert (result.hand, result.pitch, result.pitch_err, result.arcs[0].hand) == ("Z", 12.5, 3.0, "Z")
    assert np.hypot(result.arcs[0].x[-1] - 120, result.arcs[0].y[-1] - 100) > 40  # still from the inner end outward


def test_a_galaxy_without_arcs_is_a_result(tmp_path):
    folder = write(tmp_path, "galaxy", lit=np.zeros((SIDE, SIDE), bool), arcs=(), pa_alenWtd_avg_domChiralityOnly="NaN")
    result = read_sparcfire(folder)
    assert result.arcs == () and result.hand == "" and np.isnan(result.pitch) and not result.mask.any()


# What cannot be used


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fit_state": "preprocessing failure (ellipse fit did not converge)"}, "found no fit: preprocessing failure"),
        ({"diskAxisRatio": "NaN"}, "no number in column diskAxisRatio"),
        ({"diskAxisRatio": 0}, "no such ellipse"),
        ({"iptSz": "[9999999 9999999]"}, "no size of a picture"),
        ({"iptSz": ""}, "no size of a picture"),
        ({"arcs": ({**ARC, "pitch_angle": "oops"},)}, "arc 1 is not a spiral"),
        ({"lit": np.ones((SIDE, 40), bool)}, "should be square"),
    ],
)
def test_broken_results_say_why_in_a_line(tmp_path, change, message):
    folder = write(tmp_path, "galaxy", **change)
    with pytest.raises(BadFileError, match=message) as error:
        read_sparcfire(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("ending", [".csv", "_arcs.csv", "-H_clusMask-merged.png"])
def test_a_missing_file_is_named(tmp_path, ending):
    folder = write(tmp_path, "galaxy")
    (folder / f"galaxy{ending}").unlink()
    with pytest.raises(BadFileError, match=f"galaxy{ending}"):
        read_sparcfire(folder)


def test_other_settings_are_refused(tmp_path):
    folder = write(tmp_path, "galaxy")
    settings = folder / "galaxy-S_settings.txt"
    settings.write_text("   mirrorLR: 0\n   useDeProjectStretch: 1\n")
    read_sparcfire(folder)
    settings.write_text("   mirrorLR: 0\n   useDeProjectStretch: 0\n")
    with pytest.raises(BadFileError, match="useDeProjectStretch 0"):
        read_sparcfire(folder)


def test_without_standardisation_the_label_map_lies_on_the_input(tmp_path):
    """As the published comparison ran it: no ellipse, the label map of the input's size, arcs about the middle."""
    lit = np.zeros((200, 240), bool)
    lit[10:20, 30:50] = True
    folder = write(tmp_path, "galaxy", lit=lit, diskAxisRatio="", diskMajAxsAngleRadians="", standardizedCenterR="")
    (folder / "galaxy-S_settings.txt").write_text("useImageStandardization: 0\nuseDeProjectStretch: 0\n")
    result = read_sparcfire(folder)
    np.testing.assert_array_equal(result.mask, lit)
    np.testing.assert_allclose((result.arcs[0].x[-1], result.arcs[0].y[-1]), (119.5 + 40, 99.5))


def test_one_broken_galaxy_does_not_stop_the_others(tmp_path):
    write(tmp_path, "good")
    write(tmp_path, "bad", fit_state="failed")
    (write(tmp_path, "torn") / "torn-H_clusMask-merged.png").write_bytes(b"not a picture")
    (tmp_path / "galaxy.csv").write_text("the table of all\n")
    found, reasons = read_sparcfire_folder(tmp_path)
    assert list(found) == ["good"] and sorted(reasons) == ["bad", "torn"]
    table = sparcfire_table(found, reasons).set_index("id")
    assert table.loc["good", "pitch"] == 20 and table.loc["good", "n_arcs"] == 1
    assert "failed" in table.loc["bad", "error"] and table.loc["good", "error"] == ""


def test_an_empty_folder_is_an_error(tmp_path):
    with pytest.raises(BadFileError, match="a folder for each galaxy"):
        read_sparcfire_folder(tmp_path)


# Real results


@pytest.fixture(params=["1237648721789256091", "1237653622298509849", "1237654652032712862"])
def real(request, realdata):
    return realdata / "sparcfire" / "out" / request.param


def frame_of(folder):
    return sparcfire._Frame.of(sparcfire._Row.read(folder / f"{folder.name}.csv"), (256, 256))


def test_the_input_picture_has_the_rows_of_the_fits_array(real):
    array = fits.getdata(real.parents[1] / "in_fits" / f"{real.name}.fits").astype(float)
    array = np.clip(array, *np.percentile(array, [1, 99]))
    shown = read_picture(real / f"{real.name}-A_input.png")[..., 0].astype(float)
    as_it_is, flipped = (np.corrcoef(rows.ravel(), shown.ravel())[0, 1] for rows in (array, array[::-1]))
    assert as_it_is > 0.93 > 0.85 > flipped


def test_the_frame_is_that_of_the_standardised_picture(real):
    """SpArcFiRe's own standardised picture, before sharpening, is the input through our affine."""
    shown = cv2.medianBlur(read_picture(real / f"{real.name}-A_input.png")[..., 0], 3)
    standard = read_picture(real / f"{real.name}-B_autoCrop.png")[..., 0]
    ours = cv2.warpAffine(shown, frame_of(real).to_standard, (256, 256))
    assert np.corrcoef(ours.ravel(), standard.ravel())[0, 1] > 0.997


def test_the_reprojected_map_is_understood_to_the_pixel(real):
    """The label map through SpArcFiRe's own reprojection is its file; ours differs, as the module says."""
    labels = sparcfire._lit(real / f"{real.name}-H_clusMask-merged.png").astype(np.float32)
    reprojected = sparcfire._lit(real / f"{real.name}-K_clusMask-reprojected.png")
    row = sparcfire._Row.read(real / f"{real.name}.csv")
    again = cv2.warpAffine(labels, sparcfire._reprojection(row), reprojected.shape[::-1]) > 0.003
    assert iou(again, reprojected) > 0.999
    centre = sparcfire._reprojection(row) @ [*frame_of(real).pole, 1]
    off = centre - [row.number("inputCenterC") - 1, row.number("inputCenterR") - 1]
    assert (off > 0.7).all() and (off < 2.1).all()  # too far right and down


def test_the_reprojected_map_serves_where_the_label_map_is_missing(real, tmp_path):
    copy = shutil.copytree(real, tmp_path / real.name)
    (copy / f"{real.name}-H_clusMask-merged.png").unlink()
    ours, theirs = read_sparcfire(real).mask > 0.5, read_sparcfire(copy).mask > 0.5
    raw = sparcfire._lit(real / f"{real.name}-K_clusMask-reprojected.png")
    assert iou(ours, theirs) > max(0.45, iou(ours, raw) + 0.09)  # arms are 1 to 4 of its pixels wide


def test_the_arcs_are_the_coloured_lines_of_its_picture(real):
    picture = read_picture(real / f"{real.name}-J_logSpiralArcs-merged.png").astype(int)
    rows, columns = np.nonzero(np.ptp(picture, -1) > 60)
    frame = frame_of(real)
    curves = np.hstack([np.stack([arc.x, arc.y]) for arc in read_sparcfire(real).arcs])
    x, y = frame.to_standard[:, :2] @ curves + frame.to_standard[:, 2:]
    distance = np.hypot(columns[:, None] - x, rows[:, None] - y).min(1)
    assert np.percentile(distance, 95) < 0.7 * frame.scale  # curves are sampled once a pixel of the input


def test_hands_follow_from_the_curves(real):
    for first_row in ("north", "south"):
        for arc in read_sparcfire(real, first_row=first_row).arcs:
            result = read_sparcfire(real, first_row=first_row)
            row = sparcfire._Row.read(real / f"{real.name}.csv")
            x0, y0 = row.number("inputCenterC") - 1, row.number("inputCenterR") - 1
            y0 = result.mask.shape[0] - 1 - y0 if first_row == "south" else y0
            angle = np.unwrap(np.arctan2(-(arc.y - y0), arc.x - x0))  # anticlockwise on the picture
            assert ("Z" if angle[-1] > angle[0] else "S") == arc.hand
