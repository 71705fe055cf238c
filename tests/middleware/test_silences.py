"""An agent that is late counts as dead once it does not answer, and not before."""

from __future__ import annotations

import asyncio

import pytest

from dynamos.kit.clocks import SystemClock
from dynamos.kit.waits import until
from dynamos.knowledge.bases import PRESENCE
from dynamos.knowledge.memory import MemoryCluster
from dynamos.knowledge.presence import Presences
from dynamos.middleware.messages import Presence
from dynamos.middleware.orchestrator import silences
from dynamos.middleware.orchestrator.silences import Silences
from dynamos.middleware.views import background
from support.agents import BOUND

AGE = 0.2


class Scene:
    """One agent that has said that it is there, once, and who watches it."""

    def __init__(self) -> None:
        cluster = MemoryCluster(["UVA"])
        self.agent, self.orchestrator = cluster.connect("UVA"), cluster.connect("orchestrator")
        self.lost: list[tuple[str, str]] = []
        self.asked = 0
        self.hangs = False

    async def take(self, _: str, message: dict[str, object]) -> dict[str, object]:
        assert message["ends"] == []
        self.asked += 1
        if self.hangs:
            await asyncio.Event().wait()
        return {}

    async def say(self) -> None:
        now = SystemClock().now().isoformat()
        said = Presence(party="UVA", instance="one", address="a", active_since=now, config_updated=now)
        await self.agent.store(PRESENCE).put("UVA.one", said.as_json())

    async def play(self, play) -> None:
        async with Presences(self.orchestrator.store(PRESENCE), Presence, age=AGE) as presences:
            watching = Silences(self.orchestrator.bus, presences, lambda *who: self.lost.append(who))
            async with background(watching.follow):
                await self.say()
                await play()

    async def happens(self, what: str, holds) -> None:
        async def probe() -> bool:
            return bool(holds())

        await until(what, probe, within=BOUND, every=0.005)


@pytest.fixture(autouse=True)
def _soon(monkeypatch):
    monkeypatch.setattr(silences, "ANSWER_SECONDS", 0.2)
    monkeypatch.setattr(silences, "AGAIN_SECONDS", 0.02)


def test_one_that_is_late_and_answers_loses_nothing_until_it_does_not():
    async def main() -> None:
        it = Scene()
        listening = await it.agent.bus.listen("agent.UVA.one.ends", it.take)

        async def play() -> None:
            await it.happens("it is asked again and again", lambda: it.asked > 3)
            assert it.lost == []
            await listening.close()
            await it.happens("it is lost", lambda: it.lost == [("UVA", "one")])

        await it.play(play)

    asyncio.run(main())


def test_one_that_is_back_is_asked_no_more():
    async def main() -> None:
        it = Scene()
        await it.agent.bus.listen("agent.UVA.one.ends", it.take)

        async def play() -> None:
            await it.happens("it is asked", lambda: it.asked)
            for _ in range(4):
                await it.say()
                asked = it.asked
                await it.happens("it is late once more", lambda before=asked: it.asked > before)
            assert it.lost == []

        await it.play(play)

    asyncio.run(main())


@pytest.mark.parametrize("hangs", [True, False], ids=["hangs", "has ended"])
def test_one_that_does_not_answer_is_lost_once(hangs):
    async def main() -> None:
        it = Scene()
        it.hangs = hangs
        if hangs:
            await it.agent.bus.listen("agent.UVA.one.ends", it.take)

        async def play() -> None:
            await it.happens("it is lost", lambda: it.lost)
            assert it.lost == [("UVA", "one")]
            assert it.asked == int(hangs)

        await it.play(play)

    asyncio.run(main())
