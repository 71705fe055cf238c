"""The way of streams in a cluster: the agent's own exchange, and a network that lets through what a part needs."""

from __future__ import annotations

import asyncio
import logging
import os
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress

from opentelemetry import trace

from dynamos.kit.errors import DynamosError, Refused, TimedOut, Unavailable
from dynamos.kit.waits import until
from dynamos.middleware.agent.exchanges import Aborted, Exchange, LocalExchange
from dynamos.middleware.agent.knocks import answers, knock
from dynamos.middleware.configs import PoliciesConfig
from dynamos.middleware.network.openings import Opening, Openings, opening_of
from dynamos.model.jobs import Grant, Transfer
from dynamos.model.plans import REQUESTOR, Compression, Part

log = logging.getLogger(__name__)
tracer = trace.get_tracer("dynamos.agent")
SHUT_SECONDS = 0.5
"""How long an answer is waited for that must not come."""
CLOSE_SECONDS = 3.0
SETTLE_SECONDS = 1.0
"""How long an opening outlives its part: the last words of a stream are under way still, over half the world."""
_PAUSE, _LONGEST_PAUSE = 0.1, 2.0


class OpenedWays:
    """Opens the ways of each part before it starts, and removes the opening after it, however it ended.

    Steps start while the network still takes it up: only a stream waits until its way carries. When no part needs the
    way to a peer any more, the connection to it is given up as well, since many networks let those live on.
    """

    def __init__(self, openings: Openings, local: LocalExchange, party: str, config: PoliciesConfig) -> None:
        self._openings = openings
        self._local = local
        self._party = party
        self._config = config
        self._users: Counter[str] = Counter()
        self._proven: set[str] = set()
        self._removals: set[asyncio.Task[None]] = set()
        self._closing = asyncio.Event()

    @property
    def address(self) -> str:
        return self._local.address

    async def start(self) -> None:
        """Listen, once nothing is open any more that an earlier life of this agent left.

        Raises Refused (not-denied) in a namespace that lets through what nobody opened, Unavailable, TimedOut.
        """
        await until("the cluster tells which ways are open", self._swept, within=self._config.patience, every=_PAUSE)
        if not await self._openings.denies():
            namespace = self._config.namespaces[self._party]
            hint = "deploy the party's own policies first: `dynamos manifests` has them"
            raise Refused("no policy denies what nobody opened", where=namespace, code="not-denied", hint=hint)
        await self._local.start()

    @asynccontextmanager
    async def of(self, grant: Grant, text: str) -> AsyncIterator[Exchange]:  # noqa: ARG002  its words were checked
        opening = opening_of(grant.part)
        if opening is None:
            yield self._local
            return
        with tracer.start_as_current_span("network.open"):
            await self._prove(opening, grant.addresses)
            await self._open(opening)
        self._users.update(opening.receivers)
        gates = {
            peer: asyncio.create_task(self._carries(peer, opening, grant.addresses[peer]), name=f"way to {peer}")
            for peer in opening.receivers
        }
        gated = Gated(self._local, gates, grant.part, lambda: self._over(opening))
        try:
            yield gated
        finally:
            await _end(gates.values())
            gated.end()

    async def close(self) -> None:
        """Stop, within some seconds. What could not be removed goes with the agent's pod."""
        self._closing.set()
        await self._local.close()
        if self._removals:
            _, left = await asyncio.wait(self._removals, timeout=CLOSE_SECONDS)
            await _end(left)
        await self._openings.close()

    async def _swept(self) -> bool:
        try:
            for name in await self._openings.names():
                log.info("opening.swept", extra={"opening": name})
                await self._openings.remove(name)
        except Unavailable as error:
            raise OSError(str(error)) from None  # tried again
        return True

    async def _prove(self, opening: Opening, addresses: Mapping[str, str]) -> None:
        """See that ways are shut that nobody opened, each once: a cluster may take policies and enforce none."""
        unproven = [peer for peer in opening.receivers if peer not in self._proven and not self._users[peer]]
        if self._config.prove and unproven:
            await asyncio.gather(*(self._prove_one(peer, addresses[peer]) for peer in unproven))

    async def _prove_one(self, peer: str, address: str) -> None:
        end = asyncio.get_running_loop().time() + self._config.patience
        while await answers(address, within=SHUT_SECONDS):
            if self._users[peer] or peer in await self._openings.receivers():
                return  # somebody else of the party has opened it: that proves nothing
            if asyncio.get_running_loop().time() > end:  # it was not one that is only just gone
                hint = "the cluster's network must enforce NetworkPolicies: Cilium and Calico do, flannel does not"
                raise Refused(f"{peer} can be reached though no way is open", code="not-enforced", hint=hint)
            await asyncio.sleep(_PAUSE)
        self._proven.add(peer)

    async def _open(self, opening: Opening) -> None:
        """Have the opening; a cluster that is away for a moment is asked again."""
        loop = asyncio.get_running_loop()
        end, pause = loop.time() + self._config.patience, _PAUSE
        try:
            while True:
                try:
                    return await self._openings.put(opening)
                except Unavailable:
                    if loop.time() + pause > end:
                        raise
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
        except BaseException:
            self._remove(opening.name)  # it may be there, and only the answer was lost
            raise

    async def _carries(self, peer: str, opening: Opening, address: str) -> None:
        try:
            took = await knock(f"{self._party}>{peer}", address, within=self._config.patience)
        except TimedOut as error:
            here, there = (self._config.namespaces[party] for party in (self._party, peer))
            error.hint = f"see the NetworkPolicy {opening.name} in {here}, and those of {there} for the same job"
            raise
        log.info("way.carries job=%s peer=%s", opening.job, peer, extra={"took_ms": took * 1e3})

    def _over(self, opening: Opening) -> None:
        """The part's streams have ended. Keep nothing that only they needed."""
        self._users.subtract(opening.receivers)
        for peer in opening.receivers:
            if self._users[peer] <= 0:
                del self._users[peer]
                self._local.leave(peer)
        self._remove(opening.name)

    def _remove(self, name: str) -> None:
        """Have the opening removed, whatever happens to whoever asked for it."""
        task = asyncio.create_task(self._until_removed(name), name=f"{name} goes")
        self._removals.add(task)
        task.add_done_callback(self._removals.discard)

    async def _until_removed(self, name: str) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_SECONDS):
                await self._closing.wait()
        pause = _PAUSE
        while True:
            try:
                await self._openings.remove(name)
            except DynamosError as error:
                log.warning("opening.stays", extra={"opening": name, "error": str(error)})
            else:
                return
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)


