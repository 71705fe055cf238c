"""The program that moves bytes between two hosts: it listens at one, talks at the other, and tells what that took.

`python3 -I -S -c` runs the text of this file on a host, so it needs the standard library alone. What it does comes as
JSON, on the command line or on standard input: `do` is `listen`, which serves a port until it is ended and writes
`ready` to the file `told`, or what a talker does, which prints JSON. A connection begins with a greeting of the
listener's, so that one which only a proxy has taken is none yet; then comes a line that says what is wanted, and then
blocks of one size, the last of which begins with LAST.
"""

from __future__ import annotations

import json
import os
import resource
import socket
import ssl
import struct
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

PORT = 8815
NAME = "talker"
"""What the kernel calls the process, by which its CPU is told from that of others."""
BLOCK = 1 << 16
"""Bytes of a block of a transfer."""
_LINE, _BUFFER = 4096, 8 << 20
_MORE, _LAST = b"m", b"l"
_GREETING = b"hello"
_PAUSE, _PATIENCE = 0.005, 20.0
_NOT_SENT, _QUEUE = 25, 1 << 18
"""TCP_NOTSENT_LOWAT: how much waits in the kernel before it is sent, so that a slow link has not to be waited for."""
_ASKED, _ANSWER = 20, 0.5
_DATAGRAM = struct.Struct("!16sQ")
_END = (1 << 64) - 1


