"""A self-contained HTML page of numbers, pictures and commands. Knows nothing of how they were made."""

from __future__ import annotations

import base64
import html
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from zoobot_3d.io import write_atomic

__all__ = ["Card", "Picture", "Section", "write_report"]

_STYLE = """
:root { --ink: #1c2430; --soft: #5a6675; --line: #d9dfe6; --spiral: #1f77ad; --bar: #a86c00; }
* { box-sizing: border-box; }
body { font: 16px/1.55 system-ui, -apple-system, "Segoe UI", sans-serif; color: var(--ink); margin: 0; }
body { background: #f4f6f8; }
main { max-width: 70rem; margin: 0 auto; padding: 2rem 1.5rem 3rem; background: #fff; min-height: 100vh; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .6rem; }
h2 { font-size: 1.3rem; margin: 2.6rem 0 .5rem; padding-top: 1rem; border-top: 1px solid var(--line); }
p { max-width: 52rem; margin: .5rem 0; } .lead { font-size: 1.05rem; color: var(--soft); }
.notice { background: #fff6df; border-left: 4px solid #e69f00; padding: .6rem 1rem; margin: 1rem 0; }
.spiral { color: var(--spiral); } .bar { color: var(--bar); }
.cards { display: flex; flex-wrap: wrap; gap: 1rem; margin: 1.4rem 0; }
.card { flex: 1 1 14rem; border: 1px solid var(--line); border-radius: .5rem; padding: .7rem 1rem; }
.card b { display: block; font-size: 1.7rem; line-height: 1.3; } .card span { color: var(--soft); font-size: .9rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem 1.1rem .3rem 0; text-align: right; border-bottom: 1px solid var(--line); }
th { font-weight: 600; color: var(--soft); } td:first-child, th:first-child { text-align: left; }
figure { margin: 1.2rem 0; } img { max-width: 100%; height: auto; display: block; }
figcaption { color: var(--soft); font-size: .92rem; max-width: 52rem; margin-top: .4rem; }
.row { display: flex; flex-wrap: wrap; gap: 1.5rem; } .row figure { flex: 0 1 31rem; margin: .6rem 0; }
dt { margin-top: .9rem; } dd { margin: .3rem 0 0; }
pre { background: #10161d; color: #e8eef5; border-radius: .4rem; padding: .6rem .9rem; margin: 0; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; }
code { font-family: ui-monospace, "DejaVu Sans Mono", monospace; font-size: .88rem; }
code { white-space: nowrap; } pre code { white-space: inherit; }
p code, dt code { background: #eef1f4; padding: 0 .25rem; }
"""


@dataclass(frozen=True)
class Card:
    """A number that the page shows first.

    Attributes
    ----------
    label, value, detail : str
        Above, large, and below.
    kind : str
        ``spiral`` or ``bar`` for the colour of the class; empty for none.
    """

    label: str
    value: str
    detail: str = ""
    kind: str = ""


@dataclass(frozen=True)
class Picture:
    """A PNG file that is put into the page, with its caption.

    Attributes
    ----------
    path : path
        The file.
    caption : str
        What is shown, with units; HTML allowed.
    """

    path: str | os.PathLike[str]
    caption: str = ""


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
    pictures : sequence of Picture
        Below one another.
    side_by_side : sequence of Picture
        Beside one another, where the window is wide enough.
    commands : sequence of (str, str)
        What a command does, HTML allowed, and the command.
    """

    title: str
    text: str = ""
    table: Sequence[Sequence[str]] = ()
    pictures: Sequence[Picture] = field(default_factory=tuple)
    side_by_side: Sequence[Picture] = field(default_factory=tuple)
    commands: Sequence[tuple[str, str]] = ()


def write_report(
    path: str | os.PathLike[str],
    title: str,
    lead: str,
    sections: Sequence[Section],
    *,
    cards: Sequence[Card] = (),
    notice: str = "",
) -> None:
    """Write the page, whole or not at all; it needs no other file.

    Parameters
    ----------
    path : path
        The .html file.
    title : str
        Title of the page.
    lead : str
        First paragraph, HTML allowed.
    sections : sequence of Section
        In order.
    cards : sequence of Card
        Numbers below the first paragraph.
    notice : str
        Something that readers must know at once, HTML allowed; empty for nothing.
    """
    body = [f"<h1>{html.escape(title)}</h1>", f'<p class="lead">{lead}</p>']
    if notice:
        body.append(f'<p class="notice">{notice}</p>')
    if cards:
        body.append(f'<div class="cards">{"".join(map(_card, cards))}</div>')
    for section in sections:
        body += _section(section)
    page = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head>\n<body><main>\n'
        + "\n".join(body)
        + "\n</main></body></html>\n"
    )
    write_atomic(path, page)


def _section(section: Section) -> list[str]:
    body = [f"<h2>{html.escape(section.title)}</h2>"]
    if section.text:
        body.append(f"<p>{section.text}</p>")
    if section.table:
        body.append(_table(section.table))
    body += [_picture(picture, section.title) for picture in section.pictures]
    if section.side_by_side:
        row = "".join(_picture(picture, section.title) for picture in section.side_by_side)
        body.append(f'<div class="row">{row}</div>')
    if section.commands:
        pairs = (
            f"<dt>{what}</dt><dd><pre><code>{html.escape(how)}</code></pre></dd>" for what, how in section.commands
        )
        body.append(f"<dl>{''.join(pairs)}</dl>")
    return body


def _card(card: Card) -> str:
    kind = f' class="{html.escape(card.kind)}"' if card.kind else ""
    label, value, detail = (html.escape(text) for text in (card.label, card.value, card.detail))
    return f'<div class="card"><span>{label}</span><b{kind}>{value}</b><span>{detail}</span></div>'


def _table(rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in rows[0])
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows[1:])
    return f'<div class="scroll"><table><tr>{head}</tr>{body}</table></div>'


def _picture(picture: Picture, alt: str) -> str:
    content = base64.b64encode(Path(picture.path).read_bytes()).decode()
    caption = f"<figcaption>{picture.caption}</figcaption>" if picture.caption else ""
    return f'<figure><img alt="{html.escape(alt)}" src="data:image/png;base64,{content}">{caption}</figure>'
