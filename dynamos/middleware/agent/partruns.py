"""One job part at work: its pipes, its steps, the streams that leave it, and the report at the end."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from dynamos.exchange.senders import Sender
from dynamos.exchange.sinks import PipeSink
from dynamos.exchange.streams import Sink
from dynamos.jobs.runners import Assignment, Outcome, Runner, RunningPart
from dynamos.kit.errors import Broken, Cancelled, DynamosError, TimedOut
from dynamos.middleware.agent.inbox import Inbox
from dynamos.middleware.views import error_facts
from dynamos.model.jobs import Grant, PartReport, State, Transfer
from dynamos.model.plans import REQUESTOR, Edge

log = logging.getLogger(__name__)
GATEWAY = "api"
GRACE_SECONDS = 10.0
SETTLE_SECONDS = 2.0
SOURCE_FAILED = ("not-arrow", "truncated")
"""Codes of the sender that may only mean that the step which writes the stream has died."""


@dataclass(slots=True)
class Pipes:
    """The pipe ends of a part: the runner takes `inputs` and `outputs`; we keep `sinks` and `sources`."""

    inputs: dict[str, int] = field(default_factory=dict)
    outputs: dict[str, int] = field(default_factory=dict)
    sinks: dict[str, Sink] = field(default_factory=dict)
    sources: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, grant: Grant, on_abort: Callable[[DynamosError], None]) -> Pipes:
        """Make one pipe for every stream that enters or leaves the part."""
        pipes = cls()
        for edge in grant.part.incoming:
            pipes.inputs[edge.name], write_end = os.pipe()
            pipes.sinks[edge.name] = PipeSink(write_end, on_abort=on_abort)
        for edge in grant.part.outgoing:
            pipes.sources[edge.name], pipes.outputs[edge.name] = os.pipe()
        return pipes


class PartRun:
    """Runs the part of one grant, once."""

    def __init__(self, grant: Grant, text: str, *, runner: Runner, sender: Sender, inbox: Inbox) -> None:
        self.grant = grant
        self._text = text
        self._runner = runner
        self._sender = sender
        self._inbox = inbox
        self._loop = asyncio.get_running_loop()
        self._running: RunningPart | None = None
        self._error: DynamosError | None = None
        self._pipes = Pipes()
        self._over = False

    async def start(self, assignment: Assignment) -> None:
        """Start every step and let the incoming streams in. Raises what the runner raises; nothing is left then."""
        self._pipes = Pipes.of(self.grant, self._broke_off)
        try:
            self._running = await self._runner.start(assignment, self._pipes.inputs, self._pipes.outputs)
        except BaseException:
            for fd in self._pipes.sources.values():
                os.close(fd)
            self._close_sinks(list(self._pipes.sinks.values()), Cancelled("the part did not start"))
            self._over = False
            raise
        self._inbox.expect(self.grant.job, self._pipes.sinks)

    async def kill(self, error: DynamosError) -> None:
        """Stop the part now, for this reason."""
        self._error = self._error or error
        if self._running is not None:
            await self._running.kill(error)

    async def finish(self, deadline: float) -> PartReport:
        """Wait for the end of steps and streams, and report. Streams are confirmed only if every step did well."""
        assert self._running is not None
        confirmed: asyncio.Future[None] = self._loop.create_future()
        try:
            async with asyncio.timeout(deadline + GRACE_SECONDS), asyncio.TaskGroup() as group:
                sends = [group.create_task(self._send(edge, confirmed)) for edge in self.grant.part.outgoing]
                outcome = await self._running.wait()
                self._settle(outcome, confirmed)
        except TimeoutError:
            await self.kill(TimedOut(f"the streams of {self.grant.party} did not end in time", code="deadline"))
            outcome = await self._running.wait()
            sends = []
        finally:
            self._close_sinks(self._inbox.forget(self.grant.job), Cancelled("the part has ended"))
            if not confirmed.done():
                confirmed.cancel()
            elif not confirmed.cancelled():
                confirmed.exception()  # seen, also where nothing had to be sent
        return self._report(outcome, tuple(found for send in sends if (found := send.result()) is not None))

    def _settle(self, outcome: Outcome, confirmed: asyncio.Future[None]) -> None:
        self._error = self._error or outcome.error
        if self._error is None:
            confirmed.set_result(None)
        else:
            confirmed.set_exception(self._error)

    async def _send(self, edge: Edge, confirmed: asyncio.Future[None]) -> Transfer | None:
        """Carry one stream out; a failure stops the part."""
        try:
            return await self._sender.send(
                self.grant.addresses[edge.target_party],
                peer=GATEWAY if edge.target_party == REQUESTOR else edge.target_party,
                job=self.grant.job,
                edge=edge.name,
                grant=self._text,
                source_fd=self._pipes.sources[edge.name],
                confirm=lambda: asyncio.shield(confirmed),
            )
        except DynamosError as error:
            await self._kill_after(error)
        except Exception:
            log.exception("transfer.broken job=%s edge=%s", self.grant.job, edge.name)
            await self.kill(Broken(f"stream {edge.name} broke; the agent's log tells more", where=edge.name))
        return None

    async def _kill_after(self, error: DynamosError) -> None:
        """Stop the part because a stream failed. Where its step had failed before, that is the better reason: wait."""
        assert self._running is not None
        if error.detail_code in SOURCE_FAILED:
            with suppress(TimeoutError):
                async with asyncio.timeout(SETTLE_SECONDS):
                    outcome = await self._running.wait()
                    self._error = self._error or outcome.error
        await self.kill(error)

    def _broke_off(self, error: DynamosError) -> None:
        """An incoming stream broke off (told from a receiver's thread): what came so far must not count."""
        if self._over:
            return
        asyncio.run_coroutine_threadsafe(self.kill(error), self._loop).result(timeout=GRACE_SECONDS)

    def _close_sinks(self, sinks: list[Sink], error: DynamosError) -> None:
        """Close the pipes that no stream was let into."""
        self._over = True
        for sink in sinks:
            sink.abort(error)

    def _report(self, outcome: Outcome, transfers: tuple[Transfer, ...]) -> PartReport:
        error = self._error
        state = State.SUCCEEDED if error is None else State.CANCELLED if isinstance(error, Cancelled) else State.FAILED
        return PartReport(
            job=self.grant.job,
            party=self.grant.party,
            state=state,
            error=error_facts(error) if error else None,
            usages=outcome.usages,
            transfers=transfers,
        )
