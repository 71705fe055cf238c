"""A profile's planner: mistakes are told with their places, and the reference page says what there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dynamos.adaptation.planners import registry
from dynamos.adaptation.settings import LoopSettings
from dynamos.deploy import profiles
from dynamos.kit.errors import Mistakes
from dynamos.model.units import Quantity

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "profiles.md").read_text().split("## Planners")[1]


def mistakes(tmp_path, settings):
    file = tmp_path / "p.yaml"
    file.write_text(f"name: p\nmarketplace: wage-gap\nsettings:\n{settings}")
    with pytest.raises(Mistakes) as caught:
        profiles.validate(file)
    return [(each.where.partition("p.yaml")[2], each.message, each.hint) for each in caught.value.mistakes]


def test_an_unknown_planner_and_every_wrong_option_are_told_with_their_lines(tmp_path):
    found = mistakes(tmp_path, "  planner: cost-modell\n  apiPort: -1\n")
    assert (":4:3 ($.settings.planner)", "there is no planner 'cost-modell'", "did you mean 'cost-model'?") in found
    assert any("apiPort" in where for where, _, _ in found)
    found = mistakes(tmp_path, "  planner: bandit\n  plannerOptions:\n    shar: 1\n    bound: 0\n")
    assert [(where, message) for where, message, _ in found] == [
        (":7:5 ($.settings.plannerOptions.bound)", "found 0, expected at least 1.0"),
        (":6:5 ($.settings.plannerOptions.shar)", "unknown member 'shar'"),
    ]


def test_a_planner_that_is_no_name_is_told_once(tmp_path):
    found = mistakes(tmp_path, "  planner: [1]\n  plannerOptions: {margin: 0.2}\n")
    assert [where for where, _, _ in found] == [":4:3 ($.settings.planner)"]


def test_every_planner_and_option_is_on_the_reference_page():
    for name, kind in registry.known().items():
        assert f"| `{name}` |" in PAGE
        for field in kind.Options.model_fields.values():
            assert re.search(rf"`{field.alias}\b", PAGE), field.alias


def test_the_defaults_on_the_reference_page_are_those_of_the_code():
    plain = LoopSettings()
    seen = 0
    for row in re.findall(r"^\| (`.*?) \| (.*?) \|", PAGE, re.MULTILINE):
        names, defaults = (re.findall(r"`([^`]+)`", cell) for cell in row)
        fields = {field.alias: name for name, field in LoopSettings.model_fields.items()}
        for name, default in zip(names, defaults, strict=True) if names[0] in fields else ():
            value = getattr(plain, fields[name])
            same = type(value).parse(default) == value if isinstance(value, Quantity) else str(value) == default
            assert same, name
            seen += 1
    assert seen == len(LoopSettings.model_fields)
