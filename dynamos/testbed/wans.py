"""Wans: the network between the sites of a testbed, with routers, links that do to packets what the profile says, and
routes. It lives in one box of the testbed's world and ends with it.

Links may be changed, cut, silenced and healed while they are used, by any process: what is there is written down in the
testbed's folder, and one process at a time works on it.
"""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Literal, NamedTuple, Self

from dynamos.kit.errors import NotFound
from dynamos.model.networks import Change, Direction
from dynamos.testbed import boxes, impairments, routers, sights, wan_states
from dynamos.testbed.boxes import Box
from dynamos.testbed.cables import Kind
from dynamos.testbed.facts import Facts
from dynamos.testbed.items import Link, Router, Routes
from dynamos.testbed.locks import locked
from dynamos.testbed.wan_states import WanState
from dynamos.testbed.wan_works import LOCK_SECONDS, Works
from dynamos.testbed.worlds import World

logger = logging.getLogger(__name__)

Way = Literal["forward", "backward", "both"]
"""From the first of a link's sites to the second, the other way, or both ways."""

_FOLDER = "wan"
_BOX = "wan-of-this-testbed"
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
        self._works = Works(folder, self._box)

    @classmethod
    def create(cls, world: World) -> Self:
        """Make the WAN of a testbed, without routers or links as yet. Gives it where it is there."""
        wan = cls(world.folder / _FOLDER)
        with locked(wan._folder, within=LOCK_SECONDS):
            if wan._box.alive and wan_states.load(wan._folder):
                return wan
            boxes.remove(world.folder, wan._box.folder, _BOX)
            shutil.rmtree(wan._box.folder, ignore_errors=True)
            boxes.make(world.folder, wan._box.folder, _BOX, "", size="50%")
            told = wan._works.script(_PREPARED)
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
        if site not in self._works.state().routers:
            raise NotFound(f"there is no router of {site!r}")
        return routers.Router(self._box, site)

    def links(self) -> dict[str, Link]:
        """Give every link by name, as it is now."""
        return {name: laid.present for name, laid in self._works.state().links.items()}

    def taps(self) -> list[Tap]:
        """Give where each link can be listened to."""
        return [Tap(name, laid.cable.ends[0]) for name, laid in self._works.state().links.items()]

    def emulators(self) -> dict[str, Kind]:
        """Give, for each link by name, what makes its impairments."""
        return {name: laid.kind for name, laid in self._works.state().links.items()}

    def look(self) -> Facts:
        """Tell which routers, links and routes there are, by looking at them, and what of them is broken."""
        with self._works.held() as state:
            running = {name for name, told in self._box.daemons().items() if told["pid"]}
            return sights.seen(state, self._box.run(["sh", "-c", sights.SCRIPT], stdin=b"").text, running)

    # Make, change, remove

    def put_router(self, *made: Router) -> None:
        """Make routers of sites, or change their addresses."""
        with self._works.held() as state:
            self._works.script("".join(routers.made(router.name, router.address) for router in made))
            known = {router.name: router for router in made}
            dark = tuple(site for site in state.dark if site not in known)
            self._works.save(state.model_copy(update={"routers": {**state.routers, **known}, "dark": dark}))

    def remove_router(self, site: str) -> None:
        """Remove a site's router, its routes, and its ends of links. Does nothing where there is none."""
        with self._works.held() as state:
            known = {name: router for name, router in state.routers.items() if name != site}
            routes = {name: each for name, each in state.routes.items() if name != site}
            links = {
                name: laid.model_copy(update={"whole": laid.whole and site not in laid.present.sites})
                for name, laid in state.links.items()
            }
            self._works.save(state.model_copy(update={"routers": known, "routes": routes, "links": links}))
            self._works.script(routers.gone(site))

    def put_link(self, *links: Link) -> None:
        """Make links, or change them while they are used. Their routers are there.

        Raises Unavailable, with the package that is missing, where nothing here can do to packets what one says.
        """
        for link in links:
            for way in (link.forward, link.backward):
                impairments.check(way, f"link {link.name}")
        with self._works.held() as state:
            for site in (site for link in links for site in link.sites):
                if site not in state.routers:
                    raise NotFound(f"a link needs the router of {site!r}")
            self._works.put(state, links)

    def remove_link(self, name: str) -> None:
        """Remove a link, and the routes over it. Does nothing where there is none."""
        with self._works.held() as state:
            if name not in state.links:
                return
            self._works.remove(state, state.links[name])

    def put_routes(self, *routes: Routes) -> None:
        """Make the sites' routers know these routes, and no others of ours. Their links are there."""
        with self._works.held() as state:
            known = {each.name: each for each in routes}
            after = state.model_copy(update={"routes": {**state.routes, **known}})
            self._works.route(after, list(known))
            self._works.save(after)

    def remove_routes(self, site: str) -> None:
        """Remove the routes of a site's router. Does nothing where there are none."""
        with self._works.held() as state:
            if site in state.routes:
                empty = state.model_copy(update={"routes": {**state.routes, site: Routes(name=site, hops=())}})
                self._works.route(empty, [site])
                left = {name: each for name, each in state.routes.items() if name != site}
                self._works.save(state.model_copy(update={"routes": left}))

    def attach(self, node: Box, site: str, address: str, gateway: str, *, mtu: int = 1500) -> None:
        """Join a node to its site's router, with `address` (with prefix) on its device `eth0`. May be repeated."""
        with node.namespace() as network:
            self._works.script(routers.joined(site, address, mtu), fds=[network])
        node.run(["ip", "-batch", "-"], stdin=routers.addressed(address, gateway))

    # While it is used

    def set(self, name: str, way: Way, to: Direction | Change) -> Link:
        """Give one direction of a link, or both, other impairments, or change those that a Change names."""
        with self._works.held() as state:
            known = state.link(name)
            ways = {each: _turned(getattr(known.present, each), to) for each in ("forward", "backward")
                    if way in (each, "both")}  # fmt: skip
            for each in ways.values():
                impairments.check(each, f"link {known.present.name}")
            return self._works.change(state, known, ways)

    def cut(self, name: str) -> Link:
        """Take the carrier from both ends of a link: routers see it at once, and the routes over it go."""
        with self._works.held() as state:
            return self._works.change(state, state.link(name), {"state": "cut"})

    def silence(self, name: str) -> Link:
        """Lose every packet of a link, both ways, and leave it up: nobody is told."""
        with self._works.held() as state:
            return self._works.change(state, state.link(name), {"state": "silent"})

    def heal(self, name: str) -> Link:
        """Make a link what was asked for when it was made."""
        with self._works.held() as state:
            known = state.link(name)
            return self._works.become(state, known.model_copy(update={"present": known.declared}))

    def power(self, site: str, *, on: bool) -> None:
        """Give a site power, or take it: without, its router knows no way to its nodes. Nodes stay as they are."""
        with self._works.held() as state:
            if site not in state.routers:
                raise NotFound(f"there is no router of {site!r}")
            self._works.script(routers.powered(site, on=on))
            dark = tuple(each for each in state.dark if each != site) + (() if on else (site,))
            after = state.model_copy(update={"dark": dark})
            self._works.save(after)
            if on and site in state.routes:
                self._works.route(after, [site])
            logger.info("wan.power", extra={"site": site, "on": on})


def _turned(direction: Direction, to: Direction | Change) -> Direction:
    return to.of(direction) if isinstance(to, Change) else to
