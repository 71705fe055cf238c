"""Maps of profiles: SVG that any reader takes, the same each time, on which nothing covers anything else."""

from __future__ import annotations

import itertools
import re
import xml.etree.ElementTree as ET
from typing import Any

import pytest

from dynamos.deploy import profiles
from dynamos.deploy.layouts import spread
from dynamos.deploy.maps import draw_map
from dynamos.model.profiles import Profile

SVG = "{http://www.w3.org/2000/svg}"
NAMES = ["laptop", "three-sites", "ten-sites", "lossy-edge", "upstream"]


def boxes(svg: str, kind: str) -> list[tuple[float, float, float, float]]:
    """Give the rectangles of a kind: left, top, right, bottom."""
    found = []
    for each in ET.fromstring(svg).iter(f"{SVG}rect"):
        if kind in each.attrib["class"].split():
            x, y, width, height = (float(each.attrib.get(name, 0)) for name in ("x", "y", "width", "height"))
            found.append((x, y, x + width, y + height))
    return found


def texts(svg: str) -> list[str]:
    return [each.text or "" for each in ET.fromstring(svg).iter(f"{SVG}text")]


def touch(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


@pytest.mark.parametrize("name", NAMES)
def test_a_map_names_every_site_party_and_figure_and_nothing_covers_another(name: str) -> None:
    profile = profiles.load(name)
    svg = draw_map(profile)
    assert svg == draw_map(profiles.load(name))
    words = texts(svg)
    assert {*profile.sites, *(party for site in profile.sites.values() for party in site.parties)} <= set(words)
    cards, labels, (page,) = boxes(svg, "site"), boxes(svg, "pill"), boxes(svg, "page")
    assert len(cards) == len(profile.sites)
    assert len(labels) == len(profile.links)
    for a, b in itertools.combinations([*cards, *labels], 2):
        assert not touch(a, b)
    assert all(
        page[0] <= each[0] and page[1] <= each[1] and each[2] <= page[2] and each[3] <= page[3] for each in cards
    )


def test_a_map_is_readable_on_light_and_on_dark() -> None:
    style = draw_map(profiles.load("three-sites")).partition("<style>")[2].partition("</style>")[0]
    light, _, dark = style.partition("@media (prefers-color-scheme:dark)")

    def brightness(css: str, kind: str) -> int:
        colour = re.search(rf"(?:^|[}}.,\w{{\n]){re.escape(kind)}[^{{}}]*\{{[^}}]*fill:#(\w\w)(\w\w)(\w\w)", css)
        assert colour, kind
        return sum(int(part, 16) for part in colour.groups())

    for kind, css, dark_ink in (("text", light, True), ("text", dark, False)):
        page = brightness(css, ".page")
        assert (page - brightness(css, kind) > 350) == dark_ink
        assert abs(page - brightness(css, kind)) > 350


def test_names_that_are_markup_stay_text() -> None:
    profile = Profile.model_validate(
        {"name": "x", "marketplace": "m", "description": '<script>"&', "sites": {"a": {"parties": ["p"]}}}
    )
    assert '<script>"&' in texts(draw_map(profile))


def test_an_empty_profile_has_a_map() -> None:
    assert texts(draw_map(Profile.model_validate({"name": "x", "marketplace": "m"})))[0] == "x"


def many(count: int) -> dict[str, Any]:
    return {
        "name": "many",
        "marketplace": "m",
        "sites": {f"s{number}": {} for number in range(count)},
        "links": [{"between": [f"s{a}", f"s{b}"]} for a, b in itertools.combinations(range(count), 2)],
    }


def test_many_sites_still_have_a_map() -> None:
    svg = draw_map(Profile.model_validate(many(30)))
    assert len(boxes(svg, "site")) == 30
    assert boxes(svg, "pill") == []


def test_distances_on_a_map_are_like_those_of_the_network() -> None:
    lengths = {frozenset("ab"): 1.0, frozenset("bc"): 1.0, frozenset("cd"): 3.0}
    places = spread("abcd", lengths)

    def far(a: str, b: str) -> float:
        (ax, ay), (bx, by) = places[a], places[b]
        return ((ax - bx) ** 2 + (ay - by) ** 2) ** 0.5

    assert far("a", "b") == pytest.approx(1.0, abs=0.05)
    assert far("c", "d") == pytest.approx(3.0, abs=0.05)
    assert far("a", "d") == pytest.approx(5.0, abs=0.1)
    assert places["a"][0] < places["d"][0]
