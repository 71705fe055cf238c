"""What waits in a pod's container to become one of our services, once.

`python -m dynamos.jobs.pods.waiter PROGRAMS [SERVICE]`. Its keeper talks to it on descriptor 3. It imports what the
service uses while others still start; where nobody knows yet which service it will be, all that any of them uses.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn

from dynamos.jobs import descriptors, wires
from dynamos.jobs.calls import Find, call
from dynamos.kit.errors import DynamosError

_WIRE = 3
_SHORT = 1000


def wait(programs: str, service: str, wire: socket.socket) -> NoReturn:
    """Get ready for `service`, or for any, wait for work, do it and end."""
    code = 1
    try:
        module = importlib.import_module(programs)
        more = _get_ready(module, service)
        _say(wire.fileno(), {"waiting": True})
        if not select.select([wire], [], [], 0)[0]:
            more()
        order = wires.receive(wire)
        if order is not None:
            code = _become(module.find, wire, *order)
    finally:
        with suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _get_ready(module: Any, service: str) -> Callable[[], object]:
    """Import what is needed. Gives what is worth doing as long as there is no work."""
    if service:
        with suppress(DynamosError, ImportError):  # it is told when there is somebody to tell
            more: Callable[[], object] = module.prepare(service)
            return more
    else:
        module.preload(forks=False)
        gc.collect()
        gc.freeze()
    return _nothing


def _nothing() -> None:
    pass


def _become(find: Find, wire: socket.socket, order: dict[str, Any], streams: list[int]) -> int:
    descriptors.arrange([0, 1, 2, *streams, wire.detach()])
    told = len(streams) + _WIRE
    os.set_inheritable(told, False)
    variables: dict[str, str] = order["env"]
    os.environ.clear()
    os.environ.update(variables)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    try:
        main = find(order["service"])
    except BaseException as failure:  # noqa: BLE001  the top of a process: told to the keeper
        _say(told, {"failed": f"{type(failure).__name__}: {failure}"[:_SHORT]})
        return 1
    _say(told, {"running": True})
    os.close(told)
    gc.enable()
    return call(main, variables)


def _say(descriptor: int, message: dict[str, Any]) -> None:
    with suppress(OSError):
        os.write(descriptor, json.dumps(message).encode() + b"\n")


def main() -> NoReturn:
    """Wait on descriptor 3."""
    gc.disable()
    wait(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "", socket.socket(fileno=_WIRE))  # noqa: PLR2004


if __name__ == "__main__":
    main()
