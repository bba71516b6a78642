import errno
import socket

import httpx

from zoobot_3d.sources.reasons import no_answer


def raised(error, cause):
    """The error as a library raises it, out of another."""
    error.__cause__ = cause
    return error


def test_without_a_network_nobody_has_to_know_what_errno_2_is():
    resolving = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    error = raised(httpx.ConnectError(str(resolving)), raised(OSError(), resolving))
    assert no_answer(error) == "no network connection, or no such host"


def test_a_refusal_keeps_its_words_without_the_number():
    error = httpx.ConnectError(str(ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")))
    assert no_answer(error) == "Connection refused"


def test_an_error_of_several_lines_or_none_is_one_line():
    assert no_answer(ValueError("a\n  b")) == "a b"
    assert no_answer(httpx.ReadError("")) == "ReadError"
