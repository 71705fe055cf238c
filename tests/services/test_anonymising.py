"""`sql-anonymize`: what is left of a sensitive column."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamos.services import anonymisers
from dynamos.services.sql_anonymize import AnonymizeOptions
from dynamos.services.testing import run

DAY = dt.date(1979, 12, 31)


def anonymise(values: Any, rule: Any, *, key: str = "k", kind: pa.DataType | None = None) -> Any:
    rows = pa.table({"x": pa.array(values, kind), "other": range(len(values))})
    ran = run("sql-anonymize", {"in": rows}, {"rules": {"x": rule}, "key": key})
    return ran.table().column("x").to_pylist() if ran.code == 0 else ran.error


@pytest.mark.parametrize(
    ("values", "size", "expected"),
    [
        ([19791231, None, 7], 4, ["1979", None, "7"]),
        (["Groningen", "", None], 4, ["Gron", "", None]),
        (["ééééé"], 2, ["éé"]),
        ([DAY, None], 4, ["1979", None]),
        ([dt.datetime.fromisoformat("1979-12-31T23:59")], 7, ["1979-12"]),
        ([1.5, 22.25], 2, ["1.", "22"]),
        ([Decimal("12.34")], 2, ["12"]),
        ([True], 2, ["tr"]),
        ([None], 3, [None]),
    ],
)
def test_truncate_keeps_the_first_characters(values: list[Any], size: int, expected: list[Any]) -> None:
    assert anonymise(values, {"method": "truncate", "size": size}) == expected


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (2, ["***28", "***", "***", "***", None]),
        (-2, ["N1***", "***", "***", "***", None]),
        (0, ["***", "***", "***", "***", None]),
        (None, ["***", "***", "***", "***", None]),
    ],
)
def test_mask_keeps_an_end_and_hides_the_length(size: int | None, expected: list[Any]) -> None:
    """A text that is no longer than what may be shown is hidden altogether."""
    assert anonymise(["N14228", "28", "8", "", None], {"method": "mask", "size": size}) == expected


def test_hash_gives_one_pseudonym_for_one_value_and_key() -> None:
    first = anonymise(["a", "b", "a", None], {"method": "hash"})
    assert first[0] == first[2] != first[1]
    assert first[3] is None
    assert all(len(value) == 32 for value in first if value)
    assert anonymise(["a"], {"method": "hash"}) == first[:1]
    assert anonymise(["a"], {"method": "hash"}, key="other") != first[:1]
    assert anonymise(["a"], {"method": "hash", "key": "other"}) == anonymise(["a"], {"method": "hash"}, key="other")
    assert anonymise([5], {"method": "hash"}) == anonymise(["5"], {"method": "hash"})


def test_hash_without_a_key_is_refused() -> None:
    error = anonymise(["a"], {"method": "hash"}, key="")
    assert "needs the party's key" in error["message"]


@pytest.mark.parametrize(
    ("values", "size", "expected"),
    [
        ([1745, 0, 99, 100, None], 100, [1700, 0, 0, 100, None]),
        ([-1, -100, -101], 100, [-100, -100, -200]),
        ([12.5, -0.5, None], 10, [10.0, -10.0, None]),
        ([Decimal("12.5")], 5, [10.0]),
        ([DAY, None], None, [1979, None]),
        ([DAY], 10, [1970]),
        ([dt.datetime.fromisoformat("1979-12-31T23:59")], None, [1979]),
    ],
)
def test_generalise_gives_the_lower_end_of_a_bin_or_the_year(
    values: list[Any], size: int | None, expected: list[Any]
) -> None:
    assert anonymise(values, {"method": "generalise", "size": size}) == expected


@given(values=st.lists(st.none() | st.integers(-(2**62), 2**62)), size=st.integers(1, 10**6))
def test_a_generalised_number_is_the_lower_end_of_its_bin(values: list[int | None], size: int) -> None:
    array = pa.array(values, pa.int64())
    rule = AnonymizeOptions.model_validate({"rules": {"x": {"method": "generalise", "size": size}}}).rules["x"]
    change = anonymisers.step("x", rule, key=b"", kind=array.type)
    assert change
    assert change(array).to_pylist() == [None if value is None else value // size * size for value in values]


@given(values=st.lists(st.none() | st.text(st.characters(codec="utf-8"))), size=st.integers(1, 12))
def test_methods_keep_nulls_and_show_no_more_than_they_may(values: list[str | None], size: int) -> None:
    array = pa.array(values, pa.string())
    wanted = {"truncate": f"truncate:{size}", "mask": f"mask:{size}", "hash": "hash"}
    rules = AnonymizeOptions.model_validate({"rules": wanted}).rules
    steps = {method: anonymisers.step("x", rule, key=b"k", kind=array.type) for method, rule in rules.items()}
    found = {method: step(array).to_pylist() for method, step in steps.items() if step}
    assert [value is None for value in values] == [value is None for value in found["truncate"]]
    assert [value is None for value in values] == [value is None for value in found["mask"]]
    for value, cut, masked, hashed in zip(values, *found.values(), strict=True):
        if value is not None:
            assert cut == value[:size]
            assert masked == ("***" + value[-size:] if len(value) > size else "***")
            assert [h == hashed for h in found["hash"]] == [v == value for v in values]


def test_drop_removes_the_column_and_leaves_the_others() -> None:
    rows = pa.table({"a": [1], "b": [2], "c": [3]})
    ran = run("sql-anonymize", {"in": rows}, {"rules": {"B": {"method": "drop"}}})
    assert ran.rows() == [{"a": 1, "c": 3}]


def test_rules_find_columns_in_any_letter_case_all_of_them() -> None:
    rows = pa.table({"Gebdat": [19791231], "GEBDAT": [19791231]})
    ran = run("sql-anonymize", {"in": rows}, {"rules": {"gebdat": "truncate:4"}})
    assert ran.rows() == [{"Gebdat": "1979", "GEBDAT": "1979"}]


def test_types_are_told_before_the_first_row() -> None:
    rows = pa.table({"n": pa.array([], pa.int64()), "d": pa.array([], pa.date32()), "s": pa.array([], pa.string())})
    rules = {"n": "truncate:4", "d": "generalise", "s": "hash"}
    ran = run("sql-anonymize", {"in": rows}, {"rules": rules, "key": "k"})
    assert ran.table().schema == pa.schema([("n", pa.string()), ("d", pa.int64()), ("s", pa.string())])


def test_dictionary_columns_are_anonymised_by_value() -> None:
    values = pa.array(["aaaa", "bbbb", None, "aaaa"]).dictionary_encode()
    assert anonymise(values, "truncate:1") == ["a", "b", None, "a"]
    assert anonymise(values, "mask:1") == ["***a", "***b", None, "***a"]


@pytest.mark.parametrize(
    ("rules", "part"),
    [
        ({"y": {"method": "drop"}}, "rules.y: the rows have no such column"),
        ({"othr": {"method": "drop"}}, "did you mean 'other'?"),
        ({"x": {"method": "truncate"}}, "truncate needs a size"),
        ({"x": {"method": "truncate", "size": 0}}, "size from 1 on"),
        ({"x": {"method": "hash", "size": 4}}, "hash takes no size"),
        ({"x": {"method": "generalise", "size": 5}}, "takes numbers and dates"),
        ({"other": {"method": "generalise"}}, "needs a size"),
        ({"x": {"method": "blur"}}, "rules.x.method"),
        ({"x": {"method": "drop"}, "other": {"method": "drop"}}, "drop every column"),
    ],
)
def test_wrong_rules_are_errors_never_ignored(rules: dict[str, Any], part: str) -> None:
    ran = run("sql-anonymize", {"in": pa.table({"x": ["a"], "other": [1]})}, {"rules": rules, "key": "k"})
    assert ran.code == 2
    assert part in f"{ran.error['message']} {ran.error.get('where')}"
    assert not ran.complete()


def test_rules_must_be_given() -> None:
    assert run("sql-anonymize", {"in": pa.table({"x": ["a"]})}, {}).code == 2


def test_values_without_a_text_form_are_told() -> None:
    assert "no text form" in anonymise([[1, 2]], "truncate:1")["message"]


def test_the_key_is_in_no_error() -> None:
    rows = pa.table({"x": ["a"]})
    ran = run("sql-anonymize", {"in": rows}, {"rules": {"x": {"method": "hash", "key": 5}}, "key": ["s3cret"]})
    assert ran.code == 2
    assert "s3cret" not in str(ran.error)
