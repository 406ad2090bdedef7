"""Files that are either whole or not there: written beside their place, flushed, and moved into it.

What is being written is called `.writing-HOST-*` and is locked by its writer, so that what a killed writer left behind
can be told from what another is writing: the next one of that host that writes into the folder removes it. Locks may
not reach from one machine to another, so what other hosts have left is theirs to remove; and what could not be locked
is called `.writing-*`, without a host, and is removed by nobody but its writer.
"""

import errno
import fcntl
import os
import re
import stat
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

PREFIX = ".writing-"
LOCKED = f"{PREFIX}{zlib.crc32(os.uname().nodename.encode()):08x}-"
"""How the name begins of what a writer of this host has locked."""


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A binary file that takes the place of `path` when the block ends well; otherwise what was there is kept.

    After a crash at any point, `path` is the old file or the new one. The folder must exist.

    Raises:
        OSError: the file cannot be written, or somebody removed it while it was; what was there is kept.
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
                _move(temporary, path)
            except BaseException:
                with suppress(FileNotFoundError):
                    os.unlink(temporary)
                raise
        with suppress(OSError):  # the new file is in its place; not every file system can flush a folder
            os.fsync(folder)
    finally:
        os.close(folder)


def is_temporary(name: str) -> bool:
    """Whether a file of that name is one that is being written, or was when its writer was killed."""
    return re.fullmatch(r"\.writing-([0-9a-f]{8}-)?[a-z0-9_]{8}", name) is not None  # as mkstemp names them


def _move(temporary: str, path: Path) -> None:
    try:
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except FileNotFoundError:
        said = f"its new content, {temporary}, was removed before it was in place; what was there is kept: write again"
        raise FileNotFoundError(errno.ENOENT, said, str(path)) from None


def _held(folder: Path) -> tuple[IO[bytes], str]:
    """A new file of our own to write to, and its path."""
    while True:
        handle, temporary = tempfile.mkstemp(dir=folder, prefix=LOCKED)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError:  # a file system without locks, or without any left
            os.close(handle)
            with suppress(FileNotFoundError):
                os.unlink(temporary)
            handle, temporary = tempfile.mkstemp(dir=folder, prefix=PREFIX)
            return os.fdopen(handle, "wb"), temporary
        if os.fstat(handle).st_nlink:
            return os.fdopen(handle, "wb"), temporary
        os.close(handle)  # it was taken for abandoned before it was locked


def _remove_abandoned(folder: Path) -> None:
    """Remove what dead writers of this host and user were writing in a folder; what cannot be removed harms nobody."""
    for name in os.listdir(folder):
        if name.startswith(LOCKED) and is_temporary(name):
            with suppress(OSError):
                _remove_unlocked(folder / name)


def _remove_unlocked(path: Path) -> None:
    found = path.lstat()
    if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
        return
    # for writing: over a network only what is open for that can be locked
    handle = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails while somebody writes it
        os.unlink(path)
    finally:
        os.close(handle)
