"""Traffic: measured transfers between hosts of a testbed: goodput, datagrams with their loss, round trips, and the CPU
that it took. The program that moves the bytes is our own (`talkers`), so that it is the same on every host.

Goodput counts bytes that programs got. Connections use CUBIC, or what else is asked for, where the kernel has it.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from dynamos.experiments import descendants, talkers
from dynamos.kit.credentials import Credentials
from dynamos.kit.errors import Broken, Unavailable
from dynamos.testbed.hosts import Host
from dynamos.testbed.proofs.programs import Started, together
from dynamos.testbed.worlds import World

PORT = talkers.PORT
CONTROL = "cubic"
WAN = "linux.uml"
"""What the kernel calls the emulator of the WAN, where it is not the kernel itself."""
_PYTHON = 'exec "$(command -v python3 || echo "$0")" -I -S -c "$@"'
_TICKS = os.sysconf("SC_CLK_TCK")
_WITHIN, _PATIENCE = 120.0, 20.0
_OURS = ("python", "sh", talkers.NAME)
Tls = Mapping[str, str]
"""Certificate, key and authority of one side as PEM, and the `peer` that it wants."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """What became of bytes over TCP. `connect` are seconds until a connection's first byte had come back, `cpu` those
    that the sender's processor took; `resent` are segments; `settled` are the bits per second after the first seconds,
    which the listeners left out."""

    bytes: int
    seconds: float
    settled: float
    connect: Sequence[float]
    resent: int
    cpu: float

    @property
    def goodput(self) -> float:
        """Bits per second."""
        return self.bytes * 8 / self.seconds if self.seconds else 0.0

    @property
    def gigabits(self) -> float:
        return self.bytes * 8 / 1e9


@dataclass(frozen=True, slots=True)
class Pings:
    """Round trips of a few bytes over one TCP connection, in seconds."""

    times: Sequence[float]
    connect: float
    cpu: float

    def quantile(self, share: float) -> float:
        """Give the time that this share of the round trips stays below."""
        ordered = sorted(self.times)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


@dataclass(frozen=True, slots=True)
class Flood:
    """What became of datagrams that were sent at a steady rate."""

    sent: int
    received: int
    bytes: int
    seconds: float
    cpu: float

    @property
    def goodput(self) -> float:
        """Bits per second that arrived."""
        return self.bytes * 8 / self.seconds if self.seconds else 0.0

    @property
    def gigabits(self) -> float:
        return self.bytes * 8 / 1e9

    @property
    def loss(self) -> float:
        """The share that did not arrive."""
        return 1 - self.received / self.sent if self.sent else 0.0


@contextmanager
def listening(hosts: Sequence[Host], *, tls: Tls | None = None, port: int = PORT) -> Iterator[None]:
    """Have a listener at work in each of these hosts, and none afterwards. With `tls` it takes no other connection."""
    with ExitStack() as stack:

        def begin(host: Host) -> None:
            name = f"traffic-{secrets.token_hex(4)}"
            program = Started(host, name, f"/run/{name}")
            stack.callback(program.stop)
            spec = {"do": "listen", "told": f"/run/{name}", "port": port, "tls": dict(tls) if tls else None}
            if not host.start(name, [*_argv(), json.dumps(spec)]):
                raise Unavailable("the listener does not start", where=host.name)
            program.wait("ready")

        together(begin, hosts)
        yield


def transfer(
    source: Host,
    address: str,
    *,
    streams: int = 1,
    bytes: int = 0,  # noqa: A002  what it is
    seconds: float = 0.0,
    settle: float = 0.0,
    control: str = CONTROL,
    tls: Tls | None = None,
    port: int = PORT,
    patience: float = _PATIENCE,
    within: float = _WITHIN,
) -> Transfer:
    """Send so many bytes, or for so many seconds, from a host to a listener's address, over `streams` connections with
    this congestion control; what came in the first `settle` seconds is not in the settled rate.

    Raises Broken where it does not arrive whole, JobFailed where nobody listens for `patience` seconds.
    """
    more = {"streams": streams, "bytes": bytes, "seconds": seconds, "settle": settle, "control": control}
    more["call"] = patience
    spec = _spec("transfer", address, port, tls, **more)
    told = _talk(source, spec, within)
    return Transfer(told["bytes"], told["seconds"], told["settled"], told["connect"], told["resent"], told["cpu"])


def round_trips(
    source: Host,
    address: str,
    *,
    count: int = 100,
    interval: float = 0.002,
    size: int = 64,
    tls: Tls | None = None,
    port: int = PORT,
    within: float = _WITHIN,
) -> Pings:
    """Send so many times a few bytes from a host to a listener's address and back (as netperf's TCP_RR)."""
    told = _talk(source, _spec("ping", address, port, tls, count=count, interval=interval, size=size), within)
    return Pings(told["times"], told["connect"][0], told["cpu"])


def flood(
    source: Host,
    address: str,
    *,
    rate: float,
    seconds: float,
    size: int,
    streams: int = 1,
    port: int = PORT,
    within: float = _WITHIN,
) -> Flood:
    """Send datagrams of `size` bytes at `rate` bits per second, all flows together, to a listener's address."""
    spec = _spec("flood", address, port, None, rate=rate, seconds=seconds, size=size, streams=streams)
    told = _talk(source, spec, within)
    sent, received, got = (sum(int(flow[name]) for flow in told["flows"]) for name in ("sent", "received", "bytes"))
    return Flood(sent, received, got, max(flow["seconds"] for flow in told["flows"]), told["cpu"])


