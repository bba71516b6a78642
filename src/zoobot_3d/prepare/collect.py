"""From the archives to a training set: every step of the data side, in order, with nothing on disk at the start.

What the data page of the documentation does by hand. Each step goes on where a killed run left it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from zoobot_3d.catalog.reading import join_columns, read_catalog
from zoobot_3d.prepare.crossmatch import CrossmatchOptions, crossmatch
from zoobot_3d.prepare.extract import catalog, extract_marks
from zoobot_3d.prepare.master import MasterSummary, build_master
from zoobot_3d.schema import COL_ID
from zoobot_3d.sources.cutout_requests import RequestOptions
from zoobot_3d.sources.fetch import FetchOptions
from zoobot_3d.sources.galaxy_zoo import DESI_VOTES_FILE, GZ2_FILE, GZ2_URL, ZENODO_URL, fetch_gz2, fetch_gz_desi
from zoobot_3d.sources.gz3d_archive import GZ3D_URL, fetch_gz3d
from zoobot_3d.sources.legacy_survey import CUTOUT_URL, CutoutOptions, fetch_cutouts

__all__ = ["Services", "collect"]

_FRACTIONS, _SIZES = "gz_desi_deep_learning_catalog_friendly.parquet", "external_catalog.parquet"


@dataclass(frozen=True)
class Services:
    """Addresses of the archives; the real ones by default.

    Attributes
    ----------
    gz3d : str
        Directory of GZ3D FITS files.
    cutouts : str
        Cutout service.
    zenodo : str
        Records of Zenodo.
    gz2 : str
        Galaxy Zoo 2 table.
    """

    gz3d: str = GZ3D_URL
    cutouts: str = CUTOUT_URL
    zenodo: str = ZENODO_URL
    gz2: str = GZ2_URL


def collect(
    root: str | os.PathLike[str],
    *,
    services: Services | None = None,
    limit: int | None = None,
    keep_fits: bool = True,
    options: FetchOptions | None = None,
    cluster: str = "local",
    progress: bool = True,
) -> MasterSummary:
    """Fetch marks and catalogues, match them, fetch the cutouts, and write the master catalogue.

    Parameters
    ----------
    root : path
        Data root to fill.
    services : Services, optional
        Where from.
    limit : int, optional
        Only the first so many GZ3D files.
    keep_fits : bool
        Keep the FITS cutouts (2.2 MB a galaxy) beside the pictures made of them.
    options : FetchOptions, optional
        How politely to ask.
    cluster : str
        See `zoobot_3d.compute.shards.sharded`.
    progress : bool
        Show bars.

    Returns
    -------
    MasterSummary

    Raises
    ------
    Zoobot3DError
        If a step cannot do anything at all; what single galaxies lack is recorded beside the files.
    """
    root, services, options = Path(root), services or Services(), options or FetchOptions()
    tables = root / "catalogues"
    metadata, matches = tables / "gz3d_metadata.parquet", tables / "matches.parquet"
    fractions, sizes, votes = (tables / name for name in (_FRACTIONS, _SIZES, DESI_VOTES_FILE))
    fetch_gz3d(root, url=services.gz3d, limit=limit, options=options, cluster=cluster, progress=progress)
    fetch_gz_desi(root, url=services.zenodo, options=options, progress=progress)
    fetch_gz2(root, url=services.gz2, options=options, progress=progress)
    extract_marks(root / "gz3d", root / "marks", cluster=cluster, progress=progress)
    catalog(root / "gz3d", metadata, cluster=cluster, progress=progress)
    how = CrossmatchOptions(suffix="_manga", keep_duplicates=True)
    crossmatch(metadata, fractions, matches, options=how, progress=progress)
    galaxies = join_columns(read_catalog(matches), sizes, COL_ID)
    fetch_cutouts(
        galaxies,
        root,
        name=matches,
        requests=RequestOptions(center="manga", ra_unit="deg"),  # marks and picture then have one middle
        cutouts=CutoutOptions(url=services.cutouts, keep_fits=keep_fits),
        options=options,
        cluster=cluster,
        progress=progress,
    )
    return build_master(matches, root=root, desi=[fractions, sizes, votes], gz2=tables / GZ2_FILE)
