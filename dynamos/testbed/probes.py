"""The program that measures, at one host: it sends what it is told, and tells what it has heard of others.

`python3 -I -S -c` runs the text of this file on a host; what to do comes as JSON on standard input, what was found goes
as JSON to standard output. All hosts run it at the same time, for the same time. Only the standard library.

Datagrams to PORT are paces (one every so often, for delay, loss and order) and sizes (do-not-fragment, for the path's
MTU; whoever gets one says so); datagrams to PORT + 1 are floods, which nobody reads: the devices count them.
"""

from __future__ import annotations

import errno
import heapq
import json
import select
import socket
import struct
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

PORT = 39_000
HEADERS = 28
"""Bytes of the headers of IPv4 and UDP."""

_PACE, _ECHO, _SIZE, _GOT = b"Pace", b"Echo", b"Size", b"Got."
_FORM = struct.Struct("!4sIIQ")
_REFUSAL = struct.Struct("@IB3xI4x")
_STAMP = struct.Struct("@qq")
_SO_STAMP, _SO_BUFFER, _BUFFER = 35, 33, 8 << 20
_MTU_DISCOVER, _PROBE, _RECEIVE_ERRORS, _ERROR_QUEUE = 10, 3, 11, 0x2000
_UDP_SEGMENT, _LARGEST_PIECE, _MOST_SEGMENTS = 103, 60_000, 60
_FROM_HERE = 1
_TICK, _SAMPLE = 0.02, 0.005
_TRIES, _FIRST_TRIES = 4, 6
_LEAST_WAIT = 0.15
_SMALL, _LARGEST = 100, 9216


