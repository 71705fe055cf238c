"""Guards: a planner is asked in a thread of its own, within a bound, and whatever it does harms nobody else."""

from __future__ import annotations

import ctypes
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

from dynamos.kit.errors import Broken, DynamosError, TimedOut, Unavailable

log = logging.getLogger(__name__)
T = TypeVar("T")
REST_SECONDS = 10.0
"""For how long a planner is not asked that has just hung."""
PATIENCE_AFTER_HANG = 1.0


class _Stopped(BaseException):
    """Raised in the guarded thread to end what hangs there."""


class Guard:
    """One thread, in which one planner lives: what it is told and asked is done in that order.

    A question that takes too long is given up, and ended if it is a loop in Python; a call that hangs in C stays, and
    the planner is not asked any more until it returns.
    """

    def __init__(self, name: str, *, rest: float = REST_SECONDS) -> None:
        self._name = name
        self._rest = rest
        self._queue: SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None] = SimpleQueue()
        self._current: Future[Any] | None = None
        self._rests_until = 0.0
        self._thread = threading.Thread(target=self._work, name=f"planner {name}", daemon=True)
        self._thread.start()

    def ask(self, question: Callable[[], T], *, within: float) -> T:
        """Give the answer. Raises TimedOut (planner-hangs), Broken (planner-raised), Unavailable (planner-rests)."""
        if time.monotonic() < self._rests_until:
            raise Unavailable(f"the planner {self._name!r} has hung, and is given a rest", code="planner-rests")
        answer = self._put(question)
        try:
            return answer.result(timeout=within)
        except TimeoutError:
            self._rests_until = time.monotonic() + self._rest
            answer.cancel()
            self._end()
            what = f"the planner {self._name!r} did not answer within {within * 1e3:g} ms"
            raise TimedOut(what, code="planner-hangs") from None
        except DynamosError:
            raise
        except _Stopped:
            raise TimedOut(f"the planner {self._name!r} was ended", code="planner-hangs") from None
        except Exception as error:
            what = f"the planner {self._name!r} raised {type(error).__name__}: {error}"
            raise Broken(what, code="planner-raised") from error

    def tell(self, call: Callable[[], None]) -> None:
        """Have this done after what was asked before; nobody waits for it. What it raises is logged."""
        self._put(call).add_done_callback(self._log)

    def promise(self, question: Callable[[], T]) -> Future[T]:
        """Ask for something that can wait: the answer comes when it comes."""
        return self._put(question)

    def close(self) -> None:
        """Let the thread end when it has done what it was told."""
        self._queue.put(None)

    def _put(self, call: Callable[[], T]) -> Future[T]:
        future: Future[T] = Future()
        self._queue.put((call, future))
        return future

    def _log(self, done: Future[None]) -> None:
        if not done.cancelled() and (error := done.exception()) is not None:
            log.warning("planner.raised planner=%s error=%r", self._name, error)

    def _end(self) -> None:
        """End what runs in the thread, which works for everything that runs in Python."""
        if self._current is not None and self._thread.ident is not None:
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self._thread.ident), ctypes.py_object(_Stopped))

    def _work(self) -> None:
        while True:
            try:
                if (item := self._queue.get()) is None:
                    return
                self._do(*item)
            except _Stopped:  # it came when what it was for had just ended
                if self._current is not None and not self._current.done():
                    self._current.set_exception(_Stopped())
                self._current = None

    def _do(self, call: Callable[[], Any], future: Future[Any]) -> None:
        if not future.set_running_or_notify_cancel():
            return
        self._current = future
        try:
            result = call()
        except BaseException as error:  # noqa: BLE001  whatever a planner raises
            future.set_exception(error)
        else:
            future.set_result(result)
        self._current = None
