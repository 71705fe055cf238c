"""The two ends of pipes to local steps, for threads: reads that can be interrupted, writes that gather."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import threading

import pyarrow as pa

from dynamos.kit.errors import DynamosError, JobFailed

_PIPE_SIZE = 1024 * 1024
_GATHER = 256 * 1024
_VECTORS = 512
_CONTINUATION = b"\xff\xff\xff\xff"


class PipeReader:
    """Reads a file descriptor in one thread, until another interrupts it. Owns the descriptor from here on."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._awake, self._waker = os.pipe()
        self._error: DynamosError | None = None
        # A descriptor's number is somebody else's once it is closed: nobody writes to it while another closes it.
        self._lock = threading.Lock()
        self._poll = select.poll()
        self._poll.register(fd, select.POLLIN)
        self._poll.register(self._awake, select.POLLIN)
        _widen(fd)

    def read(self, size: int) -> memoryview:
        """Give `size` bytes in a buffer of their own, fewer only where the pipe ends. Raises what `interrupt` was
        given."""
        view = memoryview(pa.allocate_buffer(size)).cast("B")
        have = 0
        while have < size:
            self._poll.poll()
            if self._error is not None:
                raise self._error
            count = os.readv(self._fd, [view[have:]])
            if count == 0:
                break
            have += count
        return view[:have]

    def interrupt(self, error: DynamosError) -> None:
        """Make this and every later read raise `error`. For other threads; does nothing after `close`."""
        self._error = error
        with self._lock:
            if self._waker >= 0:
                os.write(self._waker, b"!")

    def close(self) -> None:
        """Close the descriptor; whoever writes to the pipe then meets a broken one."""
        with self._lock:
            if self._fd >= 0:
                for fd in (self._fd, self._awake, self._waker):
                    os.close(fd)
            self._fd = self._awake = self._waker = -1


class PipeWriter:
    """A file as Arrow wants it: gathers what is written and hands it to the pipe in few calls. Owns the descriptor.

    Raises JobFailed (reader-gone) where the step at the other end has closed its input.
    """

    closed = False

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._parts: list[memoryview] = []
        self._size = 0
        os.set_blocking(fd, True)
        _widen(fd)

    def write(self, content: bytes | pa.Buffer) -> None:
        part = memoryview(content).cast("B")
        if part.nbytes:
            self._parts.append(part)
            self._size += part.nbytes
        if self._size >= _GATHER or len(self._parts) >= _VECTORS:
            self.flush()

    def flush(self) -> None:
        """Write what was gathered; blocks while the pipe is full."""
        parts, self._parts, self._size = self._parts, [], 0
        try:
            while parts:
                count = os.writev(self._fd, parts)
                done = 0
                while done < len(parts) and count >= parts[done].nbytes:
                    count -= parts[done].nbytes
                    done += 1
                parts = parts[done:]
                if count:
                    parts[0] = parts[0][count:]
        except BrokenPipeError:
            raise JobFailed("the step closed its input before the stream ended", code="reader-gone") from None

    def writable(self) -> bool:
        return True

    def close(self) -> None:
        """Close the pipe's end, without what was gathered and not flushed."""
        if not self.closed:
            self.closed = True
            self._parts.clear()
            os.close(self._fd)

    def break_off(self) -> None:
        """Close in the middle of a frame, so that no reader takes what it got for the whole."""
        if not self.closed:
            with contextlib.suppress(OSError):
                os.set_blocking(self._fd, False)
                os.write(self._fd, _CONTINUATION)
        self.close()


def _widen(fd: int) -> None:
    # A larger pipe means fewer switches between processes. Not every descriptor is a pipe, nor every system Linux.
    if sys.platform == "linux":
        import fcntl  # noqa: PLC0415 - not on every platform

        with contextlib.suppress(OSError):
            fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)
