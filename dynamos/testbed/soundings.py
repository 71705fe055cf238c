"""Soundings: which link of the path to another site carries nothing, found out from a node by plain packets.

A packet whose time to live ends on the way is answered by the router where it ends. A router whose next link is cut
says so, though kernels do that about once a second only; where a link loses everything, the last router that answers is
the one before it. It takes no rights: the kernel hands the answers to whoever has sent the packets.
"""

from __future__ import annotations

import asyncio
import logging
import select
import socket
import struct
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from itertools import pairwise

from dynamos.kit.errors import NotFound
from dynamos.knowledge.bases import KnowledgeBase
from dynamos.knowledge.buses import Message
from dynamos.middleware.configs import HelperConfig
from dynamos.middleware.network.messages import Sound, Sounding
from dynamos.model.profiles import Profile
from dynamos.model.sites import host_name
from dynamos.testbed.addresses import bare
from dynamos.testbed.items import Link, Node, Router
from dynamos.testbed.routes import next_sites
from dynamos.testbed.wanted import wanted

log = logging.getLogger(__name__)

LEAST_SECONDS = 2.0
_PAUSE_SECONDS = 0.25
"""How soon what was not answered is sent again."""
_PORT = 33434
_RECVERR = 11
_ERROR = struct.Struct("=IBBBBII")
_BY_ICMP = 2
_UNREACHABLE, _EXPIRED = 3, 11
_NO_WAY = (0, 1)

Answer = tuple[int, int, str]
"""The type and the code of what ICMP said, and the address of who said it."""


async def listen(kb: KnowledgeBase, config: HelperConfig) -> None:
    """Answer `network.<SITE>.sound`."""
    state = wanted(config.profile)
    nodes = {name: bare(node.address) for name, node in state.of(Node).items()}
    routers = {bare(router.address): site for site, router in state.of(Router).items()}
    ends = (zip(link.addresses, link.sites, strict=True) for link in state.of(Link).values())
    routers |= {bare(address): site for each in ends for address, site in each}

    async def answer(_: str, message: Message) -> Message:
        there = Sound.model_validate(message).to
        if there not in config.profile.sites:
            raise NotFound(f"there is no site {there!r}", where=config.site)
        address = nodes[host_name(config.profile.sites[there].gateway.name)]
        found = await asyncio.to_thread(sound, config.profile, (config.site, there), address, routers)
        return found.as_json()

    await kb.bus.listen(f"network.{config.site}.sound", answer)


def sound(profile: Profile, way: tuple[str, str], address: str, routers: Mapping[str, str]) -> Sounding:
    """Tell what on the way from one site to another carries nothing, if something does. From a node at the first one.

    `address` is that of a node at the other; `routers` gives the sites of the routers with these addresses.
    """
    path = path_between(profile, *way)
    links = [link for a, b in pairwise(path) if (link := profile.link(f"{a}-{b}"))]
    if not links:
        return Sounding()
    slowest = (max(float(link.direction(site).delay) for site in link.between) for link in links)
    told = answers(address, len(path) + 1, LEAST_SECONDS + 2 * sum(slowest))
    found = read(path, [link.name for link in links], told, routers)
    log.info("sounding", extra={"way": way, "told": told, "found": found.as_json()})
    return found


def path_between(profile: Profile, here: str, there: str) -> list[str]:
    """Give the sites that packets pass from one to another, with both; only the first where there is no path."""
    following, path = next_sites(profile.links, profile.sites), [here]
    while path[-1] != there and there in following[path[-1]]:
        path.append(following[path[-1]][there])
    return path


def read(path: Sequence[str], links: Sequence[str], told: Mapping[int, Answer], routers: Mapping[str, str]) -> Sounding:
    """Give what the answers mean: by time to live, 1 is that of the first site's router. Pure."""
    for _, _, who in filter(_no_way, told.values()):
        at = path.index(routers[who]) if routers.get(who) in path else 0
        return Sounding(link=links[at], state="cut") if at < len(links) else Sounding(site=path[-1])
    if not told or len(path) + 1 in told:
        return Sounding()  # not even the own router answers, or all is well
    farthest = max(told)
    return Sounding(link=links[farthest - 1], state="silent") if farthest <= len(links) else Sounding(site=path[-1])


def _no_way(answer: Answer) -> bool:
    return answer[0] == _UNREACHABLE and answer[1] in _NO_WAY


def answers(address: str, most: int, within: float) -> dict[int, Answer]:
    """Send packets with every time to live up to `most`, and give what was answered in `within` seconds."""
    found: dict[int, Answer] = {}
    with ExitStack() as stack:
        sockets = {}
        for life in range(1, most + 1):
            one = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK))
            one.setsockopt(socket.SOL_IP, socket.IP_TTL, life)
            one.setsockopt(socket.SOL_IP, _RECVERR, 1)
            one.connect((address, _PORT + life))
            sockets[one.fileno()] = (life, one)
        poll = select.poll()
        for descriptor in sockets:
            poll.register(descriptor, select.POLLERR)
        end = time.monotonic() + within
        while len(found) < most and not any(map(_no_way, found.values())) and time.monotonic() < end:
            for life, one in sockets.values():
                if life not in found:
                    with suppress(OSError):  # what was answered to an earlier one
                        one.send(b"?")
            soon = min(end, time.monotonic() + _PAUSE_SECONDS)
            while len(found) < most and (left := soon - time.monotonic()) > 0:
                for descriptor, _ in poll.poll(left * 1000):
                    life, one = sockets[descriptor]
                    if answer := _answer(one):
                        found.setdefault(life, answer)
    return found


def _answer(one: socket.socket) -> Answer | None:
    """Take an error from a socket's queue; None where it is none of ICMP."""
    try:
        _, ancillary, _, _ = one.recvmsg(512, 512, socket.MSG_ERRQUEUE)
    except OSError:
        return None
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_IP, _RECVERR):
            _, origin, type_, code, *_ = _ERROR.unpack_from(data)
            if origin == _BY_ICMP and type_ in (_UNREACHABLE, _EXPIRED):
                return type_, code, socket.inet_ntoa(data[_ERROR.size + 4 : _ERROR.size + 8])
    return None
