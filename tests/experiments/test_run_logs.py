"""The ends of a testbed's logs are kept with the run, each in a folder of its own, before the testbed goes."""

from dynamos.deploy.states import StateFolder
from dynamos.experiments import logs


def a_testbed(root):
    state = StateFolder(root)
    state.make()
    for path, text in (
        (state.log, "up\n"),
        (state.unit_log("bus"), '{"message": "hello"}\n'),
        (state.unit_log("api"), ""),
        (state.world / "world.log", "made\n"),
        (state.world / "nodes" / "tokyo-1" / "logs" / "wg.log", "shaken\n"),
        (state.world / "nodes" / "tokyo-1" / "containers" / "jetblue" / "logs" / "tap.log", "seen\n"),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return state


def test_every_log_that_says_something_is_kept_under_a_name_that_tells_whose_it_is(tmp_path):
    place = logs.keep(tmp_path / "logs", a_testbed(tmp_path / "state"), "laptop-12345678")
    assert place.name == "laptop-12345678-1"
    assert sorted(path.name for path in place.iterdir()) == [
        "bus.jsonl", "supervisor.log", "tokyo-1-jetblue-tap.log", "tokyo-1-wg.log", "world.log",
    ]  # fmt: skip
    assert (place / "bus.jsonl").read_text() == '{"message": "hello"}\n'


def test_the_next_testbed_of_a_profile_has_the_next_number(tmp_path):
    state = a_testbed(tmp_path / "state")
    names = [logs.keep(tmp_path / "logs", state, "laptop-12345678").name for _ in range(11)]
    assert names == [f"laptop-12345678-{number}" for number in range(1, 12)]


def test_of_a_long_log_the_last_whole_lines_are_kept(tmp_path):
    state = a_testbed(tmp_path / "state")
    lines = [f"{number:09d}" for number in range(60_000)]
    state.log.write_text("\n".join(lines) + "\n")
    kept = (logs.keep(tmp_path / "logs", state, "laptop-12345678") / "supervisor.log").read_text()
    assert len(kept) <= logs.LONGEST
    assert kept.splitlines() == lines[-len(kept.splitlines()) :]
    assert len(kept) > logs.LONGEST - 20


def test_of_many_logs_the_newest_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(logs, "MOST", 3)
    assert len(list(logs.keep(tmp_path / "logs", a_testbed(tmp_path / "state"), "laptop-12345678").iterdir())) == 3


def test_where_there_is_no_testbed_nothing_is_made(tmp_path):
    assert logs.keep(tmp_path / "logs", StateFolder(tmp_path / "state"), "laptop") is None
    assert not (tmp_path / "logs").exists()


def test_a_full_disk_is_no_reason_to_stop(tmp_path, monkeypatch, caplog):
    def full(path, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(logs, "write_whole", full)
    logs.keep(tmp_path / "logs", a_testbed(tmp_path / "state"), "laptop")
    assert "logs.lost" in caplog.text


def test_the_place_of_the_testbed_is_not_told(tmp_path):
    state = a_testbed(tmp_path / "state")
    state.log.write_text(f"it is in {state.root}/units\n")
    assert (logs.keep(tmp_path / "logs", state, "laptop") / "supervisor.log").read_text() == "it is in STATE/units\n"
