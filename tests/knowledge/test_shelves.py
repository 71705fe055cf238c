"""Typed values in a store, under any name."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamos.kit.errors import BadInput, Conflict
from dynamos.kit.waits import bounded
from dynamos.knowledge import subjects
from dynamos.knowledge.bases import SHARED
from dynamos.knowledge.memory import MemoryCluster
from dynamos.knowledge.shelves import Item, Shelf, escaped, unescaped
from dynamos.knowledge.stores import Store
from dynamos.model.values import Value


class Colour(Value):
    red: int
    is_warm: bool = False


def shared() -> Store:
    return MemoryCluster(["UVA"]).connect("orchestrator").store(SHARED)


@given(name=st.text(min_size=1, max_size=20))
def test_any_name_is_one_token_and_comes_back(name: str) -> None:
    token = escaped(name)
    assert "." not in subjects.key(token)
    assert unescaped(token) == name


def test_names_that_are_safe_stay_readable() -> None:
    assert escaped("compute-to_Data1") == "compute-to_Data1"
    assert escaped("a.b@é") == "a=2Eb=40=C3=A9"
    with pytest.raises(BadInput):
        escaped("")


def test_values_come_back_with_their_revisions() -> None:
    async def main() -> None:
        shelf = Shelf(shared(), "colours", Colour)
        revision = await shelf.put("jo@x.nl", Colour(red=1, is_warm=True), revision=0)
        await shelf.put("a.b", Colour(red=2))
        assert await shelf.get("jo@x.nl") == Item("jo@x.nl", Colour(red=1, is_warm=True), revision)
        assert await shelf.get("nobody") is None
        assert [item.name for item in await shelf.all()] == ["a.b", "jo@x.nl"]
        with pytest.raises(Conflict):
            await shelf.put("jo@x.nl", Colour(red=3), revision=0)
        await shelf.delete("jo@x.nl", revision=revision)
        assert [item.name for item in await shelf.all()] == ["a.b"]

    asyncio.run(main())


def test_a_watch_gives_values_and_deletions() -> None:
    async def main() -> None:
        store = shared()
        shelf = Shelf(store, "colours", Colour)
        await shelf.put("a.b", Colour(red=1))
        async with shelf.watch() as items:
            await shelf.put("a.b", Colour(red=2))
            await store.put("other.x", {"red": 9})
            await shelf.delete("a.b")
            got = [await bounded("an item", anext(items), within=5) for _ in range(3)]
        assert [(item.name, item.value and item.value.red) for item in got] == [("a.b", 1), ("a.b", 2), ("a.b", None)]

    asyncio.run(main())


def test_what_is_no_such_value_counts_as_not_there() -> None:
    async def main() -> None:
        store = shared()
        shelf = Shelf(store, "colours", Colour)
        await store.put("colours.wrong", {"red": "very"})
        await store.put("colours.more", {"red": 1, "unknown": 2})
        await store.put("colours.a.b", {"red": 1})
        await store.put("colours.=ZZ", {"red": 1})
        await shelf.put("right", Colour(red=1))
        assert [item.name for item in await shelf.all()] == ["right"]
        assert await shelf.get("wrong") is None
        async with shelf.watch() as items:
            got = [await bounded("an item", anext(items), within=5) for _ in range(3)]
        assert [(item.name, item.value) for item in got] == [
            ("wrong", None),
            ("more", None),
            ("right", Colour(red=1)),
        ]

    asyncio.run(main())


def test_a_shelf_without_a_prefix_is_the_whole_bucket() -> None:
    async def main() -> None:
        shelf = Shelf(shared(), "", Colour)
        await shelf.put("x.y", Colour(red=1))
        assert [item.name for item in await shelf.all()] == ["x.y"]

    asyncio.run(main())
