"""Metrics of the units on a node, in Prometheus' text form, over HTTP on the loopback device:
`python -m dynamos.deploy.gauges CONFIG`.

It runs as a user of its own that may read nothing of the units: what it tells is what everybody on the node may see in
/proc, and how long the logs are. Only the standard library.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICKS = os.sysconf("SC_CLK_TCK")
_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class GaugesConfig:
    """Which units there are, the folders of units and of logs, and the port on the loopback device; 0 takes one."""

    units: tuple[str, ...]
    folder: Path
    logs: Path
    port: int

    @classmethod
    def read(cls, path: Path) -> Self:
        told = json.loads(path.read_bytes())
        return cls(tuple(told["units"]), Path(told["folder"]), Path(told["logs"]), int(told["port"]))


@dataclass(frozen=True, slots=True)
class Usage:
    """What the processes of a unit use: how many they are, resident bytes, seconds of processors, when it started."""

    processes: int = 0
    memory: int = 0
    seconds: float = 0.0
    started: float = 0.0


FAMILIES: tuple[tuple[str, str, str], ...] = (
    ("dynamos_unit_up", "gauge", "Whether the unit has a process"),
    ("dynamos_unit_processes", "gauge", "Processes of the unit, those of its jobs not among them"),
    ("dynamos_unit_resident_bytes", "gauge", "Memory of the unit's processes, shared pages in each"),
    ("dynamos_unit_cpu_seconds_total", "counter", "Time of processors of the unit's processes that live"),
    ("dynamos_unit_start_time_seconds", "gauge", "When the unit's first process started, since the epoch"),
    ("dynamos_unit_log_bytes", "gauge", "Bytes of the unit's logs that are kept"),
)


def text(config: GaugesConfig) -> str:
    """Give all metrics."""
    used = usage(config)
    values: dict[str, list[tuple[str, float]]] = {name: [] for name, _, _ in FAMILIES}
    for unit in config.units:
        each = used.get(unit, Usage())
        own = (bool(each.processes), each.processes, each.memory, each.seconds, each.started)
        for (name, _, _), value in zip(FAMILIES, (*own, log_bytes(config.logs / unit)), strict=True):
            values[name].append((unit, float(value)))
    lines = []
    for name, kind, help_text in FAMILIES:
        lines += [f"# HELP {name} {help_text}.", f"# TYPE {name} {kind}"]
        lines += [f'{name}{{unit="{unit}"}} {value:.17g}' for unit, value in values[name]]
    return "\n".join(lines) + "\n"


def usage(config: GaugesConfig) -> Mapping[str, Usage]:
    """Give what each unit uses that has a process: those with the path of its configuration in their words."""
    unit_of = {str(config.folder / unit / "config.json"): unit for unit in config.units}
    booted = _booted()
    found: dict[str, Usage] = {}
    for words, fields in _processes():
        unit = next((unit_of[word] for word in words if word in unit_of), None)
        if unit is None:
            continue
        so_far, began = found.get(unit, Usage()), booted + int(fields[19]) / _TICKS
        found[unit] = Usage(
            so_far.processes + 1,
            so_far.memory + int(fields[21]) * _PAGE,
            so_far.seconds + (int(fields[11]) + int(fields[12])) / _TICKS,
            min(so_far.started or began, began),
        )
    return found


def log_bytes(folder: Path) -> int:
    """Give the bytes of a unit's logs."""
    total = 0
    with suppress(OSError):
        for path in folder.iterdir():
            with suppress(OSError):
                total += path.stat().st_size
    return total


def _processes() -> Iterator[tuple[Sequence[str], Sequence[str]]]:
    """Give the words and the facts (from the third field of `stat` on) of every process that can be seen."""
    for folder in _PROC.iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
                yield words, (folder / "stat").read_text(errors="replace").rpartition(") ")[2].split()


def _booted() -> float:
    lines = (_PROC / "stat").read_text(encoding="ascii").splitlines()
    return float(next((line.split()[1] for line in lines if line.startswith("btime ")), "0"))


def server(config: GaugesConfig) -> ThreadingHTTPServer:
    """Give the server, which listens already."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path != "/metrics":
                self.send_error(404)
                return
            body = text(config).encode()
            self.send_response(200)
            self.send_header("content-type", MEDIA_TYPE)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base's name
            """Say nothing of every scrape."""

    return ThreadingHTTPServer(("127.0.0.1", config.port), Handler)


def main() -> None:
    """Serve until the end."""
    if len(sys.argv) != 2:  # noqa: PLR2004
        sys.stderr.write("usage: python -m dynamos.deploy.gauges CONFIG\n")
        raise SystemExit(2)
    made = server(GaugesConfig.read(Path(sys.argv[1])))
    sys.stderr.write(json.dumps({"address": f"http://127.0.0.1:{made.server_port}/metrics"}) + "\n")
    sys.stderr.flush()
    made.serve_forever()


if __name__ == "__main__":
    main()
