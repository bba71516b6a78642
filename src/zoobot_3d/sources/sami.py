"""Targets of the SAMI Galaxy Survey, data release 3: from Data Central by TAP, or from a table downloaded by hand.

Croom et al. 2021, MNRAS 505, 991; https://datacentral.org.au. Three tables list the targets: of the GAMA fields (all 21
columns), of the clusters (no position of the fibre bundle, no ``z_tonry``, no ``A_g``) and fillers (position and
``z_spec``); what a table lacks is missing in its rows. Knows nothing of cubes or cross-matching.
"""

from __future__ import annotations

import contextlib
import os
import random
import time
import warnings
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import pandas as pd
from astropy.utils.exceptions import AstropyWarning
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, wait_exponential

from zoobot_3d.catalog.positions import read_positions, require_columns
from zoobot_3d.compute.progress import announce, say
from zoobot_3d.errors import CatalogError, ConfigError, FetchError
from zoobot_3d.io import read_table, write_parquet
from zoobot_3d.sources.addresses import service_url
from zoobot_3d.sources.catalogue_files import CatalogueFile, CatalogueFolder
from zoobot_3d.sources.fetch import FetchOptions
from zoobot_3d.sources.http import DEFAULT_USER_AGENT
from zoobot_3d.sources.patience import Words
from zoobot_3d.sources.reasons import no_answer

if TYPE_CHECKING:
    from pyvo.dal import TAPService

__all__ = ["SAMI_COLUMNS", "SAMI_FILE", "SAMI_TABLES", "SAMI_TAP_URL", "fetch_sami", "read_sami_targets"]

SAMI_TAP_URL = service_url("https://datacentral.org.au/vo/tap")
SAMI_FILE = "sami_targets.parquet"
SAMI_TABLES = ("InputCatGAMADR3", "InputCatClustersDR3", "InputCatFiller")
"""As the end of their full names; at Data Central they are in the schema ``sami_dr3``."""
SAMI_COLUMNS = (
    "CATID", "RA_OBJ", "DEC_OBJ", "RA_IFU", "DEC_IFU", "r_petro", "r_auto", "z_tonry", "z_spec", "M_r", "r_e",
    "mu_within_1re", "mu_1re", "mu_2re", "ellip", "PA", "Mstar", "g_i", "A_g", "SURV_SAMI", "BAD_CLASS",
)  # fmt: skip
"""Identifier; object and fibre bundle (deg); magnitudes; redshifts; half-light radius (arcsec) and surface brightness
(mag/arcsec2); ellipticity, position angle (deg); log mass (solar), colour, extinction (mag); priority; quality."""

_WHOLE = ("SURV_SAMI", "BAD_CLASS")
_ORIGIN = "SAMI DR3, Data Central"
_MAX_ROWS = 1_000_000  # the three tables have about 7,000; services cut answers at their own limit otherwise
_LONGEST_WAIT = 120.0


def fetch_sami(
    root: str | os.PathLike[str],
    *,
    url: str = SAMI_TAP_URL,
    options: FetchOptions | None = None,
    progress: bool = True,
) -> list[CatalogueFile]:
    """Fetch the target list into ``catalogues/sami_targets.parquet``, unless it is there.

    Parameters
    ----------
    root : path
        Data root.
    url : str
        Of the TAP service.
    options : FetchOptions, optional
        Of the network; ``connections`` and ``rate`` do not matter for four requests, one after the other.
    progress : bool
        Say what is fetched; it takes seconds and needs no bar.

    Returns
    -------
    list of CatalogueFile
        The one file: `SAMI_COLUMNS` and ``table``, sorted by table and ``CATID``.

    Raises
    ------
    ConfigError
        If pyvo is not installed.
    FetchError
        If the service does not answer, cuts the answer short, or has no such table.
    CatalogError
        If what it sends has no usable row.
    """
    folder = CatalogueFolder(root)
    folder.sweep(SAMI_FILE)
    there = folder.verified(SAMI_FILE)
    if there is not None:
        return [there]
    target = folder.path / SAMI_FILE
    if folder.unknown(SAMI_FILE):
        targets, problems = read_sami_targets(target)
        return [folder.record(SAMI_FILE, len(targets), targets.shape[1], _ORIGIN, fetched=False, problems=problems)]
    announce(f"asking {url} for the targets of SAMI DR3, a small table, into {folder.path}", show=progress)
    service = _Service(url, options or FetchOptions(), Words(say) if progress else None)
    full_names = _find_tables(service.query("SELECT table_name FROM TAP_SCHEMA.tables")["table_name"], url)
    parts, problems = [], []
    for table, full_name in full_names.items():
        part, lost = _clean(service.query(f"SELECT * FROM {full_name}"), full_name)
        parts.append(part.assign(table=table).sort_values("CATID", kind="stable"))
        problems += lost
    targets = pd.concat(parts, ignore_index=True)
    write_parquet(target, targets)
    return [folder.record(SAMI_FILE, len(targets), targets.shape[1], _ORIGIN, problems=problems)]


