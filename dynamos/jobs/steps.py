"""The process that is the service: confined, used once."""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from dynamos.jobs import descriptors
from dynamos.jobs.calls import Find, call
from dynamos.jobs.cgroups import Group
from dynamos.jobs.confinements import Confinement
from dynamos.jobs.specs import StepSpec, environment

_STREAMS = 3  # the first place after stdin, stdout and stderr
_SHORT = 1000
AFTER_KEEPERS = 10
"""How much nicer services are than who watches them."""


def run(
    spec: StepSpec,
    streams: Sequence[int],
    *,
    find: Find,
    confinement: Confinement,
    group: Group | None,
    holds: Sequence[str],
    told: int,
    error: int,
    log: int,
) -> NoReturn:
    """Become the service of `spec` on `streams`, inputs first. Says on `told` what holds when it begins, or why not."""
    code = 1
    try:
        # A session of its own would have its own share of the processor (autogroups): hundreds that are to be stopped
        # would leave their keepers next to nothing to stop them with.
        os.setpgid(0, 0)
        os.nice(AFTER_KEEPERS)
        held = _confine(spec, confinement, group)
        nothing = os.open(os.devnull, os.O_RDONLY)
        descriptors.arrange([nothing, log, log, *streams, error, told])
        told = _STREAMS + len(streams) + 1
        os.set_inheritable(told, False)
        variables = _environment(spec, confinement)
        main = find(spec.service) if spec.service and not spec.command else None
        _tell(told, {"running": time.monotonic(), "isolation": list(dict.fromkeys([*holds, *held]))})
        if confinement.argv:
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)
            os.execvpe(confinement.argv[0], confinement.argv, variables)  # noqa: S606
        os.close(told)
        told = -1
        gc.enable()
        code = call(main, variables) if main else 0
    except BaseException as failure:  # noqa: BLE001  the top of a process: nothing above could tell it
        if told >= 0:
            _tell(told, {"failed": f"{type(failure).__name__}: {failure}"[:_SHORT]})
    finally:
        os._exit(code)


def _confine(spec: StepSpec, confinement: Confinement, group: Group | None) -> tuple[str, ...]:
    os.umask(0o077)
    with suppress(OSError):  # if the machine runs out of memory, services go first
        Path("/proc/self/oom_score_adj").write_text("500", encoding="ascii")
    if group is not None:
        group.join()
    return confinement.seal(spec, together=group.controls if group else ())


def _environment(spec: StepSpec, confinement: Confinement) -> dict[str, str]:
    """Give this process the environment of the contract, and no other, and the usual signals."""
    after_inputs = _STREAMS + len(spec.inputs)
    error = after_inputs + len(spec.outputs)
    inputs = dict(zip(spec.inputs, range(_STREAMS, after_inputs), strict=True))
    outputs = dict(zip(spec.outputs, range(after_inputs, error), strict=True))
    variables = {
        "PATH": f"{sys.prefix}/bin:/usr/local/bin:/usr/bin:/bin",
        "HOME": confinement.scratch,
        "TMPDIR": confinement.scratch,
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        **environment(spec.job, inputs, outputs, error, data=confinement.data if spec.data else ""),
    }
    os.environ.clear()
    os.environ.update(variables)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    return variables


def _tell(told: int, message: dict[str, Any]) -> None:
    with suppress(OSError):
        os.write(told, json.dumps(message).encode() + b"\n")
