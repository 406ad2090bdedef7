"""Files that are either whole or not there: written beside their place, flushed, and moved into it.

What is being written is called `.writing-*` and is locked by its writer, so that what a killed writer left behind can
be told from what another is writing: the next one that writes into the folder removes it.
"""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

PREFIX = ".writing-"


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A binary file that takes the place of `path` when the block ends well; otherwise what was there is kept.

    After a crash at any point, `path` is the old file or the new one. The folder must exist.
    """
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        _remove_abandoned(path.parent)
        file, temporary = _held(path.parent)
        with file:  # and locked until it is in its place
            try:
                yield file
                file.flush()
                os.fsync(file.fileno())
                os.chmod(temporary, 0o644)
                os.replace(temporary, path)
            except BaseException:
                with suppress(FileNotFoundError):
                    os.unlink(temporary)
                raise
        with suppress(OSError):  # the new file is in its place; not every file system can flush a folder
            os.fsync(folder)
    finally:
        os.close(folder)


def _held(folder: Path) -> tuple[IO[bytes], str]:
    """A new file of our own to write to, and its path."""
    while True:
        handle, temporary = tempfile.mkstemp(dir=folder, prefix=PREFIX)
        with suppress(OSError):  # a file system without locks: there nobody gets one, and nothing is removed
            fcntl.flock(handle, fcntl.LOCK_EX)
        if os.fstat(handle).st_nlink:
            return os.fdopen(handle, "wb"), temporary
        os.close(handle)  # it was taken for abandoned before it was locked


def _remove_abandoned(folder: Path) -> None:
    """Remove what writers that are dead were writing in a folder; what cannot be removed harms nobody."""
    for path in folder.glob(f"{PREFIX}*"):
        with suppress(OSError):
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails while somebody writes it
                os.unlink(path)
            finally:
                os.close(handle)
