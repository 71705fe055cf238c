"""A crowd waits for its jobs where the machine is too busy to say at once which run."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from dynamos.experiments import crowds
from dynamos.kit.errors import TimedOut

REQUEST = crowds.Request("job-1", "somebody", "alpha", "SELECT 1", "computeToData")
LISTED = httpx.Response(200, json={"jobs": [{"id": "job-1"}, {"id": "of somebody else"}]})
AWAY = httpx.Response(504, json={"code": "timed-out"})


def wait(answers, within, monkeypatch):
    monkeypatch.setattr(crowds, "LOOK_SECONDS", 0.0)
    left = iter(answers)

    async def main():
        transport = httpx.MockTransport(lambda _: next(left, AWAY))
        async with httpx.AsyncClient(transport=transport, base_url="http://api") as http:
            await crowds._until_all_run(http, [REQUEST], {"somebody": "token"}, within)

    asyncio.run(main())


def test_a_list_that_does_not_come_in_time_is_asked_for_again(monkeypatch):
    wait([AWAY, AWAY, LISTED], 10.0, monkeypatch)


def test_one_that_never_comes_ends_the_wait(monkeypatch):
    with pytest.raises(TimedOut, match="of 1 jobs, 0 run"):
        wait([], 0.05, monkeypatch)
