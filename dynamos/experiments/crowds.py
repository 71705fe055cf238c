"""Crowds: many requests that run and are waited for at the same time, so that something can happen meanwhile.

They cost next to nothing while they run: after the query comes a service that only sleeps. Some give their rows first
and never end; others sleep for a while and then give them.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from dynamos.deploy.provisioning import token_for
from dynamos.experiments.answers import digest_of
from dynamos.experiments.beds import Bed
from dynamos.kit.errors import TimedOut
from dynamos.middleware.clients import BASE, Api

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")
ARROW = {"accept": "application/vnd.apache.arrow.stream"}
OK = 200
DEADLINE = 300
LOOK_SECONDS = 0.2
_STREAMS = "in=${DYNAMOS_INPUTS##*=}; out=${DYNAMOS_OUTPUTS##*=}; "
_LINGER = _STREAMS + f"cat <&$in >&$out; sleep {DEADLINE}"


def kind_of(pause: int) -> str:
    """Give the request type of requests that sleep so many seconds before they give rows; 0: that never end."""
    return f"pause-{pause}" if pause else "linger"


def teach(bed: Bed, pauses: Iterable[int]) -> None:
    """Give the marketplace the services and request types of crowds, as who operates it."""
    assert bed.state is not None, "a crowd needs a testbed of this machine"
    kinds = {kind_of(pause): _command(pause) for pause in (0, *pauses)}
    with bed.api("operator") as client:
        address = client.address
    with Api(address, token=token_for(bed.state, "operator", operates=True)) as client:
        for name, command in kinds.items():
            service = {"name": name, "label": "computeProvider", "command": ["/bin/sh", "-c", command]}
            client.call("PUT", f"{BASE}/microservices", body=service)
        query = client.get(f"{BASE}/microservices/sql-query")
        outputs = sorted({*query["allowedOutputs"], *kinds})
        client.call("PUT", f"{BASE}/microservices", body={**query, "allowedOutputs": outputs})
        for name in kinds:
            client.call("PUT", f"{BASE}/requestTypes", body={"name": name, "requiredServices": ["sql-query", name]})


def _command(pause: int) -> str:
    return f"{_STREAMS}sleep {pause}; cat <&$in >&$out" if pause else _LINGER


@dataclass(frozen=True)
class Request:
    """One request of a crowd, under an id of its own."""

    job: str
    user: str
    provider: str
    query: str
    archetype: str
    pause: int = 0


@dataclass
class Told:
    """What a requestor got, and when: the bytes of the result, the digest of its rows, or the code of an error."""

    status: int
    at: float
    code: str = ""
    bytes: int = 0
    rows: int = 0
    digest: int = 0
    record: dict[str, Any] = field(default_factory=dict)

    def stops(self) -> list[float]:
        """Give when each service that ran was stopped at its party, by the party's own report."""
        usages = [usage for part in self.record.get("parts", {}).values() for usage in part.get("usages", ())]
        return [
            datetime.fromisoformat(usage["started"]).timestamp() + usage["wallMs"] / 1e3
            for usage in usages
            if usage["exit"] < 0
        ]


def run(bed: Bed, requests: Sequence[Request], meanwhile: Callable[[], T], *, within: float) -> tuple[list[Told], T]:
    """Send all requests, do something once all of them run, and give what every requestor got, with what that gave."""
    return asyncio.run(_run(bed, requests, meanwhile, within))


async def _run(
    bed: Bed, requests: Sequence[Request], meanwhile: Callable[[], T], within: float
) -> tuple[list[Told], T]:
    import httpx  # noqa: PLC0415  heavy

    tokens: dict[str, str] = {}
    for user in {request.user for request in requests}:
        with bed.api(user) as client:
            address, tokens[user] = client.address, client.token
    limits = httpx.Limits(max_connections=len(requests) + 4)
    async with httpx.AsyncClient(base_url=address, limits=limits, timeout=within, trust_env=False) as http:
        asking = [asyncio.create_task(_ask(http, request, tokens[request.user])) for request in requests]
        try:
            await _until_all_run(http, requests, tokens, within)
            given = await asyncio.to_thread(meanwhile)
            told = [await each for each in asking]
        except BaseException:
            await _end(http, requests, tokens)
            raise
        finally:
            for task in asking:
                task.cancel()
        for request, each in zip(requests, told, strict=True):
            each.record = await _record(http, request, tokens[request.user], each)
    return told, given


async def _ask(http: httpx.AsyncClient, request: Request, token: str) -> Told:
    body = {
        "type": kind_of(request.pause),
        "user": {"userName": request.user},
        "providers": [request.provider],
        "query": request.query,
        "archetype": request.archetype,
        "jobId": request.job,
        "deadline": f"{DEADLINE}s",
    }
    answer = await http.post(f"{BASE}/jobs", params={"wait": "true"}, json=body, headers=_headers(token))
    return _told(answer)


def _told(answer: httpx.Response) -> Told:
    at = time.time()
    if answer.status_code != OK:
        return Told(answer.status_code, at, str(answer.json().get("code", "")))
    import pyarrow as pa  # noqa: PLC0415  heavy

    table = pa.ipc.open_stream(answer.content).read_all()
    return Told(OK, at, bytes=len(answer.content), rows=table.num_rows, digest=digest_of(table))


async def _until_all_run(
    http: httpx.AsyncClient, requests: Sequence[Request], tokens: dict[str, str], within: float
) -> None:
    """Wait until every job runs. Raises TimedOut."""
    end, wanted = time.monotonic() + within, Counter(request.user for request in requests)
    ours = {request.job for request in requests}
    while time.monotonic() < end:
        running: Counter[str] = Counter()
        for user, token in tokens.items():
            found = await http.get(f"{BASE}/jobs", params={"state": "running", "limit": 1000}, headers=_headers(token))
            if found.status_code == OK:  # a busy machine may not have the list in time, and has it later
                running[user] = sum(job["id"] in ours for job in found.json()["jobs"])
        if running == wanted:
            return
        await asyncio.sleep(LOOK_SECONDS)
    raise TimedOut(f"of {len(requests)} jobs, {running.total()} run", hint="a busy machine needs a longer pause")


async def _end(http: httpx.AsyncClient, requests: Sequence[Request], tokens: dict[str, str]) -> None:
    """Cancel what may still run: the next trial needs its places."""
    paths = [(f"{BASE}/jobs/{quote(each.job, safe='')}", _headers(tokens[each.user])) for each in requests]
    await asyncio.gather(*(http.delete(path, headers=headers) for path, headers in paths), return_exceptions=True)


async def _record(http: httpx.AsyncClient, request: Request, token: str, told: Told) -> dict[str, Any]:
    """Give the job's record. A result that can be fetched although the requestor was told otherwise is one all the
    same: its bytes count."""
    path = f"{BASE}/jobs/{quote(request.job, safe='')}"
    record: dict[str, Any] = (await http.get(path, headers=_headers(token))).json()
    if told.status != OK:
        result = await http.get(f"{path}/result", headers=_headers(token))
        told.bytes += len(result.content) if result.status_code == OK else 0
    else:
        await http.delete(path, headers=_headers(token))
    return record


def _headers(token: str) -> dict[str, str]:
    return {**ARROW, "authorization": f"Bearer {token}"}
