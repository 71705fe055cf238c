"""Whole overlays: bring all members in, prove that they reach each other, and take them out without a trace.

Everything here blocks, and works for all members at once in threads; asynchronous callers use `asyncio.to_thread`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from dynamos.kit.errors import BadInput, Broken, DynamosError, Mistake, TimedOut
from dynamos.testbed.overlays import probes
from dynamos.testbed.overlays.drivers import Driver, Member, Network

T = TypeVar("T")

_log = logging.getLogger(__name__)
_WORKERS = 16
_PAUSE = 0.02
_LAYER_OF_CONNECTIONS = 4


@dataclass(frozen=True, slots=True)
class Brought:
    """How long the steps took, in seconds: keys and endpoints, joining, and until every pair had reached each other."""

    prepare: float
    join: float
    reach: float

    @property
    def total(self) -> float:
        return self.prepare + self.join + self.reach


def bring(
    network: Network, members: Sequence[Member], driver: Driver, *, present: Sequence[Member] = (), within: float = 30.0
) -> Brought:
    """Bring members into an overlay, beside those `present` already, and wait until all reach each other, both ways.

    Idempotent. Where it fails nothing of these members stays, and those present go on without them. Raises TimedOut
    that names the pairs after `within` seconds, and whatever the driver does.
    """
    everyone = _checked(network, [*present, *members])
    started = time.perf_counter()
    try:
        material = _prepared(network, everyone, driver)
        prepared = time.perf_counter()
        _all(lambda member: driver.join(network, member, material), everyone)
        joined = time.perf_counter()
        _until_reached(network, everyone, driver, within)
    except BaseException:
        _roll_back(network, members, driver, present)
        raise
    took = Brought(prepared - started, joined - prepared, time.perf_counter() - joined)
    _log.info("overlay up", extra={"overlay": network.name, "members": len(everyone), "seconds": took.total})
    return took


def take_down(network: Network, members: Sequence[Member], driver: Driver, *, rest: Sequence[Member] = ()) -> None:
    """Take members out of an overlay, and see that nothing of them is left; the `rest` go on without them. Idempotent.

    Raises Broken that names what is left.
    """
    _all(lambda member: driver.leave(network, member), members)
    if rest:
        _rejoin(network, rest, driver)
    left = [what for found in _all(lambda member: driver.verify_gone(network, member), members) for what in found]
    if left:
        raise Broken(f"of the overlay {network.name!r} there is left: {'; '.join(left)}", left=left)
    _log.info("overlay down", extra={"overlay": network.name, "members": len(members), "rest": len(rest)})


def verify_mtu(network: Network, members: Sequence[Member], driver: Driver) -> list[Mistake]:
    """Prove the MTU with packets that may not be fragmented, between every ordered pair: one of just that size gets
    through, one that is a byte larger does not. Gives what is not so; empty where all is right.

    Where a proxy ends connections there are no packets inside; what its own connections have is proven then, between
    the members' nodes.
    """
    found = _all(lambda member: _mtu_of(network, member, members, driver), members)
    return [mistake for mistakes in found for mistake in mistakes]


def _mtu_of(network: Network, member: Member, members: Sequence[Member], driver: Driver) -> list[Mistake]:
    inside = driver.capabilities.layer < _LAYER_OF_CONNECTIONS
    host = member.container if inside else member.gateway
    peers = {p.name: p.address if inside else p.underlay for p in members if p.name != member.name}
    short = probes.silent(host, peers, size=network.mtu, tries=2)
    hint = "a link on the way carries less than the profile says: lower the mtu of the overlay, or mend the link"
    mistakes = [
        Mistake(f"{network.name}: {member.name} to {name}", f"packets of {network.mtu} bytes do not get through", hint)
        for name in short
    ]
    if inside:
        long = set(peers) - set(probes.silent(host, peers, size=network.mtu + 1, within=1.0))
        mistakes += [
            Mistake(f"{network.name}: {member.name} to {name}", f"packets of {network.mtu + 1} bytes get through")
            for name in sorted(long)
        ]
    return mistakes


def _checked(network: Network, members: Sequence[Member]) -> Sequence[Member]:
    for what in ("name", "address"):
        values = [getattr(member, what) for member in members]
        twice = sorted({value for value in values if values.count(value) > 1})
        if twice:
            raise BadInput(f"two members have the {what} {twice[0]!r}", where=f"overlay {network.name!r}")
    for member in members:
        network.place(member.address)
    return members


def _prepared(network: Network, members: Sequence[Member], driver: Driver) -> dict[str, dict[str, str]]:
    """Give every member's material. A driver that hands out a key is stopped before the key crosses."""
    said = _all(lambda member: driver.prepare(network, member), members)
    for member, words in zip(members, said, strict=True):
        if any("PRIVATE KEY" in text for text in words.values()):
            raise Broken(f"the material of {member.name!r} holds a private key")
    return {member.name: words for member, words in zip(members, said, strict=True)}


def _until_reached(network: Network, members: Sequence[Member], driver: Driver, within: float) -> None:
    """Probe until every ordered pair has reached each other once."""
    end = time.monotonic() + within
    missing = {member.name: [peer for peer in members if peer is not member] for member in members}
    while True:
        waiting = [member for member in members if missing[member.name]]
        for member, silent in zip(
            waiting, _all(lambda m: driver.unreached(network, m, missing[m.name]), waiting), strict=True
        ):
            missing[member.name] = [peer for peer in members if peer.name in silent]
        pairs = [f"{name} to {peer.name}" for name, peers in missing.items() for peer in peers]
        if not pairs:
            return
        if time.monotonic() >= end:
            what = f"in the overlay {network.name!r} it did not get from {', '.join(pairs)} within {within:g} s"
            raise TimedOut(what, hint="dynamos testbed verify", pairs=pairs)
        time.sleep(_PAUSE)


def _roll_back(network: Network, members: Sequence[Member], driver: Driver, present: Sequence[Member]) -> None:
    """Undo as much as can be, and tell the rest: the error that led here is the one that counts."""

    def leave(member: Member) -> None:
        try:
            driver.leave(network, member)
        except DynamosError as error:
            _log.warning(
                "overlay not rolled back", extra={"overlay": network.name, "member": member.name, "why": error}
            )

    _all(leave, members)
    if present:
        try:
            _rejoin(network, present, driver)
        except DynamosError as error:
            _log.warning("overlay not rolled back", extra={"overlay": network.name, "why": str(error)})


def _rejoin(network: Network, members: Sequence[Member], driver: Driver) -> None:
    material = _prepared(network, members, driver)
    _all(lambda member: driver.join(network, member, material), members)


def _all(work: Callable[[Member], T], members: Iterable[Member]) -> list[T]:
    """Do the work for all members at once, wait for all, and give the results in order, or raise the first error."""
    members = list(members)
    if len(members) <= 1:
        return [work(member) for member in members]
    with ThreadPoolExecutor(min(_WORKERS, len(members)), thread_name_prefix="overlay") as pool:
        return [future.result() for future in [pool.submit(work, member) for member in members]]
