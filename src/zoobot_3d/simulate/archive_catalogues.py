"""The services that publish catalogues, for a simulated survey: Zenodo, the GZ2 table, SAMI's TAP, the bar lengths.

Each handler turns the survey's tables into the files and columns that the real service has, so that the real clients
can be run against them on loopback. Knows formats of services; nothing of clients, nor of faults.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import io
import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from astropy.io.votable import from_table, writeto
from astropy.io.votable.tree import Info
from astropy.table import Table

from zoobot_3d import schema
from zoobot_3d.io import read_table
from zoobot_3d.simulate.catalogs import CATALOGUES
from zoobot_3d.simulate.faulty_server import Handler, Request, Response
from zoobot_3d.sources.galaxy_zoo import GZ_DECALS_RECORD, GZ_DESI_RECORD
from zoobot_3d.sources.sami import SAMI_COLUMNS, SAMI_TABLES
from zoobot_3d.sources.votes import hart_columns

__all__ = ["GZ2_PATH", "HOYLE_PATH", "SAMI_TAP_PATH", "ZENODO_PATH", "catalogue_routes"]

ZENODO_PATH = "/api/records"
GZ2_PATH = "/gz2_hart16.csv.gz"
SAMI_TAP_PATH = "/vo/tap"
HOYLE_PATH = "/data/bars/hoyle_barlengths.csv"

_NOT_FOUND = Response(b"not found\n", "text/plain", 404)


def catalogue_routes(survey: str | os.PathLike[str]) -> dict[str, Handler]:
    """Make the handlers of every catalogue service.

    Parameters
    ----------
    survey : path
        A simulated survey; its tables are read when first asked for, and kept.

    Returns
    -------
    dict of str to callable
        By path prefix: `ZENODO_PATH`, `GZ2_PATH`, `SAMI_TAP_PATH` and `HOYLE_PATH` are what clients are given after the
        server's address.
    """
    tables = _Tables(Path(survey))
    return {
        f"{ZENODO_PATH}/": _zenodo(tables),
        GZ2_PATH: _file(functools.cache(lambda: _hart_csv(tables["gz2_votes"])), "application/x-gzip"),
        f"{SAMI_TAP_PATH}/": _tap(functools.cache(lambda: _sami_tables(tables["sami"]))),
        HOYLE_PATH: _file(functools.cache(lambda: tables.path("bar_lengths").read_bytes()), "text/csv"),
    }


class _Tables:
    """Tables of a survey, by their name in `CATALOGUES`."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, name: str) -> Path:
        return self.root / CATALOGUES[name]

    def __getitem__(self, name: str) -> pd.DataFrame:
        return read_table(self.path(name))


def _file(content: Callable[[], bytes], content_type: str) -> Handler:
    return lambda request: Response(content, content_type)


# Zenodo


def _zenodo(tables: _Tables) -> Handler:
    """Answer ``/api/records/<id>`` and ``/api/records/<id>/files/<name>/content`` as Zenodo does."""

    @functools.cache
    def record(number: int) -> dict[str, bytes]:
        files = {GZ_DESI_RECORD: _gz_desi_files, GZ_DECALS_RECORD: _gz_decals_files}[number](tables)
        return {name: _parquet(frame) for name, frame in files.items()}

    def answer(request: Request) -> Response:
        number, *rest = request.path.removeprefix(ZENODO_PATH).strip("/").split("/")
        if number not in (str(GZ_DESI_RECORD), str(GZ_DECALS_RECORD)):
            return _NOT_FOUND
        files = record(int(number))
        address = f"{request.base_url}{ZENODO_PATH}/{number}"
        if not rest:
            return Response(_record_json(int(number), files, address), "application/json")
        if len(rest) == 3 and (rest[0], rest[2]) == ("files", "content") and rest[1] in files:
            return Response(files[rest[1]], "application/octet-stream")
        return _NOT_FOUND

    return answer


def _record_json(number: int, files: Mapping[str, bytes], address: str) -> bytes:
    entries = [
        {
            "id": hashlib.md5(name.encode()).hexdigest(),
            "key": name,
            "size": len(content),
            "checksum": f"md5:{hashlib.md5(content).hexdigest()}",
            "links": {"self": f"{address}/files/{name}/content"},
        }
        for name, content in files.items()
    ]
    metadata = {"title": "A simulated survey", "access_right": "open"}
    return json.dumps({"id": number, "metadata": metadata, "links": {"self": address}, "files": entries}).encode()


