"""Configuration of strongSwan: one charon for each member of a network, with files, a socket and a table of its own.

Charon does IKEv2 and ESP itself (kernel-libipsec): ESP in UDP, and a TUN device for what is inside. It takes routes for
granted: it looks for the member's address in its own network, and puts a route through its device there. But the device
is in the container's network. So a stand-in is at the node, of the same name and without a carrier; it shows the
address, which the node does not take for its own, and the routes go into a table that no rule leads to.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from dynamos.testbed.overlays import endpoints, ends, materials
from dynamos.testbed.overlays.endpoints import Endpoint

_PLUGINS = (
    "random nonce openssl pem pkcs1 pkcs8 pubkey x509 hmac sha1 sha2 kdf aes gcm chapoly curve25519 kernel-libipsec "
    "kernel-netlink socket-default vici"
)
_KEY = re.compile(r"[A-Za-z0-9+/]{59}=")
_TABLES = 1000
"""Tables of routes and groups of devices have numbers from here on; what others use is below."""


def public_key(text: str) -> str:
    """Read an Ed25519 public key (RFC 8410), and give it as PEM."""
    if not _KEY.fullmatch(text):
        raise ValueError(f"{text!r} is no Ed25519 key")
    return f"-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----"


def table(end: Endpoint) -> int:
    """Give the number of an endpoint's table of routes, and of the group that its stand-in is in."""
    return _TABLES + ends.metric(end.network, end.member)


def daemon(end: Endpoint, port: int) -> str:
    """Give charon's own configuration."""
    return f"""\
charon-systemd {{
  load = {_PLUGINS}
  # Everything goes by one port; the other one, which IKE begins with elsewhere, is any that is free.
  port = 0
  port_nat_t = {port}
  routing_table = {table(end)}
  routing_table_prio = {table(end)}
  install_virtual_ip = no
  retransmit_timeout = 0.3
  retransmit_base = 1.5
  retransmit_tries = 7
  plugins {{
    vici {{
      socket = unix://{end.folder}/vici
    }}
    kernel-netlink {{
      roam_events = no
    }}
  }}
  journal {{
    default = -1
  }}
  filelog {{
    stderr {{
      default = 0
      ike = 1
      flush_line = yes
    }}
  }}
}}
swanctl {{
  load = random nonce openssl pem pkcs1 pkcs8 pubkey
}}
"""


def connections(end: Endpoint, port: int, others: Sequence[materials.Peer]) -> str:
    """Give the connections to all peers: each is known by its key, and has its own address and no other.

    Of two members the first by name calls, and calls again where the other hangs up or is silent.
    """
    cipher = end.network.options.get("cipher", "aes256gcm16")
    return "connections {\n" + "".join(_connection(end, port, peer, cipher) for peer in others) + "}\n"


def _connection(end: Endpoint, port: int, peer: materials.Peer, cipher: str) -> str:
    dead, closed = ("restart", "start") if calls(end, peer) else ("clear", "none")
    return f"""\
  {label(peer.address)} {{
    version = 2
    local_addrs = {end.member.underlay}
    local_port = {port}
    remote_addrs = {peer.underlay}
    remote_port = {peer.text("port", materials.port)}
    encap = yes
    mobike = no
    unique = replace
    keyingtries = 0
    dpd_delay = 5s
    proposals = {cipher}-prfsha256-x25519
    local {{
      auth = pubkey
      id = {end.member.name}
      pubkeys = own.pem
    }}
    remote {{
      auth = pubkey
      id = {peer.name}
      pubkeys = {peer.address}.pem
    }}
    children {{
      {label(peer.address)} {{
        local_ts = {end.member.address}/32
        remote_ts = {peer.address}/32
        esp_proposals = {cipher}-x25519
        dpd_action = {dead}
        close_action = {closed}
      }}
    }}
  }}
"""


def calls(end: Endpoint, peer: materials.Peer) -> bool:
    """Tell whether this member calls a peer, and not the other way round."""
    return end.member.name < peer.name


def label(address: str) -> str:
    """Give what the connection to the peer of this address is called, which holds no dot."""
    return "to-" + address.replace(".", "-")