def read_sami_targets(path: str | os.PathLike[str]) -> tuple[pd.DataFrame, list[str]]:
    """Read a target list, also as downloaded by hand from Data Central.

    Parameters
    ----------
    path : path
        FITS (where ``CATID`` and the coordinates are byte strings), CSV (whose columns are in lower case) or Parquet;
        one of the three tables, or what `fetch_sami` wrote.

    Returns
    -------
    targets : pandas.DataFrame
        `SAMI_COLUMNS`, and ``table`` if the file has it. ``CATID`` int64, ``SURV_SAMI`` and ``BAD_CLASS`` Int64, the
        others float64; missing where the file has no such column. Rows without identifier or position are left out.
    problems : list of str
        What is wrong in how many rows, a line for each kind; empty when every row is good.

    Raises
    ------
    BadFileError
        If the file cannot be read.
    CatalogError
        If ``CATID``, ``RA_OBJ`` or ``DEC_OBJ`` is missing, or no row is usable.
    """
    return _clean(read_table(path), os.fspath(path))


def _clean(frame: pd.DataFrame, name: str) -> tuple[pd.DataFrame, list[str]]:
    """Give columns their names and types, and leave out rows that cannot be used."""
    cases = {column.lower(): column for column in SAMI_COLUMNS}
    frame = frame.rename(columns={column: cases.get(str(column).lower(), column) for column in frame.columns})
    require_columns(frame.columns, ("CATID", "RA_OBJ", "DEC_OBJ"), name)
    numbers = {column: _numbers(frame, column) for column in SAMI_COLUMNS}
    problems: list[str] = []
    if len(frame):
        position = read_positions(frame, name=name, ra="RA_OBJ", dec="DEC_OBJ")
        numbers |= {"RA_OBJ": position.ra, "DEC_OBJ": position.dec}
        problems += position.problems

    def count(bad: np.ndarray, what: str) -> None:
        if bad.any():
            have = "has" if bad.sum() == 1 else "have"
            problems.append(
                f"{name}: {bad.sum()} of {len(frame)} rows {have} {what} (first: row {int(np.argmax(bad))})"
            )

    no_id = ~(numbers["CATID"] == np.floor(numbers["CATID"]))  # NaN is not equal
    count(no_id, "no whole CATID")
    for column in SAMI_COLUMNS[3:]:
        if column in frame and not pd.api.types.is_numeric_dtype(frame[column].dtype):
            words = frame[column].map(_text).str.lower().isin(["", "nan", "none", "null", "--", "<na>"]).to_numpy()
            count(np.isnan(numbers[column]) & ~words, f"text in {column} where a number belongs")
    good = np.isfinite(numbers["RA_OBJ"]) & ~no_id
    if len(good) and not good.any():
        raise CatalogError(f"{name}: no row has a whole CATID and a position; check the file")
    targets = pd.DataFrame(numbers)[good].astype({"CATID": "int64"})
    for column in _WHOLE:
        whole = targets[column].where(targets[column] == targets[column].round())
        targets[column] = whole.astype("Int64")
    if "table" in frame:
        targets["table"] = frame.loc[good, "table"].astype(str)
    return targets.reset_index(drop=True), problems


def _numbers(frame: pd.DataFrame, column: str) -> np.ndarray:
    """Float64 values of a column of numbers, text or byte strings; NaN where there is none. CATIDs have 10 digits."""
    if column not in frame:
        return np.full(len(frame), np.nan)
    values = frame[column]
    if not pd.api.types.is_numeric_dtype(values.dtype):
        values = values.map(_text)
    return pd.to_numeric(values, errors="coerce").to_numpy(np.float64, na_value=np.nan)


def _text(value: object) -> str:
    return value.decode("ascii", "replace").strip() if isinstance(value, bytes) else str(value).strip()


