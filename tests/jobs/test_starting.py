"""How a sandbox is started, and what it says where it cannot be had."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading

import pytest

from dynamos.jobs.clients import ZygoteClient
from dynamos.jobs.specs import Settings
from dynamos.kit.errors import Broken

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="tells Linux to forget its namespaces")
FORKED = """
import asyncio, json, os
os.environ["SECRET"] = "x"
from dynamos.jobs.sandbox import SandboxRunner
runner = SandboxRunner.fork("UVA", programs="support.runners")
from support import runners as on

async def main():
    outcome, results = await on.finish(runner, on.assignment(on.chain("numbers", "double", "total")))
    await runner.close()
    print(json.dumps({"result": on.rows(results["total-out"]), "secret": os.environ["SECRET"]}))

asyncio.run(main())
"""
# A process that has given up namespaces, as on a machine that has none.
WITHOUT = """
import asyncio, json
from dynamos.jobs import linux, seccomp
linux.prctl(linux.PR_SET_NO_NEW_PRIVS, 1)
seccomp.install()
from dynamos.jobs.probes import probe
from dynamos.jobs.sandbox import SandboxRunner
from dynamos.kit.errors import DynamosError
from support import runners as on

async def main():
    runner = SandboxRunner.launch("UVA", programs="support.runners")
    outcome, results = await on.finish(runner, on.assignment(on.chain("numbers", "total")))
    told = {"name": runner.name, "isolation": runner.isolation, "why": runner.why,
            "usage": outcome.usages[0].isolation, "result": on.rows(results["total-out"])}
    await runner.close()
    strict = SandboxRunner.launch("UVA", required=True, programs="support.runners")
    try:
        await strict.start(on.assignment(on.chain("exits")), {}, {"exits-out": on.os.pipe()[1]})
    except DynamosError as error:
        told["strict"] = error.as_dict()
    await strict.close()
    told["probe"] = {finding.name: [finding.ok, finding.detail] for finding in probe()}
    print(json.dumps(told))

asyncio.run(main())
"""


def run(script: str) -> dict[str, object]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_zygote_is_forked_before_the_first_thread() -> None:
    assert run(FORKED) == {"result": [90], "secret": "x"}


def test_a_process_with_threads_cannot_fork_one() -> None:
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    try:
        with pytest.raises(Broken, match="threads"):
            ZygoteClient.fork(Settings("UVA"))
    finally:
        stop.set()
        thread.join()


@LINUX
def test_without_namespaces_it_says_so_and_uses_processes_unless_told_not_to() -> None:
    told = run(WITHOUT)
    assert told["name"] == "process"
    assert told["result"] == [45]
    for isolation in (told["isolation"], told["usage"]):
        assert "process" in isolation
        assert not {"user", "mount", "pid", "network"} & set(isolation)
    assert "unshare" in told["why"]
    assert told["strict"]["code"] == "isolation"
    assert "unshare" in told["strict"]["message"]
    assert told["probe"]["sandbox"][0] is False
    assert told["probe"]["network"][0] is False
    assert "unshare" in told["probe"]["network"][1]
