"""Providers make, see, compare, change and remove things as the testbed's library does, and say first what is wrong."""

import base64

import dill
import pytest

from dynamos.deploy.pulumi import checks, works
from dynamos.deploy.pulumi.providers import GroundProvider, ItemProvider, MachinesProvider
from dynamos.kit.errors import Mistake
from dynamos.testbed.items import WORLD, Key, Overlay
from dynamos.testbed.memory import MemoryGround
from support.worlds_of_profiles import wanted_of


class Loose(MemoryGround):
    """A ground that gives what it notes also where somebody has lost it."""

    def __init__(self):
        super().__init__()
        self.lost = set()

    def look(self, *, closely=True):
        facts = super().look()
        if closely:
            for key in self.lost:
                facts.items.pop(key, None)
        return facts

    def make(self, *items):
        super().make(*items)
        self.lost -= {item.key for item in items}


@pytest.fixture
def ground(monkeypatch):
    made = Loose()
    monkeypatch.setattr(works, "NamespacesGround", lambda _: made)
    works._LOOKS.clear()
    return made


def props(item, folder, **more):
    return {"item": item.as_json(), "folder": str(folder), "on": {}, **more}


def made_all(folder, state):
    """Make a whole testbed, one thing at a time; give the properties and ids by key."""
    found = {}
    for item in state.items.values():
        result = ItemProvider(item.kind).create(props(item, folder))
        found[item.key] = (result.id, result.outs)
    return found


def test_things_made_one_at_a_time_are_what_the_library_wants(ground, tmp_path):
    state = wanted_of()
    made = made_all(tmp_path, state)
    assert ground.look().items == state.items
    assert len({id_ for id_, _ in made.values()}) == len(state.items)


def test_a_thing_that_is_there_is_read_as_it_is(ground, tmp_path):
    id_, outs = made_all(tmp_path, wanted_of())[Key("link", "a-b")]
    found = ItemProvider("link").read(id_, outs)
    assert (found.id, found.outs["item"]) == (id_, outs["item"])


def test_without_its_world_nothing_is_there(ground, tmp_path):
    made = made_all(tmp_path, wanted_of())
    ground.lose(WORLD)
    works._LOOKS.clear()
    assert {ItemProvider(key.kind).read(id_, outs).id for key, (id_, outs) in made.items()} == {""}


def test_what_was_lost_behind_its_notes_is_made_again(ground, tmp_path):
    state = wanted_of()
    made_all(tmp_path, state)
    item = state.items[Key("node", "b-1")]
    ground.lost.add(item.key)
    ItemProvider("node").create(props(item, tmp_path))
    assert item.key in ground.look().items


def test_what_an_interruption_left_is_made_whole(ground, tmp_path):
    state = wanted_of()
    _, outs = made_all(tmp_path, state)[Key("link", "a-b")]
    ground.broken[Key("link", "a-b")] = "work on it was interrupted"
    works._LOOKS.clear()
    read = ItemProvider("link").read("id", outs).outs
    told = ItemProvider("link").diff("id", read, outs)
    assert told.replaces == ["broken"]
    ItemProvider("link").create(outs)
    assert not ground.look().broken


@pytest.mark.parametrize(
    ("change", "replaces"),
    [({"delay": "11ms"}, []), ({"rate": "5mbit"}, []), ({"loss": "1%"}, []), ({"jitter": "1ms"}, []),
     ({"mtu": 1400}, []), ({"between": ["b", "a"]}, ["item"])],
)  # fmt: skip
def test_links_change_in_place_where_the_library_can(change, replaces):
    link = {"between": ["a", "b"], "delay": "10ms"}
    rest = [{"between": ["b", "c"]}]
    before = next(iter(wanted_of(links=[link, *rest]).items[key] for key in [Key("link", "a-b")]))
    state = wanted_of(links=[{**link, **change}, *rest])
    after = next(item for key, item in state.items.items() if key.kind == "link" and set(item.sites) == {"a", "b"})
    told = ItemProvider("link").diff("id", props(before, "/x"), props(after, "/x"))
    assert (told.changes, told.replaces) == (True, replaces)
    assert told.delete_before_replace


