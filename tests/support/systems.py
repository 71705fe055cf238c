"""A whole DYNAMOS on loopback, with services that fail in every way, for tests of the system."""

from __future__ import annotations

import json
import os
import signal
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq

from dynamos.deploy.provisioning import token_for
from dynamos.deploy.states import StateFolder
from dynamos.deploy.testbeds import bring_up, take_down

USER = "ann@example.org"
ADMIN = "legal@north.example"
BOB = "bob@example.org"
AGREEMENTS = "/api/v1/policyEnforcer/agreements"
BOUND = 60.0
ROWS = {"north": 1000, "south": 500}

SCRIPTS = {
    "crash": "kill -SEGV $$",
    "fail": """printf '{"code":"no-such-thing","message":"it is not there","hint":"look"}' >&$DYNAMOS_ERROR; exit 3""",
    "hang": "trap '' TERM; while :; do sleep 1; done",
    "rubbish": 'for pair in $(echo "$DYNAMOS_OUTPUTS" | tr , " "); do echo "not arrow" >&${pair##*=}; done',
    "silent": "exit 0",
    "later": "sleep 25; in=${DYNAMOS_INPUTS##*=}; out=${DYNAMOS_OUTPUTS##*=}; cat <&$in >&$out",
    "lingers": "in=${DYNAMOS_INPUTS##*=}; out=${DYNAMOS_OUTPUTS##*=}; cat <&$in >&$out; sleep 100",
    "slow": "sleep 3; in=${DYNAMOS_INPUTS##*=}; out=${DYNAMOS_OUTPUTS##*=}; cat <&$in >&$out",
    "hungry": "tail /dev/zero",
}


def write_marketplace(folder: Path) -> Path:
    """Write a marketplace of two providers and a third party; each script of SCRIPTS is a service and a request type
    of its name, in which it follows the query."""
    services = folder / "bin"
    services.mkdir(parents=True)
    for name, text in SCRIPTS.items():
        path = services / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
    for party, rows in ROWS.items():
        (folder / "data" / party).mkdir(parents=True)
        numbers = range(rows) if party == "north" else range(10_000, 10_000 + rows)
        columns = {"id": list(numbers), "kind": [f"k{n % 3}" for n in numbers], "amount": [n / 4 for n in numbers]}
        table = pa.table(columns)
        pq.write_table(table, folder / "data" / party / "things.parquet")
    relation = {
        "requestTypes": ["rows", *SCRIPTS],
        "dataSets": ["store"],
        "allowedArchetypes": ["computeToData", "dataThroughTtp"],
        "allowedComputeProviders": ["third"],
    }
    agreement = {
        "archetypes": ["computeToData", "dataThroughTtp"],
        "computeProviders": ["third"],
        "relations": {USER: relation},
    }
    files: dict[str, Any] = {
        "marketplace.yaml": {
            "name": "faulty",
            "users": {USER: "Analyst", ADMIN: "Counsel of north", BOB: "Nobody's partner"},
            "parties": {
                "north": {"data": {"store": {"things": "things.parquet"}}, "admins": [ADMIN]},
                "south": {"data": {"store": {"things": "things.parquet"}}, "admins": [ADMIN]},
                "third": {},
            },
        },
        "datasets.yaml": {"store": {"type": "parquet", "tables": ["things"]}},
        "services.yaml": {
            "sql-query": {"allowedOutputs": ["sql-aggregate", "sql-algorithm", *SCRIPTS]},
            "sql-aggregate": {},
            "sql-algorithm": {},
            **{
                name: {
                    "label": "computeProvider",
                    "command": [str(services / name)],
                    "limits": {"memory": "64MiB"} if name == "hungry" else {},
                }
                for name in SCRIPTS
            },
        },
        "requestTypes.yaml": {
            "rows": {
                "requiredServices": ["sql-query", "sql-algorithm"],
                "optionalServices": {"sql-aggregate": "aggregate"},
            },
            **{name: {"requiredServices": ["sql-query", name]} for name in SCRIPTS},
        },
        "agreements/north.yaml": agreement,
        "agreements/south.yaml": agreement,
    }
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(content))
    return folder