def _find_tables(names: pd.Series, url: str) -> dict[str, str]:
    """Full name of each target table in a service: one whose end is right, of DR3 if there are several."""
    listed = [_text(name) for name in names]
    found = {}
    for table in SAMI_TABLES:
        ends = [name for name in listed if name.replace('"', "").rpartition(".")[2].lower() == table.lower()]
        if not ends:
            near = [name for name in listed if "inputcat" in name.lower()] or listed[:5]
            has = f"it has {', '.join(near)}" if near else "it lists none"
            raise FetchError(url, f"no table {table} ({has})", "see whether the service renamed it")
        found[table] = max(ends, key=lambda name: ("dr3" in name.rpartition(".")[0].lower(), -listed.index(name)))
    return found


class _Service:
    """A TAP service that is asked again when an answer does not arrive whole.

    Parameters
    ----------
    url : str
        Of the service.
    options : FetchOptions
        Of the network.
    words : Words, optional
        For the person who waits.
    """

    def __init__(self, url: str, options: FetchOptions, words: Words | None = None) -> None:
        self.url, self.options, self.words = url, options, words
        self.tap = _open(url, options.timeout)

    def query(self, adql: str) -> pd.DataFrame:
        """Run a query; bytes and masked values are left as pandas has them.

        Raises
        ------
        FetchError
            If the service refuses the query, cuts the answer short, or gave no whole answer in any attempt.
        """
        from pyvo.dal import DALAccessError, DALOverflowWarning, DALQueryError

        exponential = wait_exponential(self.options.first_wait, _LONGEST_WAIT, min=0)

        def wait(state: RetryCallState) -> float:
            asked = _retry_after(state.outcome.exception() if state.outcome else None)
            return max(asked, exponential(state) * random.uniform(0.5, 1.0))

        def give_up(state: RetryCallState) -> NoReturn:
            error = state.outcome.exception() if state.outcome else None
            what = f"{no_answer(error)[:200] if error else 'no answer'} ({state.attempt_number} attempts)"
            raise FetchError(self.url, what, "try again later") from error

        def explain(state: RetryCallState) -> None:
            error = state.outcome.exception() if state.outcome else None
            if self.words is not None and error is not None:
                more = f"trying up to {self.options.attempts - state.attempt_number} times more (Ctrl-C stops)"
                self.words.say(f"{self.url}: {no_answer(error)[:200]}; {more}")

        retrying = Retrying(
            before_sleep=explain,
            sleep=time.sleep,
            stop=stop_after_attempt(self.options.attempts),
            wait=wait,
            retry=retry_if_exception(_may_pass),
            retry_error_callback=give_up,
        )
        try:
            watch = self.words.waiting(self.url) if self.words else contextlib.nullcontext()
            with watch, warnings.catch_warnings():
                warnings.simplefilter("ignore", AstropyWarning)  # VOTables of services are seldom flawless
                warnings.simplefilter("error", DALOverflowWarning)
                return retrying(self.tap.run_sync, adql, maxrec=_MAX_ROWS).to_table().to_pandas()
        except DALQueryError as error:
            raise FetchError(self.url, f"refused {adql!r}: {_one_line(error)}", "report it") from None
        except DALOverflowWarning as error:
            raise FetchError(self.url, f"cut the answer to {adql!r} short: {_one_line(error)}", "report it") from None
        except DALAccessError as error:
            raise FetchError(self.url, _one_line(error), "check the address") from error


def _open(url: str, timeout: float) -> TAPService:
    try:
        import requests
        from pyvo.dal import TAPService
    except ImportError:
        raise ConfigError("fetch sami needs pyvo; install zoobot-3d[sami]") from None

    class Session(requests.Session):
        """A session that does not wait for ever."""

        def request(self, *args: Any, **options: Any) -> requests.Response:
            return super().request(*args, **{"timeout": timeout, **options})

    session = Session()
    session.headers["User-Agent"] = DEFAULT_USER_AGENT
    return TAPService(url, session=session)


def _may_pass(error: BaseException) -> bool:
    """Whether another try may help: not when the service understood the question and says no."""
    import requests
    from pyvo.dal import DALFormatError, DALServiceError

    if isinstance(error, DALServiceError):
        return not error.code or error.code >= 500 or error.code in (408, 425, 429)
    return isinstance(error, DALFormatError | requests.RequestException)


def _retry_after(error: BaseException | None) -> float:
    """Seconds that the service asked to wait; 0 if it did not say."""
    response = getattr(getattr(error, "cause", None), "response", None)
    value = response.headers.get("Retry-After", "") if response is not None else ""
    return min(float(value), 3600.0) if value.isdigit() else 0.0


def _one_line(error: BaseException | None) -> str:
    text = " ".join(str(error).split())
    return text[:200] or type(error).__name__