def test_what_is_the_same_needs_nothing():
    item = wanted_of().items[Key("link", "a-b")]
    outs = props(item, "/x", broken="")
    assert ItemProvider("link").diff("id", outs, props(item, "/x")).changes is False


def test_what_stood_on_another_thing_is_made_again_and_an_overlay_takes_its_members_up():
    node, overlay = (wanted_of().items[key] for key in (Key("node", "a-1"), Key("overlay", "market")))
    moved = {"on": {"it": "another"}}
    assert ItemProvider("node").diff("id", props(node, "/x"), {**props(node, "/x"), **moved}).replaces == ["on"]
    told = ItemProvider("overlay").diff("id", props(overlay, "/x"), {**props(overlay, "/x"), **moved})
    assert (told.changes, told.replaces) == (True, [])


@pytest.mark.parametrize(("change", "replaces"), [({"mtu": 1300}, ["item"]), ({"driver": "vxlan"}, ["item"])])
def test_another_overlay_takes_the_place_of_the_first(change, replaces):
    before = wanted_of().of(Overlay)["market"]
    after = before.model_copy(update=change)
    assert ItemProvider("overlay").diff("id", props(before, "/x"), props(after, "/x")).replaces == replaces


def test_a_change_is_made_while_it_is_used(ground, tmp_path):
    made_all(tmp_path, wanted_of())
    after = wanted_of(links=[{"between": ["a", "b"], "delay": "99ms"}, {"between": ["b", "c"]}])
    item = after.items[Key("link", "a-b")]
    told = ItemProvider("link").update("id", {}, props(item, tmp_path))
    assert ground.look().items[item.key] == item
    assert told.outs["item"] == item.as_json()


def test_what_is_deleted_twice_is_gone(ground, tmp_path):
    _, outs = made_all(tmp_path, wanted_of())[WORLD]
    for _ in range(2):
        ItemProvider("world").delete("id", outs)
        assert not ground.look().items


def test_mistakes_are_told_before_anything_is_made(ground, monkeypatch, tmp_path):
    monkeypatch.setattr(checks.shutil, "which", lambda *_, **__: None)
    item = wanted_of(overlay={"driver": "wireguard"}).of(Overlay)["market"]
    failures = ItemProvider("overlay").check({}, props(item, tmp_path)).failures
    assert any("'wg' is missing" in each.reason and "doctor --fix" in each.reason for each in failures)
    assert not ground.look().items


def test_a_right_thing_has_no_mistakes(tmp_path):
    item = wanted_of().items[Key("link", "a-b")]
    assert ItemProvider("link").check({}, props(item, tmp_path)).failures == []


def test_a_machine_without_root_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr(checks.os, "geteuid", lambda: 1000)
    found = checks.check(wanted_of().items[WORLD], tmp_path)
    assert Mistake("driver", "the driver `namespaces` needs root here", "run pulumi as root") in found


@pytest.mark.parametrize(("provider", "was"), [(GroundProvider("world"), "ssh"), (MachinesProvider(), "namespaces")])
def test_a_stack_whose_profile_changed_its_driver_is_refused_with_what_to_do(provider, was):
    item = wanted_of().items[WORLD]
    now = {"namespaces": "ssh", "ssh": "namespaces"}[was]
    told = provider.check({"driver": was}, {**props(item, "/x"), "driver": now})
    assert "pulumi destroy" in told.failures[0].reason
    assert was in told.failures[0].reason


def test_providers_are_kept_in_the_state_by_name_and_hold_nothing():
    pickled = dill.dumps(ItemProvider("link"), recurse=True)
    assert len(base64.b64encode(pickled)) < 400
    assert dill.loads(pickled).kind == "link"
