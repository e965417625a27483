"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from co3d_compile.errors import InputError


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A file that takes its place when the block ends, and leaves what is there as it is when the block fails.

    Raises:
        OSError: it cannot be written there.
    """
    path = Path(path)
    # in the same folder, so that the last step is a rename, which happens wholly or not at all
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(temporary)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a text, whole or not at all.

    Raises:
        InputError: the folder cannot be written to.
    """
    try:
        with replacing(path) as file:
            file.write(text.encode())
    except OSError as failure:
        raise InputError(
            f"{path}: cannot be written: {failure.strerror or failure}\n  try: a folder that exists and has room"
        ) from failure


def _umask() -> int:
    """The process's mask, which can only be read by setting it; mkstemp makes files for the owner alone."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
