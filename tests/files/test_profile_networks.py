"""Sites, links, overlays, groups, subnets and faults of profiles: every mistake is told with its place, at once."""

from __future__ import annotations

import copy
import json
import time
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dynamos.deploy import profiles
from dynamos.kit.errors import Mistake, Mistakes
from dynamos.model.networks import Link
from dynamos.model.profiles import Profile
from dynamos.testbed.wanted import wanted

HERE = Path(__file__).parent
CASES = sorted(path.stem for path in (HERE / "broken_networks").glob("*.txt"))
SCHEMA = json.loads((HERE.parent.parent / "profiles" / "profile.schema.json").read_text())


def told(path: Path) -> str:
    with pytest.raises(Mistakes) as caught:
        profiles.validate(path)
    return str(caught.value).replace(f"{path.parent}/", "") + "\n"


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


@pytest.mark.parametrize("case", CASES)
def test_every_mistake_is_told_with_its_place(case: str) -> None:
    assert told(HERE / "broken_networks" / f"{case}.yaml") == (HERE / "broken_networks" / f"{case}.txt").read_text()


@pytest.mark.parametrize("name", ["three-sites", "ten-sites", "lossy-edge"])
def test_what_has_networks_comes_with_dynamos_without_a_warning(name: str) -> None:
    checked = profiles.validate(name)
    assert checked.warnings == ()
    assert checked.profile.driver == "namespaces"
    assert Profile.model_validate(json.loads(json.dumps(checked.profile.as_json()))) == checked.profile


def test_what_is_odd_and_does_no_harm_is_a_warning(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "odd.yaml",
        """\
extends: three-sites
name: odd
groups:
  lonely: {parties: [united]}
links:
  - {between: [amsterdam, tokyo], delay: 1ms, jitter: 2ms}
timeline:
  - {at: 2s, link: amsterdam-tokyo, action: heal}
  - {at: 1s, link: tokyo-los-angeles, action: cut}
  - {at: 3s, link: tokyo-los-angeles, action: heal}
""",
    )
    warnings = [str(each).replace(f"{tmp_path}/", "") for each in profiles.validate(path).warnings]
    assert warnings == [
        (
            "odd.yaml:6:47 ($.links[2].jitter): the jitter, 2ms, is more than the delay, 1ms"
            " (packets cannot come before they leave: the delay will be larger on average)"
        ),
        ("odd.yaml:3:1 ($.groups): groups have no effect with the scope 'marketplace' (write overlay: {scope: group})"),
        "odd.yaml:4:12 ($.groups.lonely.parties): group 'lonely' joins fewer than two parties (add parties)",
        (
            "odd.yaml:8:37 ($.timeline[0].action): link amsterdam-tokyo is whole at 2s: nothing is mended"
            " (look at the order)"
        ),
    ]


def test_without_networks_links_and_faults_have_no_effect_and_it_says_so(tmp_path: Path) -> None:
    text = (
        "extends: lossy-edge\nname: quick\ndriver: processes\ntimeline: [{at: 1s, link: ship-chicago, action: cut}]\n"
    )
    checked = profiles.validate(write(tmp_path, "quick.yaml", text))
    assert [each.message for each in checked.warnings] == [
        "the driver 'processes' makes no networks: links have no effect",
        "the driver 'processes' makes no networks: the timeline has no effect",
    ]
    assert wanted(checked.profile).items == {}


def test_extending_merges_mappings_and_links_and_replaces_the_rest(tmp_path: Path) -> None:
    text = """\
extends: three-sites
name: changed
sites:
  tokyo: {nodes: 2}
  osaka: {}
links:
  - {between: [tokyo, amsterdam], delay: 280ms, forward: {loss: 1%}}
  - {between: [osaka, tokyo], delay: 5ms}
overlay: {driver: vxlan}
"""
    found = profiles.validate(write(tmp_path, "changed.yaml", text)).profile
    base = profiles.load("three-sites")
    assert found.description == base.description
    assert list(found.sites) == [*base.sites, "osaka"]
    assert found.sites["tokyo"].parties == base.sites["tokyo"].parties
    assert list(found.sites["tokyo"].nodes) == ["tokyo-1", "tokyo-2"]
    assert found.links[:2] == base.links[:2]
    assert [link.name for link in found.links] == [
        *(link.name for link in base.links[:2]),
        "tokyo-amsterdam",
        "osaka-tokyo",
    ]
    assert str(found.links[2].delay) == "280ms"
    assert found.links[2].rate == base.links[2].rate
    assert (found.overlay.driver, found.overlay.scope) == ("vxlan", "marketplace")