class Prober:
    """One run of the program."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self._spec = spec
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_STAMP, 1)
        _enlarge(self._socket)
        self._socket.bind(("", PORT))
        self._socket.setblocking(False)
        self._sink = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sink.bind(("", PORT + 1))
        self._heard: dict[int, list[tuple[int, int]]] = {}
        self._echoes: dict[int, list[tuple[int, int]]] = {}
        self._sent: dict[int, int] = {}
        self._sizes: dict[int, dict[str, Any]] = {}
        self._samples: list[tuple[float, dict[str, int]]] = []
        now = time.time()
        self._start = time.monotonic() + max(0.0, (spec["start"] or now) - now)

    def run(self) -> dict[str, Any]:
        threads = [threading.Thread(target=self._flood, args=[flood]) for flood in self._spec["floods"]]
        threads += [threading.Thread(target=self._search, args=[size]) for size in self._spec["sizes"]]
        for thread in threads:
            thread.start()
        self._loop()
        for thread in threads:
            thread.join()
        return {
            "sent": self._sent,
            "heard": {stream: summary(found) for stream, found in self._heard.items()},
            "echoes": {stream: summary(found) for stream, found in self._echoes.items()},
            "sizes": self._sizes,
            "rates": {each["stream"]: self._rate(each) for each in self._spec["hears"]},
        }

    # Paces, and answers to sizes

    def _loop(self) -> None:
        due = [(each["at"], index, 0) for index, each in enumerate(self._spec["paces"])]
        heapq.heapify(due)
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        while (now := self._now()) < self._spec["end"]:
            while due and due[0][0] <= now:
                at, index, number = heapq.heappop(due)
                pace = self._spec["paces"][index]
                self._pace(pace, number)
                if number + 1 < pace["count"]:
                    heapq.heappush(due, (at + pace["interval"], index, number + 1))
            self._sample(now)
            wait = min(due[0][0] - now if due else _TICK, _SAMPLE if self._listening(now) else _TICK)
            if poll.poll(max(wait, 0.0) * 1000):
                self._receive()

    def _pace(self, pace: dict[str, Any], number: int) -> None:
        head = _FORM.pack(_PACE, pace["stream"], number | (1 << 31 if pace["echo"] else 0), time.time_ns())
        with suppress(OSError):  # a way that is cut: the packet is lost, as it would be further on
            self._socket.sendto(head.ljust(pace["size"], b"\0"), (pace["to"], PORT))
        self._sent[pace["stream"]] = self._sent.get(pace["stream"], 0) + 1

    def _receive(self) -> None:
        for _ in range(256):
            try:
                data, extra, _, sender = self._socket.recvmsg(65536, 128)
            except BlockingIOError:
                return
            except OSError:
                continue
            if len(data) < _FORM.size:
                continue
            kind, stream, number, stamp = _FORM.unpack_from(data)
            if kind == _PACE:
                arrival = _arrival(extra)
                self._heard.setdefault(stream, []).append((number & ~(1 << 31), arrival - stamp))
                if number >> 31:  # the time that it has lain here is taken off that of the round trip
                    stamp += time.time_ns() - arrival
                    self._answer(_FORM.pack(_ECHO, stream, number & ~(1 << 31), stamp), sender)
            elif kind == _ECHO:
                self._echoes.setdefault(stream, []).append((number, _arrival(extra) - stamp))
            elif kind == _SIZE:
                self._answer(_FORM.pack(_GOT, stream, len(data) + HEADERS, stamp), sender)

    def _answer(self, data: bytes, to: Any) -> None:
        with suppress(OSError):  # nothing goes back that way now
            self._socket.sendto(data, to)

    # Floods, and what devices have counted of them

    def _flood(self, flood: dict[str, Any]) -> None:
        """Send at a rate, in pieces that the network cuts into packets."""
        size = flood["size"]
        pieces = min(max(1, int(flood["rate"] * 0.001 / 8 / size)), _LARGEST_PIECE // size, _MOST_SEGMENTS)
        block = bytes(size * pieces)
        extra = [(socket.IPPROTO_UDP, _UDP_SEGMENT, struct.pack("@H", size))] if pieces > 1 else []
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sending:
            end, due = flood["at"] + flood["seconds"], flood["at"]
            while due < end and (now := self._now()) < end:
                if due > now:
                    time.sleep(due - now)
                try:
                    sending.sendmsg([block], extra, 0, (flood["to"], PORT + 1))
                except OSError:
                    time.sleep(0.001)
                due += len(block) * 8 / flood["rate"]

    def _listening(self, now: float) -> bool:
        return any(each["from"] <= now <= each["until"] for each in self._spec["hears"])

    def _sample(self, now: float) -> None:
        if self._listening(now) and (not self._samples or now - self._samples[-1][0] >= _SAMPLE * 0.8):
            self._samples.append((self._now(), _received()))

    def _rate(self, hear: dict[str, Any]) -> float:
        """Give bits per second of the device that has received most in the time of a flood."""
        found = [each for each in self._samples if hear["from"] <= each[0] <= hear["until"]]
        if not found:
            return 0.0
        first, last = found[0][1], found[-1][1]
        device = max(last, key=lambda name: last[name] - first.get(name, 0))
        return slope([(at, counted.get(device, 0)) for at, counted in found])

    # Sizes

    def _search(self, size: dict[str, Any]) -> None:
        time.sleep(max(0.0, size["at"] - self._now()))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probing:
            probing.setsockopt(socket.IPPROTO_IP, _MTU_DISCOVER, _PROBE)
            probing.setsockopt(socket.IPPROTO_IP, _RECEIVE_ERRORS, 1)
            probing.connect((size["to"], PORT))
            self._sizes[size["stream"]] = search(Sizer(probing, size["stream"]), size["expected"])

    def _now(self) -> float:
        return time.monotonic() - self._start


class Sizer:
    """Tries whether packets of a size get through, and learns how those that do not are refused."""

    def __init__(self, probing: socket.socket, stream: int) -> None:
        self._socket = probing
        self._stream = stream
        self._wait = 0.5

    def reach(self) -> bool:
        """Tell whether anything gets through, and learn how long it takes."""
        began = time.monotonic()
        for _ in range(_FIRST_TRIES):
            if self.passes(_SMALL)[0] == "yes":
                self._wait = max(3 * (time.monotonic() - began), _LEAST_WAIT)
                return True
            began = time.monotonic()
        return False

    def passes(self, size: int) -> tuple[str, int]:
        """Give "yes"; or "here" or "path", with the size that fits there; or "silent"."""
        self._forget()
        for _ in range(_TRIES):
            try:
                self._socket.send(_FORM.pack(_SIZE, self._stream, size, 0).ljust(size - HEADERS, b"\0"))
            except OSError as error:
                if error.errno == errno.EMSGSIZE and (refused := self._refusal()):
                    return refused
        end = time.monotonic() + self._wait
        while (left := end - time.monotonic()) > 0:
            self._socket.settimeout(left)
            try:
                kind, stream, got, _ = _FORM.unpack(self._socket.recv(_FORM.size))
                if (kind, stream, got) == (_GOT, self._stream, size):
                    return "yes", size
            except TimeoutError:
                break
            except OSError as error:
                if error.errno == errno.EMSGSIZE and (refused := self._refusal()):
                    return refused
        return self._refusal() or ("silent", 0)

    def _refusal(self) -> tuple[str, int] | None:
        """Read who has refused a packet for its size, if somebody has."""
        while True:
            try:
                _, extra, _, _ = self._socket.recvmsg(_FORM.size, 512, _ERROR_QUEUE | socket.MSG_DONTWAIT)
            except OSError:
                return None
            for _, _, data in extra:
                if len(data) < _REFUSAL.size:
                    continue
                number, origin, fits = _REFUSAL.unpack_from(data)
                if number == errno.EMSGSIZE:
                    return ("here" if origin == _FROM_HERE else "path"), fits

    def _forget(self) -> None:
        while self._refusal():
            pass
        self._socket.setblocking(False)
        try:
            while True:
                self._socket.recv(_FORM.size)
        except OSError:
            pass  # nothing is left of earlier tries
        self._socket.setblocking(True)


def search(sizer: Any, expected: int) -> dict[str, Any]:
    """Find the largest packet that gets through, beginning with the expected one, and how the next larger is refused:
    "here", "path", or "silent", which is a black hole; "none" where nothing gets through."""
    if not sizer.reach():
        return {"mtu": 0, "refusal": "none"}
    low, high, refusal = _SMALL, _LARGEST + 1, "none"
    candidates = [expected, expected + 1]
    while high - low > 1:
        size = candidates.pop(0) if candidates else (low + high) // 2
        if not low < size < high:
            continue
        said, fits = sizer.passes(size)
        if said == "yes":
            low = size
        else:
            high, refusal = size, said
            if low <= fits < high:
                candidates = [fits, fits + 1]
    return {"mtu": low, "refusal": refusal}


def summary(found: Sequence[tuple[int, int]]) -> dict[str, Any]:
    """Give what a stream's packets met, from their numbers and times on the way (ns) in the order in which they came:
    how many came, how many of them overtook an earlier one, and quantiles of the times."""
    seen: set[int] = set()
    once = [each for each in found if not (each[0] in seen or seen.add(each[0]))]  # type: ignore[func-returns-value]
    later = 1 << 32
    overtook = 0
    for number, _ in reversed(once):
        overtook += later < number
        later = min(later, number)
    times = sorted(at for _, at in once)
    quantiles = {str(q): times[min(len(times) - 1, len(times) * q // 100)] for q in (1, 10, 16, 50, 84, 90, 99)}
    return {"received": len(once), "overtook": overtook, "times": quantiles}


def slope(samples: Sequence[tuple[float, int]]) -> float:
    """Give bits per second between the moments when a quarter and nine tenths of all had come."""
    first = samples[0][1]
    total = samples[-1][1] - first
    begin, end = (_moment(samples, first + total * share) for share in (0.25, 0.9))
    return 0.65 * total * 8 / (end - begin) if end > begin else 0.0


def _moment(samples: Sequence[tuple[float, int]], count: float) -> float:
    """Give when a counter had reached a value."""
    for (before, low), (after, high) in pairwise(samples):
        if low <= count <= high and high > low:
            return before + (after - before) * (count - low) / (high - low)
    return samples[-1][0]


def _arrival(extra: Sequence[tuple[int, int, bytes]]) -> int:
    """Give when the kernel had a datagram, which is before this program had it."""
    for level, kind, data in extra:
        if level == socket.SOL_SOCKET and kind == _SO_STAMP:
            seconds, nanoseconds = _STAMP.unpack_from(data)
            return int(seconds) * 1_000_000_000 + int(nanoseconds)
    return time.time_ns()


def _received() -> dict[str, int]:
    lines = Path("/proc/net/dev").read_text(encoding="ascii").splitlines()[2:]
    devices = (line.split(":") for line in lines)
    return {name.strip(): int(counts.split()[0]) for name, counts in devices if name.strip() != "lo"}


def _enlarge(sock: socket.socket) -> None:
    for option in (_SO_BUFFER, socket.SO_RCVBUF):
        try:
            sock.setsockopt(socket.SOL_SOCKET, option, _BUFFER)
        except OSError:
            continue
        return


if __name__ == "__main__":
    sys.stdout.write(json.dumps(Prober(json.load(sys.stdin)).run()))
