"""Sights: what a look at the WAN's box shows of its routers, links and routes. Pure but for the script."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from dynamos.testbed import routers
from dynamos.testbed.addresses import bare
from dynamos.testbed.facts import Facts
from dynamos.testbed.items import Hop, Item, Key, Link, Router, Routes
from dynamos.testbed.wan_states import Laid, WanState

SCRIPT = f"""
ip -j link; echo
for path in /run/netns/*; do
  test -e "$path" || continue
  site=${{path##*/}}
  printf '@%s\\n' "$site"
  printf 'addr show\\nroute show proto {routers.PROTOCOL}\\n' | ip -n "$site" -j -batch -
  echo
done
"""
"""Prints, in JSON, the devices of the box, and for each router after a line "@SITE" its devices and our routes."""


def seen(state: WanState, text: str, running: Collection[str]) -> Facts:
    """Give the facts in what the script has printed; `running` are the daemons of the box that have a process."""
    first, *rest = text.split("\n@")
    box = {device["ifname"] for device in _values(first)[0]}
    views = {}
    for part in rest:
        site, _, printed = part.partition("\n")
        devices, routes = [*_values(printed), [], []][:2]
        views[site] = ({device["ifname"]: device for device in devices}, routes)
    items: dict[Key, Item] = {}
    broken: dict[Key, str] = {}
    for site, router in state.routers.items():
        if site in views:
            devices, _ = views[site]
            items[router.key] = Router(name=site, address=_address(devices.get(routers.LAN, {})))
    for laid in state.links.values():
        ends = [views.get(site, ({}, []))[0].get(laid.cable.device) for site in laid.present.sites]
        items[laid.present.key] = _link(laid, ends)
        if trouble := _trouble(laid, ends, box, running):
            broken[laid.present.key] = trouble
    links = {laid.cable.device: name for name, laid in state.links.items()}
    for site, wanted in state.routes.items():
        if site in views:
            items[wanted.key] = _routes(wanted, views[site][1], links)
    return Facts(items, broken)


def _values(text: str) -> list[Any]:
    """Read one JSON value after the other."""
    decoder, values, at = json.JSONDecoder(), [], 0
    while text := text[at:].lstrip():
        value, at = decoder.raw_decode(text)
        values.append(value)
    return values


def _address(device: Mapping[str, Any]) -> str:
    found = [f"{each['local']}/{each['prefixlen']}" for each in device.get("addr_info", ()) if each["family"] == "inet"]
    return found[0] if found else ""


def _link(laid: Laid, ends: Sequence[Mapping[str, Any] | None]) -> Link:
    """Give a link with the addresses and the mtu that its ends have; what it does to packets is what it was told."""
    link = laid.present
    addresses = tuple(_address(end or {}) for end in ends)
    sizes = {int(end["mtu"]) for end in ends if end}
    mtu = sizes.pop() if len(sizes) == 1 else link.mtu
    return link.model_copy(update={"addresses": addresses if all(addresses) else link.addresses, "mtu": mtu})


def _trouble(
    laid: Laid, ends: Sequence[Mapping[str, Any] | None], box: Collection[str], running: Collection[str]
) -> str:
    """Tell what is wrong with a link; empty where nothing is."""
    if not laid.whole:
        return "work on it was interrupted"
    if not all(ends) or not set(laid.cable.ends) <= set(box):
        return "one of its devices has gone"
    if laid.kind == "guest" and f"guest-{laid.cable.guest}" not in running:
        return "the guest that carries it does not run"
    carried = all("LOWER_UP" in end["flags"] and "NO-CARRIER" not in end["flags"] for end in ends if end)
    if carried == (laid.present.state == "cut"):
        return "it has a carrier though it is cut" if carried else "it has no carrier"
    return ""


def _routes(wanted: Routes, printed: Sequence[Mapping[str, Any]], links: Mapping[str, str]) -> Routes:
    """Give the routes that a router has, in the wanted order where they are the wanted ones."""
    hops = set(_hops(printed, links))
    return wanted if hops == set(wanted.hops) else Routes(name=wanted.name, hops=tuple(sorted(hops)))


def _hops(printed: Sequence[Mapping[str, Any]], links: Mapping[str, str]) -> Iterator[Hop]:
    for route in printed:
        destination = route["dst"] if "/" in route["dst"] else f"{route['dst']}/32"
        yield Hop(destination, bare(route.get("gateway", "")), links.get(route["dev"], ""))
