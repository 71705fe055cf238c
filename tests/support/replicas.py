"""More instances of a running system's units, as processes of their own, and a load of requests meanwhile."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from dynamos.jobs import zygotes
from support.systems import BOUND, System

DRAIN = 50.0
BEGIN = 180.0
"""A new interpreter on a busy machine."""


class Replica:
    """One more instance of a unit, from a copy of its folder, with some members of its configuration changed."""

    def __init__(self, it: System, unit: str, role: str, folder: Path, **changes: Any) -> None:
        own = folder / f"{unit}-{len(list(folder.iterdir()))}"
        shutil.copytree(it.state.unit(unit), own, ignore=shutil.ignore_patterns("*.log", "results", "handed", "run"))
        own.chmod(0o755)
        config = json.loads((own / "config.json").read_text())
        config = {**config, "folder": str(own), "drain": DRAIN, **changes}
        (own / "config.json").write_text(json.dumps(config))
        command = [sys.executable, "-m", "dynamos.deploy.unit", role, str(own / "config.json")]
        self.lines: list[str] = []
        self.address = ""
        self._ready = threading.Event()
        self._log = own / "unit.log"
        with self._log.open("wb") as log:
            environment = {**os.environ, **zygotes.ONE_THREAD}
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.PIPE, text=True, env=environment)
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()
        if not self._ready.wait(BEGIN) or self.process.poll() is not None:
            self.kill()
            raise AssertionError(f"the replica did not begin: {self.lines[-5:]} {self.log[-2000:]}")

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line.rstrip())
            if line.startswith('{"address"'):
                self.address = json.loads(line)["address"]
                self._ready.set()
        self._ready.set()

    @property
    def log(self) -> str:
        """What the unit has logged."""
        return self._log.read_text()

    def stop(self) -> int:
        """Have it end as an upgrade does, and give its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(DRAIN + BOUND)

    def kill(self) -> None:
        """End it at once."""
        if self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait(BOUND)
        self._reading.join(BOUND)
        if self.process.stderr is not None:
            self.process.stderr.close()


@contextmanager
def replicas(it: System, folder: Path) -> Iterator[Any]:
    """Give what makes replicas; those that are left are ended after the block."""
    folder.chmod(0o755)
    made: list[Replica] = []

    def more(unit: str, role: str, **changes: Any) -> Replica:
        made.append(Replica(it, unit, role, folder, **changes))
        return made[-1]

    try:
        yield more
    finally:
        for replica in made:
            replica.kill()


@dataclass
class Load:
    """Requests at a rate, each over a connection of its own; `answers` are status, body and seconds of each.

    At most `at_once` are under way: a machine that is busy with other things is asked less often, not buried.
    """

    addresses: list[str]
    headers: dict[str, str]
    bodies: list[dict[str, Any]]
    rate: float = 5.0
    at_once: int = 8
    answers: list[tuple[int, dict[str, Any], float]] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def _ask(self, number: int) -> None:
        began = time.monotonic()
        where, body = self.addresses[number % len(self.addresses)], self.bodies[number % len(self.bodies)]
        try:
            with httpx.Client(base_url=where, headers=self.headers, timeout=BOUND, trust_env=False) as client:
                answer = client.post("/api/v1/jobs?wait=true", json=body)
            told = (answer.status_code, answer.json())
        except (httpx.HTTPError, ValueError) as error:
            told = (0, {"error": repr(error)})
        self.answers.append((*told, time.monotonic() - began))

    def _run(self) -> None:
        number, due = 0, time.monotonic()
        while not self._stop.wait(max(0.0, due - time.monotonic())):
            due += 1 / self.rate
            if sum(thread.is_alive() for thread in self._threads) >= self.at_once:
                continue
            thread = threading.Thread(target=self._ask, args=(number,), daemon=True)
            thread.start()
            self._threads.append(thread)
            number += 1

    @contextmanager
    def running(self) -> Iterator[None]:
        """Ask during the block; afterwards every request has its answer."""
        asking = threading.Thread(target=self._run, daemon=True)
        asking.start()
        try:
            yield
        finally:
            self._stop.set()
            asking.join()
            for thread in self._threads:
                thread.join(BOUND)

    def wait(self, more: int) -> None:
        """Wait until so many more requests are answered."""
        wanted = len(self.answers) + more
        System.wait(f"{more} more answers", lambda: len(self.answers) >= wanted)

    @property
    def bad(self) -> list[tuple[int, Any]]:
        """The answers that are no results."""
        return [
            (status, body.get("detail") or body.get("error") or body)
            for status, body, _ in self.answers
            if status != httpx.codes.OK or body.get("state") != "succeeded"
        ]
