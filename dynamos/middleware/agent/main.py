"""Starts the agent of one party. The zygote of the sandbox is forked first, before any thread or event loop."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import secrets
import signal
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import dynamos
from dynamos.exchange.receivers import Receiver
from dynamos.exchange.senders import Sender
from dynamos.jobs import linux
from dynamos.jobs.pods.runner import KubernetesRunner
from dynamos.jobs.pods.settings import Home as PodsHome
from dynamos.jobs.runners import Runner
from dynamos.jobs.sandbox import SandboxRunner
from dynamos.kit.clocks import SystemClock
from dynamos.kit.errors import BadInput, DynamosError, Refused, TimedOut, Unavailable
from dynamos.kit.waits import until
from dynamos.knowledge import jetstream
from dynamos.knowledge.bases import PRESENCE, SHARED, KnowledgeBase, bucket_of
from dynamos.knowledge.buses import Subscription, leave
from dynamos.knowledge.presence import Announcement, announce
from dynamos.middleware import telemetry
from dynamos.middleware.agent import agreements
from dynamos.middleware.agent.agents import Agent
from dynamos.middleware.agent.carried import Nursery
from dynamos.middleware.agent.catalogues import discover
from dynamos.middleware.agent.exchanges import LocalExchange, Sends
from dynamos.middleware.agent.gatekeepers import Gatekeeper, Policy
from dynamos.middleware.agent.inbox import Inbox
from dynamos.middleware.agent.loads import Gauge, capacity_of
from dynamos.middleware.agent.opened import OpenedWays
from dynamos.middleware.agent.wardens import Warden
from dynamos.middleware.agent.ways import FreshWays, OneWay, StandingWay, Ways
from dynamos.middleware.configs import AgentConfig, PoliciesConfig
from dynamos.middleware.identity.requestors import Requestors
from dynamos.middleware.identity.spent import SpentGrants
from dynamos.middleware.instances import fresh, host, key_of
from dynamos.middleware.messages import Change, EndPart, EndParts, Presence, StartPart
from dynamos.middleware.network.desks import Customer
from dynamos.middleware.network.openings import Home, Openings
from dynamos.middleware.views import SharedView, background, catalogue_of
from dynamos.policy.builtin import BuiltIn

log = logging.getLogger(__name__)
HUB_SECONDS = 15.0


def serve(config: AgentConfig, ready: Callable[[str], None]) -> None:
    """Run the agent until SIGTERM; call `ready` with its exchange address once it takes work."""
    nursery = Nursery.fork() if config.desk else None
    if nursery and os.geteuid() != 0:
        # The nursery enters containers' networks, and needs the right to. We do not.
        linux.set_no_capabilities()
    # A fork has to come before everything else; a cluster is asked when all else is there.
    forked = None if config.pods else SandboxRunner.fork(config.name, required=_strict(config))
    asyncio.run(_serve(config, forked, nursery, ready))


async def _serve(
    config: AgentConfig, forked: SandboxRunner | None, nursery: Nursery | None, ready: Callable[[str], None]
) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with AsyncExitStack() as stack:
        runner = forked or await _in_pods(config)
        stack.push_async_callback(runner.close)
        await asyncio.to_thread(lambda: runner.isolation)  # the zygote has found out what holds here
        kb = await jetstream.connect(config.bus, config.credentials, config.name, server=config.server)
        stack.push_async_callback(kb.close)
        stack.push_async_callback(telemetry.setup(config.name, kb, collector=config.settings.telemetry).close)
        await until("the hub answers", _answering(kb), within=HUB_SECONDS)
        shared = SharedView(kb)
        await stack.enter_async_context(background(*shared.works))
        local = _local(config)
        ways = await _ways(config, local, nursery)
        stack.push_async_callback(ways.close)
        agent = await _agent(config, kb, runner, shared, (ways, local))
        stack.push_async_callback(agent.close)
        await stack.enter_async_context(background(*agent.works))
        presence = _presence(config, ways, runner)
        ears = await _listen(agent, kb, config.name, presence.instance)
        gauge = Gauge(lambda: agent.parts, capacity_of(config.settings.party_capacity))
        presence = presence.model_copy(update={"load": gauge.last})
        announcement = await stack.enter_async_context(
            announce(kb.store(PRESENCE), key_of(config.name, presence.instance), presence)
        )
        announcement.fresh = lambda value: value.model_copy(update={"load": gauge.last, "warm": _warm(runner)})
        await stack.enter_async_context(background(lambda: gauge.follow(announcement)))
        ready(ways.address)
        await stopped.wait()
        await _drain(config, agent, announcement, presence)
        await leave(*ears)


async def _drain(config: AgentConfig, agent: Agent, announcement: Announcement, presence: Presence) -> None:
    """Finish what runs here. Nothing is refused meanwhile: who has heard that we leave sends nothing new, and others of
    this party may have come in our place."""
    if config.drain <= 0:
        return
    try:
        await announcement.update(presence.model_copy(update={"leaving": True}))
    except DynamosError as error:
        log.warning("agent.leaves-unheard party=%s error=%s", config.name, error)
    await agent.drain(config.drain)


def _answering(kb: KnowledgeBase) -> Callable[[], Awaitable[bool]]:
    """A site's leaf may be there before it has reached the hub."""

    async def probe() -> bool:
        try:
            await kb.store(SHARED).get("hub")
        except (Unavailable, TimedOut):
            return False
        return True

    return probe


