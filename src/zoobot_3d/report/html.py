"""A self-contained HTML page of numbers and pictures. Knows nothing of how either was made."""

from __future__ import annotations

import base64
import html
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from zoobot_3d.io import write_atomic

__all__ = ["Section", "write_report"]

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
h1 { font-size: 1.6rem; margin-bottom: 0; } h2 { font-size: 1.2rem; margin-top: 2.2rem; }
table { border-collapse: collapse; margin: .8rem 0; } th, td { padding: .2rem .9rem; text-align: right; }
th { border-bottom: 1px solid #888; font-weight: 600; } td:first-child, th:first-child { text-align: left; }
img { max-width: 100%; display: block; margin: .6rem 0; } code { background: #f2f2f2; padding: 0 .25rem; }
.note { color: #555; } .spiral { color: #2b83b5; } .bar { color: #b87700; }
"""


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes
    ----------
    title : str
        Heading.
    text : str
        A paragraph, HTML allowed.
    table : sequence of sequence of str
        Rows; the first is the header.
    pictures : sequence of path
        PNG files, put into the page.
    """

    title: str
    text: str = ""
    table: Sequence[Sequence[str]] = ()
    pictures: Sequence[str | os.PathLike[str]] = field(default_factory=tuple)


def write_report(path: str | os.PathLike[str], title: str, lead: str, sections: Sequence[Section]) -> None:
    """Write the page, whole or not at all; it needs no other file.

    Parameters
    ----------
    path : path
        The .html file.
    title : str
        Of the page.
    lead : str
        First paragraph, HTML allowed.
    sections : sequence of Section
        In order.
    """
    body = [f"<h1>{html.escape(title)}</h1>", f'<p class="note">{lead}</p>']
    for section in sections:
        body.append(f"<h2>{html.escape(section.title)}</h2>")
        if section.text:
            body.append(f"<p>{section.text}</p>")
        if section.table:
            body.append(_table(section.table))
        body.extend(_picture(Path(picture), section.title) for picture in section.pictures)
    page = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head>\n<body>\n'
        + "\n".join(body)
        + "\n</body></html>\n"
    )
    write_atomic(path, page)


def _table(rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in rows[0])
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows[1:])
    return f"<table><tr>{head}</tr>{body}</table>"


def _picture(path: Path, alt: str) -> str:
    content = base64.b64encode(path.read_bytes()).decode()
    return f'<img alt="{html.escape(alt)}" src="data:image/png;base64,{content}">'
