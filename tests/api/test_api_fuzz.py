"""Whatever its own OpenAPI allows, and much that it does not, never gives a 500, nor an answer that it does not
describe."""

from __future__ import annotations

import asyncio
import threading

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from dynamos.model.agreements import Agreement
from dynamos.model.archetypes import Archetype
from support.apis import Service

EXAMPLES = 8
CHECKS = [not_a_server_error, content_type_conformance, status_code_conformance, response_schema_conformance]


class Background:
    """An open API in a thread of its own."""

    def __enter__(self):
        self.ready = threading.Event()
        self.address = ""
        self.thread = threading.Thread(target=asyncio.run, args=(self._serve(),))
        self.thread.start()
        assert self.ready.wait(20)
        return self

    def __init__(self, folder):
        self.folder = folder

    async def _serve(self):
        self.loop = asyncio.get_running_loop()
        self.service = Service(self.folder, open=True)
        self.service.orchestrator.values = {
            "archetypes": {"computeToData": (Archetype(name="computeToData").as_json(), 1)},
            "policyEnforcer": {"UVA": (Agreement(name="UVA").as_json(), 1)},
        }
        running = asyncio.create_task(self.service.run())
        self.address = await self.service.address
        self.ready.set()
        await running

    def __exit__(self, *_):
        self.loop.call_soon_threadsafe(self.service.stopped.set)
        self.thread.join(20)


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with Background(tmp_path_factory.mktemp("api")) as background:
        yield background


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["right", "wrong"])
def test_no_request_breaks_the_api(running, mode):
    schema = schemathesis.openapi.from_url(f"{running.address}/openapi.json")
    tried = 0
    for found in schema.get_all_operations():
        operation = found.ok()
        if mode == GenerationMode.NEGATIVE and not (operation.body or operation.query or operation.path_parameters):
            continue

        @settings(
            max_examples=EXAMPLES,
            derandomize=True,
            deadline=None,
            database=None,
            phases=(Phase.generate,),
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def check(case):
            case.call_and_validate(checks=CHECKS, timeout=20)

        check()
        tried += 1
    assert tried > 20
