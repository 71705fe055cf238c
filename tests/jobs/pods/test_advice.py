"""How many warm pods are worth keeping."""

from __future__ import annotations

from dynamos.jobs.pods.advisers import KEEP_SECONDS, MOST_SHAPES, REFILL_SECONDS, Adviser
from dynamos.jobs.pods.shapes import Shape, Slot

ONE, OTHER = Shape((Slot("a"),)), Shape((Slot("b"),))


class Hand:
    """A clock that is set by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_nobody_asked_and_nothing_waits() -> None:
    assert Adviser(4, Hand()).advise() == {}


def test_as_many_wait_as_came_while_one_would_be_replaced() -> None:
    hand = Hand()
    adviser = Adviser(10, hand)
    for at in (0.0, 1.0, 2.0, 20.0, 40.0):
        hand.now = at
        adviser.asked(ONE)
    assert adviser.advise() == {ONE: 3}


def test_jobs_far_apart_need_one() -> None:
    hand = Hand()
    adviser = Adviser(10, hand)
    for number in range(5):
        hand.now = number * (REFILL_SECONDS + 1)
        adviser.asked(ONE)
    assert adviser.advise() == {ONE: 1}


def test_never_more_than_the_profile_allows() -> None:
    adviser = Adviser(2, Hand())
    for _ in range(50):
        adviser.asked(ONE)
    assert adviser.advise() == {ONE: 2}


def test_what_is_not_asked_any_more_is_let_go_once_and_forgotten() -> None:
    hand = Hand()
    adviser = Adviser(2, hand)
    adviser.asked(ONE)
    hand.now = KEEP_SECONDS + 1
    adviser.asked(OTHER)
    assert adviser.advise() == {ONE: 0, OTHER: 1}
    assert adviser.advise() == {OTHER: 1}


def test_only_the_shapes_asked_last_get_pods() -> None:
    hand = Hand()
    adviser = Adviser(2, hand)
    shapes = [Shape((Slot(str(number)),)) for number in range(MOST_SHAPES + 2)]
    for number, shape in enumerate(shapes):
        hand.now = float(number)
        adviser.asked(shape)
    advice = adviser.advise()
    assert [advice[shape] for shape in shapes] == [0, 0] + [1] * MOST_SHAPES
