"""Attacks on a testbed that is up, really carried out, and what became of each: blocked, detected or succeeded.

An attack is `blocked` where nothing of it got anywhere, `detected` where whoever was attacked refused it and said for
what, and has `succeeded` where it got what it must not get. Everything happens in the testbed's own networks, or on
loopback where it has none.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, TypeVar

from dynamos.deploy.provisioning import CONFIG
from dynamos.experiments.beds import Bed
from dynamos.jobs import linux
from dynamos.kit.clocks import SystemClock
from dynamos.kit.credentials import Credentials
from dynamos.kit.errors import Broken, DynamosError, Refused, TimedOut, Unauthenticated, Unavailable
from dynamos.knowledge import jetstream
from dynamos.knowledge.bases import PRESENCE, KnowledgeBase, bucket_of
from dynamos.knowledge.buses import Unheard
from dynamos.knowledge.dials import dial
from dynamos.knowledge.permissions import ORCHESTRATOR
from dynamos.middleware.configs import UnitConfig
from dynamos.middleware.identity import grants
from dynamos.middleware.identity.authority import Authority
from dynamos.middleware.instances import parsed
from dynamos.model.jobs import Grant
from dynamos.testbed.proofs.isolation import isolation
from dynamos.testbed.proofs.matrices import Cell, Matrix
from dynamos.testbed.proofs.rehearsals import acts, gathering

T = TypeVar("T")
Outcome = Literal["blocked", "detected", "succeeded"]
_WITHIN, _RESTART, _LOOK = 10.0, 30.0, 0.05
_WORDS = ("name", "marketplace", "folder", "bus", "server")


@dataclass(frozen=True, slots=True)
class Attack:
    """What became of an attack: of `tries`, so many got through; `evidence` says by what it was stopped, or what it
    got."""

    outcome: Outcome
    evidence: str
    tries: int = 1
    through: int = 0


def guessed_number(bed: Bed, *, patience: float | None = None) -> Attack:
    """Send packets of outsiders who know an overlay's number and the addresses in it."""
    return _from_outside(during(bed, patience=patience), lambda cell: cell.protocol == "forged")


def underlay_address(bed: Bed, *, patience: float | None = None) -> Attack:
    """Call a container's address in an overlay from the sites' own network, on the same machine and on others."""
    found = during(bed, patience=patience)
    outside = {node.name for node in bed.world.nodes()} | {f"router {site}" for site in bed.profile.sites}
    return _from_outside(found, lambda cell: cell.protocol != "forged" and cell.source in outside)


def during(bed: Bed, *, patience: float | None = None) -> Matrix:
    """Try who reaches whom while a job lives, without what the sites' own addresses answer."""
    subject = bed.subject
    found = acts(subject.profile, subject.wanted)
    edges = {act.overlay.name: act.edges for act in found}
    with subject.playing(gathering):
        situation = replace(subject.situation([act.overlay for act in found], (), edges), places={})
        return isolation(situation, subject.hosts(), phase="during", patience=patience or subject.patience)


def replayed_grant(bed: Bed, victim: str, ask: Callable[[], Any]) -> Attack:
    """Listen to a job's start at the victim's, and send the very same once the job is over, as the orchestrator.

    The victim's agent is killed before: while it lives it gives whoever asks again the answer that it gave before, and
    runs nothing. Afterwards only what it has written down tells it that the grant was used.
    """

    def meanwhile() -> None:
        ask()
        before = bed.unit(victim).pid
        bed.kill(victim)
        end = time.monotonic() + _RESTART
        while bed.unit(victim).pid in (0, None, before):
            if time.monotonic() > end:
                raise TimedOut(f"{victim!r} was not there again within {_RESTART:g} s")
            time.sleep(_LOOK)

    return _start(bed, victim, meanwhile, lambda grant: grant)


def expired_grant(bed: Bed, victim: str, ask: Callable[[], Any]) -> Attack:
    """Send a job's start again whose grant, signed by the orchestrator, has ended a minute ago."""

    def aged(text: str) -> str:
        old = {"id": secrets.token_hex(8), "expires": datetime.now(UTC) - timedelta(minutes=1)}
        return grants.sign(_granted(bed, victim, text).model_copy(update=old), _unit(bed, ORCHESTRATOR).credentials.key)

    return _start(bed, victim, ask, aged)


def forged_grant(bed: Bed, victim: str, forger: str, ask: Callable[[], Any]) -> Attack:
    """Send a job's start whose grant another party has signed."""

    def forged(text: str) -> str:
        mine = {"id": secrets.token_hex(8)}
        return grants.sign(_granted(bed, victim, text).model_copy(update=mine), _unit(bed, forger).credentials.key)

    return _start(bed, victim, ask, forged)


def forged_certificate(bed: Bed, victim: str) -> Attack:
    """Come to the bus as the victim, with a certificate of an authority of one's own that bears the same names."""
    unit = _unit(bed, victim)
    authority = Authority.create(bed.scratch / "forger", unit.marketplace)
    mine = authority.issue(victim, bed.scratch / "forged")
    mixed = Credentials(mine.certificate, mine.key, unit.credentials.authority)

    async def come() -> None:
        base = await jetstream.connect(unit.bus, mixed, victim, within=_WITHIN, server=unit.server)
        await base.close()

    return _judged(lambda: _inside(bed, victim, come()), "was let in as the victim")


