"""The BGP speaker of a node: FRR's zebra and bgpd, shared by all networks of the kind `evpn` that end at the node.

Each network's members leave a note at the node (a seat); the speaker is to know the networks of these notes. Whoever
adds or removes a note calls `settle`, which looks at the notes again after everything that it did: so several callers
may do so at once, and one that was interrupted leaves nothing that the next does not mend.
"""

from __future__ import annotations

import json
import threading
import time
from collections import defaultdict
from collections.abc import Sequence

from dynamos.kit.errors import Conflict, JobFailed, TimedOut
from dynamos.testbed.hosts import Host
from dynamos.testbed.overlays import scripts
from dynamos.testbed.overlays.endpoints import SIGN
from dynamos.testbed.overlays.frr import Segment, changes, configuration

HOME = "/run/dynamos/evpn"
SEATS = f"{HOME}/seats"
_FOLDER = f"{HOME}/frr"
_DAEMONS = ("evpn-zebra", "evpn-bgpd")
_ZEBRA = "'log stdout' 'ip nht resolve-via-default'"
"""Without the second line, a node that has but its default route to the others never calls them."""
_WITHIN, _PAUSE = 30.0, 0.05
_VTYSH = f"env HOME={_FOLDER} vtysh --vty_socket {_FOLDER}"
"""Its history, which it writes into its home, goes with the speaker."""
_FILTER, _FILTERED = "/proc/sys/net/bridge/bridge-nf-call-iptables", f"{HOME}/filtered"
BRIDGED = f"if [ -e {_FILTER} ] && grep -q 1 {_FILTER}; then : > {_FILTERED}; echo 0 > {_FILTER}; fi\n"
"""Lines of a script that keep what is on bridges from the node's rules for packets that it forwards, which some kernels
show it to. It is as before when the speaker ends."""
_NONE = f"ls {SEATS}/* >/dev/null 2>&1 ||"
LEFT = (
    f"{_NONE} grep -lsz '^{SIGN}={HOME}$' /proc/[0-9]*/environ", f"{_NONE} ls -d {HOME}", f"{_NONE} ls -d /var/tmp/frr",
)  # fmt: skip
"""Commands each of which prints a line where something of a speaker is left though there is no seat."""
_locks: dict[tuple[str, str], threading.Lock] = defaultdict(threading.Lock)


def note(segment: Segment) -> str:
    """Give the text of a seat."""
    return json.dumps({"number": segment.number, "underlay": segment.underlay, "peers": sorted(segment.peers)})


def settle(node: Host) -> None:
    """Have the speaker know the networks of the node's seats: it runs where there are any, and is gone where none are.

    Raises TimedOut where it does not come to that.
    """
    end = time.monotonic() + _WITHIN
    with _locks[node.site, node.name]:
        while True:
            try:
                segments = _segments(node)
                if _serve(node, segments) if segments else _end(node):
                    return
                last: object = "it changed meanwhile"
            except (Conflict, JobFailed) as error:
                last = error  # somebody else stops it, or ends what we ask
            if time.monotonic() > end:
                what = f"the BGP speaker did not settle within {_WITHIN:g} s; last seen: {last}"
                raise TimedOut(what, where=node.name)
            time.sleep(_PAUSE)


def _segments(node: Host) -> list[Segment]:
    """Read the seats."""
    text = node.run(["sh", "-c", f"cat {SEATS}/* 2>/dev/null || true"]).text
    told = [json.loads(line) for line in text.splitlines()]
    return [Segment(each["number"], each["underlay"], frozenset(each["peers"])) for each in told]


def _serve(node: Host, segments: Sequence[Segment]) -> bool:
    """Start what does not run, tell it what it does not know, and give whether nothing was left to tell."""
    prepare = (
        f"mkdir -p {_FOLDER}\nchown frr {_FOLDER}\nprintf '%s\\n' {_ZEBRA} > {_FOLDER}/zebra.conf\n"
        + scripts.fed(f"cat > {_FOLDER}/bgpd.new", [configuration(segments)])
        + f"mv {_FOLDER}/bgpd.new {_FOLDER}/bgpd.conf\n"
    )
    scripts.run(node, prepare)
    zebra, bgpd = _DAEMONS
    node.start(zebra, _argv("zebra"), env={SIGN: HOME})
    # bgpd tries only every ten seconds to get hold of a zebra that was not there
    late = f"until {_VTYSH} -d zebra -c 'show version' >/dev/null 2>&1; do sleep 0.05; done; exec \"$@\""
    node.start(bgpd, ["sh", "-c", late, "bgpd", *_argv("bgpd"), "-p", "179"], env={SIGN: HOME})
    script = _due(f"{_VTYSH} -d bgpd -c 'show version'") + f"{_VTYSH} -d bgpd -c 'show running-config'"
    running = scripts.run(node, script).text
    lines = changes(running, segments)
    if lines:
        scripts.run(node, scripts.fed(f"cat > {_FOLDER}/changes", [lines]) + f"{_VTYSH} -d bgpd -f {_FOLDER}/changes\n")
    return _segments(node) == segments and not lines


def _end(node: Host) -> bool:
    """Stop it and remove its files, and give whether nobody has come meanwhile."""
    for daemon in reversed(_DAEMONS):
        node.stop(daemon)
    scripts.run(
        node,
        scripts.locked("/run") + f"if ! ls {SEATS}/* >/dev/null 2>&1; then\n"
        f"if [ -e {_FILTERED} ]; then echo 1 > {_FILTER}; fi\nrm -rf {HOME}\n"
        "rmdir /run/dynamos 2>/dev/null || true\n"
        # FRR leaves a folder for each process, and folders for these
        "for left in /var/tmp/frr/*.*; do [ -d /proc/${left##*.} ] || rm -rf $left; done\n"
        "rmdir /var/tmp/frr /run/frr 2>/dev/null || true\nfi\n",
    )
    return not _segments(node)


def known(number: int) -> str:
    """Give a command that prints a line where the speaker still knows a network."""
    return f"{_VTYSH} -d bgpd -c 'show running-config' | grep -x '  vni {number}'"


def _argv(daemon: str) -> list[str]:
    files = ["-f", f"{_FOLDER}/{daemon}.conf", "-i", f"{_FOLDER}/{daemon}.pid", "-z", f"{_FOLDER}/zserv.api"]
    return [f"/usr/lib/frr/{daemon}", *files, "--vty_socket", _FOLDER, "-u", "frr", "-g", "frr", "-P", "0"]


def _due(condition: str) -> str:
    """Give the lines of a script that wait until something is so, and fail after five seconds."""
    return f"n=0\nuntil {condition} >/dev/null 2>&1; do n=$((n + 1)); [ $n -lt 250 ]; sleep 0.02; done\n"
