"""Networks with a scope: what one site does for the network of one job, and for those that stay. The network helper's
hands (see `dynamos.middleware.network.helpers`), and the program that it is.

A job's network has containers of its own, one for each part here, with rules that let nothing through until everybody
is in. What it needs (number, addresses, mtu) each site works out from the profile, in the same way, so that nobody can
be told to make something else. What was begun is written down first, and removed by the next life of the helper.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from dynamos.kit.errors import BadInput, Cancelled, DynamosError, NotFound, Refused, TimedOut
from dynamos.knowledge import jetstream
from dynamos.middleware import telemetry
from dynamos.middleware.configs import HelperConfig
from dynamos.middleware.network.desks import Given
from dynamos.middleware.network.helpers import Helper
from dynamos.middleware.network.messages import Join, Left, Passed, Prepare, Prepared
from dynamos.middleware.views import background
from dynamos.model.jobs import Grant
from dynamos.model.plans import REQUESTOR
from dynamos.model.profiles import Profile
from dynamos.testbed import items, soundings
from dynamos.testbed.addresses import Addresses, shares
from dynamos.testbed.containers import Container
from dynamos.testbed.edges import Rules, Ways, ways_of
from dynamos.testbed.nodes import Node
from dynamos.testbed.overlay_plans import request_overlay
from dynamos.testbed.overlays.drivers import Driver, Member, Network
from dynamos.testbed.overlays.registry import driver
from dynamos.testbed.wanted import Wanted, wanted
from dynamos.testbed.worlds import NODES

log = logging.getLogger(__name__)
T = TypeVar("T")

PREFIX = "request-"
"""Containers, overlays and files of jobs begin so, and nothing without it is removed."""
REACH_SECONDS = 40.0
EVERYWHERE = "0.0.0.0"  # noqa: S104  in a container that is in its overlays and nowhere else
_PAUSE = 0.02
_TRIES = 5
_AT_ONCE = 16
_FIRST_PLACE = 64
"""Where the underlay addresses of jobs' containers begin on a node (driver `none`)."""


