"""Files that only their owner may read, written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from dynamos.kit.errors import NotFound


def private_folder(folder: Path) -> Path:
    """Make the folder with mode 0700, and give it. One that is there is closed to others."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    return folder


def write(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Put the file in place in one move, so that no reader ever sees half of it or wider permissions."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def read(path: Path, *, what: str) -> bytes:
    """Give the file's content. Raises NotFound that says `what` is not there."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise NotFound(f"there is no {what}", where=str(path)) from None
