"""Sends forged packets of an overlay (VXLAN, RFC 7348) to nodes: what an outsider does who has guessed its number.

Standard input is JSON: `packets`, each with the outer `to` and `port`, the `number` guessed, the `mac` of the endpoint,
and of the datagram inside `source`, `target`, `target_port` and `text`.
"""

from __future__ import annotations

import json
import socket
import struct
import sys
from typing import Any

_IPV4, _UDP = b"\x08\x00", 17
_FLAGS = 0x08
_SPEAKER = bytes.fromhex("020000ffff01")
_FROM_PORT = 40404


def frame(packet: dict[str, Any]) -> bytes:
    """Give the tunnel's header, and the Ethernet frame in it."""
    text = str(packet["text"]).encode()
    datagram = struct.pack("!HHHH", _FROM_PORT, int(packet["target_port"]), 8 + len(text), 0) + text
    source, target = socket.inet_aton(packet["source"]), socket.inet_aton(packet["target"])
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(datagram), 1, 0, 64, _UDP, 0, source, target)
    head = head[:10] + struct.pack("!H", _checksum(head)) + head[12:]
    ethernet: bytes = bytes.fromhex(packet["mac"].replace(":", "")) + _SPEAKER + _IPV4
    return struct.pack("!B3xI", _FLAGS, int(packet["number"]) << 8) + ethernet + head + datagram


def _checksum(head: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(head) // 2}H", head))
    total = (total & 0xFFFF) + (total >> 16)
    return ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF


def main() -> None:
    """Send what standard input says."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for packet in json.load(sys.stdin)["packets"]:
            try:
                sender.sendto(frame(packet), (packet["to"], int(packet["port"])))
            except OSError:
                continue  # no way there is an answer too


if __name__ == "__main__":
    main()