def _gz_desi_files(tables: _Tables) -> dict[str, pd.DataFrame]:
    """Split the survey's table of GZ DESI as it is published; votes of campaign DR8 by how many said artifact."""
    desi = tables["gz_desi"]
    of_external = ["est_petro_th50", *(f"mag_{band}_desi" for band in "grz")]
    votes = _campaign(tables["gz_desi_votes"], "dr8")
    extended = votes["smooth-or-featured_artifact"] >= 5
    return {
        "external_catalog.parquet": desi[[schema.COL_ID, *of_external]],
        "gz_desi_deep_learning_catalog_friendly.parquet": desi.drop(columns=of_external),
        "gz_desi_gzd8_volunteer_core_catalog.parquet": votes[~extended],
        "gz_desi_gzd8_volunteer_extended_catalog.parquet": votes[extended],
    }


def _gz_decals_files(tables: _Tables) -> dict[str, pd.DataFrame]:
    """Make the tables of GZ DECaLS, which know galaxies by their IAU names."""
    votes = tables["gz_desi_votes"]
    names = tables["master"].drop_duplicates(schema.COL_ID).set_index(schema.COL_ID)["iauname"]
    files = {"gz_decals_volunteers_5.parquet": "dr5", "gz_decals_volunteers_1_and_2.parquet": "dr12"}
    out = {}
    for file, campaign in files.items():
        frame = _campaign(votes, campaign)
        out[file] = frame.assign(iauname=frame[schema.COL_ID].map(names)).drop(columns=schema.COL_ID)
    return out


def _campaign(votes: pd.DataFrame, campaign: str) -> pd.DataFrame:
    """Take the galaxies that a campaign asked about: votes, totals and fractions in columns without its name."""
    columns: dict[str, Any] = {name: votes[name] for name in (schema.COL_ID, schema.COL_RA, schema.COL_DEC)}
    for question in schema.CAMPAIGNS[campaign]:
        counts = votes[question.vote_columns(campaign)]
        total = counts.sum(axis=1)
        columns[f"{question.name}_total-votes"] = total
        for answer, (_, count) in zip(question.answers, counts.items(), strict=True):
            columns[f"{question.name}_{answer}"] = count
            columns[f"{question.name}_{answer}_fraction"] = count / total.where(total > 0)
    frame = pd.DataFrame(columns)
    return frame[frame["smooth-or-featured_total-votes"] > 0].reset_index(drop=True)


def _parquet(frame: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), buffer, compression="zstd")
    return buffer.getvalue()


# GZ2


def _hart_csv(votes: pd.DataFrame) -> bytes:
    """Write votes as the gzipped table of Hart et al. 2016 does: six columns for each answer."""
    names = hart_columns()
    first = votes[[ours for theirs, ours in names.items() if theirs.startswith("t01")]].sum(axis=1)
    columns: dict[str, Any] = {name: votes[name] for name in ("dr7objid", schema.COL_RA, schema.COL_DEC)}
    columns |= {"sample": "original", "gz2_class": "Sc", "total_classifications": first}
    columns["total_votes"] = votes[list(names.values())].sum(axis=1)
    for task in dict.fromkeys(theirs.split("_")[0] for theirs in names):
        answers = {theirs: ours for theirs, ours in names.items() if theirs.startswith(f"{task}_")}
        total = votes[list(answers.values())].sum(axis=1)
        for theirs, ours in answers.items():
            fraction = (votes[ours] / total.where(total > 0)).fillna(0.0)
            columns |= {f"{theirs}_count": votes[ours], f"{theirs}_weight": votes[ours].astype(float)}
            columns |= {f"{theirs}_{kind}": fraction for kind in ("fraction", "weighted_fraction", "debiased")}
            columns[f"{theirs}_flag"] = (fraction > 0.8).astype(int)
    text = pd.DataFrame(columns).to_csv(index=False, lineterminator="\n")
    return gzip.compress(text.encode(), 6, mtime=0)


# SAMI


