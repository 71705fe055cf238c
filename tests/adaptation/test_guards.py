"""Whatever a planner does, it harms nobody else."""

from __future__ import annotations

import threading

import pytest

from dynamos.adaptation.guards import Guard
from dynamos.kit.errors import Broken, TimedOut, Unavailable

BOUND = 10.0


def spin():
    while True:
        pass


def test_an_answer_comes_back_and_what_is_told_is_done_in_order():
    guard, done = Guard("good"), []
    guard.tell(lambda: done.append(1))
    guard.tell(lambda: done.append(2))
    assert guard.ask(lambda: list(done), within=BOUND) == [1, 2]


def test_a_planner_that_raises_is_told_by_name_and_goes_on():
    guard = Guard("odd")
    with pytest.raises(Broken, match=r"odd.*ZeroDivisionError") as caught:
        guard.ask(lambda: 1 / 0, within=BOUND)
    assert caught.value.detail_code == "planner-raised"
    assert guard.ask(lambda: 7, within=BOUND) == 7


def test_a_planner_that_hangs_is_ended_and_given_a_rest():
    guard = Guard("slow", rest=BOUND)
    with pytest.raises(TimedOut) as caught:
        guard.ask(spin, within=0.02)
    assert caught.value.detail_code == "planner-hangs"
    with pytest.raises(Unavailable):
        guard.ask(lambda: 7, within=BOUND)
    assert guard.promise(lambda: 7).result(timeout=BOUND) == 7


def test_a_planner_that_cannot_be_ended_holds_up_nobody_and_is_asked_again_when_it_is_back():
    guard, held, here = Guard("stuck", rest=0.0), threading.Event(), threading.Event()

    def wait():
        here.set()
        held.wait()

    guard.promise(wait)
    assert here.wait(BOUND)
    for _ in range(2):
        with pytest.raises(TimedOut):
            guard.ask(lambda: 7, within=0.01)
    held.set()
    assert guard.promise(lambda: 8).result(timeout=BOUND) == 8
    assert guard.ask(lambda: 7, within=BOUND) == 7
