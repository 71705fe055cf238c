"""A test that asserted nothing fails, and so does one whose assertions were in callbacks that nobody called."""

import pulumi
import pytest

from support.pulumi_programs import assertions, run, watched


def empty():
    len("nothing")


def lazy():
    def later(value):
        assert value == 1

    return later


def expecting():
    with pytest.raises(ValueError, match="x"):
        raise ValueError("x")


def test_a_test_without_assertions_fails():
    with pytest.raises(AssertionError, match="empty asserts nothing"), watched(empty):
        empty()


def test_a_test_whose_assertion_is_never_reached_fails():
    with pytest.raises(AssertionError, match="never came to its assertions"), watched(lazy):
        lazy()


def test_a_test_whose_callback_was_called_passes():
    with watched(lazy):
        lazy()(1)
    assert len(assertions(lazy)) == 1


def test_expected_errors_are_assertions():
    with watched(expecting):
        expecting()
    assert len(assertions(expecting)) == 1


def test_a_program_comes_to_its_end_before_its_value_is_given():
    assert run(lambda: pulumi.Output.from_input(1).apply(lambda value: value + 1)).value == 2
