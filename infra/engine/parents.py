"""Parents: a program that serves another one ends with it, however that one ends."""

from __future__ import annotations

import os
import select
import sys
import threading


def end_with_parent() -> None:
    """End this process, at once, when its parent has ended. Only where the system can tell: Linux."""
    if sys.platform != "linux":
        return
    parent = os.getppid()
    descriptor = os.pidfd_open(parent)
    if os.getppid() != parent:  # it ended before we could watch it
        os._exit(1)
    threading.Thread(target=_watch, args=(descriptor,), name="parent", daemon=True).start()


def _watch(descriptor: int) -> None:
    select.select([descriptor], [], [])
    os._exit(1)