def test_what_each_way_of_a_link_differs_in_keeps_its_way_whichever_end_is_named_first(tmp_path: Path) -> None:
    write(tmp_path, "base.yaml", "marketplace: aviation\nlinks: [{between: [a, b], forward: {delay: 3ms}}]\n")
    child = write(tmp_path, "child.yaml", "extends: base.yaml\nname: child\nlinks: [{between: [b, a], mtu: 1400}]\n")
    (link,) = profiles.load(child).links
    assert str(link.direction("a").delay) == "3ms"
    assert link.direction("b").delay == 0


def test_an_empty_site_is_removed_with_its_links(tmp_path: Path) -> None:
    text = """\
extends: three-sites
name: two
sites:
  tokyo:
  los-angeles: {parties: [united, delta, jetblue, weather]}
"""
    found = profiles.validate(write(tmp_path, "two.yaml", text)).profile
    assert list(found.sites) == ["amsterdam", "los-angeles"]
    assert [link.name for link in found.links] == ["amsterdam-los-angeles"]


def test_paths_are_relative_to_the_file_that_they_are_written_in(tmp_path: Path) -> None:
    market = tmp_path / "far" / "market"
    market.mkdir(parents=True)
    (market / "marketplace.yaml").write_text("name: tiny\nparties: {a: {data: {d: {t: t.csv}}}}")
    (market / "datasets.yaml").write_text("d: {tables: [t]}")
    base = "name: base\nmarketplace: market\ndataFolders: {a: here}\n"
    write(tmp_path / "far", "base.yaml", base)
    write(tmp_path, "middle.yaml", "extends: far/base.yaml\nname: middle\n")
    path = write(tmp_path, "mine.yaml", "extends: middle.yaml\nname: mine\n")
    found = profiles.load(path)
    assert found.marketplace == str(market)
    assert found.data_folders == {"a": str(tmp_path / "far" / "here")}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("extends: nowhere\nname: x", "there is no profile 'nowhere'"),
        ("extends: mine.yaml\nname: x", "a profile cannot extend itself: mine.yaml extends mine.yaml"),
        ("extends: laptop", "member 'name' is missing"),
        ("extends: [laptop]\nname: x", "found a list, expected a text"),
    ],
)
def test_extending_what_cannot_be_extended_is_a_mistake(tmp_path: Path, text: str, message: str) -> None:
    assert message in told(write(tmp_path, "mine.yaml", text))


@pytest.mark.parametrize(
    "members",
    [
        {"sites": {"a": {"nodes": 3}, "b": {"nodes": ["x", "y"]}, "c": {"nodes": {"z": {"address": "192.0.2.1"}}}}},
        {"links": [{"between": ["a", "b"], "loss": "0.5%", "rate": "1gbit", "forward": {"loss": 0.1}}]},
        {"overlay": {"driver": "wireguard", "options": {"port": "51820"}}, "groups": {"g": {"parties": ["p"]}}},
        {"timeline": [{"at": "3s", "action": "change", "link": "a-b", "change": {"delay": "9ms"}}]},
        {"subnets": {"wan": "10.0.0.0/15"}, "extends": "laptop"},
    ],
)
def test_what_is_right_is_right_for_editors(members: dict[str, Any]) -> None:
    whole = {"name": "x", "marketplace": "y", **members}
    Profile.model_validate(whole)
    jsonschema_rs.validate(SCHEMA, whole)


@pytest.mark.parametrize(
    "members",
    [
        {"sites": {"a": {"nodes": 0}}},
        {"links": [{"between": ["a"]}]},
        {"links": [{"between": ["a", "b"], "loss": "much"}]},
        {"overlay": {"driver": "carrier-pigeon"}},
        {"timeline": [{"at": "3s", "action": "explode"}]},
    ],
)
def test_what_is_wrong_is_wrong_for_editors(members: dict[str, Any]) -> None:
    with pytest.raises(jsonschema_rs.ValidationError):
        jsonschema_rs.validate(SCHEMA, {"name": "x", "marketplace": "y", **members})