def _sami_tables(targets: pd.DataFrame) -> dict[str, Table]:
    """Deal the targets to the three tables, each with the columns that it has at Data Central."""
    targets = targets[list(SAMI_COLUMNS)].astype({"CATID": "int64"})
    which = targets["CATID"].to_numpy() % 10  # seven of ten in GAMA's fields, two in clusters
    gama, clusters, fillers = targets[which < 7], targets[(which >= 7) & (which < 9)], targets[which == 9]
    clusters = clusters.drop(columns=["RA_IFU", "DEC_IFU", "z_tonry", "A_g"])
    clusters = clusters.assign(R_on_rtwo=1.0, V_on_sigma=0.0, is_mem=1)
    fillers = fillers[["CATID", "RA_OBJ", "DEC_OBJ", "z_spec"]].assign(fillflag=0)
    parts = (gama, clusters, fillers)
    tables = {f"sami_dr3.{name}": Table.from_pandas(part) for name, part in zip(SAMI_TABLES, parts, strict=True)}
    names = ["TAP_SCHEMA.tables", "sami_dr3.CubeObs", *tables]
    schemas = [name.partition(".")[0] for name in names]
    return {**tables, "TAP_SCHEMA.tables": Table({"schema_name": schemas, "table_name": names})}


_SELECT = re.compile(r"\s*SELECT\s+(?P<columns>.+?)\s+FROM\s+(?P<table>[\w.\"]+)\s*;?\s*", re.IGNORECASE | re.DOTALL)


def _tap(tables: Callable[[], Mapping[str, Table]]) -> Handler:
    """Answer a TAP service's ``/capabilities`` and ``/sync``: whole tables or some of their columns, no conditions."""

    def answer(request: Request) -> Response:
        if request.path == f"{SAMI_TAP_PATH}/capabilities":
            return Response(_CAPABILITIES.format(address=f"{request.base_url}{SAMI_TAP_PATH}").encode(), "text/xml")
        if request.path != f"{SAMI_TAP_PATH}/sync":
            return _NOT_FOUND
        asked = {name.upper(): value for name, value in (request.query | request.form).items()}
        query = _SELECT.fullmatch(asked.get("QUERY", ""))
        if query is None:
            return _refuse("this service understands SELECT columns FROM table")
        known = {name.lower(): table for name, table in tables().items()}
        table = known.get(query["table"].replace('"', "").lower())
        if table is None:
            return _refuse(f"no table {query['table']}")
        columns = {name.lower(): name for name in table.colnames}
        wanted = [name.strip().strip('"').lower() for name in query["columns"].split(",")]
        if wanted != ["*"]:
            if missing := [name for name in wanted if name not in columns]:
                return _refuse(f"no column {', '.join(missing)}")
            table = table[[columns[name] for name in wanted]]
        rows = int(asked.get("MAXREC", len(table)))
        return _votable(table[:rows], "OK" if rows >= len(table) else "OVERFLOW")

    return answer


def _votable(table: Table, status: str, message: str = "") -> Response:
    """Write a VOTable as DALI wants it: the status before the table, or after it when the table was cut."""
    document = from_table(table)
    resource = document.resources[0]
    resource.type = "results"
    resource.infos.append(Info(name="QUERY_STATUS", value=status))
    resource.infos[-1].content = message or None
    buffer = io.BytesIO()
    writeto(document, buffer)
    content_type = "application/x-votable+xml"
    return Response(buffer.getvalue(), content_type, 400 if status == "ERROR" else 200, ranges=False)


def _refuse(message: str) -> Response:
    return _votable(Table({"none": np.empty(0, np.int64)}), "ERROR", message)


_CAPABILITIES = """<?xml version="1.0" encoding="UTF-8"?>
<vosi:capabilities xmlns:vosi="http://www.ivoa.net/xml/VOSICapabilities/v1.0"
    xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xmlns:vs="http://www.ivoa.net/xml/VODataService/v1.1"
    xmlns:tr="http://www.ivoa.net/xml/TAPRegExt/v1.0">
  <capability standardID="ivo://ivoa.net/std/TAP" xsi:type="tr:TableAccess">
    <interface role="std" xsi:type="vs:ParamHTTP"><accessURL use="base">{address}</accessURL></interface>
    <language><name>ADQL</name><version ivo-id="ivo://ivoa.net/std/ADQL#v2.0">2.0</version></language>
    <outputFormat><mime>application/x-votable+xml</mime></outputFormat>
  </capability>
</vosi:capabilities>
"""
