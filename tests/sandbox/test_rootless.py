"""The sandbox without root: the same walls, by user namespaces alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import dynamos

pytestmark = pytest.mark.sandbox

AS_NOBODY = {"user": 65534, "group": 65534, "extra_groups": []}
SCRIPT = """
import asyncio, json
from dynamos.jobs.sandbox import SandboxRunner
from dynamos.model.services import Limits
from support import runners as on

async def told(runner, name, limits, **given):
    piece = on.part([on.step(name)], [])
    work = on.assignment(piece, limits=Limits.model_validate(limits), **{name.replace("-", "_"): given})
    return (await on.finish(runner, work))[0]

async def main():
    runner = SandboxRunner.launch("UVA", required=True, programs="support.runners")
    try:
        chain = on.assignment(on.chain("numbers", "double", "total"))
        outcome, results = await on.finish(runner, chain)
        calls = await told(runner, "makes-system-calls", {})
        power = await told(runner, "becomes-somebody", {})
        memory = await told(runner, "allocates", {"memory": "64MiB"})
        bombs = await told(runner, "bombs", {"processes": 16})
    finally:
        await runner.close()
    print(json.dumps({
        "isolation": runner.isolation, "result": on.rows(results["total-out"]),
        "calls": json.loads(calls.error.message), "power": json.loads(power.error.message),
        "memory": memory.error.as_dict()["code"], "bombs": json.loads(bombs.error.message),
    }))

asyncio.run(main())
"""


def _interpreter() -> str:
    """Give an interpreter like this one that an unprivileged user can run; this one if we are such a user."""
    if os.geteuid() != 0:
        return sys.executable
    wanted = f"{sys.version_info.major}.{sys.version_info.minor}"
    code = "import sys, ctypes, json; print(sys.version_info.major, sys.version_info.minor, sep='.')"
    for path in (sys.executable, f"/usr/bin/python{wanted}", f"/usr/local/bin/python{wanted}"):
        try:
            done = subprocess.run([path, "-c", code], capture_output=True, text=True, check=False, **AS_NOBODY)
        except OSError:
            continue
        if done.stdout.strip() == wanted:
            return path
    pytest.skip(f"no python{wanted} that an unprivileged user can run")


def test_an_unprivileged_user_has_the_same_sandbox() -> None:
    interpreter = _interpreter()
    paths = [sysconfig.get_path("purelib"), str(Path(dynamos.__file__).parents[1]), str(Path(__file__).parents[1])]
    environment = {"PATH": os.defpath, "PYTHONPATH": os.pathsep.join(paths), "PYTHONDONTWRITEBYTECODE": "1"}
    who = AS_NOBODY if os.geteuid() == 0 else {}
    probe = [interpreter, "-c", "from dynamos.jobs.probes import sandbox_missing as m; import pyarrow; print(m())"]
    missing = subprocess.run(probe, capture_output=True, text=True, check=False, env=environment, cwd="/", **who)
    if missing.returncode or missing.stdout.strip():
        pytest.skip(f"not for an unprivileged user here: {(missing.stdout or missing.stderr).strip()[-300:]}")
    done = subprocess.run(
        [interpreter, "-c", SCRIPT], capture_output=True, text=True, check=False, env=environment, cwd="/", **who
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["result"] == [90]
    assert {"user", "mount", "pid", "network", "ipc", "uts", "seccomp", "capabilities"} <= set(told["isolation"])
    assert set(told["calls"].values()) == {"EPERM", "ENOSYS"}
    assert told["power"]["CapBnd"] == "0000000000000000"
    assert told["power"]["ids"] == [1000] * len(told["power"]["ids"])
    assert told["memory"] == "out-of-memory"
    assert told["bombs"] == {"made": 15, "end": "EAGAIN"}