def other_account(bed: Bed, victim: str, thief: str) -> Attack:
    """With a party's own good certificate, read another's agreement, report in its name, start its parts, and tell the
    market that it is there."""
    unit = _unit(bed, thief)

    async def steal() -> list[str]:
        base = await _connected(unit)
        tries: dict[str, Callable[[], Awaitable[Any]]] = {
            "read its agreement": lambda: base.store(bucket_of(victim)).get("agreement"),
            "wrote its agreement": lambda: base.store(bucket_of(victim)).put("agreement", {}),
            "reported in its name": lambda: base.bus.request(f"report.{victim}", {}, within=_WITHIN),
            "started its parts": lambda: base.bus.request(f"agent.{victim}.any.start", {}, within=_WITHIN),
            "wrote its audit": lambda: base.log("audit").append(f"{victim}.decision", {}),
        }
        got, refused = [], []
        try:
            for what, attempt in tries.items():
                try:
                    await attempt()
                    got.append(what)
                except (Refused, Unauthenticated) as error:
                    refused.append(error)
                except (Unavailable, TimedOut):
                    pass
        finally:
            await base.close()
        return [*got, *(f"refused: {error.message}" for error in refused)]

    told = _inside(bed, thief, steal())
    got = [each for each in told if not each.startswith("refused")]
    if got:
        return Attack("succeeded", ", ".join(got), 5, len(got))
    return Attack("detected" if told else "blocked", told[0] if told else "nobody answered", 5)


def _start(bed: Bed, victim: str, ask: Callable[[], Any], change: Callable[[str], str]) -> Attack:
    """Overhear how a job's part is started at the victim's, change its grant, and send that once the job is over."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(int).result()  # a thread that is born later would be in the network of whoever needs it
        message = _inside(bed, victim, _overheard(_unit(bed, victim), ask, pool))
    message["grant"] = change(message["grant"])

    async def send() -> object:
        base = await _connected(_unit(bed, ORCHESTRATOR))
        try:
            end = time.monotonic() + _RESTART
            while True:
                try:
                    instance = await _instance(base, victim)
                    return await base.bus.request(f"agent.{victim}.{instance}.start", message, within=_WITHIN)
                except Unheard:  # it may just be starting
                    if time.monotonic() > end:
                        raise
                await asyncio.sleep(_LOOK)
        finally:
            await base.close()

    return _judged(lambda: _inside(bed, ORCHESTRATOR, send()), "the part was started")


async def _overheard(unit: UnitConfig, ask: Callable[[], Any], pool: ThreadPoolExecutor) -> dict[str, Any]:
    """Give the first message that starts a part of the unit's while `ask` is at work. Nobody is answered twice."""
    connection = await dial(unit.bus, unit.credentials, unit.name, within=_WITHIN, server=unit.server)
    heard: list[bytes] = []

    async def hear(message: Any) -> None:
        heard.append(message.data)

    try:
        await connection.client.subscribe(f"agent.{unit.name}.*.start", cb=hear)
        await connection.client.flush()
        await asyncio.get_running_loop().run_in_executor(pool, ask)
        await connection.client.flush()
    finally:
        await connection.close()
    if not heard:
        raise Broken(f"no part of {unit.name!r} was started by what was asked", where="attack")
    told: dict[str, Any] = json.loads(heard[0])
    return told


async def _instance(base: KnowledgeBase, party: str) -> str:
    """Give the newest agent of a party that says that it is there."""
    there = await base.store(PRESENCE).entries(party)
    return parsed(max(there, key=lambda entry: entry.revision).key)[1] if there else "nobody"


async def _connected(unit: UnitConfig) -> KnowledgeBase:
    return await jetstream.connect(unit.bus, unit.credentials, unit.name, within=_WITHIN, server=unit.server)


def _judged(attempt: Callable[[], object], got: str) -> Attack:
    """Make the attempt, and tell what became of it by how it ends."""
    try:
        attempt()
    except (Refused, Unauthenticated) as error:
        return Attack("detected", error.detail_code or error.message)
    except DynamosError as error:
        return Attack("blocked", error.detail_code or error.message)
    return Attack("succeeded", got, through=1)


def _from_outside(found: Matrix, belongs: Callable[[Cell], bool]) -> Attack:
    cells = [cell for cell in found.cells if belongs(cell)]
    leaks = [cell for cell in cells if cell.observed and not cell.expected]
    if not cells:
        raise Broken("there was nothing to try", where="attack")
    return Attack("succeeded" if leaks else "blocked", str(leaks[0]) if leaks else "", len(cells), len(leaks))


def _granted(bed: Bed, victim: str, text: str) -> Grant:
    signer = json.loads((_folder(bed, victim) / CONFIG).read_bytes())["orchestrator"]
    return grants.verify(text, Path(signer), party=victim, clock=SystemClock())


def _unit(bed: Bed, name: str) -> UnitConfig:
    told = json.loads((_folder(bed, name) / CONFIG).read_bytes())
    return UnitConfig.model_validate({word: told[word] for word in _WORDS if word in told})


def _folder(bed: Bed, unit: str) -> Path:
    if bed.state is None:
        raise Unavailable("nobody's credentials are here", hint="take the local testbed")
    return bed.state.unit(unit)


def _inside(bed: Bed, unit: str, work: Coroutine[Any, Any, T]) -> T:
    """Do the work in the network of the machine that a unit is on, where the testbed has networks."""
    done: list[T] = []
    failed: list[BaseException] = []
    site = bed.profile.control_site if unit == ORCHESTRATOR else bed.profile.site_of(unit)
    own = bed.profile.driver == "namespaces"

    def run(namespace: int | None) -> None:
        try:
            if namespace is not None:
                linux.setns(namespace, linux.NEW_NET)  # of this thread alone
            done.append(asyncio.run(work))
        except BaseException as error:  # noqa: BLE001  it is raised below
            failed.append(error)

    with bed.world.find_node(site).namespace() if own else nullcontext() as namespace:
        thread = threading.Thread(target=run, args=[namespace])
        thread.start()
        thread.join()
    if failed:
        raise failed[0]
    return done[0]
