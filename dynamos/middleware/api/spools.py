"""Spools: bytes that are kept for a while, in memory while they are few, then in a file; bounded over all of them."""

from __future__ import annotations

import errno
import io
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from dynamos.kit.errors import Cancelled, DynamosError, Full, Unavailable
from dynamos.model.units import Size

IN_MEMORY = 8
"""So many times the memory of one spool may all of them take together."""
CHUNK_BYTES = 256 << 10
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class Store:
    """The room for all spools: `memory` bytes for one before it moves to disk, `disk` bytes for all files together."""

    def __init__(
        self, folder: Path, *, memory: float, disk: float, create: Callable[[Path], BinaryIO] | None = None
    ) -> None:
        self.folder = folder
        self.memory_limit = int(memory)
        self.disk_limit = int(disk)
        self.in_memory = 0
        self.on_disk = 0
        self._create = create or _create
        self._lock = threading.Lock()
        self._numbers = iter(range(1 << 62))
        self._empty()

    def _empty(self) -> None:
        """Make the folder, and remove what an earlier life left in it: nobody can ask for that any more."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in self.folder.glob("*.arrows"):
            path.unlink(missing_ok=True)

    def spool(self) -> Spool:
        """Give a new, empty spool."""
        with self._lock:
            return Spool(self, self.folder / f"{next(self._numbers)}.arrows")

    def adopt(self, path: Path) -> Spool:
        """Take over a file of an earlier life, as a spool that is finished. Raises Full."""
        size = path.stat().st_size
        spool = self.spool()
        self.take_disk(size)
        spool.take_over(path, size)
        return spool

    def take_memory(self, size: int, held: int) -> bool:
        """Take memory for a spool that holds some already; tells whether there was room."""
        with self._lock:
            if held + size > self.memory_limit or self.in_memory + size > self.memory_limit * IN_MEMORY:
                return False
            self.in_memory += size
            return True

    def take_disk(self, size: int) -> None:
        """Take room on disk. Raises Full where there is none."""
        with self._lock:
            if self.on_disk + size > self.disk_limit:
                held, limit = Size(self.on_disk), Size(self.disk_limit)
                raise Full(
                    f"the results that are kept take {held} of {limit}; this one does not fit",
                    hint="delete results that are not needed (DELETE /api/v1/jobs/<id>), or raise settings.resultDisk",
                )
            self.on_disk += size

    def give_back(self, *, memory: int = 0, disk: int = 0) -> None:
        """Return what a spool took."""
        with self._lock:
            self.in_memory -= memory
            self.on_disk -= disk

    def create(self, path: Path) -> BinaryIO:
        """Make the file of a spool, for this user only."""
        return self._create(path)


def _create(path: Path) -> BinaryIO:
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    return os.fdopen(descriptor, "wb", buffering=1 << 20)


class Spool(io.RawIOBase):
    """Takes bytes from one thread, then gives them to any number of readers. Discard it to free its room."""

    def __init__(self, store: Store, path: Path) -> None:
        super().__init__()
        self.size = 0
        self._store = store
        self._path = path
        self._chunks: list[bytes] = []
        self._memory = 0
        self._disk = 0
        self._file: BinaryIO | None = None
        self._data: bytes | None = None
        self._gone = False
        self._lock = threading.Lock()

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        """Add bytes. Raises Full where there is no room, Cancelled where the spool was discarded meanwhile."""
        piece = bytes(data)
        with self._lock:
            if self._gone:
                raise Cancelled("nobody wants this result any more")
            try:
                self._add(piece)
            except OSError as error:
                self._free()
                raise _explain(error) from error
            except DynamosError:
                self._free()
                raise
        self.size += len(piece)
        return len(piece)

    def _add(self, piece: bytes) -> None:
        if self._file is None:
            if self._store.take_memory(len(piece), self._memory):
                self._memory += len(piece)
                self._chunks.append(piece)
                return
            self._move()
        self._to_disk(piece)

    def _move(self) -> None:
        """Move what is in memory to a file."""
        self._file = self._store.create(self._path)
        chunks, self._chunks = self._chunks, []
        for chunk in chunks:
            self._to_disk(chunk)
        self._store.give_back(memory=self._memory)
        self._memory = 0

    def _to_disk(self, piece: bytes) -> None:
        assert self._file is not None
        self._store.take_disk(len(piece))
        self._disk += len(piece)
        self._file.write(piece)

    def finish(self) -> None:
        """Nothing more is added; from now on there can be readers. Raises Full, as `write`."""
        with self._lock:
            if self._gone:
                raise Cancelled("nobody wants this result any more")
            try:
                if self._file is not None:
                    self._file.close()
            except OSError as error:
                self._free()
                raise _explain(error) from error
            self._data = b"".join(self._chunks) if self._file is None else None
            self._chunks = []

    def take_over(self, path: Path, size: int) -> None:
        """Have the file at `path` as what was written here, for which room has been taken."""
        path.rename(self._path)
        self._file, self.size, self._disk = self._path.open("rb"), size, size
        self._file.close()

    @property
    def data(self) -> bytes | None:
        """All bytes, if they are in memory."""
        return self._data

    def reader(self) -> BinaryIO:
        """Open the bytes for reading, from the start. Raises Cancelled if they are gone."""
        with self._lock:
            if self._gone:
                raise Cancelled("the result has been removed")
            return io.BytesIO(self._data) if self._data is not None else self._path.open("rb")

    def chunks(self) -> Iterator[bytes]:
        """Give all bytes, piece by piece."""
        with self.reader() as file:
            while piece := file.read(CHUNK_BYTES):
                yield piece

    def discard(self) -> None:
        """Free the room. Who reads now may read on."""
        with self._lock:
            self._free()

    def _free(self) -> None:
        if self._gone:
            return
        self._gone = True
        if self._file is not None:
            _close(self._file)
            self._path.unlink(missing_ok=True)
        self._store.give_back(memory=self._memory, disk=self._disk)
        self._chunks, self._data, self._memory, self._disk = [], None, 0, 0


def _close(file: BinaryIO) -> None:
    try:
        file.close()
    except OSError:
        file.raw.close() if hasattr(file, "raw") else None


def _explain(error: OSError) -> DynamosError:
    reason = os.strerror(error.errno) if error.errno else str(error)
    if error.errno in _NO_ROOM:
        return Full(f"the disk has no room for the result: {reason}", hint="free room on the API's disk")
    return Unavailable(f"the result cannot be kept: {reason}", hint="see the API's log")
