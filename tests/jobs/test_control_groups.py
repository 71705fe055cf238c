"""Control groups of zygotes that are gone are removed; those of living ones are not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dynamos.jobs import cgroups
from dynamos.jobs.clients import ZygoteClient
from dynamos.jobs.specs import Settings
from support.machine import gone, groups, leftovers


def _started(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[19]


@pytest.fixture
def ended_pid() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


@pytest.mark.skipif(sys.platform != "linux", reason="control groups are Linux's")
def test_folders_of_guards_that_are_gone_are_swept(tmp_path: Path, ended_pid: int) -> None:
    ours = f"dynamos-UVA-{os.getpid()}-{_started(os.getpid())}"
    names = {ours, f"dynamos-UVA-{ended_pid}-1", f"dynamos-VU-{os.getpid()}-1", "dynamos-of-somebody-else", "system"}
    for name in names:
        (tmp_path / name / "step1").mkdir(parents=True)
    cgroups.sweep(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {ours, "dynamos-of-somebody-else", "system"}


@pytest.mark.skipif(sys.platform != "linux", reason="control groups are Linux's")
def test_a_folder_in_which_something_runs_stays(tmp_path: Path, ended_pid: int) -> None:
    busy = tmp_path / f"dynamos-UVA-{ended_pid}-1" / "step1"
    busy.mkdir(parents=True)
    (busy / "tasks").touch()  # a real group with a process in it cannot be removed either
    cgroups.sweep(tmp_path)
    assert busy.exists()


@pytest.mark.sandbox
def test_what_a_killed_guard_left_is_removed_by_the_next() -> None:
    first = ZygoteClient.start(Settings("UVA", mode="process", programs="dynamos.jobs.probes"))
    first.hello()
    left = groups([first._pid])
    if not left:
        first.dismiss()
        pytest.skip("no control groups may be made here")
    family = leftovers(root=first._pid)
    first.end()
    first.dismiss()
    # its groups are still there, unless a zygote of another test has begun meanwhile
    gone("processes", lambda: {thing for thing in leftovers(of=family) if thing.startswith("process")})
    second = ZygoteClient.start(Settings("VU", mode="process", programs="dynamos.jobs.probes"))
    second.hello()
    assert not groups([first._pid])
    second.dismiss()
    assert not groups([second._pid])
