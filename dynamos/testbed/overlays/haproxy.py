"""The configuration of a member's proxy: HAProxy, which ends the container's connections and carries them in TLS. Pure.

One process serves both ways. Its sockets for the container are in a network that stands for the peers, those for the
WAN in the node's. A connection's port goes along in the server name of TLS (SNI), as in `8815.bob.net`, so that one
port on the WAN is enough; a member's certificate stands for `*.bob.net`, and who shows it gets that member's address.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

GREETING_PORT = 1
"""The port at which a member's proxy tells other proxies the member's name, in HTTP: for probes."""
INNER_PORT, STATUS_PORT = 61443, 61442
"""Ports of the proxy where it stands for the peers; the one for its status is on the loopback."""

_HEAD = """\
global
    maxconn 1000
    nbthread 1
    ssl-default-bind-options ssl-min-ver TLSv1.3 no-tls-tickets
    ssl-default-server-options ssl-min-ver TLSv1.3 no-tls-tickets
defaults
    mode tcp
    option clitcpka
    option srvtcpka
    timeout connect 10s
    timeout client 1h
    timeout server 1h
"""


@dataclass(frozen=True, slots=True)
class Other:
    """Another member: its name, its address in the overlay, and where its proxy listens on the WAN."""

    name: str
    address: str
    underlay: str
    port: int


@dataclass(frozen=True, slots=True)
class Proxy:
    """A member's own proxy in the overlay `network`.

    `side` is the network that stands for the peers: their addresses are its own, and the container is beside it. In
    `folder` are `me.pem` (certificate and key), `peers.pem`, and `peer-NAME.pem` for each.
    """

    network: str
    name: str
    address: str
    underlay: str
    port: int
    side: str
    folder: str


def configuration(proxy: Proxy, others: Sequence[Other], version: str) -> str:
    """Give the whole file. The proxy tells `version` at its status port as soon as it works by this file, and there at
    `/NAME` what that peer's proxy says."""
    return (
        _HEAD + _status(proxy, others, version) + _outwards(proxy, others) + (_inwards(proxy, others) if others else "")
    )


def _status(proxy: Proxy, others: Sequence[Other], version: str) -> str:
    choices = "".join(f"    use_backend ask-{each.name} if {{ path /{each.name} }}\n" for each in others)
    greeted = "".join(
        f"backend ask-{each.name}\n    mode http\n    retries 0\n{_server(proxy, each, f'str({GREETING_PORT}')}"
        for each in others
    )
    return f"""\
frontend status
    mode http
    bind 127.0.0.1:{STATUS_PORT} namespace {proxy.side}
    http-request return status 200 content-type text/plain string {version} if {{ path / }}
{choices}{greeted}"""


def _outwards(proxy: Proxy, others: Sequence[Other]) -> str:
    """Take what the container sends to a peer's address, and connect to that peer's proxy and no other."""
    choices = "".join(f"    use_backend to-{each.name} if {{ dst {each.address} }}\n" for each in others)
    ends = "".join(f"backend to-{each.name}\n{_server(proxy, each, 'dst_port,concat(')}" for each in others)
    return f"frontend outwards\n    bind :{INNER_PORT} namespace {proxy.side}\n{choices}{ends}"


def _server(proxy: Proxy, other: Other, port: str) -> str:
    """Give the line that connects to a peer's proxy, with this port in the name that it is called by."""
    return (
        f"    server {other.name} {other.underlay}:{other.port} source {proxy.underlay} "
        f"ssl sni {port}.{other.name}.{proxy.network}) verify required "
        f"crt {proxy.folder}/me.pem ca-file {proxy.folder}/peer-{other.name}.pem\n"
    )


def _inwards(proxy: Proxy, others: Sequence[Other]) -> str:
    """Take what peers send, each known by its certificate, and connect to the container at the port they name, from
    their own addresses."""
    mine = re.escape(f".{proxy.name}.{proxy.network}")
    greeting = f"{{ ssl_fc_sni -m beg {GREETING_PORT}. }}"
    choices = "".join(f"    use_backend of-{each.name} if {{ ssl_c_s_dn(cn) -m str {each.name} }}\n" for each in others)
    ends = "".join(
        f"backend of-{each.name}\n    server container {proxy.address} namespace {proxy.side} source {each.address}\n"
        for each in others
    )
    return f"""\
frontend inwards
    bind {proxy.underlay}:{proxy.port} ssl verify required crt {proxy.folder}/me.pem ca-file {proxy.folder}/peers.pem
    tcp-request content reject unless {{ ssl_fc_sni -m reg -i ^[1-9][0-9]{{0,4}}{mine}$ }}
    tcp-request content switch-mode http if {greeting}
    tcp-request content set-dst-port ssl_fc_sni,field(1,.)
    use_backend greeting if {greeting}
{choices}backend greeting
    mode http
    http-request return status 200 content-type text/plain string {proxy.name}
{ends}"""
