import pytest

from zoobot_3d.compute.progress import announce, progress_bar


def test_a_bar_that_reaches_its_end(capsys):
    with progress_bar("counting", 3, unit="sheep") as advance:
        advance(1)
        advance(2)
    out = capsys.readouterr()
    assert out.out == ""
    assert "counting" in out.err and "3/3" in out.err and "sheep/s" in out.err
    assert "failed" not in out.err and "stopped" not in out.err


@pytest.mark.parametrize(("error", "word"), [(ValueError, "failed"), (KeyboardInterrupt, "stopped")])
def test_a_bar_that_does_not_says_why(capsys, error, word):
    with pytest.raises(error), progress_bar("counting", 3) as advance:
        advance(1)
        raise error
    assert f"counting: {word}" in capsys.readouterr().err


def test_nothing_is_shown_before_the_first_call_or_without_show(capsys):
    with progress_bar("counting", 3):
        pass
    with progress_bar("counting", 3, show=False) as advance:
        advance(3)
    announce("fetching [3] sheep", show=False)
    assert capsys.readouterr().err == ""
    announce("fetching [3] sheep")
    assert capsys.readouterr().err == "fetching [3] sheep\n"
