"""All overlay drivers, by the name that a profile gives them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module

from dynamos.kit.errors import NotFound
from dynamos.kit.words import suggest
from dynamos.model.networks import DriverName
from dynamos.testbed.overlays.drivers import Driver

_WHERE: Mapping[DriverName, str] = {
    "none": "routed:Routed",
    "vxlan": "vxlan:Vxlan",
    "evpn": "evpn:Evpn",
    "mtls": "mtls:MutualTls",
    "wireguard": "wireguard:Wireguard",
    "nebula": "nebula:Nebula",
    "ipsec": "ipsec:Ipsec",
    "openvpn": "openvpn:Openvpn",
}


def drivers() -> dict[str, Driver]:
    """Give every driver by its name. A driver has no state: what it made is on the hosts."""
    return {name: driver(name) for name in _WHERE}


def driver(name: str) -> Driver:
    """Give the driver of that name. Raises NotFound."""
    where = {str(known): where for known, where in _WHERE.items()}.get(name)
    if where is None:
        raise NotFound(f"there is no overlay driver {name!r}", hint=suggest(name, [str(known) for known in _WHERE]))
    module, _, noun = where.partition(":")
    make: Callable[[], Driver] = getattr(import_module(f"dynamos.testbed.overlays.{module}"), noun)
    return make()
