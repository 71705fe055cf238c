"""One job part at work: its pipes, its steps, the streams that leave it, and the report at the end."""

from __future__ import annotations

import asyncio
import logging
import os
from contextlib import suppress
from dataclasses import dataclass, field

from opentelemetry import trace

from dynamos.jobs.runners import Assignment, Outcome, Runner, RunningPart
from dynamos.kit.errors import Broken, Cancelled, DynamosError, TimedOut
from dynamos.middleware.agent.exchanges import Exchange, Sends
from dynamos.middleware.views import error_facts
from dynamos.model.jobs import Grant, PartReport, State, Transfer
from dynamos.model.plans import REQUESTOR, Edge

log = logging.getLogger(__name__)
tracer = trace.get_tracer("dynamos.agent")
GATEWAY = "api"
GRACE_SECONDS = 10.0
SETTLE_SECONDS = 2.0
TELL_SECONDS = 2.0
"""How long the streams of a part that failed may take to tell their receivers why."""
READER_GONE = "reader-gone"
STEP_FAILED = ("not-arrow", "truncated", READER_GONE)
"""Codes of a stream that may only mean that the step at our end of it has died."""


@dataclass(slots=True)
class Pipes:
    """The pipe ends of a part: the runner takes `inputs` and `outputs`; the exchange takes `targets` and `sources`."""

    inputs: dict[str, int] = field(default_factory=dict)
    outputs: dict[str, int] = field(default_factory=dict)
    targets: dict[str, int] = field(default_factory=dict)
    sources: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, grant: Grant) -> Pipes:
        """Make one pipe for every stream that enters or leaves the part."""
        pipes = cls()
        for edge in grant.part.incoming:
            pipes.inputs[edge.name], pipes.targets[edge.name] = os.pipe()
        for edge in grant.part.outgoing:
            pipes.sources[edge.name], pipes.outputs[edge.name] = os.pipe()
        return pipes


