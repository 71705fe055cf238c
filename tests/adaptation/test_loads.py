"""What an agent tells of its party's load."""

from __future__ import annotations

import os

from dynamos.middleware.agent import loads
from dynamos.middleware.agent.loads import Gauge, capacity_of, memory_taken


def process(proc, pid, ticks, children=()):
    folder = proc / str(pid)
    task = folder / "task" / str(pid)
    task.mkdir(parents=True, exist_ok=True)
    (task / "children").write_text(" ".join(map(str, children)))
    fields = ["S", *["0"] * 10, str(ticks), "0", "0", "0", *["0"] * 6, "3", *["0"] * 20]
    (folder / "stat").write_text(f"{pid} (a name) with) {' '.join(fields)}")


def test_processor_time_is_that_of_the_agent_and_all_below_it(tmp_path, monkeypatch):
    moments = iter([100.0, 101.0])
    monkeypatch.setattr(loads.time, "monotonic", lambda: next(moments))
    monkeypatch.setattr(loads, "cores", lambda: 2)
    process(tmp_path, 10, 0, [11])
    process(tmp_path, 11, 0, [12])
    process(tmp_path, 12, 0)
    process(tmp_path, 99, 0)
    gauge = Gauge(lambda: 3, 4, root=10, proc=tmp_path)
    process(tmp_path, 12, os.sysconf("SC_CLK_TCK"))
    process(tmp_path, 99, 10_000)
    load = gauge.look()
    assert load.cpu == 0.5
    assert load.memory == 3 * 3 * os.sysconf("SC_PAGE_SIZE")
    assert (load.parts, load.capacity, load.level) == (3, 4, 0.75)


def test_processes_that_end_meanwhile_and_machines_without_proc_are_no_load(tmp_path):
    gauge = Gauge(lambda: 0, 4, root=10, proc=tmp_path)
    assert gauge.look().level == 0.0
    assert memory_taken(tmp_path) == 0.0


def test_the_capacity_is_as_set_or_by_the_cores(monkeypatch):
    monkeypatch.setattr(loads, "cores", lambda: 3)
    assert (capacity_of(5), capacity_of(0)) == (5, 12)


def test_the_machine_s_own_figures_can_be_read():
    load = Gauge(lambda: 0, 4).look()
    assert load.memory > 0
    assert 0 < memory_taken() < 1
