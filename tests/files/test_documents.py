"""Texts become values with places, or mistakes: nothing else, whatever the text."""

from __future__ import annotations

import json

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from dynamos.kit.errors import Mistakes
from dynamos.model.agreements import Agreement
from dynamos.model.documents import Document, json_path, read
from dynamos.model.profiles import Profile

RELATION = """\
name: united
relatoins: {}
relations:
  ann@x.example:
    requestType: [sqlDataRequest]
    dataSets: flights
    allowedArchetypes: [1, computeToData]
    validUntil: tomorrow
    tables: {flights: {}}
  bob@x.example: ~
duties: 3
"""


def mistakes_of(text: str | bytes, file: str = "x.yaml", model: type = Agreement) -> list[str]:
    with pytest.raises(Mistakes) as caught:
        read(text, file).validate(model)
    return [str(mistake) for mistake in caught.value.mistakes]


def test_every_mistake_is_told_at_once_with_place_and_hint() -> None:
    assert mistakes_of(RELATION) == [
        "x.yaml:2:1 ($.relatoins): unknown member 'relatoins' (did you mean 'relations'?)",
        (
            "x.yaml:5:5 ($.relations['ann@x.example'].requestType): unknown member 'requestType'"
            " (did you mean 'requestTypes'?)"
        ),
        "x.yaml:6:5 ($.relations['ann@x.example'].dataSets): found 'flights', expected a list (write [flights])",
        (
            "x.yaml:7:25 ($.relations['ann@x.example'].allowedArchetypes[0]): found 1, expected a text"
            ' (put it in quotes: "1")'
        ),
        (
            "x.yaml:8:5 ($.relations['ann@x.example'].validUntil): found 'tomorrow',"
            " expected a date and time like 2027-12-31T23:59:59Z"
        ),
        "x.yaml:9:14 ($.relations['ann@x.example'].tables.flights): found a mapping, expected a list",
        (
            "x.yaml:10:3 ($.relations['bob@x.example']): found nothing, expected a mapping"
            " (give it a value, or remove the member)"
        ),
        "x.yaml:11:1 ($.duties): found 3, expected a mapping",
    ]


def test_settings_with_units_and_bounds_say_what_they_take() -> None:
    text = """\
name: x
marketplace: y
driver: proceses
settings: {apiPort: -1, open: maybe, deadline: [], limits: {memory: 12XB}}
"""
    assert mistakes_of(text, model=Profile) == [
        (
            "x.yaml:3:1 ($.driver): found 'proceses', expected 'processes', 'namespaces', 'ssh' or 'kubernetes'"
            " (did you mean 'processes'?)"
        ),
        "x.yaml:4:12 ($.settings.apiPort): found -1, expected at least 0",
        "x.yaml:4:25 ($.settings.open): found 'maybe', expected true or false",
        "x.yaml:4:38 ($.settings.deadline): found a list: expected a duration like '70ms'",
        (
            "x.yaml:4:61 ($.settings.limits.memory): '12XB' is not a size like '64MiB'"
            " (units: B, kB, MB, GB, KiB, MiB, GiB)"
        ),
    ]


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("a: 1\na: 2", "x.yaml:2:1: member 'a' is here twice (the first one is in line 1)"),
        ("a:\n\tb: 1", "x.yaml:2:1: a tab where YAML wants spaces (indent with spaces)"),
        ("a: &x [*x]", "x.yaml:1:4: values are nested deeper than 64 (flatten them)"),
        ("[" * 100_000, "x.yaml:1:65: values are nested deeper than 64 (flatten them)"),
        ("a: *b", "x.yaml:1:4: alias *b has no anchor (write &b first)"),
        ("a: !!python/name:os.system x", ("x.yaml:1:4: tag tag:yaml.org,2002:python/name:os.system is not understood"
         " (write plain values without tags)")),
        ("<<: {a: 1}", "x.yaml:1:1: merge keys are not understood (write the members out)"),
        ("a: 1\n---\nb: 2", "x.yaml:2:1: a second document begins here (keep one document in a file; remove '---')"),
        ("[a]: 1", "x.yaml:1:1: a list or mapping cannot be the name of a member (write a text)"),
        ("a: " + "9" * 50, "x.yaml:1:4: a number with 50 digits (write at most 40 digits)"),
        ("a: 1e999", "x.yaml:1:4: a number too large to keep (write a smaller one)"),
        ("ok: 1\nab\x01: 2", "x.yaml:2:3: a character that YAML does not allow (remove it, or escape it in quotes)"),
        ("- 1", "x.yaml:1:1 ($): found a list, expected a mapping"),
        ("", "x.yaml:1:1 ($): found nothing, expected a mapping"),
    ],
)  # fmt: skip
def test_a_broken_yaml_text_has_the_place_and_what_to_do(text: str, mistake: str) -> None:
    assert mistakes_of(text) == [mistake]


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ('{"a": 1,\n "a": 2}', "x.json:2:2: member 'a' is here twice (the first one is in line 1)"),
        ('{"a": 1,}', ("x.json:1:9: not JSON: a member's name in double quotes should be here"
         " (a comma before } is one too many)")),
        ("[1,\n2", "x.json:2:2: not JSON: a comma or ] should be here"),
        ('{"a": NaN}', "x.json:1:7: not JSON: 'NaN' is not a value (texts stand in double quotes)"),
        ('{"a": "\\ud800"}', "x.json:1:7: a character that cannot be kept (NUL or half of a pair) (remove it)"),
        ("1 2", "x.json:1:3: not JSON: something after the end of the value (keep one value in a file)"),
        ("", "x.json:1:1: not JSON: the text ends where a value should be"),
        ('{"name": "u", "relations": {"a": {"dataSet": []}}}',
         "x.json:1:35 ($.relations.a.dataSet): unknown member 'dataSet' (did you mean 'dataSets'?)"),
    ],
)  # fmt: skip
def test_a_broken_json_text_has_the_place_and_what_to_do(text: str, mistake: str) -> None:
    assert mistakes_of(text, "x.json") == [mistake]


