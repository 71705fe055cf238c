"""Shell scripts for hosts: many steps in one call, for a call costs more than a step. Every word that comes from
elsewhere has been read before it gets here."""

from __future__ import annotations

from collections.abc import Iterable

from dynamos.testbed.hosts import Completed, Host

_END = "END-OF-BATCH"


def run(host: Host, script: str, *, check: bool = True, within: float = 30.0) -> Completed:
    """Run a script that ends at its first mistake. Raises JobFailed, TimedOut."""
    return host.run(["sh", "-eu"], stdin=script.encode(), check=check, within=within)


def fed(command: str, lines: Iterable[str]) -> str:
    """Give the line of a script that runs `command` with these lines as its input; nothing where there are none."""
    text = "\n".join(lines)
    return f"{command} <<'{_END}'\n{text}\n{_END}\n" if text else ""


def locked(folder: str) -> str:
    """Give the line of a script after which no other script that has the same line runs until it ends."""
    return f"exec 9<{folder}\nflock 9\n"
