"""A unit as a pod's program: what it makes of what it is given, and what the kubelet hears of it."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import pytest

from dynamos.deploy.kubernetes.unit import link, settled
from dynamos.deploy.kubernetes.vitals import Vitals
from dynamos.middleware.configs import ApiConfig, OrchestratorConfig

API = ApiConfig(name="api", marketplace="m", folder=Path("/x"), bus="tls://b:1", jwks=Path("/x/jwks.json"),
                parties=(), orchestrator=Path("/x/o.pem"), host="0.0.0.0", gateway_port=8815)  # fmt: skip


@pytest.fixture
def vitals():
    found = Vitals(0, "127.0.0.1")
    yield found
    found.close()


def asked(vitals: Vitals, path: str) -> int:
    return httpx.get(f"http://127.0.0.1:{vitals.port}{path}", timeout=20).status_code


def test_who_starts_is_alive_and_not_ready(vitals):
    assert (asked(vitals, "/healthz"), asked(vitals, "/readyz"), asked(vitals, "/secrets")) == (200, 503, 404)


def test_who_is_ready_is_alive_as_long_as_its_loop_turns(vitals, monkeypatch):
    monkeypatch.setattr("dynamos.deploy.kubernetes.vitals.TURN_SECONDS", 0.2)
    hold, held = threading.Event(), threading.Event()

    async def work() -> tuple[int, int]:
        vitals.ready("here")
        well = await asyncio.to_thread(asked, vitals, "/readyz")
        asking = asyncio.create_task(asyncio.to_thread(asked, vitals, "/healthz"))
        stuck = threading.Thread(target=lambda: (held.wait(), hold.set()))
        stuck.start()
        result: list[int] = []
        threading.Thread(target=lambda: (result.append(asked(vitals, "/healthz")), held.set())).start()
        hold.wait(20)  # the loop does not turn meanwhile
        await asking
        stuck.join()
        return well, result[0]

    assert asyncio.run(work()) == (200, 503)
    assert asked(vitals, "/healthz") == 503


def test_a_pod_is_told_where_it_is():
    assert settled(API, "10.1.2.3").gateway == "10.1.2.3"
    other = OrchestratorConfig(name="o", marketplace="m", folder=Path("/x"), bus="b", api=Path("/x"), parties=(),
                               archetypes={}, request_types={}, services={})  # fmt: skip
    assert settled(other, "10.1.2.3") == other


def test_what_a_unit_is_given_is_linked_and_what_is_renewed_is_seen(tmp_path):
    given, folder = tmp_path / "given", tmp_path / "own" / "folder"
    (given / "..data").mkdir(parents=True)
    (given / "key.pem").write_text("old")
    link(given, folder)
    link(given, folder)
    assert sorted(path.name for path in folder.iterdir()) == ["key.pem"]
    (given / "key.pem").write_text("new")
    assert (folder / "key.pem").read_text() == "new"
    assert folder.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("words", "settings", "code", "said"),
    [
        (["orchestrator"], {}, 2, "usage"),
        (["baker", "config.json"], {}, 2, "usage"),
        (["orchestrator", "config.json"], {}, 2, "POD_IP"),
        (["orchestrator", "none.json"], {"POD_IP": "10.0.0.1", "DYNAMOS_BEGUN": "1"}, 5, "no such file"),
    ],
)
def test_what_cannot_be_run_ends_with_the_code_of_its_error(tmp_path, words, settings, code, said):
    (tmp_path / "config.json").write_text(json.dumps({"name": "orchestrator"}))
    command = [sys.executable, "-m", "dynamos.deploy.kubernetes.unit", *words]
    env = {**os.environ, **settings}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code, done.stderr
    assert said in done.stderr