@dataclass
class System:
    """A running testbed and what tests do to it."""

    state: StateFolder
    profile: Path

    def up(self) -> None:
        bring_up(self.state, self.profile)

    def down(self) -> None:
        take_down(self.state)

    @property
    def status(self) -> Any:
        return self.state.read_status()

    def pid(self, unit: str) -> int:
        return next(each.pid for each in self.status.units if each.name == unit)

    def kill(self, unit: str) -> int:
        """SIGKILL a unit, and give the pid that it had."""
        pid = self.pid(unit)
        os.kill(pid, signal.SIGKILL)
        return pid

    def wait_renewed(self, unit: str, pid: int) -> None:
        """Wait until the supervisor has brought the unit back."""
        self.wait(
            f"{unit} is back",
            lambda: any(e.name == unit and e.pid not in (None, pid) and e.phase == "ready" for e in self.status.units),
        )

    @staticmethod
    def wait(condition: str, holds: Any, within: float = BOUND) -> Any:
        """Wait until `holds` gives something true."""
        end = time.monotonic() + within
        while time.monotonic() < end:
            if found := holds():
                return found
            time.sleep(0.02)
        raise AssertionError(f"{condition}: not within {within} s")

    def client(self, user: str = USER, *, admin_of: bool = False) -> httpx.Client:
        """Give a client with a token of the user."""
        del admin_of
        token = token_for(self.state, user)
        return httpx.Client(
            base_url=self.status.api, headers={"authorization": f"Bearer {token}"}, timeout=BOUND, trust_env=False
        )

    def ask(self, kind: str = "rows", *, providers: tuple[str, ...] = ("north",), **members: Any) -> dict[str, Any]:
        """Give the body of a request."""
        return {
            "type": kind,
            "providers": list(providers),
            "query": "SELECT id, kind, amount FROM things",
            **members,
        }

    def run(self, kind: str = "rows", **members: Any) -> httpx.Response:
        """Run a request to its end and give the answer with the job's record."""
        with self.client() as client:
            return client.post("/api/v1/jobs?wait=true", json=self.ask(kind, **members))

    def start(self, kind: str, job: str, *, user: str = USER, **members: Any) -> httpx.Response:
        """Start a request and do not wait for its end."""
        with self.client(user) as client:
            return client.post("/api/v1/jobs", json=self.ask(kind, jobId=job, **members))

    def job(self, job: str) -> dict[str, Any]:
        with self.client() as client:
            return client.get(f"/api/v1/jobs/{job}").raise_for_status().json()

    def agreement(self, party: str) -> dict[str, Any]:
        """Give a party's agreement, as its admin sees it."""
        with self.client(ADMIN) as client:
            return client.get(f"{AGREEMENTS}/{party}").raise_for_status().json()

    def agree(self, party: str, value: dict[str, Any] | None = None, **relation: Any) -> httpx.Response:
        """Have a party's admin write its agreement, with members of USER's relation changed; None is no member."""
        value = value or self.agreement(party)
        changed = {name: each for name, each in {**value["relations"].get(USER, {}), **relation}.items() if each}
        value = {**value, "relations": {**value["relations"], USER: changed}} if relation else value
        with self.client(ADMIN) as client:
            return client.put(f"{AGREEMENTS}/{party}", json=value).raise_for_status()

    def end_of(self, job: str, within: float = BOUND) -> dict[str, Any]:
        """Wait until the job has ended and give its record."""

        def ended() -> dict[str, Any] | None:
            try:
                record = self.job(job)
            except httpx.HTTPError:
                return None
            return record if record["state"] not in ("submitted", "running") else None

        return self.wait(f"job {job} has ended", ended, within)


@contextmanager
def system(folder: Path, **settings: Any) -> Iterator[System]:
    """Bring a system up over the faulty marketplace, and take it down."""
    folder.chmod(0o755)
    market = write_marketplace(folder / "market")
    profile = folder / "faulty.yaml"
    profile.write_text(json.dumps({"name": "faulty", "marketplace": str(market), "settings": settings}))
    it = System(StateFolder(folder / "state"), profile)
    try:
        it.up()
        yield it
    finally:
        it.down()