def test_a_link_says_what_each_way_meets() -> None:
    link = Link.model_validate({"between": ["a", "b"], "delay": "3ms", "loss": "1%", "backward": {"loss": "2%"}})
    assert (link.direction("a").loss, link.direction("b").loss) == (0.01, 0.02)
    assert link.direction("a").delay == link.direction("b").delay == 0.003


WHOLE: dict[str, Any] = {
    "name": "whole",
    "driver": "namespaces",
    "marketplace": "aviation",
    "control": "a",
    "sites": {
        "a": {"parties": ["united", "delta", "jetblue"], "nodes": 2},
        "b": {"parties": ["weather", "registry", "safety-board"], "nodes": {"n": {"address": "192.0.2.1"}}},
    },
    "links": [{"between": ["a", "b"], "delay": "3ms", "loss": "1%", "forward": {"rate": "1mbit"}}],
    "overlay": {"driver": "wireguard", "scope": "group", "mtu": 1400, "options": {"port": "5000"}},
    "groups": {"g": {"parties": ["united", "weather"]}},
    "timeline": [{"at": 1, "action": "change", "link": "a-b", "change": {"loss": "2%"}}],
    "subnets": {"wan": "10.0.0.0/15"},
    "settings": {"concurrentJobs": 3},
}
JUNK = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 10**7), st.sampled_from(["", "a", "b", "x-y", "9ms", "1%", "10.0.0.0/8"]),
    st.sampled_from([[], {}, ["a"], ["a", "b"], {"a": 1}, [[]], [{}], {"parties": ["zz"]}, {"between": ["a", "c"]}]),
)  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for step, child in inner for place in places(child, (*path, step)))]


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from(places(WHOLE)[1:]), JUNK), min_size=1, max_size=4))
def test_whatever_is_wrong_is_told_as_mistakes_with_places(tmp_path: Path, changes: list[tuple[Any, Any]]) -> None:
    whole = copy.deepcopy(WHOLE)
    for (*above, last), junk in changes:
        holder: Any = whole
        for step in above:
            inside = (
                step in holder if isinstance(holder, dict) else isinstance(holder, list) and step in range(len(holder))
            )
            holder = holder[step] if inside else None
        if isinstance(holder, dict) or (isinstance(holder, list) and last in range(len(holder))):
            holder[last] = copy.deepcopy(junk)
    path = write(tmp_path, "junk.json", json.dumps(whole))
    told: tuple[Mistake, ...] = ()
    try:
        wanted(profiles.validate(path).profile)
    except Mistakes as wrong:
        told = wrong.mistakes
    assert all(":" in mistake.where for mistake in told)


def many_sites(count: int) -> dict[str, Any]:
    """Give a profile of so many sites, each joined to each other."""
    parties = ["united", "jetblue", "delta", "weather", "registry", "safety-board"]
    names = [f"site-{number}" for number in range(count)]
    sites = {name: {"parties": parties[number : number + 1]} for number, name in enumerate(names)}
    links = [
        {"between": [one, other], "delay": f"{number + 1}ms", "rate": "100mbit"}
        for number, one in enumerate(names)
        for other in names[number + 1 :]
    ]
    return {"name": "many", "driver": "namespaces", "marketplace": "aviation", "sites": sites, "links": links}


def test_fifty_sites_each_joined_to_each_other_are_read_checked_and_laid_out(tmp_path: Path) -> None:
    path = write(tmp_path, "many.yaml", yaml.safe_dump(many_sites(50)))
    start = time.perf_counter()
    profile = profiles.validate(path).profile
    read = time.perf_counter()
    found = wanted(profile)
    print(f"validated in {read - start:.3f} s, laid out in {time.perf_counter() - read:.3f} s")
    assert len(profile.links) == 1225
    assert len({item.key for item in found.items.values()}) == 1 + 50 + 1225 + 50 + 50 + 6 + 1