def _local(config: AgentConfig) -> LocalExchange:
    inbox = Inbox(config.name, config.orchestrator, SystemClock())
    receiver = Receiver(config.credentials, host=host(config.host), port=config.port, admit=inbox.admit)
    return LocalExchange(Sender(config.credentials), receiver, inbox)


async def _ways(config: AgentConfig, local: LocalExchange, nursery: Nursery | None) -> Ways:
    """Have streams go by the party's container where it has one. Then nothing listens here: we only send results."""
    if config.policies is not None:
        opened = OpenedWays(_openings(config, config.policies), local, config.name, config.policies)
        await opened.start()
        return opened
    if config.desk is None or nursery is None:
        await local.start()
        return OneWay(local)
    desk = Customer(config.desk, config.name)
    await desk.start()
    if config.scope == "request":
        return FreshWays(desk, nursery, config, local)
    way = StandingWay(desk, nursery, config, local)
    try:
        await way.start()
    except Refused as error:  # a party in no group: it has results to give, and no rows to exchange
        log.warning("agent.alone party=%s error=%s", config.name, error)
    return way


def _strict(config: AgentConfig) -> bool:
    return config.settings.isolation == "required"


async def _in_pods(config: AgentConfig) -> KubernetesRunner:
    """Give the runner of an agent in a cluster, once a pod has shown that jobs can run there."""
    from dynamos.jobs.pods.lightkubes import LightkubePods  # noqa: PLC0415  of the extra `kubernetes`

    assert config.pods is not None
    home = PodsHome(config.name, *_own_pod(config), address=host(""))
    pods = LightkubePods(config.pods, home)
    return await KubernetesRunner.open(config.pods, home, pods, data=config.data, required=_strict(config))


def _warm(runner: Runner) -> dict[str, int]:
    """Give how many pods wait for jobs, by shape."""
    shapes = runner.pool.facts if isinstance(runner, KubernetesRunner) else {}
    return {shape: facts["ready"] for shape, facts in shapes.items()}


def _own_pod(config: AgentConfig) -> tuple[str, str]:
    """Give the name and the id of the pod that we are. Raises BadInput where we are not told."""
    pod, uid = os.environ.get("POD_NAME", ""), os.environ.get("POD_UID", "")
    if not pod or not uid:
        raise BadInput("POD_NAME and POD_UID tell an agent in a cluster which pod it is", where=config.name)
    return pod, uid


