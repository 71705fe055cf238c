"""Bring a testbed up and take it down: start its supervisor, wait for it, end it, and leave nothing."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from dynamos.deploy.forks import end_group
from dynamos.deploy.states import Phase, StateFolder, TestbedStatus, born, explained, tail
from dynamos.kit.errors import Broken, Conflict, DynamosError, Full, TimedOut, revive

UP_SECONDS = 120.0
"""Longer than the supervisor's own bounds: it tells what failed before `up` loses patience."""
DOWN_SECONDS = 25.0
_LOOK_SECONDS = 0.02

Told = Callable[[TestbedStatus], None]


def bring_up(
    folder: StateFolder,
    profile: Path,
    *,
    told: Told = lambda _: None,
    within: float = UP_SECONDS,
    module: str = "dynamos.deploy.programs",
) -> TestbedStatus:
    """Start the testbed in the background and wait until it is ready; does nothing where it is up already.

    Raises what kept it from starting, with the end of the log that tells more, and TimedOut that names what is not
    ready. What was started is stopped again then.
    """
    folder.make()
    ours = None if folder.is_held() else _launch(folder, profile, module)
    keep = False
    try:
        status = _follow(folder, ours, told, within)
        keep = status.supervisor == ours
        return status
    finally:
        if ours is not None and not keep:
            _end_supervisor(ours, within=DOWN_SECONDS)


def take_down(folder: StateFolder, *, within: float = DOWN_SECONDS) -> bool:
    """Stop the testbed and everything that it started; tell whether there was anything to stop.

    What does not end in time is killed. Units that outlived a killed supervisor are ended too: by their pid, if the
    process with that pid is still theirs.
    """
    status = folder.read_status()
    was_up = folder.is_held()
    if was_up:
        _end_supervisor(_holder(folder, within), within=within)
        status = folder.read_status()
    left = _end_leftovers(folder, status)
    if status and status.phase not in (Phase.STOPPED, Phase.FAILED):
        units = tuple(unit.model_copy(update={"phase": Phase.STOPPED, "pid": None}) for unit in status.units)
        folder.write_status(status.model_copy(update={"phase": Phase.STOPPED, "units": units}))
    return was_up or left


def purge(folder: StateFolder) -> None:
    """Remove the whole state of a testbed that is down: keys, data, logs. Raises Conflict where it is up."""
    if folder.is_held():
        raise Conflict(f"the testbed {folder.root.name!r} is up", where=str(folder.root), hint="dynamos down")
    with explained(folder.root):
        shutil.rmtree(folder.root)


def phase_of(folder: StateFolder, status: TestbedStatus) -> str:
    """Give the phase in words; a supervisor that was killed could not say so itself."""
    if folder.is_held() or status.phase in (Phase.STOPPED, Phase.FAILED):
        return str(status.phase)
    return "killed"


def _launch(folder: StateFolder, profile: Path, module: str) -> int:
    """Start a supervisor in a session of its own, so that it outlives this terminal, and give its pid."""
    argv = [sys.executable, "-m", module, str(folder.root), str(profile)]
    with explained(folder.log):
        log = os.open(folder.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            actions = [
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                *((os.POSIX_SPAWN_DUP2, log, stream) for stream in (1, 2)),
            ]
            return os.posix_spawn(argv[0], argv, os.environ, file_actions=actions, setsid=True)
        finally:
            os.close(log)


def _exit_of(pid: int) -> int | None:
    """Give the exit code of our child once it has ended, and take it so that nothing of it stays."""
    try:
        ended, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return 0
    return os.waitstatus_to_exitcode(status) if ended == pid else None


def _follow(folder: StateFolder, ours: int | None, told: Told, within: float) -> TestbedStatus:
    """Wait until whoever holds the folder is ready: our own supervisor, or one that was faster."""
    end = time.monotonic() + within
    while time.monotonic() < end:
        status = folder.read_status()
        if not folder.is_held():
            if ours is None:
                raise Conflict("the testbed was stopped while it started", where=str(folder.root))
            if (code := _exit_of(ours)) is not None:
                raise _why(folder, ours, code)
        elif status and _speaks(status):
            told(status)
            if status.phase == Phase.READY:
                return status
        time.sleep(_LOOK_SECONDS)
    raise _not_ready(folder, within)


def _speaks(status: TestbedStatus) -> bool:
    """Tell whether the supervisor that wrote the status is there still: its pid may be somebody else's by now."""
    return status.born is not None and born(status.supervisor) == status.born


def _holder(folder: StateFolder, within: float) -> int:
    """Give the pid of the supervisor that holds the folder; one that has just started has yet to write it."""
    end = time.monotonic() + within
    while time.monotonic() < end:
        status = folder.read_status()
        if status and _speaks(status):
            return status.supervisor
        time.sleep(_LOOK_SECONDS)
    raise TimedOut(f"nobody said within {within:g} s who holds the testbed", where=str(folder.lock))


def _why(folder: StateFolder, ours: int, code: int) -> DynamosError:
    """Give the reason that the supervisor wrote down; where it could not (a full disk), the kind of its exit code."""
    status = folder.read_status()
    if status and status.supervisor == ours and status.error:
        return revive(status.error)
    kind = next((kind for kind in DynamosError.__subclasses__() if kind.exit == code), Broken)
    hint = "free some space, or choose another --state" if kind is Full else ""
    return kind(
        "the supervisor ended before it was ready", where=str(folder.log), hint=hint, log=tail(folder.log, lines=5)
    )


def _not_ready(folder: StateFolder, within: float) -> TimedOut:
    status = folder.read_status()
    waiting = [unit.name for unit in status.units if unit.phase != Phase.READY] if status else []
    what = ", ".join(waiting) or "the supervisor"
    log = tail(folder.unit_log(waiting[0])) if waiting else tail(folder.log)
    return TimedOut(f"not ready within {within:g} s: {what}", where=str(folder.root), log=log)


def _end_supervisor(pid: int, *, within: float) -> None:
    """Ask a supervisor to stop, and kill it if it does not in time: the kernel ends its units with it."""
    was = born(pid)
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.kill(pid, number)
        end = time.monotonic() + within
        while was is not None and born(pid) == was and time.monotonic() < end:
            time.sleep(_LOOK_SECONDS)
        if was is None or born(pid) != was:
            _exit_of(pid)
            return
    raise TimedOut(f"the supervisor {pid} did not end within {within:g} s of being killed")


def _end_leftovers(folder: StateFolder, status: TestbedStatus | None) -> bool:
    """Kill units that are still there, and the world that they lived in; tell whether there were any."""
    found = folder.world.exists() and _end_world(folder)
    for unit in status.units if status else ():
        if unit.pid and unit.born and born(unit.pid) == unit.born:
            end_group(unit.pid)
            found = True
    return found


def _end_world(folder: StateFolder) -> bool:
    from dynamos.deploy.networks import end_world  # noqa: PLC0415  most testbeds have none

    return end_world(folder)
