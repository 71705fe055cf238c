"""Bounded waits that name their condition, in threads."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import TypeVar

from dynamos.kit.errors import Cancelled, TimedOut

T = TypeVar("T")


def until(
    what: str,
    probe: Callable[[], T | None],
    *,
    within: float,
    every: float = 0.03,
    over: Callable[[], bool] = lambda: False,
) -> T:
    """Wait until `probe` gives something that is not None or False, and give that. Errors of connections count as
    nothing yet.

    Raises TimedOut after `within` seconds, naming the condition and what was last seen, and Cancelled as soon as `over`
    tells that it is in vain.
    """
    end = time.monotonic() + within
    last: object = "nothing"
    while True:
        try:
            found = probe()
            if found is not None and found is not False:
                return found
        except OSError as error:
            last = error
        if over():
            raise Cancelled(f"{what}: nobody waits for it any more")
        if time.monotonic() >= end:
            raise TimedOut(f"{what} did not happen within {within:g} s; last seen: {last}")
        time.sleep(every)


def answers(host: str, port: int) -> bool:
    """Tell whether somebody listens there."""
    try:
        socket.create_connection((host, port), timeout=1.0).close()
    except OSError:
        return False
    return True
