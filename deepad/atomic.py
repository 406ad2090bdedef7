"""Files that are either whole or not there: written beside their place, flushed, and moved into it."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A binary file that takes the place of `path` when the block ends well; otherwise what was there is kept.

    After a crash at any point, `path` is the old file or the new one. The folder must exist.
    """
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".writing-")
        try:
            with os.fdopen(handle, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
        with suppress(OSError):  # the new file is in its place; not every file system can flush a folder
            os.fsync(folder)
    finally:
        os.close(folder)