class Gated:
    """The exchange of one part, whose streams wait until their way carries. `gates` tell that, by peer; `ended` is
    called once, when all of the part's streams have ended or `end` was called."""

    def __init__(
        self, exchange: Exchange, gates: Mapping[str, asyncio.Task[None]], part: Part, ended: Callable[[], None]
    ) -> None:
        self._exchange = exchange
        self._gates = gates
        self._ended = ended
        self._over = False
        self._left = {edge.name for edge in part.edges if edge.crosses and edge.target_party != REQUESTOR}
        self._incoming = {edge.name for edge in part.incoming}

    @property
    def address(self) -> str:
        return self._exchange.address

    async def expect(self, job: str, pipes: Mapping[str, int], aborted: Aborted) -> None:
        await self._exchange.expect(job, pipes, aborted)

    async def forget(self, job: str, error: DynamosError) -> None:
        try:
            await self._exchange.forget(job, error)
        finally:
            self._done(self._incoming)

    async def send(
        self,
        address: str,
        *,
        peer: str,
        job: str,
        edge: str,
        grant: str,
        source_fd: int,
        confirm: Callable[[], Awaitable[None]],
        compression: Compression = "none",
    ) -> Transfer:
        """Send as soon as the way carries. Raises TimedOut (way-shut), and what `Sends.send` does."""
        try:
            await asyncio.shield(self._gate(peer, job))
        except BaseException:
            os.close(source_fd)
            raise
        try:
            return await self._exchange.send(
                address,
                peer=peer,
                job=job,
                edge=edge,
                grant=grant,
                source_fd=source_fd,
                confirm=confirm,
                compression=compression,
            )
        finally:
            self._done({edge})

    def _gate(self, peer: str, job: str) -> asyncio.Task[None]:
        try:
            return self._gates[peer]
        except KeyError:
            raise Refused(f"no way to {peer} was opened for this job", where=job, code="way-shut") from None

    def end(self) -> None:
        """The part has ended, and its streams with it."""
        if not self._over:
            self._over = True
            self._ended()

    async def close(self) -> None:
        await self._exchange.close()

    def _done(self, edges: set[str]) -> None:
        self._left -= edges
        if not self._left:
            self.end()


async def _end(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancel tasks, and see to it that nobody misses what they raised."""
    several = list(tasks)
    for task in several:
        task.cancel()
    await asyncio.gather(*several, return_exceptions=True)
