"""Knocks at many addresses at once, several times each until somebody answers, and prints what came of it.

Standard input is JSON: `patience` in seconds and `knocks`: each has `address`, `protocol` (tcp, udp, icmp), `port`,
`token`, `text` with `times` (the payload, over and over), and `tls` where somebody is there who speaks TLS and not
`listen`: who is asked for the name `text` gives some answer then. With `raw`, bytes in hexadecimal, just these are sent
and any answer will do; where there are none, a connection is enough. Prints a list of one text each: empty where nobody
answered, else what did.
"""

from __future__ import annotations

import errno
import json
import select
import socket
import ssl
import struct
import sys
import time
from contextlib import suppress
from typing import Any

_AGAIN = 0.4
_REFUSED = "refused"
"""An answer of the other side's kernel: whoever gets one has got there."""


class Knock:
    """One knock: `answer` says what came back."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.protocol = spec["protocol"]
        self.answer = ""
        self.failed = ""
        self.socket: socket.socket | None = None
        self._to = (spec["address"], int(spec["port"]))
        self._token = spec["token"]
        self._tls = bool(spec.get("tls"))
        self._name = spec.get("text", "")
        body = spec.get("text", "").encode() * int(spec.get("times", 1))
        self._raw = "raw" in spec
        self._message = bytes.fromhex(spec["raw"]) if self._raw else f"{self._token} {len(body)}\n".encode() + body
        self._left = b""
        self._heard = b""

    @property
    def events(self) -> int:
        return select.POLLIN | (select.POLLOUT if self._left or self._greets else 0)

    @property
    def _greets(self) -> bool:
        return self._raw and not self._message

    @property
    def pending(self) -> bool:
        return not self.answer and not self.failed

    def begin(self) -> None:
        """Open a socket; over TCP that is the first try, and the kernel repeats it."""
        kinds = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM, "icmp": socket.SOCK_RAW}
        protocol = socket.IPPROTO_ICMP if self.protocol == "icmp" else 0
        family = socket.AF_INET6 if ":" in self._to[0] else socket.AF_INET
        self.socket = socket.socket(family, kinds[self.protocol], protocol)
        self.socket.setblocking(False)
        code = self.socket.connect_ex(self._to)
        if code not in (0, errno.EINPROGRESS):
            self._failed(code)
        elif self.protocol == "tcp":
            self._left = _hello(self._name) if self._tls else self._message
        else:
            self.again()

    def again(self) -> None:
        """Send once more what has no connection."""
        if self.socket is None or self.protocol == "tcp":
            return
        try:
            self.socket.send(self._message if self.protocol == "udp" else _echo(self._token))
        except OSError as error:
            self._failed(error.errno)

    def proceed(self, happened: int) -> None:
        """Do what can be done now."""
        if self.socket is None:
            return
        try:
            if happened & (select.POLLERR | select.POLLHUP) and self.protocol == "tcp":
                code = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if code:
                    self._failed(code)
                    return
            if happened & select.POLLOUT and self._greets:
                self.answer = "connected"
                return
            if happened & select.POLLOUT and self._left:
                self._left = self._left[self.socket.send(self._left) :]
            if happened & (select.POLLIN | select.POLLERR | select.POLLHUP):
                self._hear(self.socket.recv(1 << 16))
        except BlockingIOError:
            return
        except OSError as error:
            self._failed(error.errno)

    def _hear(self, block: bytes) -> None:
        if not block:
            self.failed = "closed"
        elif self.protocol == "icmp":
            if _echoed(block, self._token, self._to[0]):
                self.answer = "echo"
        elif self._tls or self._raw:
            self.answer = "tls" if self._tls else "answered"
        else:
            self._heard += block
            if self._heard.startswith(f"{self._token} ".encode()) and self._heard.endswith(b"\n"):
                self.answer = self._heard.decode().split()[1]

    def _failed(self, code: int | None) -> None:
        if code == errno.ECONNREFUSED:
            self.answer = _REFUSED
        elif self.protocol == "tcp" or code in (errno.ENETUNREACH, errno.EADDRNOTAVAIL):
            self.failed = errno.errorcode.get(code or 0, "failed")


def _hello(name: str) -> bytes:
    """Give the first words of a client of TLS who looks for that name; it stands there in the open."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with suppress(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname=name or None).do_handshake()
    return outgoing.read()


def _echo(token: str) -> bytes:
    """Give an echo request of ICMP that carries the token."""
    body = token.encode()
    head = struct.pack("!BBHHH", 8, 0, 0, 7, 1)
    text = head + body + b"\0" * (len(body) % 2)
    total = sum(struct.unpack(f"!{len(text) // 2}H", text))
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!BBHHH", 8, 0, ~total & 0xFFFF, 7, 1) + text[8:]


def _echoed(packet: bytes, token: str, address: str) -> bool:
    """Tell whether it is the answer of just that address to just that request."""
    head = (packet[0] & 15) * 4
    return packet[12:16] == socket.inet_aton(address) and packet[head] == 0 and token.encode() in packet[head:]


def main() -> None:
    """Knock as standard input says."""
    spec = json.load(sys.stdin)
    knocks = [Knock(each) for each in spec["knocks"]]
    poll = select.poll()
    by_fd = {}
    for knock in knocks:
        knock.begin()
        if knock.socket is not None:
            by_fd[knock.socket.fileno()] = knock
    end = time.monotonic() + float(spec["patience"])
    due = time.monotonic() + _AGAIN
    while (now := time.monotonic()) < end and any(knock.pending for knock in knocks):
        if now >= due:
            due = now + _AGAIN
            for knock in knocks:
                if knock.pending:
                    knock.again()
        for fd, knock in by_fd.items():
            poll.register(fd, knock.events) if knock.pending else _forget(poll, fd)
        for fd, happened in poll.poll(max(0.0, min(due, end) - time.monotonic()) * 1000):
            by_fd[fd].proceed(happened)
    json.dump([knock.answer for knock in knocks], sys.stdout)


def _forget(poll: Any, fd: int) -> None:
    try:
        poll.unregister(fd)
    except KeyError:
        return


if __name__ == "__main__":
    main()
