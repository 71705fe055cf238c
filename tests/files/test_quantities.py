"""Durations, sizes and rates are read as they are written."""

from hypothesis import given
from hypothesis import strategies as st

from dynamos.model.units import Duration, Rate, Size

NUMBERS = st.just(0.0) | st.floats(min_value=1e-12, max_value=1e12, allow_nan=False)


@given(NUMBERS, st.sampled_from([Duration, Rate, Size]))
def test_what_is_written_is_read_again(number, kind):
    near = kind(number)
    assert abs(kind.parse(str(near)) - near) <= abs(near) * 1e-8


def test_small_ones_are_written_as_people_write_them():
    assert str(Duration(3e-12)) == "0.000000000003s"
    assert str(Duration(0.07)) == "70ms"