def _openings(config: AgentConfig, policies: PoliciesConfig) -> Openings:
    """Give the cluster's network, as this pod may change it. Raises BadInput where the pod is not told who it is."""
    from dynamos.middleware.network.cluster import ClusterOpenings  # noqa: PLC0415  of the extra `kubernetes`

    home = Home(config.name, policies.testbed, policies.namespaces, *_own_pod(config))
    return ClusterOpenings(home, kubeconfig=policies.kubeconfig)


async def _agent(
    config: AgentConfig, kb: KnowledgeBase, runner: Runner, shared: SharedView, exits: tuple[Ways, Sends]
) -> Agent:
    """Put the agent together from its parts, its agreement and its catalogue."""
    clock = SystemClock()
    data_sets = await discover(config.party, config.data_sets, config.data)
    spent = SpentGrants(kb.store(bucket_of(config.name)), clock=clock)
    catalogue = catalogue_of(kb, config.name)
    seeding = asyncio.ensure_future(agreements.seed(kb, config.agreement))
    puts = (catalogue.put(name, data_set) for name, data_set in data_sets.items())
    await asyncio.gather(seeding, spent.prune(), *puts)  # all at once: the hub may be far away
    policy = Policy(*seeding.result(), data_sets)
    requestors = Requestors(config.api, open=config.settings.open, clock=clock)
    gatekeeper = Gatekeeper(
        config,
        engine=BuiltIn(),
        shared=shared,
        policy=policy,
        requestors=requestors,
        spent=spent,
        clock=clock,
    )
    warden = Warden(config.name, kb, gatekeeper, policy, clock)
    shared.told = warden.shared
    return Agent(
        config,
        kb=kb,
        runner=runner,
        ways=exits[0],
        results=exits[1],
        gatekeeper=gatekeeper,
        warden=warden,
        shared=shared,
        policy=policy,
        secret=_secret(config),
        clock=clock,
        requestors=requestors,
    )


async def _listen(agent: Agent, kb: KnowledgeBase, party: str, instance: str) -> list[Subscription]:
    """Take what is for this agent, for all agents of the party, and (the agreement) for any one of them."""

    async def start(_: str, message: dict[str, object]) -> dict[str, object]:
        return (await agent.start(StartPart.model_validate(message))).as_json()

    async def end(_: str, message: dict[str, object]) -> dict[str, object]:
        await agent.end(EndPart.model_validate(message))
        return {}

    async def end_all(_: str, message: dict[str, object]) -> dict[str, object]:
        await agent.end_all(EndParts.model_validate(message))
        return {}

    async def change(_: str, message: dict[str, object]) -> dict[str, object]:
        return await agent.change_agreement(Change.model_validate(message))

    own = f"agent.{party}.{instance}"
    handlers = ((f"{own}.start", start, ""), (f"{own}.end", end, ""), (f"{own}.ends", end_all, ""),
                (f"agent.{party}.end", end, ""), (f"agent.{party}.ends", end_all, ""),
                (f"agent.{party}.agreement", change, "agent"))  # fmt: skip
    return [await kb.bus.listen(subject, handler, queue=queue) for subject, handler, queue in handlers]


def _presence(config: AgentConfig, ways: Ways, runner: Runner) -> Presence:
    now = SystemClock().now().isoformat()
    return Presence(
        party=config.name,
        instance=fresh(),
        address=ways.address,
        active_since=now,
        config_updated=now,
        isolation=runner.isolation,
        version=dynamos.__version__,
    )


def _secret(config: AgentConfig) -> bytes:
    """Give the party's own secret for pseudonyms, made on first start and never told to anybody.

    Where the folder cannot be written it is made at each start: pseudonyms are of one job, whose rows one agent reads.
    """
    path = config.folder / "pseudonyms.key"
    made = secrets.token_bytes(32)
    try:
        if not path.exists():
            path.touch(mode=0o600)
            path.write_bytes(made)
        return path.read_bytes()
    except PermissionError:
        return made
    except OSError as error:
        if error.errno != errno.EROFS:
            raise
        return made
