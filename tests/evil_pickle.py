"""A pickle that does something when it is read, so that tests can tell that none is."""

import os


class Evil:
    """Makes a folder when unpickled."""

    def __init__(self, marker: str) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (self.marker,)
