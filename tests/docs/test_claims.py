"""What the documentation says that there is: commands, options, links, the version."""

from __future__ import annotations

import argparse
import re
import shlex

import pytest

import zoobot_3d
from doc_pages import CHECKOUT, PAGES, blocks, prose, text
from zoobot_3d.cli import COMMANDS
from zoobot_3d.cli.command import Command
from zoobot_3d.config.reading import check_key

CALL = re.compile(r"zoobot3d ((?:\\\n|[^`\n|&;>#])*)")
COMMON = {"--help", "--debug", "--version"}
OTHERS = {"--lifetime"}  # of dask worker


def calls(page):
    """Every call of zoobot3d on a page, in code of lines or of blocks: (place, words)."""
    for block in blocks(page):
        if not block.language.startswith("{"):
            joined = "\n".join(block.lines)
            for match in CALL.finditer(joined):
                yield f"{page}:{block.line + joined[: match.start()].count(chr(10))}", match[1].replace("\\\n", " ")
    words = prose(page)
    for code in re.finditer(r"`([^`]+)`", words):
        line = words[: code.start()].count("\n") + 1
        for match in CALL.finditer(code[1].replace("\n", " ")):
            yield f"{page}:{line}", match[1]


def find(words: list[str]) -> tuple[Command, list[str]] | None:
    """The command that words call, and the words after its name."""
    chosen, rest, among = None, list(words), COMMANDS
    while among and rest and not rest[0].startswith("-"):
        match = [command for command in among if command.name == rest[0]]
        if not match:
            break
        chosen, rest, among = match[0], rest[1:], match[0].kinds
    return chosen and (chosen, rest)


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_commands_and_options_exist(page):
    for place, line in calls(page):
        words = shlex.split(line.strip(), comments=True)
        if not words or words[0].isupper() or words[0] in COMMON:
            continue
        found = find(words)
        assert found, f"{place}: there is no command zoobot3d {words[0]}"
        command, rest = found
        parser = argparse.ArgumentParser(add_help=False)
        command.options(parser)
        known = COMMON | {option for action in parser._actions for option in action.option_strings}
        for word in (word.partition("=")[0] for word in rest if word.startswith("--")):
            if word not in known and command.name in ("train", "sweep"):
                check_key(word.removeprefix("--"), f"{place}: ")
            else:
                assert word in known or command.kinds, f"{place}: zoobot3d {command.name} has no option {word}"


def test_the_readme_lists_the_commands_there_are():
    table = text(PAGES[0]).partition("## Commands")[2].partition("\n## ")[0]
    listed = re.findall(r"zoobot3d ([a-z-]+)`|, `([a-z-]+)`", "\n".join(re.findall(r"^\| (.*?) \|", table, re.M)))
    names = [first or second for first, second in listed]
    assert sorted(names) == sorted(command.name for command in COMMANDS)


def test_the_readme_lists_every_kind_of_fetch():
    (fetch,) = [command for command in COMMANDS if command.name == "fetch"]
    row = next(line for line in text(PAGES[0]).splitlines() if line.startswith("| `zoobot3d fetch`"))
    assert {kind.name for kind in fetch.kinds} == set(re.findall(r"`([a-z0-9-]+)`", row))


def slug(title: str) -> str:
    """Anchor of a heading, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-")


def anchors(page) -> set[str]:
    words = text(page)
    named = re.findall(r"^\((.+)\)=$", words, re.M)
    return {*named, *(slug(title) for title in re.findall(r"^#+ (.*)$", words, re.M))}


LINKING = [*PAGES, *(page for page in map(PAGES[0].with_name, ("CONTRIBUTING.md", "CHANGELOG.md")))]


@pytest.mark.parametrize("page", LINKING, ids=str)
def test_links_lead_somewhere_in_the_repository(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"https?://", target):
            continue
        path, _, anchor = target.partition("#")
        file = (CHECKOUT / page).parent / path if path else CHECKOUT / page
        assert file.exists(), f"{page}: {target} leads nowhere"
        if anchor:
            assert anchor in anchors(file.resolve().relative_to(CHECKOUT)), f"{page}: {target} has no such heading"


def test_the_citation_has_the_version_of_the_package():
    assert re.search(r"^version: (.+)$", text(PAGES[0].with_name("CITATION.cff")), re.M)[1] == zoobot_3d.__version__


def test_every_page_is_in_the_table_of_contents():
    index = text(PAGES[0].with_name("docs") / "index.md")
    listed = re.search(r"\{toctree\}\n(?::.*\n)*\n((?:[\w-]+\n)+)", index)[1].split()
    assert sorted([*listed, "index"]) == sorted(page.stem for page in PAGES[1:])


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_options_in_prose_belong_to_some_command(page):
    known = COMMON | OTHERS
    for command in COMMANDS:
        for one in command.kinds or (command,):
            parser = argparse.ArgumentParser(add_help=False)
            one.options(parser)
            known |= {option for action in parser._actions for option in action.option_strings}
    for script in (*(CHECKOUT / "tools").glob("*.py"), *(CHECKOUT / "benchmarks").glob("*.py")):
        known |= set(re.findall(r'add_argument\("(--[\w-]+)"', script.read_text(encoding="utf-8")))
    for code in re.findall(r"`([^`]+)`", prose(page)):
        if match := re.match(r"(--[\w.-]+)", code):
            if match[1] not in known and "." in match[1]:
                check_key(match[1].removeprefix("--"), f"{page}: ")
            else:
                assert match[1] in known, f"{page}: no command has the option {match[1]}"
