"""A watch misses nothing and tells nothing twice, whatever the server forgets to tell."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynamos.kit.errors import Unavailable
from dynamos.kit.waits import bounded
from dynamos.knowledge import watches
from dynamos.knowledge.stores import Entry
from dynamos.knowledge.watches import Watch


class FakeBucket:
    """A bucket whose server tells of changes or not, as the test wants."""

    def __init__(self) -> None:
        self.kept: dict[str, Entry] = {}
        self.revision = 0
        self.failures = 0

    def write(self, key: str, value: int | None) -> Entry:
        self.revision += 1
        self.kept[key] = Entry(key, None if value is None else {"n": value}, self.revision)
        return self.kept[key]

    async def read(self) -> list[Entry]:
        await asyncio.sleep(0)
        if self.failures:
            self.failures -= 1
            raise Unavailable("the bus is away")
        return sorted(self.kept.values(), key=lambda entry: entry.revision)


async def told(watch: Watch, count: int) -> list[Entry]:
    return [await bounded("an entry", anext(watch), within=5) for _ in range(count)]


CHANGES = st.lists(st.tuples(st.sampled_from("abc"), st.one_of(st.none(), st.integers(0, 9)), st.booleans()))


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(before=CHANGES, after=CHANGES)
def test_whatever_is_not_told_the_reader_ends_with_what_is_there(
    before: list[tuple[str, int | None, bool]], after: list[tuple[str, int | None, bool]]
) -> None:
    async def main() -> None:
        bucket = FakeBucket()
        watch = Watch("", bucket.read)
        for key, value, _ in before:
            bucket.write(key, value)
        await watch.begin()
        for key, value, arrives in after:
            entry = bucket.write(key, value)
            if arrives:
                watch.take(entry)
        watch.take(bucket.write("end", 1))
        seen: dict[str, Entry] = {}
        revision = 0
        while "end" not in seen:
            (entry,) = await told(watch, 1)
            assert entry.revision > revision
            revision = entry.revision
            seen[entry.key] = entry
        alive = {key: entry for key, entry in seen.items() if entry.value is not None}
        assert alive == {key: entry for key, entry in bucket.kept.items() if entry.value is not None}

    asyncio.run(main())


def test_a_reader_far_behind_gets_the_last_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watches, "_WAITING", 10)

    async def main() -> None:
        bucket = FakeBucket()
        watch = Watch("", bucket.read)
        await watch.begin()
        for number in range(100):
            watch.take(bucket.write("a", number))
        entries = await told(watch, 11)
        assert [entry.value for entry in entries] == [*({"n": n} for n in range(10)), {"n": 99}]

    asyncio.run(main())


def test_a_bucket_that_cannot_be_read_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watches, "_PAUSE", 0)

    async def main() -> None:
        bucket = FakeBucket()
        watch = Watch("", bucket.read)
        await watch.begin()
        bucket.write("a", 1)
        bucket.failures = 3
        watch.doubt()
        assert (await told(watch, 1))[0].value == {"n": 1}

    asyncio.run(main())


def test_what_was_told_already_is_not_told_again_after_a_doubt() -> None:
    async def main() -> None:
        bucket = FakeBucket()
        watch = Watch("", bucket.read)
        await watch.begin()
        watch.take(bucket.write("a", 1))
        watch.doubt()
        watch.take(bucket.write("a", 2))
        watch.doubt()
        watch.take(bucket.write("b", 3))
        assert [entry.value for entry in await told(watch, 3)] == [{"n": 1}, {"n": 2}, {"n": 3}]

    asyncio.run(main())
