"""The contract of a host: a machine of the testbed, or a container on one, as whoever sets it up sees it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Completed:
    """How a command ended."""

    argv: tuple[str, ...]
    code: int
    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        return self.stdout.decode(errors="replace")


class Host(Protocol):
    """Runs commands inside. Everything that was started ends with the host, at the latest."""

    @property
    def name(self) -> str: ...

    @property
    def site(self) -> str: ...

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes | None = None,
        check: bool = True,
        within: float = 30.0,
    ) -> Completed:
        """Run a command to its end. Raises JobFailed with its standard error where it fails, TimedOut."""
        ...

    def start(self, name: str, argv: Sequence[str], *, env: Mapping[str, str] | None = None) -> int:
        """Start a daemon under a name that is unique on the host; its output goes to a log. Gives its pid there.

        A daemon that ends by itself is started again, with a bounded back-off, until `stop`.
        """
        ...

    def stop(self, name: str) -> None:
        """End the daemon of that name and wait until it is gone. Does nothing where there is none."""
        ...

    def put(self, path: str, content: bytes, *, mode: int = 0o644) -> None:
        """Write a file on the host, with its folders."""
        ...

    def get(self, path: str) -> bytes:
        """Read a file of the host. Raises NotFound."""
        ...
