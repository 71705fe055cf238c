"""Queues, first come first served: places that do work, and links that carry bytes."""

from __future__ import annotations

from heapq import heapreplace


class Server:
    """Places that each do one thing at a time. What comes when all are taken waits for the first that is free.

    Times are in seconds. Work has to come in the order of its moments; then this is exact, without an event for the
    beginning or the end of anything.
    """

    __slots__ = ("_free", "busy", "served", "speed", "waited")

    def __init__(self, places: int = 1, speed: float = 1.0) -> None:
        self._free = [0.0] * places
        self.speed = speed
        self.busy = 0.0
        self.waited = 0.0
        self.served = 0

    @property
    def places(self) -> int:
        return len(self._free)

    def serve(self, at: float, work: float) -> float:
        """Do `work` (seconds at speed 1) that comes at a moment; gives the moment at which it is done."""
        free = self._free[0]
        begin = max(at, free)
        seconds = work / self.speed
        end = begin + seconds
        heapreplace(self._free, end)
        self.busy += seconds
        self.waited += begin - at
        self.served += 1
        return end

    def would(self, at: float, work: float) -> float:
        """Give the moment at which that work would be done, and do nothing."""
        free = self._free[0]
        return (max(at, free)) + work / self.speed

    def backlog(self, at: float) -> float:
        """Give for how many seconds what comes at a moment would wait."""
        return max(0.0, self._free[0] - at)

    def utilisation(self, until: float) -> float:
        """Give the share of all places' time that was worked, from 0 until a moment."""
        return self.busy / (self.places * until) if until > 0 else 0.0


class Access:
    """A party's way to all others: carries one stream after the other each way. `rate` is in bytes a second, `delay`
    the seconds from the party to the middle of the network."""

    __slots__ = ("carried", "delay", "free_in", "free_out", "rate")

    def __init__(self, rate: float, delay: float) -> None:
        self.rate = rate
        self.delay = delay
        self.free_out = 0.0
        self.free_in = 0.0
        self.carried = 0.0


def carry(source: Access, target: Access, at: float, size: float) -> float:
    """Send `size` bytes from one to another; gives when the last of them is there.

    Each end is taken for as long as its own rate takes: a fast one serves several slow ones at once.
    """
    source.free_out, target.free_in, end = _times(source, target, at, size)
    source.carried += size
    return end


def would_carry(source: Access, target: Access, at: float, size: float) -> float:
    """Give when the last of so many bytes would be there, and send nothing."""
    return _times(source, target, at, size)[2]


def _times(source: Access, target: Access, at: float, size: float) -> tuple[float, float, float]:
    """Give until when each end would be taken, and when the last byte would be there."""
    begin = max(at, source.free_out)
    out = begin + size / source.rate
    into = max(begin, target.free_in) + size / target.rate
    return out, into, max(out, into) + source.delay + target.delay
