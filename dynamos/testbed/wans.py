"""Wans: the network between the sites of a testbed, with routers, links that do to packets what the profile says, and
routes. It lives in one box of the testbed's world and ends with it.

Links may be changed, cut, silenced and healed while they are used, by any process: what is there is written down in the
testbed's folder, and one process at a time works on it.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple, Self

from dynamos.kit.errors import NotFound
from dynamos.model.networks import Change, Direction
from dynamos.testbed import boxes, cables, impairments, routers, sights, wan_states
from dynamos.testbed.boxes import Box
from dynamos.testbed.cables import Cable, Kind
from dynamos.testbed.facts import Facts
from dynamos.testbed.guests import Guest
from dynamos.testbed.items import Link, Router, Routes
from dynamos.testbed.locks import locked
from dynamos.testbed.wan_states import Laid, WanState
from dynamos.testbed.worlds import World

logger = logging.getLogger(__name__)

Way = Literal["forward", "backward", "both"]
"""From the first of a link's sites to the second, the other way, or both ways."""

_FOLDER = "wan"
_BOX = "wan-of-this-testbed"
_LOCK_SECONDS = 60.0
_PREPARED = """
echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6
echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6
if tc qdisc add dev lo root netem delay 1ms 2>/dev/null; then tc qdisc del dev lo root; echo netem; fi
"""


class Tap(NamedTuple):
    """Where a link can be listened to: a device in the WAN's box that all its packets pass, in both directions."""

    link: str
    device: str


