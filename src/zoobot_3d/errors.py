"""Every exception of the package. Knows nothing of the rest.

Each message is one line that names the file or row, says what is wrong and what to do about it. The command line
prints that line and exits 2; a batch writes it beside the galaxy and goes on.
"""

from __future__ import annotations

import os


class Zoobot3DError(Exception):
    """Base of every error a user can cause or meet; ``str(error)`` is the one line they should read."""


class BadFileError(Zoobot3DError):
    """A file is missing, truncated, corrupt or not of the expected kind.

    Parameters
    ----------
    path : str or os.PathLike
        The file.
    what : str
        What is wrong, with HDU and row where they apply.
    fix : str, optional
        What the user can do.
    """

    def __init__(self, path: str | os.PathLike[str], what: str, fix: str = "") -> None:
        super().__init__(f"{os.fspath(path)}: {what}" + (f"; {fix}" if fix else ""))
        self.path, self.what, self.fix = os.fspath(path), what, fix

    def __reduce__(self) -> tuple[type, tuple[str, str, str]]:
        """Survive the trip from a worker process, which pickles the constructor's arguments."""
        return type(self), (self.path, self.what, self.fix)


class FetchError(Zoobot3DError):
    """A service did not give what was asked for, after every retry that could help.

    Parameters
    ----------
    url : str
        What was asked for.
    what : str
        What went wrong, last.
    fix : str, optional
        What the user can do.
    """

    def __init__(self, url: str, what: str, fix: str = "") -> None:
        super().__init__(f"{url}: {what}" + (f"; {fix}" if fix else ""))
        self.url, self.what, self.fix = url, what, fix

    def __reduce__(self) -> tuple[type, tuple[str, str, str]]:
        """Survive the trip from a worker process, as `BadFileError` does."""
        return type(self), (self.url, self.what, self.fix)


class BadMarksError(Zoobot3DError):
    """Marks that cannot be rasterized or read: NaN vertices, wrong nesting."""


class BadPictureError(Zoobot3DError):
    """An array is not a picture the model can use: wrong dtype or shape, blank, not square."""


class GridError(Zoobot3DError):
    """A grid or WCS this package cannot hold, or an array that does not fit its grid."""


class ConfigError(Zoobot3DError):
    """A configuration key or value that does not exist or does not fit."""


class CatalogError(Zoobot3DError):
    """A catalogue misses columns or holds values that cannot be used; the message counts the rows."""


class BundleError(Zoobot3DError):
    """A bundle that is incomplete, of a newer version, or whose weights do not fit its configuration."""
