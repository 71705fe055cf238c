import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dynamos.deploy.states import Phase, StateFolder
from dynamos.deploy.testbeds import bring_up, phase_of, purge, take_down
from dynamos.kit.errors import BadInput, Conflict, Full, TimedOut, Unavailable
from support.children import alive

TESTS = str(Path(__file__).parents[1])


@pytest.fixture(autouse=True)
def _can_import_support(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", TESTS)


@pytest.fixture
def folder(tmp_path):
    folder = StateFolder(tmp_path / "state" / "tiny")
    yield folder
    take_down(folder)


def up(folder, text="fine", **more):
    profile = folder.root.parent.parent / "profile.yaml"
    profile.write_text(text)
    return bring_up(folder, profile, module="support.tiny_testbed", **more)


def until(holds, *, within=10.0):
    end = time.monotonic() + within
    while not (found := holds()):
        assert time.monotonic() < end, "did not happen"
        time.sleep(0.01)
    return found


def pids(status):
    return [status.supervisor, *(unit.pid for unit in status.units)]


def test_up_gives_the_address_and_down_leaves_no_process(folder):
    status = up(folder)
    assert (status.phase, status.api, status.marketplace) == (Phase.READY, "http://127.0.0.1:1", "tiny")
    assert [unit.phase for unit in status.units] == [Phase.READY] * 3
    assert all(alive(pid) for pid in pids(status))
    assert take_down(folder) is True
    until(lambda: not any(alive(pid) for pid in pids(status)))
    assert folder.read_status().phase == Phase.STOPPED
    assert take_down(folder) is False


def test_up_again_changes_nothing(folder):
    first = up(folder)
    assert pids(up(folder)) == pids(first)


def test_two_testbeds_do_not_know_each_other(folder, tmp_path):
    other = StateFolder(tmp_path / "state" / "other")
    try:
        mine, theirs = up(folder), up(other)
        take_down(folder)
        assert not any(alive(unit.pid) for unit in mine.units)
        assert all(alive(pid) for pid in pids(theirs))
    finally:
        take_down(other)


def test_two_ups_at_once_make_one_testbed(folder, tmp_path):
    folder.make()
    profile = tmp_path / "profile.yaml"
    profile.write_text("fine")
    call = "\n".join(
        [
            "from pathlib import Path",
            "from dynamos.deploy.states import StateFolder",
            "from dynamos.deploy.testbeds import bring_up",
            f"folder, profile = StateFolder(Path({str(folder.root)!r})), Path({str(profile)!r})",
            "print(bring_up(folder, profile, module='support.tiny_testbed').supervisor)",
        ]
    )
    both = [subprocess.Popen([sys.executable, "-c", call], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=30)[0].strip() for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert said[0] == said[1] == str(folder.read_status().supervisor)


def test_a_mistake_in_the_profile_is_told_as_it_is_and_nothing_stays(folder):
    with pytest.raises(BadInput, match="no such marketplace") as caught:
        up(folder, "mistake")
    assert (caught.value.hint, caught.value.where.endswith("profile.yaml:1")) == ("look again", True)
    assert not folder.is_held()
    assert folder.read_status().phase == Phase.FAILED


def test_a_unit_that_cannot_start_is_named_with_the_end_of_its_log_and_the_others_are_stopped(folder):
    with pytest.raises(Unavailable, match="united ended with exit code 1") as caught:
        up(folder, "broken")
    assert "cannot find my data" in caught.value.facts["log"]
    status = folder.read_status()
    assert {unit.name: unit.phase for unit in status.units}["united"] == Phase.FAILED
    assert not any(unit.pid and alive(unit.pid) for unit in status.units)


def test_a_bound_that_was_reached_is_told_as_that(folder):
    with pytest.raises(TimedOut, match=r"united was not ready within 0\.3 s"):
        up(folder, "hangs briefly")


def test_up_names_what_is_not_ready_when_its_patience_ends_and_stops_the_rest(folder):
    with pytest.raises(TimedOut, match="united"):
        up(folder, "hangs", within=1.0)
    assert not folder.is_held()


def test_the_kernel_ends_the_units_of_a_supervisor_that_is_killed_and_up_starts_anew(folder):
    first = up(folder)
    os.kill(first.supervisor, signal.SIGKILL)
    until(lambda: not any(alive(pid) for pid in pids(first)))
    assert phase_of(folder, folder.read_status()) == "killed"
    again = up(folder)
    assert again.phase == Phase.READY
    assert not set(pids(first)) & set(pids(again))


def test_down_after_a_killed_supervisor_says_stopped(folder):
    status = up(folder)
    os.kill(status.supervisor, signal.SIGKILL)
    until(lambda: not folder.is_held())
    take_down(folder)
    assert phase_of(folder, folder.read_status()) == "stopped"


def test_a_unit_that_is_killed_comes_back_and_its_restart_is_counted(folder):
    first = up(folder)
    victim = next(unit for unit in first.units if unit.name == "united")
    os.kill(victim.pid, signal.SIGKILL)

    def back():
        united = next(unit for unit in folder.read_status().units if unit.name == "united")
        return united.phase == Phase.READY and united.restarts == 1 and united

    assert until(back).pid != victim.pid


def test_purge_removes_everything_but_not_under_a_running_testbed(folder):
    up(folder)
    with pytest.raises(Conflict, match="is up"):
        purge(folder)
    take_down(folder)
    purge(folder)
    assert not folder.root.exists()


def test_the_state_is_for_its_owner_only(folder):
    up(folder)
    modes = {path: path.stat().st_mode & 0o077 for path in [folder.root, *folder.root.rglob("*")] if path.exists()}
    assert not {path for path, mode in modes.items() if mode and path.parent != folder.root / "units"}


def test_a_state_folder_that_cannot_be_made_is_a_clear_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(BadInput, match="in the way") as caught:
        up(StateFolder(tmp_path / "file" / "tiny"))
    assert "--state" in caught.value.hint


def test_a_testbed_whose_folder_is_removed_ends_by_itself(folder):
    status = up(folder)
    shutil.rmtree(folder.root)
    until(lambda: not any(alive(pid) for pid in pids(status)), within=20.0)


def test_a_full_disk_is_told_as_that_even_where_it_cannot_be_written_down(folder):
    with pytest.raises(Full, match="ended before it was ready") as caught:
        up(folder, "full")
    assert "--state" in caught.value.hint


def test_a_status_that_is_half_written_counts_as_none(folder):
    folder.make()
    folder.status.write_text('{"testbed": ')
    assert folder.read_status() is None
    assert up(folder).phase == Phase.READY
