"""The documentation as tests see it: pages, and the blocks of code on them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).parents[1]
PAGES = [Path("README.md"), *sorted(path.relative_to(CHECKOUT) for path in (CHECKOUT / "docs").glob("*.md"))]
"""Every page, from the checkout."""

NOT_RUN = re.compile(r"<!-- not run: (.+) -->")
"""Stands on the line before a block that cannot be run, with the reason."""


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Attributes
    ----------
    page : pathlib.Path
        From the checkout.
    line : int
        Number of its first line of code.
    language : str
        What stands behind the fence; ``{name}`` is a directive of MyST.
    lines : tuple of str
        The code.
    reason : str
        Why it is not run; empty if it is.
    """

    page: Path
    line: int
    language: str
    lines: tuple[str, ...]
    reason: str = ""

    @property
    def place(self) -> str:
        """Page and line, as editors understand them."""
        return f"{self.page}:{self.line}"

    def padded(self) -> str:
        """Return the code with as many empty lines before it as to have the page's line numbers."""
        return "\n" * (self.line - 1) + "\n".join(self.lines) + "\n"


def text(page: Path) -> str:
    return (CHECKOUT / page).read_text(encoding="utf-8")


def blocks(page: Path) -> list[Block]:
    """Find every fenced block of a page, in order."""
    found: list[Block] = []
    lines = text(page).splitlines()
    number = 0
    while number < len(lines):
        opened = re.match(r"(`{3,}|~{3,})(.*)", lines[number])
        number += 1
        if not opened:
            continue
        start = number
        while not lines[number].startswith(opened[1]):
            number += 1
        reason = NOT_RUN.fullmatch(lines[start - 2].strip()) if start > 1 else None
        code = tuple(lines[start:number])
        found.append(Block(page, start + 1, opened[2].strip(), code, reason[1] if reason else ""))
        number += 1
    return found


def prose(page: Path) -> str:
    """Text of a page with its blocks and comments blanked, so that line numbers stay."""
    without = re.sub(r"<!--.*?-->", lambda match: "\n" * match[0].count("\n"), text(page), flags=re.S)
    lines = without.splitlines()
    for block in blocks(page):
        for number in range(block.line - 2, block.line + len(block.lines)):
            lines[number] = ""
    return "\n".join(lines)
