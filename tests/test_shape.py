"""Functions stay small enough to be read: few parameters, and a screen or two of lines."""

import ast
from pathlib import Path

import zoobot_3d

SOURCE = Path(zoobot_3d.__file__).parent
MOST_PARAMETERS = 8
MOST_LINES = 60


def functions():
    """Every function of the package, with the name to look for."""
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{path.relative_to(SOURCE)}:{node.lineno} {node.name}", node


def n_parameters(node) -> int:
    """All that a caller may give: not ``self`` or ``cls``."""
    of = node.args
    names = [each.arg for each in (*of.posonlyargs, *of.args, *of.kwonlyargs)]
    return len(names) - (names[:1] in (["self"], ["cls"])) + bool(of.vararg) + bool(of.kwarg)


def n_lines(node) -> int:
    """From the signature to the end, without the docstring."""
    first = node.body[0]
    is_docstring = ast.get_docstring(node) is not None
    return node.end_lineno - node.lineno + 1 - (first.end_lineno - first.lineno + 1 if is_docstring else 0)


def test_no_function_has_more_than_eight_parameters():
    assert [name for name, node in functions() if n_parameters(node) > MOST_PARAMETERS] == []


def test_no_function_is_longer_than_sixty_lines():
    assert [name for name, node in functions() if n_lines(node) > MOST_LINES] == []
