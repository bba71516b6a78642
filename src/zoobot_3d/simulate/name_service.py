"""A name service like Sesame at CDS, for a simulated sky: every catalogue number names one of its galaxies."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

from zoobot_3d import schema
from zoobot_3d.io import read_table
from zoobot_3d.simulate.catalogs import CATALOGUES
from zoobot_3d.simulate.faulty_server import Handler, Request, Response

__all__ = ["SESAME_PATH", "name_route"]

SESAME_PATH = "/cgi-bin/nph-sesame"


def name_route(survey: Path) -> Handler:
    """Make the handler that resolves names.

    A galaxy of the survey is found by its own name. Any other name that ends with a number, such as ``NGC 3351``, is
    given to one of the galaxies: the number counts them round and round.

    Parameters
    ----------
    survey : pathlib.Path
        A simulated survey.
    """
    truth = read_table(survey / CATALOGUES["truth"], [schema.COL_ID, "ra", "dec"])
    places = list(zip(truth["ra"], truth["dec"], strict=True))
    own = dict(zip(truth[schema.COL_ID], places, strict=True))

    def answer(request: Request) -> Response:
        name = unquote(request.url.partition("?")[2]).strip()
        number = re.search(r"(\d+)$", name)
        place = own.get(name) or (places[int(number[1]) % len(places)] if number else None)
        found = f"%J {place[0]:.7f} {place[1]:+.7f}\n" if place else "#!SIMBAD: No known catalog could be found\n"
        return Response(f"# {name}\t#Q1\n{found}#====Done\n".encode(), "text/plain", ranges=False)

    return answer