def settle(end: Endpoint) -> str:
    """Give the lines that put charon's device in place and its stand-in at the node; whoever reads them has locked
    the node's names of devices by descriptor 9."""
    number, address = table(end), f"{end.member.address}/32"
    stand_in = (
        f"link add name $tun group {number} type bridge", "link set $tun addrgenmode none", "link set $tun up",
        f"addr add {address} dev $tun",
        f"route del local {address} table local", f"route add local {address} dev lo table {number}",
        f"rule del pref {number}",
    )  # fmt: skip
    return (
        endpoints.until("[ -S vici ]", "charon does not serve its socket")
        # Charon takes the first name of its kind that is free, and nobody else does so before the stand-in has it.
        + "tun=$(sed -n 's/^iff:[[:space:]]*//p' /proc/$1/fdinfo/* 2>/dev/null | head -n 1)\n"
        + endpoints.moving(end, "$tun")
        + "".join(f"ip {line}\n" for line in stand_in)
        + f"ip -6 rule del pref {number} 2>/dev/null || true\nexec 9<&-\n"
    )


def clearing(end: Endpoint) -> Sequence[str]:
    """Give commands that remove what an earlier charon left at the node."""
    number = table(end)
    return (
        f"rm -f {end.folder}/vici",
        f"ip link del group {number}",
        f"ip route flush table {number}",
        f"ip rule del pref {number}",
        f"ip -6 rule del pref {number}",
    )


def remaining(end: Endpoint) -> Sequence[str]:
    """Give commands that print a line where something of charon is left at the node."""
    return (
        f"ip -o link show group {table(end)}",
        f"ip route show table {table(end)}",
        f"ip rule show pref {table(end)}",
        f"ip -6 rule show pref {table(end)}",
    )


def apply(others: Sequence[materials.Peer]) -> str:
    """Give the script that has charon take up its connections, and hang up on who is no peer any longer."""
    keys = " ".join(f"{peer.address}.pem" for peer in others)
    labels = " ".join(label(peer.address) for peer in others)
    return f"""\
for key in pubkey/*; do
case ' own.pem {keys} ' in *" ${{key#pubkey/}} "*) ;; *) rm $key;; esac
done
swanctl --load-all --clear --noprompt --uri unix://$PWD/vici --file $PWD/connections > /dev/null
for peer in $(swanctl --list-sas --uri unix://$PWD/vici | sed -n 's/^\\(to-[0-9-]*\\): .*/\\1/p'); do
case ' {labels} ' in *" $peer "*) ;; *)
swanctl --terminate --ike $peer --force --timeout 1 --uri unix://$PWD/vici > /dev/null || true;; esac
done
"""


def associated(labels: Sequence[str]) -> str:
    """Give the lines of a script that wait up to a second until all these connections are there."""
    missing = " || ".join(f'[ "${{told#*  {name}: *INSTALLED}}" = "$told" ]' for name in labels) or "false"
    return (
        "n=0\nwhile [ $n -lt 20 ]; do n=$((n + 1))\n"
        "told=$(swanctl --list-sas --uri unix://$PWD/vici 2>/dev/null || true)\n"
        f"if {missing}; then sleep 0.03; else break; fi\ndone\n"
    )


CALL = """\
call() { swanctl --initiate --child $1 --timeout 3 --uri unix://$PWD/vici > /dev/null 2>&1; }
if [ -e called ]; then for peer in $(cat callers); do call $peer & done; fi
: > called
pause=0.1
while told=$(swanctl --list-sas --uri unix://$PWD/vici 2>/dev/null); do
silent=
for peer in $(cat callees); do
if ! echo "$told" | grep -q "^  $peer: .* INSTALLED"; then silent="$silent $peer"; fi
done
[ -n "$silent" ] || break
for peer in $silent; do call $peer & done
wait
sleep $pause
case $pause in 0.1) pause=0.2;; 0.2) pause=0.5;; 0.5) pause=1;; *) pause=3;; esac
done
"""
"""The script that calls peers until all are there. A charon that was started again calls also those that would call it:
they would go on with the old association until they notice."""