class Listener:
    """Serves connections and datagrams at one port."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self._tls = _context(spec["tls"], server=True) if spec.get("tls") else None
        self._counts: dict[bytes, list[float]] = {}
        self._port = int(spec.get("port", PORT))

    def serve(self, told: Path) -> None:
        # Datagrams first: whoever may connect may send them too.
        datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        datagrams.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        datagrams.bind(("0.0.0.0", self._port))  # noqa: S104  in a container that is in its overlays and nowhere else
        threading.Thread(target=self._count, args=[datagrams], daemon=True).start()
        with socket.create_server(("0.0.0.0", self._port), backlog=256) as listening:  # noqa: S104
            told.write_text("ready\n", encoding="ascii")
            while True:
                connection, _ = listening.accept()
                threading.Thread(target=self._talk, args=[connection], daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        with suppress(OSError, ValueError), connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.settimeout(_PATIENCE)
            if self._tls:
                connection = self._tls.wrap_socket(connection, server_side=True)
            connection.sendall(_GREETING + b"\n")
            size, echoes, settle = json.loads(_line(connection))
            connection.settimeout(None)
            block, got, last = memoryview(bytearray(size)), 0, False
            began = time.monotonic()
            early, since = 0, began
            while not last and _fill(connection, block):
                got += size
                last = block[:1] == _LAST
                if echoes:
                    connection.sendall(block)
                elif since - began < settle:
                    early, since = got, time.monotonic()
            connection.sendall(json.dumps([got, got - early, time.monotonic() - since]).encode() + b"\n")

    def _count(self, datagrams: socket.socket) -> None:
        """Count datagrams by who sends them; whoever says that it has ended is told how many came, and between when."""
        while True:
            with suppress(OSError):
                block, sender = datagrams.recvfrom(65536)
                now = time.monotonic()
                if len(block) < _DATAGRAM.size:
                    continue
                token, number = _DATAGRAM.unpack_from(block)
                found = self._counts.setdefault(token, [0, 0, now, now])
                if number == _END:
                    datagrams.sendto(json.dumps(found).encode(), sender)
                else:
                    found[0] += 1
                    found[1] += len(block)
                    found[3] = now


def transfer(spec: dict[str, Any]) -> dict[str, Any]:
    """Send over several connections at once: so many bytes, in whole blocks, or for so many seconds. `settled` is what
    came per second after the first seconds, which a connection takes to find its pace."""
    connections = [_connected(spec) for _ in range(spec["streams"])]
    blocks = -(-int(spec["bytes"]) // (BLOCK * len(connections)))
    got: list[tuple[int, int, float, float]] = []
    began = time.monotonic()

    def send(connection: socket.socket) -> None:
        _say(connection, [BLOCK, False, spec["settle"]])
        sent, more, last = 0, _MORE.ljust(BLOCK, b"."), _LAST.ljust(BLOCK, b".")
        while sent < blocks - 1 if blocks else time.monotonic() - began < spec["seconds"]:
            connection.sendall(more)
            sent += 1
        connection.sendall(last)
        got.append((*json.loads(_line(connection)), time.monotonic()))

    _together(send, [[connection] for connection, _ in connections])
    return {
        "bytes": sum(count for count, _, _, _ in got),
        "seconds": max(at for *_, at in got) - began,
        "settled": sum(count * 8 / took for _, count, took, _ in got if took),
        "connect": [took for _, took in connections],
        "complete": len(got) == len(connections),
        "resent": sum(_resent(connection) for connection, _ in connections),
    }


def ping(spec: dict[str, Any]) -> dict[str, Any]:
    """Send a few bytes and wait for them to come back, again and again, over one connection."""
    connection, took = _connected(spec)
    _say(connection, [spec["size"], True, 0])
    sent, times = _MORE.ljust(spec["size"], b"."), []
    came = memoryview(bytearray(spec["size"]))
    for _ in range(spec["count"]):
        began = time.monotonic()
        connection.sendall(sent)
        if not _fill(connection, came):
            break
        times.append(time.monotonic() - began)
        time.sleep(spec["interval"])
    return {"times": times, "connect": [took], "complete": len(times) == spec["count"]}


def flood(spec: dict[str, Any]) -> dict[str, Any]:
    """Send datagrams at a steady rate, and ask how many came."""
    told: list[dict[str, Any]] = []

    def send() -> None:
        token = os.urandom(16)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sending:
            sending.connect((spec["address"], spec["port"]))
            padding = bytes(max(0, spec["size"] - _DATAGRAM.size))
            apart, number, lost = spec["size"] * 8 * spec["streams"] / spec["rate"], 0, 0
            began = time.monotonic()
            while (now := time.monotonic()) < began + spec["seconds"]:
                if (early := began + number * apart - now) > 0:
                    time.sleep(early)
                try:
                    sending.send(_DATAGRAM.pack(token, number) + padding)
                except OSError:
                    lost += 1  # it did not get away from here: lost as it would be further on
                number += 1
            took = time.monotonic() - began
            for _ in range(_ASKED):
                with suppress(OSError, ValueError):
                    sending.send(_DATAGRAM.pack(token, _END))
                    sending.settimeout(_ANSWER)
                    count, size, first, last = json.loads(sending.recv(1024))
                    told.append({"sent": number, "received": count, "bytes": size, "seconds": max(took, last - first)})
                    return

    _together(send, [[] for _ in range(spec["streams"])])
    return {"flows": told, "complete": len(told) == spec["streams"]}


def _connected(spec: dict[str, Any]) -> tuple[socket.socket, float]:
    """Give a connection to a listener that has greeted, and how long it took. Whoever does not listen yet is called
    again."""
    began, tls = time.monotonic(), _context(spec["tls"], server=False) if spec.get("tls") else None
    while True:
        try:
            connection = socket.create_connection((spec["address"], spec["port"]), timeout=_PATIENCE)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with suppress(OSError):  # a kernel without it, or that does not let us
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, spec["control"].encode())
            connection.setsockopt(socket.IPPROTO_TCP, _NOT_SENT, _QUEUE)
            if tls:
                connection = tls.wrap_socket(connection, server_hostname=spec["tls"]["peer"])
            if _line(connection) == _GREETING:
                connection.settimeout(spec.get("patience", 60.0))
                return connection, time.monotonic() - began
            connection.close()
        except ssl.SSLError:
            raise
        except OSError:
            pass
        if time.monotonic() - began > spec.get("call", _PATIENCE):
            raise SystemExit(f"nobody listens at {spec['address']}:{spec['port']}")
        time.sleep(_PAUSE)


def _context(tls: dict[str, str], *, server: bool) -> ssl.SSLContext:
    """Give a context for TLS 1.3 where both sides show a certificate. Keys come as text and get into no file system."""
    purpose = ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT
    context = ssl.SSLContext(purpose)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=tls["authority"])
    memory = os.memfd_create("credentials")
    try:
        os.write(memory, (tls["key"] + tls["certificate"]).encode())
        context.load_cert_chain(f"/proc/self/fd/{memory}")
    finally:
        os.close(memory)
    return context


def _line(connection: socket.socket) -> bytes:
    found = b""
    while not found.endswith(b"\n") and len(found) < _LINE:
        block = connection.recv(1)
        if not block:
            break
        found += block
    return found.strip()


def _say(connection: socket.socket, what: Any) -> None:
    connection.sendall(json.dumps(what).encode() + b"\n")


def _fill(connection: socket.socket, block: memoryview) -> bool:
    """Read until the block is full. False where the other side has ended before."""
    filled = 0
    while filled < len(block):
        count = connection.recv_into(block[filled:])
        if not count:
            return False
        filled += count
    return True


def _resent(connection: socket.socket) -> int:
    """Give how many segments the kernel has sent again: `tcpi_total_retrans`."""
    with suppress(OSError, struct.error):
        told = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
        return int(struct.unpack_from("@I", told, 100)[0])
    return 0


def _together(work: Any, words: list[list[Any]]) -> None:
    """Do the work for each at the same time. What fails is not there at the end; where all fail the program does."""
    failed: list[BaseException] = []

    def do(*given: Any) -> None:
        try:
            work(*given)
        except (OSError, ValueError) as error:
            failed.append(error)

    threads = [threading.Thread(target=do, args=each) for each in words]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed and len(failed) == len(words):
        raise SystemExit(f"nothing got there: {failed[0]}")


def main() -> None:
    """Do what the word on the command line says, or, where there is none, standard input."""
    with suppress(OSError):
        Path("/proc/self/comm").write_text(NAME, encoding="ascii")
    spec = json.loads(sys.argv[1] if len(sys.argv) > 1 else sys.stdin.read())
    if spec["do"] == "listen":
        Listener(spec).serve(Path(spec["told"]))
    told = {"transfer": transfer, "ping": ping, "flood": flood}[spec["do"]](spec)
    used = resource.getrusage(resource.RUSAGE_SELF)
    sys.stdout.write(json.dumps({**told, "cpu": used.ru_utime + used.ru_stime}))


if __name__ == "__main__":
    main()