class Wan:
    """The network between the sites of one testbed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._box = Box(folder / "box", _BOX, "")

    @classmethod
    def create(cls, world: World) -> Self:
        """Make the WAN of a testbed, without routers or links as yet. Gives it where it is there."""
        wan = cls(world.folder / _FOLDER)
        with locked(wan._folder, within=_LOCK_SECONDS):
            if wan._box.alive and wan_states.load(wan._folder):
                return wan
            boxes.remove(world.folder, wan._box.folder, _BOX)
            shutil.rmtree(wan._box.folder, ignore_errors=True)
            boxes.make(world.folder, wan._box.folder, _BOX, "", size="50%")
            told = wan._script(_PREPARED)
            wan_states.save(wan._folder, WanState(kernel="netem" in told))
        return wan

    @classmethod
    def find(cls, world: World) -> Self | None:
        """Give the WAN of a testbed, None where it has none."""
        wan = cls(world.folder / _FOLDER)
        return wan if wan._box.alive and wan_states.load(wan._folder) else None

    # What there is

    @property
    def box(self) -> Box:
        """Where routers and links are: the place to listen on a link, see `taps`."""
        return self._box

    def router(self, site: str) -> routers.Router:
        """Give the router of a site as a host. Raises NotFound."""
        if site not in self._state().routers:
            raise NotFound(f"there is no router of {site!r}")
        return routers.Router(self._box, site)

    def links(self) -> dict[str, Link]:
        """Give every link by name, as it is now."""
        return {name: laid.present for name, laid in self._state().links.items()}

    def taps(self) -> list[Tap]:
        """Give where each link can be listened to."""
        return [Tap(name, laid.cable.ends[0]) for name, laid in self._state().links.items()]

    def emulators(self) -> dict[str, Kind]:
        """Give, for each link by name, what makes its impairments."""
        return {name: laid.kind for name, laid in self._state().links.items()}

    def look(self) -> Facts:
        """Tell which routers, links and routes there are, by looking at them, and what of them is broken."""
        with self._held() as state:
            running = {name for name, told in self._box.daemons().items() if told["pid"]}
            return sights.seen(state, self._box.run(["sh", "-c", sights.SCRIPT], stdin=b"").text, running)

    # Make, change, remove

    def put_router(self, router: Router) -> None:
        """Make a site's router, or change its address."""
        with self._held() as state:
            self._script(routers.made(router.name, router.address))
            self._save(state.model_copy(update={"routers": {**state.routers, router.name: router}}))

    def remove_router(self, site: str) -> None:
        """Remove a site's router, its routes, and its ends of links. Does nothing where there is none."""
        with self._held() as state:
            known = {name: router for name, router in state.routers.items() if name != site}
            routes = {name: each for name, each in state.routes.items() if name != site}
            links = {
                name: laid.model_copy(update={"whole": laid.whole and site not in laid.present.sites})
                for name, laid in state.links.items()
            }
            self._save(state.model_copy(update={"routers": known, "routes": routes, "links": links}))
            self._script(routers.gone(site))

    def put_link(self, link: Link) -> None:
        """Make a link, or change it while it is used. Its routers are there.

        Raises Unavailable, with the package that is missing, where nothing here can do to packets what it says.
        """
        for way in (link.forward, link.backward):
            impairments.check(way, f"link {link.name}")
        with self._held() as state:
            for site in link.sites:
                if site not in state.routers:
                    raise NotFound(f"link {link.name!r} needs the router of {site!r}")
            known = state.links.get(link.name)
            if known and known.whole and known.present.can_become(link):
                self._become(state, known.model_copy(update={"declared": link, "present": link}))
            else:
                slot = known.slot if known else state.free_slot()
                self._lay(state, Laid(declared=link, present=link, slot=slot, kind=_kind(state, link)))

    def remove_link(self, name: str) -> None:
        """Remove a link, and the routes over it. Does nothing where there is none."""
        with self._held() as state:
            if name not in state.links:
                return
            laid = state.links[name].model_copy(update={"whole": False})
            self._save(state.with_link(laid))
            self._script(laid.cable.gone())
            after = state.model_copy(update={"links": {k: v for k, v in state.links.items() if k != name}})
            self._save(after)
            if laid.kind == "guest":
                left, guest = after.on_guest(laid.cable.guest), Guest(self._box, laid.cable.guest)
                guest.remember(left) if left else guest.stop()

    def put_routes(self, routes: Routes) -> None:
        """Make a site's router know these routes, and no other of ours. Their links are there."""
        with self._held() as state:
            after = state.model_copy(update={"routes": {**state.routes, routes.name: routes}})
            self._route(after, [routes.name])
            self._save(after)

    def remove_routes(self, site: str) -> None:
        """Remove the routes of a site's router. Does nothing where there are none."""
        with self._held() as state:
            if site in state.routes:
                empty = state.model_copy(update={"routes": {**state.routes, site: Routes(name=site, hops=())}})
                self._route(empty, [site])
                left = {name: each for name, each in state.routes.items() if name != site}
                self._save(state.model_copy(update={"routes": left}))

    def attach(self, node: Box, site: str, address: str, gateway: str, *, mtu: int = 1500) -> None:
        """Join a node to its site's router, with `address` (with prefix) on its device `eth0`. May be repeated."""
        with node.namespace() as network:
            self._script(routers.joined(site, address, mtu), fds=[network])
        node.run(["ip", "-batch", "-"], stdin=routers.addressed(address, gateway))

    # While it is used

    def set(self, name: str, way: Way, to: Direction | Change) -> Link:
        """Give one direction of a link, or both, other impairments, or change those that a Change names."""
        with self._held() as state:
            known = state.link(name)
            ways = {each: _turned(getattr(known.present, each), to) for each in ("forward", "backward")
                    if way in (each, "both")}  # fmt: skip
            for each in ways.values():
                impairments.check(each, f"link {known.present.name}")
            return self._change(state, known, ways)

    def cut(self, name: str) -> Link:
        """Take the carrier from both ends of a link: routers see it at once, and the routes over it go."""
        with self._held() as state:
            return self._change(state, state.link(name), {"state": "cut"})

    def silence(self, name: str) -> Link:
        """Lose every packet of a link, both ways, and leave it up: nobody is told."""
        with self._held() as state:
            return self._change(state, state.link(name), {"state": "silent"})

    def heal(self, name: str) -> Link:
        """Make a link what was asked for when it was made."""
        with self._held() as state:
            known = state.link(name)
            return self._become(state, known.model_copy(update={"present": known.declared}))

    def power(self, site: str, *, on: bool) -> None:
        """Give a site power, or take it: without, its router knows no way to its nodes. Nodes stay as they are."""
        with self._held() as state:
            if site not in state.routers:
                raise NotFound(f"there is no router of {site!r}")
            self._script(routers.powered(site, on=on))
            dark = tuple(each for each in state.dark if each != site) + (() if on else (site,))
            after = state.model_copy(update={"dark": dark})
            self._save(after)
            if on and site in state.routes:
                self._route(after, [site])
            logger.info("wan.power", extra={"site": site, "on": on})

    # Work

    def _change(self, state: WanState, known: Laid, update: Mapping[str, object]) -> Link:
        return self._become(state, known.model_copy(update={"present": known.present.model_copy(update=update)}))

    def _become(self, state: WanState, laid: Laid) -> Link:
        """Make a link that is there what `laid` says of it."""
        kind = _kind(state, laid.present)
        if kind != laid.kind and laid.kind == "plain":
            self._lay(state, laid.model_copy(update={"kind": kind}))
            return laid.present
        before = state.links[laid.present.name].present
        state = self._begin(state, laid)
        impairs_else = _impairments(before) != _impairments(laid.present)
        script = laid.cable.impaired() if impairs_else else ""
        script += laid.cable.sized() if before.mtu != laid.present.mtu else ""
        self._script(script)
        if impairs_else or before.state == "cut":
            self._instruct(state, laid.cable)
        self._script(laid.cable.stated() if before.state != laid.present.state else "")
        self._remember(state, laid.cable)
        self._end(state, laid)
        return laid.present

    def _lay(self, state: WanState, laid: Laid) -> None:
        """Lay a link anew, whatever there is of it, and the routes over it."""
        if known := state.links.get(laid.present.name):
            self._script(known.cable.gone())
        state = self._begin(state, laid)
        self._script(laid.cable.gone() + laid.cable.laid() + laid.cable.impaired())
        self._instruct(state, laid.cable)
        self._script(laid.cable.stated())
        self._end(state, laid)
        self._route(state, [site for site in laid.present.sites if site in state.routes])

    def _begin(self, state: WanState, laid: Laid) -> WanState:
        state = state.with_link(laid.model_copy(update={"whole": False}))
        self._save(state)
        return state

    def _end(self, state: WanState, laid: Laid) -> None:
        self._save(state.with_link(laid))
        logger.info("wan.link", extra={"link": laid.present.name, "state": laid.present.state, "by": laid.kind})

    def _instruct(self, state: WanState, cable: Cable) -> None:
        """Have the link's guest do what it has to, and start the guest where it is not there."""
        if cable.kind != "guest":
            return
        guest = Guest(self._box, cable.guest)
        self._remember(state, cable)
        if guest.running:
            guest.tell("ip", cable.ip)
            guest.tell("tc", cable.tc)
        else:
            guest.start()

    def _remember(self, state: WanState, cable: Cable) -> None:
        if cable.kind == "guest":
            Guest(self._box, cable.guest).remember(state.on_guest(cable.guest))

    def _route(self, state: WanState, sites: Sequence[str]) -> None:
        devices = {name: laid.cable.device for name, laid in state.links.items()}
        for site in sites:
            hops = [hop for hop in state.routes[site].hops if not hop.link or hop.link in devices]
            if site in state.dark:
                hops = [hop for hop in hops if hop.link]
            there = self._box.run(["ip", "-n", site, "-o", "route", "show", "proto", routers.PROTOCOL]).text
            known = [line.split()[0] for line in there.splitlines()]
            self._script(routers.routed(site, hops, devices, known))

    def _script(self, text: str, *, fds: Sequence[int] = ()) -> str:
        return self._box.run(["sh", "-es"], stdin=text.encode(), fds=fds).text if text else ""

    @contextmanager
    def _held(self) -> Iterator[WanState]:
        with locked(self._folder, within=_LOCK_SECONDS):
            yield self._state()

    def _state(self) -> WanState:
        state = wan_states.load(self._folder)
        if state is None:
            raise NotFound("the testbed has no WAN", where=str(self._folder), hint="dynamos up")
        return state

    def _save(self, state: WanState) -> None:
        wan_states.save(self._folder, state)


def _kind(state: WanState, link: Link) -> Kind:
    if not cables.needs_netem(link):
        return "plain"
    return "kernel" if state.kernel else "guest"


def _turned(direction: Direction, to: Direction | Change) -> Direction:
    return to.of(direction) if isinstance(to, Change) else to


def _impairments(link: Link) -> tuple[Direction, Direction, int]:
    return link.forward, link.backward, link.mtu