@dataclass(slots=True)
class Effort:
    """CPU seconds of the processes of a world by the names that the kernel calls them, between two moments."""

    by_name: dict[str, float] = field(default_factory=dict)

    @property
    def ends(self) -> float:
        """Of listeners. Talkers tell theirs themselves: they have ended."""
        return self.by_name.get(talkers.NAME, 0.0)

    @property
    def wan(self) -> float:
        """Of the emulator of the WAN, where it is a process."""
        return self.by_name.get(WAN, 0.0)

    @property
    def carriers(self) -> float:
        """Of daemons that carry an overlay. What the kernel does for one is nobody's, or its caller's."""
        return sum(spent for name, spent in self.by_name.items() if name != WAN and not name.startswith(_OURS))


@contextmanager
def effort(world: World) -> Iterator[Effort]:
    """Count what the processes of a world use during the block. Those that begin or end in it are left out."""
    found = Effort()
    before = _used(world)
    yield found
    after = _used(world)
    for pid, (name, spent) in after.items():
        if pid in before:
            found.by_name[name] = found.by_name.get(name, 0.0) + spent - before[pid][1]


def tls_of(credentials: Credentials, peer: str = "") -> Tls:
    """Give one side's words of TLS; a talker names the `peer` that it wants."""
    return {
        "certificate": credentials.certificate.read_text(encoding="ascii"),
        "key": credentials.key.read_text(encoding="ascii"),
        "authority": credentials.authority.read_text(encoding="ascii"),
        "peer": peer,
    }


def _spec(do: str, address: str, port: int, tls: Tls | None, **more: Any) -> dict[str, Any]:
    words = {"do": do, "address": address, "port": port, "tls": dict(tls) if tls else None, "control": CONTROL}
    return words | more


def _talk(source: Host, spec: Mapping[str, Any], within: float) -> dict[str, Any]:
    stdin = json.dumps({**spec, "patience": within}).encode()
    told = source.run(_argv(), stdin=stdin, within=within + 10.0).text
    try:
        found: dict[str, Any] = json.loads(told)
    except ValueError:
        raise Broken(f"the program of traffic printed {told[:200]!r}", where=source.name) from None
    if not found["complete"]:
        raise Broken(f"not all of a {spec['do']} to {spec['address']} arrived", where=source.name, told=told[:500])
    return found


def _used(world: World) -> dict[int, tuple[str, float]]:
    """Give what every process of a world has used so far: its name and CPU in seconds."""
    found: dict[int, tuple[str, float]] = {}
    for pid in descendants.of(world.pid):
        with suppress(OSError, ValueError, IndexError):
            head, _, tail = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")
            fields = tail.split()
            found[pid] = (head.partition("(")[2], (int(fields[11]) + int(fields[12])) / _TICKS)
    return found


@cache
def _argv() -> tuple[str, ...]:
    return ("sh", "-c", _PYTHON, sys.executable, Path(talkers.__file__).read_text(encoding="utf-8"))