def test_aliases_cannot_unfold_without_bound() -> None:
    bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [{','.join([f'*{chr(97 + i)}'] * 9)}]\n" for i in range(9)
    )
    assert mistakes_of(bomb) == ["x.yaml:1:8: the text unfolds to more than 250000 values (use fewer aliases)"]


def test_a_text_that_is_no_text_is_refused() -> None:
    assert mistakes_of(b"\xff\xfe") == ["x.yaml: the text is not UTF-8 (invalid start byte at character 0)"]
    assert mistakes_of(b"#" * (9 * 2**20)) == ["x.yaml: the text is longer than 8388608 characters (split it)"]


def test_words_and_dates_stay_as_they_are_written() -> None:
    text = "country: no\nday: 2024-01-31\nyes: off\n1: 0010\nhex: 0x1F\nreal: -1.5e3\nquoted: '12'\nabsent:\ntrue: true"
    assert read(text, "x.yaml").value == {
        "country": "no", "day": "2024-01-31", "yes": "off", "1": 10, "hex": 31, "real": -1500.0, "quoted": "12",
        "absent": None, "true": True,
    }  # fmt: skip


def test_a_place_that_does_not_exist_is_that_of_what_should_hold_it() -> None:
    document = read("a:\n  b: [1,\n    {c: 2}]", "x.yaml")
    assert document.where(("a", "b", 1, "c")) == "x.yaml:3:6 ($.a.b[1].c)"
    assert document.where(("a", "z", "y")) == "x.yaml:1:1 ($.a)"
    assert document.at(("a", "b", 1)) == {"c": 2}
    assert document.at(("a", "b", 7)) is None


def test_paths_quote_what_is_no_word() -> None:
    assert json_path(("relations", "ann@x.example", "it's", 0)) == "$.relations['ann@x.example'][\"it's\"][0]"


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@given(values)
@settings(deadline=None)
def test_what_json_writes_is_read_back(value: object) -> None:
    assert read(json.dumps(value), "x.json").value == value


@given(values)
@settings(deadline=None)
def test_what_yaml_writes_is_read_back(value: object) -> None:
    text = yaml.safe_dump(value, allow_unicode=False, default_style='"')
    written = read(text.replace('!!null "null"', "null"), "x.yaml") if "!!" not in text else None
    if written is not None:
        assert written.value == value


_YAML = st.text(st.sampled_from("ab:{}[],-&*!|>'\"#% \n\t\0é~1."), max_size=60) | st.text(max_size=60)


@given(_YAML | st.binary(max_size=60), st.sampled_from(["yaml", "json"]))
@settings(deadline=None, max_examples=400)
def test_any_text_gives_a_document_or_mistakes(text: str | bytes, form: str) -> None:
    try:
        document = read(text, "x", "json" if form == "json" else "yaml")
    except Mistakes as wrong:
        assert wrong.mistakes  # noqa: PT017  both outcomes are right
    else:
        assert isinstance(document, Document)
        try:
            document.validate(Profile)
        except Mistakes as wrong:
            assert all(mistake.where.startswith("x:") for mistake in wrong.mistakes)  # noqa: PT017


_MEMBERS = st.sampled_from(
    ["name", "marketplace", "sites", "parties", "settings", "limits", "memory", "deadline", "data", "path", "rules",
     "duties", "admins", "open", "driver", "a"]
)  # fmt: skip


@given(st.recursive(values, lambda inner: st.dictionaries(_MEMBERS, inner, max_size=6), max_leaves=30))
@settings(deadline=None, max_examples=100)
def test_any_value_is_a_profile_or_mistakes(value: object) -> None:
    try:
        read(json.dumps(value), "x.json").validate(Profile)
    except Mistakes as wrong:
        assert wrong.mistakes  # noqa: PT017