def slots(profile: Profile) -> int:
    """Give how many networks of jobs there can be at once."""
    most = shares(profile.subnets).requests
    if profile.overlay.driver != "none":
        return most
    return min(most, (shares(profile.subnets).containers - _FIRST_PLACE) // _most_parties(profile))


def job_overlay(profile: Profile, found: Wanted, slot: int, parties: tuple[str, ...]) -> items.Overlay:
    """Give the overlay of a job: who is in it by party is in the order of `parties`. Pure.

    Raises BadInput for a slot or a party that cannot be.
    """
    if not 0 <= slot < slots(profile):
        raise BadInput(f"there is no slot {slot} for the network of a job")
    known = {each.party: each for each in found.of(items.Container).values()}
    if odd := [party for party in parties if party not in known]:
        raise BadInput(f"no site has the party {odd[0]!r}")
    members = [_fresh(profile, found, slot, known[party]) for party in parties]
    return request_overlay(profile, slot, members, found.of(items.Node))


def _fresh(profile: Profile, found: Wanted, slot: int, standing: items.Container) -> items.Container:
    """Give the container of one part: as the party's own, under another name and address."""
    beside = sorted(each.party for each in found.of(items.Container).values() if each.node == standing.node)
    place = _FIRST_PLACE + slot * _most_parties(profile) + beside.index(standing.party)
    order = list(profile.sites)
    nodes = [each.name for each in found.of(items.Node).values() if each.site == standing.site]
    address = standing.address
    if profile.overlay.driver == "none":
        site, node = order.index(standing.site), nodes.index(standing.node)
        address = Addresses(profile.subnets).container(site, node, place)
    return standing.model_copy(update={"name": f"{PREFIX}{slot}-{standing.name}"[:63], "address": address})


def _most_parties(profile: Profile) -> int:
    per_node = (-(-len(site.parties) // len(site.nodes)) for site in profile.sites.values() if site.parties)
    return max(per_node, default=1)


@dataclass(slots=True)
class _Woven:
    """What a job has at this site."""

    prepare: Prepare
    network: Network
    members: dict[str, Member]
    boxes: dict[str, Container]
    addresses: dict[str, str]
    rules: dict[str, Rules] = field(default_factory=dict)
    abandoned: bool = False


class SiteNetworks:
    """Carries out, at one site, what its helper is asked for. See the protocol `Site`."""

    def __init__(self, config: HelperConfig) -> None:
        self._site = config.site
        self._profile = config.profile
        self._folder = config.folder / "networks"
        self._nodes_folder = config.world / NODES
        self._wanted = wanted(config.profile)
        self._driver: Driver = driver(config.profile.overlay.driver)
        self._own = tuple(config.profile.sites[config.site].parties)
        self._standing = {each.party: each for each in self._wanted.of(items.Container).values()}
        self._rules: dict[str, Rules] = {}
        self._laying = asyncio.Lock()
        self._woven: dict[str, _Woven] = {}
        self._pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="network")

    # Networks of jobs

    async def prepare(self, message: Prepare) -> Prepared:
        woven = self._plan(message)
        path = self._record(message.slot)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        path.write_text(message.model_dump_json(by_alias=True), encoding="utf-8")
        self._woven[message.job] = woven

        def make(party: str) -> tuple[str, dict[str, str]]:
            member = woven.members[party]
            self._node(party).container(member.container.name)
            woven.rules[party] = Rules(member.container)
            woven.rules[party].lay()
            return member.name, self._driver.prepare(woven.network, member)

        made = await self._all(make, woven.members)
        return Prepared(material=dict(made), addresses={p: woven.addresses[p] for p in woven.members})

    async def join(self, message: Join) -> None:
        woven = self._woven.get(message.job)
        if woven is None:
            raise NotFound(f"job {message.job!r} has no network here", where=self._site, code="no-network")
        peers = self._peers(woven)

        def join(party: str) -> None:
            member = woven.members[party]
            self._driver.join(woven.network, member, message.material)
            others = [peer for peer in peers if peer.name != member.name]
            end = time.monotonic() + REACH_SECONDS
            while silent := self._driver.unreached(woven.network, member, others):
                if woven.abandoned:
                    raise Cancelled(f"the network of job {message.job!r} was given up", where=self._site)
                if time.monotonic() > end:
                    told = ", ".join(silent)
                    raise TimedOut(f"{party} did not reach {told} within {REACH_SECONDS:g} s", where=self._site)
                time.sleep(_PAUSE)
                others = [peer for peer in others if peer.name in silent]
            woven.rules[party].open(message.job, _flows(woven, party))

        await self._all(join, woven.members)

    def abandon(self, job: str) -> None:
        if woven := self._woven.get(job):
            woven.abandoned = True

    async def leave(self, job: str) -> Left:
        woven = self._woven.get(job)
        if woven is None:
            return Left()

        def leave(party: str) -> tuple[str, Passed, list[str]]:
            member, passed = woven.members[party], Passed()
            with suppress(DynamosError):  # of a container that is gone there is nothing to tell
                passed = woven.rules[party].passed()
            self._driver.leave(woven.network, member)
            woven.boxes[party].destroy()
            shutil.rmtree(woven.boxes[party].folder, ignore_errors=True)
            left = self._driver.verify_gone(woven.network, member)
            for _ in range(_TRIES if left else 0):  # what members of a node share may just be another's
                time.sleep(_PAUSE)
                self._driver.leave(woven.network, member)
                if not (left := self._driver.verify_gone(woven.network, member)):
                    break
            return party, passed, left

        for party, member in woven.members.items():
            woven.rules.setdefault(party, Rules(member.container))
        told = await self._all(leave, woven.members)
        left = tuple(what for _, _, found in told for what in found)
        if not left:
            self._woven.pop(job, None)
            self._record(woven.prepare.slot).unlink(missing_ok=True)
        return Left(passed={party: passed for party, passed, _ in told}, left=left)

    async def clear(self) -> None:
        for path in sorted(self._folder.glob("*.json")):
            try:
                message = Prepare.model_validate_json(path.read_bytes())
                self._woven.setdefault(message.job, self._plan(message))
            except (ValidationError, DynamosError) as error:
                log.warning("network.unreadable", extra={"file": str(path), "error": str(error)})
                path.unlink()
        for job in list(self._woven):
            left = await self.leave(job)
            if left.left:
                log.error("network.left", extra={"job": job, "left": left.left})
        for party in self._own if self._profile.overlay.scope != "request" else ():
            await self._lay(party)

    # Networks that stay, and ways

    async def seat(self, party: str) -> Given:
        container = self._container(party)
        await self._lay(party)
        seats = self._seats(party)
        if not seats:
            raise Refused(f"{party} is in no network", where=self._site, code="no-network")
        return await self._given(container, seats[0] if len(seats) == 1 else EVERYWHERE)

    async def open(self, party: str, grant: Grant) -> Given:
        if self._profile.overlay.scope == "request":
            return await self._open_of_job(party, grant)
        addresses = self._neighbours(party)
        ways = ways_of(grant.part, addresses)
        _check_addresses(grant, addresses)
        if party not in self._rules:
            await self._lay(party)
        async with self._laying:
            await self._run(lambda: self._rules[party].open(grant.job, ways))
        seats = self._seats(party)
        return await self._given(self._container(party), seats[0] if len(seats) == 1 else EVERYWHERE)

    async def shut(self, party: str, job: str) -> Passed:
        if self._profile.overlay.scope == "request":
            return Passed()  # counted when the network goes, and it goes with the job
        rules = self._rules.get(party)
        if rules is None:
            return Passed()
        async with self._laying:
            await self._run(lambda: rules.shut(job))
        return await self._run(rules.passed)

    async def _open_of_job(self, party: str, grant: Grant) -> Given:
        """Give the container of a part. Its ways are open already; they are those of the plan that it is granted."""
        woven = self._woven.get(grant.job)
        if woven is None or party not in woven.members:
            raise Refused(f"job {grant.job!r} has no network for {party}", where=self._site, code="no-network")
        _check_addresses(grant, {name: [address] for name, address in woven.addresses.items()})
        return await self._given(woven.boxes[party], woven.addresses[party])

    async def _given(self, container: Container, listen: str) -> Given:
        def look() -> Given:
            given = Given({"listen": listen})
            for kind in ("net", "pid"):
                with container.namespace(kind) as fd:
                    given.fds.append(os.dup(fd))
            return given

        return await self._run(look)

    async def _lay(self, party: str) -> None:
        """Give a party's own container rules without any way, unless it has rules of ours."""
        async with self._laying:
            if party not in self._rules or not await self._run(lambda: self._has_rules(party)):
                rules = Rules(self._container(party))
                await self._run(rules.lay)
                self._rules[party] = rules

    def _has_rules(self, party: str) -> bool:
        listed = self._container(party).run(["nft", "list", "table", "inet", "edges"], check=False)
        return listed.code == 0

    def _seats(self, party: str) -> list[str]:
        """Give the addresses of a party in the networks that stay."""
        name = self._standing[party].name
        overlays = self._wanted.of(items.Overlay).values()
        return [seat.address for each in overlays for seat in each.seats if seat.container == name]

    def _neighbours(self, party: str) -> dict[str, list[str]]:
        """Give the addresses of everybody who shares a network with the party."""
        name = self._standing[party].name
        parties = {each.name: each.party for each in self._standing.values()}
        found: dict[str, list[str]] = {}
        for overlay in self._wanted.of(items.Overlay).values():
            if any(seat.container == name for seat in overlay.seats):
                for seat in overlay.seats:
                    found.setdefault(parties[seat.container], []).append(seat.address)
        return found

    def _plan(self, message: Prepare) -> _Woven:
        overlay = job_overlay(self._profile, self._wanted, message.slot, message.parties)
        network = Network(overlay.name, overlay.number, overlay.subnet, overlay.mtu, overlay.options)
        addresses = {party: seat.address for party, seat in zip(message.parties, overlay.seats, strict=True)}
        seats = {party: seat for party, seat in zip(message.parties, overlay.seats, strict=True) if party in self._own}
        members = {party: self._member(party, seat) for party, seat in seats.items()}
        boxes = {party: self._box(party, seat.container) for party, seat in seats.items()}
        return _Woven(message, network, members, boxes, addresses)

    def _peers(self, woven: _Woven) -> list[Member]:
        """Give everybody in a job's network; who is elsewhere has no hosts here, and is only probed."""
        overlay = job_overlay(self._profile, self._wanted, woven.prepare.slot, woven.prepare.parties)
        return [self._member(party, seat) for party, seat in zip(woven.prepare.parties, overlay.seats, strict=True)]

    def _member(self, party: str, seat: items.Seat) -> Member:
        return Member(_name(party), self._box(party, seat.container), self._node(party), seat.underlay, seat.address)

    def _container(self, party: str) -> Container:
        return self._box(party, self._standing[party].name)

    def _box(self, party: str, name: str) -> Container:
        node = self._node(party)
        return Container(node.folder / "containers" / name, name, node.site, node.name)

    def _node(self, party: str) -> Node:
        standing = self._standing[party]
        return Node(self._nodes_folder / standing.node, standing.node, standing.site)

    def _record(self, slot: int) -> Path:
        return self._folder / f"{PREFIX}{slot}.json"

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    async def _all(self, work: Callable[[str], T], parties: Mapping[str, object]) -> list[T]:
        """Do the work for all at once, wait for all, and give the results or raise the first error."""
        loop = asyncio.get_running_loop()
        futures = [loop.run_in_executor(self._pool, work, party) for party in parties]
        if futures:
            await asyncio.wait(futures)
        return [future.result() for future in futures]


def _flows(woven: _Woven, party: str) -> Ways:
    """Give the ways of a party's part, from what the whole job needs."""
    flows = woven.prepare.flows
    return Ways(
        frozenset(woven.addresses[flow.source] for flow in flows if flow.target == party),
        frozenset(woven.addresses[flow.target] for flow in flows if flow.source == party),
    )


def _check_addresses(grant: Grant, addresses: Mapping[str, list[str]]) -> None:
    """Raise Refused where a grant sends rows to where its target is not."""
    for party, place in grant.addresses.items():
        host = place.rpartition(":")[0].removeprefix("grpc+tls://")
        if party != REQUESTOR and host not in addresses.get(party, ()):
            raise Refused(f"{party} is not at {host} in any network of {grant.party}", code="no-network")


def _name(party: str) -> str:
    """Give what the others find a member by."""
    return party.lower().replace("_", "-")


def serve(config: HelperConfig, ready: Callable[[str], None]) -> None:
    """Run the network helper of a site until SIGTERM; call `ready` once it takes orders."""
    asyncio.run(_serve(config, ready))


async def _serve(config: HelperConfig, ready: Callable[[str], None]) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with AsyncExitStack() as stack:
        kb = await jetstream.connect(config.bus, config.credentials, config.name, server=config.server)
        stack.push_async_callback(kb.close)
        stack.push_async_callback(telemetry.setup(config.name, kb, collector=config.settings.telemetry).close)
        helper = Helper(config, SiteNetworks(config))
        await helper.start(kb)
        await soundings.listen(kb, config)
        stack.push_async_callback(helper.close)
        await stack.enter_async_context(background(helper.sweep))
        ready(config.site)
        await stopped.wait()
