"""Work inside a network namespace, in a thread of this process: what it connects to is what is there."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import TypeVar

from dynamos.jobs import linux

T = TypeVar("T")


def inside(network: int, work: Callable[[], T]) -> T:
    """Do `work` in the network namespace that the descriptor refers to, and give what it gives, or raise what it
    raises. Sockets that it opens stay there and may be used anywhere."""
    told: list[T] = []
    raised: list[BaseException] = []
    fd = os.dup(network)

    def run() -> None:
        try:
            linux.setns(fd, linux.NEW_NET)  # of this thread, which ends with the work
            told.append(work())
        except BaseException as error:  # noqa: BLE001  it is raised again where it is waited for
            raised.append(error)

    thread = threading.Thread(target=run, name="inside")
    thread.start()
    thread.join()
    os.close(fd)
    if raised:
        raise raised[0]
    return told[0]