class PartRun:
    """Runs the part of one grant, once. `exchange`, which it must have before it starts, carries streams from and to
    other parties; `results` carries those to the requestor."""

    exchange: Exchange

    def __init__(self, grant: Grant, text: str, *, runner: Runner, results: Sends) -> None:
        self.grant = grant
        self._text = text
        self._runner = runner
        self._results = results
        self._loop = asyncio.get_running_loop()
        self._running: RunningPart | None = None
        self._stop: DynamosError | None = None
        self._failed_stream: DynamosError | None = None
        self._outcome = Outcome()
        self._pipes = Pipes()
        self._over = False

    async def start(self, assignment: Assignment) -> None:
        """Start every step and let the incoming streams in. Raises what the runner and the exchange raise; nothing is
        left then."""
        self._pipes = Pipes.of(self.grant)
        try:
            self._running = await self._runner.start(assignment, self._pipes.inputs, self._pipes.outputs)
        except BaseException:
            for fd in (*self._pipes.sources.values(), *self._pipes.targets.values()):
                os.close(fd)
            raise
        if self._pipes.targets:
            try:
                await self.exchange.expect(self.grant.job, self._pipes.targets, self._broke_off)
            except DynamosError as error:
                await self._stop_unheard(error)
                raise
        if self._stop is not None and self._running is not None:  # told to stop while it was being started
            await self._running.kill(self._stop)

    @property
    def stopped(self) -> bool:
        """Whether somebody has told the part to stop."""
        return self._stop is not None

    async def kill(self, error: DynamosError) -> None:
        """Stop the part now, for this reason."""
        self._stop = self._stop or error
        if self._running is not None:
            await self._running.kill(error)

    async def finish(self, deadline: float) -> PartReport:
        """Wait for the end of steps and streams, and report. Streams are confirmed only if every step did well."""
        assert self._running is not None
        confirmed: asyncio.Future[None] = self._loop.create_future()
        sends: list[asyncio.Task[Transfer | None]] = []
        try:
            async with asyncio.timeout(deadline + GRACE_SECONDS), asyncio.TaskGroup() as group:
                sends = [group.create_task(self._send(edge, confirmed)) for edge in self.grant.part.outgoing]
                self._outcome = await self._running.wait()
                self._settle(confirmed)
                if self._error is not None:
                    await _break_off(sends)
        except TimeoutError:
            await self.kill(TimedOut(f"the streams of {self.grant.party} did not end in time", code="deadline"))
            self._outcome = await self._running.wait()
        finally:
            self._over = True
            if self._pipes.targets:
                await self._forget()
            if not confirmed.done():
                confirmed.cancel()
            elif not confirmed.cancelled():
                confirmed.exception()  # seen, also where nothing had to be sent
        done = [send.result() for send in sends if send.done() and not send.cancelled()]
        return self._report(tuple(transfer for transfer in done if transfer is not None))

    @property
    def _error(self) -> DynamosError | None:
        """The first cause: what stopped the part, else the step that failed, else the stream that did.

        A step that only lost its reader did not fail first: whoever closed the stream did.
        """
        step = self._outcome.error
        if step is not None and step.detail_code == READER_GONE and self._stop is None:
            return self._failed_stream or step
        return self._stop or step or self._failed_stream

    def _settle(self, confirmed: asyncio.Future[None]) -> None:
        if self._error is None:
            confirmed.set_result(None)
        else:
            confirmed.set_exception(self._error)

    async def _send(self, edge: Edge, confirmed: asyncio.Future[None]) -> Transfer | None:
        """Carry one stream out; a failure stops the part."""
        result = edge.target_party == REQUESTOR
        try:
            with tracer.start_as_current_span(
                "transfer", attributes={"edge": edge.name, "to": edge.target_party}
            ) as span:
                sent = await (self._results if result else self.exchange).send(
                    self.grant.addresses[edge.target_party],
                    peer=GATEWAY if result else edge.target_party,
                    job=self.grant.job,
                    edge=edge.name,
                    grant=self._text,
                    source_fd=self._pipes.sources[edge.name],
                    confirm=lambda: asyncio.shield(confirmed),
                    compression=self.grant.compression.get(edge.name, "none"),
                )
                span.set_attributes({"rows": sent.rows, "bytes": sent.bytes})
                return sent
        except DynamosError as error:
            await self._fail_stream(error)
        except Exception:
            log.exception("transfer.broken job=%s edge=%s", self.grant.job, edge.name)
            await self._fail_stream(Broken(f"stream {edge.name} broke; the agent's log tells more", where=edge.name))
        return None

    async def _fail_stream(self, error: DynamosError) -> None:
        """Stop the part because a stream failed; where that is the fault of its step, let the step say why first.

        A step that writes rubbish and ends without having read fails two streams at once: what it wrote tells more.
        """
        assert self._running is not None
        if self._failed_stream is None or self._failed_stream.detail_code == READER_GONE:
            self._failed_stream = error
        if error.detail_code in STEP_FAILED:
            with suppress(TimeoutError):
                async with asyncio.timeout(SETTLE_SECONDS):
                    await self._running.wait()
        await self._running.kill(error)

    def _broke_off(self, error: DynamosError) -> None:
        """An incoming stream broke off (told from another thread): what came so far must not count."""
        if self._over:
            return
        # Where the step closed its own input, it has a reason of its own.
        stop = self._fail_stream(error) if error.detail_code == READER_GONE else self.kill(error)
        asyncio.run_coroutine_threadsafe(stop, self._loop).result(timeout=GRACE_SECONDS)

    async def _forget(self) -> None:
        """Let nothing of the job in any more."""
        try:
            await self.exchange.forget(self.grant.job, Cancelled("the part has ended", code="ended"))
        except TimedOut as error:
            log.warning("streams.not-forgotten job=%s error=%s", self.grant.job, error)

    async def _stop_unheard(self, error: DynamosError) -> None:
        """End steps that have begun, where no stream can be let in."""
        assert self._running is not None
        for fd in self._pipes.sources.values():
            os.close(fd)
        await self._running.kill(error)
        await self._running.wait()
        self._running = None

    def _report(self, transfers: tuple[Transfer, ...]) -> PartReport:
        error = self._error
        if error is not None:
            log.warning("part.failed job=%s error=%s log=%s", self.grant.job, error, error.facts.get("log", ""))
        state = State.SUCCEEDED if error is None else State.CANCELLED if isinstance(error, Cancelled) else State.FAILED
        return PartReport(
            job=self.grant.job,
            party=self.grant.party,
            state=state,
            error=error_facts(error) if error else None,
            usages=self._outcome.usages,
            transfers=transfers,
        )


async def _break_off(sends: list[asyncio.Task[Transfer | None]]) -> None:
    """End the streams of a part that failed: one whose receiver never took it, or is gone, would wait for it."""
    if not sends:
        return
    _, late = await asyncio.wait(sends, timeout=TELL_SECONDS)
    for send in late:
        send.cancel()
