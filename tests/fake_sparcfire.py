"""A stand-in for SpArcFiRe: results whose geometry is known, and its web service on 127.0.0.1."""

import io
import json
import zipfile
from email import message_from_bytes
from pathlib import Path

import numpy as np
from PIL import Image

from zoobot_3d.simulate.faulty_server import Handler, Request, Response

SIDE = 127
"""Pixels of the standardised picture: cropRad 63 is then one pixel for each of the input."""

ROW = {
    "name": "galaxy",
    "fit_state": "OK",
    "warnings": "(no warnings)",
    "chirality_alenWtd": "S-wise",
    "diskAxisRatio": 1.0,
    "diskMajAxsLen": 126.0,
    "diskMajAxsAngleRadians": np.pi / 2,
    "inputCenterR": 101.0,  # SpArcFiRe counts from 1
    "inputCenterC": 121.0,
    "iptSz": "[200 240]",
    "cropRad": 63,
    "standardizedCenterR": 64.0,
    "standardizedCenterC": 64.0,
    "pa_alenWtd_avg_domChiralityOnly": 20.0,
    "paErr_alenWtd_stdev_domChiralityOnly": 3.0,
}
"""A round galaxy at column 120, row 100 of a picture of 240 x 200 px, in the middle of the standardised picture."""

ARC = {
    "gxyName": "galaxy",
    "alenRank": 1,
    "math_initial_theta": 0.0,
    "pitch_angle": 20.0,
    "math_initial_radius": 40.0,
    "relative_theta_start": 0.0,
    "relative_theta_end": 1.0,
    "r_start": 27.8,
    "r_end": 40.0,
    "arc_length": 35.6,
    "clusOutputColor": "[0 1 0]",
}


def png(lit: np.ndarray) -> bytes:
    """Bytes of a label map: green where it is lit."""
    content = io.BytesIO()
    Image.fromarray((lit[..., None] * np.array([0, 255, 0])).astype(np.uint8)).save(content, "PNG")
    return content.getvalue()


def table(*rows: dict) -> bytes:
    """A table as SpArcFiRe writes it: a space after each comma, and a comma at the end."""
    lines = [list(rows[0]), *(list(map(str, row.values())) for row in rows)]
    return "".join(", ".join(line) + ", \n" for line in lines).encode()


def results(name: str, lit: np.ndarray | None = None, arcs: tuple = (ARC,), **changed) -> dict[str, bytes]:
    """Files of one galaxy: lit pixels of the standardised picture, arcs, and the numbers of the frame."""
    if lit is None:
        lit = np.zeros((SIDE, SIDE), bool)
        lit[60:64, 70:80] = True
    named = [{**arc, "gxyName": name} for arc in arcs]
    return {
        f"{name}.csv": table({**ROW, "name": name, **changed}),
        f"{name}_arcs.csv": table(*named) if named else table(ARC).split(b"\n")[0] + b"\n",
        f"{name}-H_clusMask-merged.png": png(lit),
    }


def write(folder: Path, name: str, **keywords) -> Path:
    """Write the results of one galaxy into a folder of its name."""
    (folder / name).mkdir(parents=True)
    for file, content in results(name, **keywords).items():
        (folder / name / file).write_bytes(content)
    return folder / name


def zipped(files: dict[str, bytes]) -> bytes:
    """Bytes of a zip."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, body in files.items():
            archive.writestr(name, body)
    return content.getvalue()


class Service:
    """Handlers of the web service, and what was sent to it.

    ``zips`` maps a galaxy to the bytes of its zip, where they are not `results`; ``refused`` names galaxies that get
    ``success: false``.
    """

    def __init__(self) -> None:
        self.zips: dict[str, bytes] = {}
        self.refused: set[str] = set()
        self.jobs: dict[str, str] = {}
        self.forms: list[dict[str, bytes]] = []

    def routes(self) -> dict[str, Handler]:
        """For `zoobot_3d.simulate.faulty_server.LoopbackServer`."""
        return {
            "/process/preprocess.php": self._preprocess,
            "/process/process.php": self._process,
            "/process/": self._zip,
        }

    def _preprocess(self, request: Request) -> Response:
        head = f"Content-Type: {request.headers['content-type']}\n\n".encode()
        parts = message_from_bytes(head + request.body).get_payload()
        self.forms.append(
            {p.get_param("name", header="content-disposition"): p.get_payload(decode=True) for p in parts}
        )
        (file,) = [part.get_filename() for part in parts if part.get_filename()]
        name = Path(file).stem
        if name in self.refused:
            return _json({"success": False, "message": "cannot read the image"})
        self.jobs[f"job-{name}"] = name
        return _json({"success": True, "data": {"url": f"preview.php?id=job-{name}"}})

    def _process(self, request: Request) -> Response:
        return _json({"success": request.form.get("id") in self.jobs})

    def _zip(self, request: Request) -> Response:
        _, _, job, folder, file = request.path.split("/")
        name = self.jobs.get(job, "")
        if folder != "outDir" or file != f"galaxy_{name}_data.zip":
            return Response(b"not found\n", "text/plain", 404)
        return Response(self.zips.get(name) or zipped(results(name)), "application/zip")


def _json(answer: dict) -> Response:
    return Response(json.dumps(answer).encode(), "application/json", ranges=False)
