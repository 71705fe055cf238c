"""The kit that people write services with: a decorator that makes a program of a function over record batches.

    @service("shout", label="dataProvider", options=Shout)
    def shout(rows: Stream, options: Shout, task: Task) -> Stream:
        return rows.map(lambda batch: ...)

The same function runs under every runner: the program takes the environment of the contract (design §5.1) and gives an
exit code. It keeps no state between runs, so that it can run in a forked child as well as in a thread.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import pyarrow as pa

from dynamos.kit.errors import BadInput, Broken, DynamosError, JobFailed, Mistakes
from dynamos.model.services import Label, Limits, Service
from dynamos.model.values import Value
from dynamos.services import streams
from dynamos.services.streams import Channel, Stream
from dynamos.services.tasks import Task, descriptors, options_of

__all__ = ["DOWNSTREAM_GONE", "NoOptions", "Program", "Stream", "Task", "Value", "service"]

DOWNSTREAM_GONE = 141
"""The exit code of a service whose reader has gone: what a shell gives for SIGPIPE. It is not the service's failure."""

Result: TypeAlias = Stream | pa.Table | pa.RecordBatchReader
Function = Callable[..., Result]

_log = logging.getLogger(__name__)


class NoOptions(Value):
    """The options of a service that has none."""


@dataclass(frozen=True, slots=True)
class Program:
    """A service: its manifest, its typed options, and its function. Called, it is the function itself."""

    manifest: Service
    options: type[Value]
    function: Function

    def __call__(self, *arguments: Any) -> Result:
        return self.function(*arguments)

    def main(self, environment: Mapping[str, str]) -> int:
        """Run once: read the inputs, write every output, give the exit code.

        Takes over the descriptors of its inputs and outputs, and closes them; that of DYNAMOS_ERROR it leaves open.

        0: done. DOWNSTREAM_GONE: a reader has gone. Else the exit code of the error that went to DYNAMOS_ERROR.
        """
        with ExitStack() as opened:
            try:
                self._run(environment, opened)
            except BrokenPipeError:
                return DOWNSTREAM_GONE
            except DynamosError as error:
                return self._fail(environment, error)
            except MemoryError:
                return self._fail(environment, JobFailed("there is not enough memory", code="out-of-memory"))
            except Exception as error:  # noqa: BLE001  the top of a process; logged with its trace
                _log.exception("service broke", extra={"service": self.manifest.name})
                # Only the kind is told: the text of an unexpected error may quote data.
                return self._fail(environment, Broken(f"the service broke: {type(error).__name__}"))
        return 0

    def _run(self, environment: Mapping[str, str], opened: ExitStack) -> None:
        inputs = _channels(environment, "DYNAMOS_INPUTS", opened)
        outputs = _channels(environment, "DYNAMOS_OUTPUTS", opened)
        task = Task.read(environment)
        opened.enter_context(task.resources)
        options = options_of(task, self.options)
        wanted = self.manifest.inputs
        if wanted != "many" and len(inputs) != (wanted == "one"):
            raise BadInput(f"it reads {wanted} input and was given {len(inputs)}")
        rows = {name: streams.read(channel, name) for name, channel in inputs.items()}
        arguments: tuple[Any, ...] = (rows,) if wanted == "many" else tuple(rows.values())
        result = self.function(*arguments, options, task)
        streams.write(result if isinstance(result, Stream) else Stream.of(result), outputs.values())

    def _fail(self, environment: Mapping[str, str], error: DynamosError) -> int:
        members = {"where": self.manifest.name} | error.as_dict()
        if isinstance(error, Mistakes):  # the contract has one message: it tells them all
            members["message"] = f"{error.message}: {'; '.join(map(str, error.mistakes))}"
        text = environment.get("DYNAMOS_ERROR", "")
        if text.isdecimal():
            with suppress(OSError):
                os.write(int(text), json.dumps(members).encode())
        return error.exit


def service(
    name: str,
    *,
    label: Label,
    inputs: Literal["none", "one", "many"] = "one",
    options: type[Value] = NoOptions,
    reads_data: bool = False,
    allowed_outputs: tuple[str, ...] = (),
    invalid_archetypes: tuple[str, ...] = (),
    limits: Limits | None = None,
) -> Callable[[Function], Program]:
    """Make a service of a function.

    The function gets its input (`Stream`; a mapping name -> Stream where `inputs` is "many"; nothing where it is
    "none"), its `options`, and the `Task`. It returns a Stream, an Arrow table or an Arrow reader, which goes to every
    output. It raises an error of `dynamos.kit.errors` to fail. The first line of its docstring is its description.
    """

    def make(function: Function) -> Program:
        described = (function.__doc__ or "").strip().partition("\n")[0]
        manifest = Service(
            name=name,
            label=label,
            inputs=inputs,
            reads_data=reads_data,
            allowed_outputs=allowed_outputs,
            invalid_archetypes=invalid_archetypes,
            options={member.alias or key: member.description or "" for key, member in options.model_fields.items()},
            limits=limits or Limits(),
            description=described,
        )
        return Program(manifest, options, function)

    return make


def _channels(environment: Mapping[str, str], variable: str, opened: ExitStack) -> dict[str, Channel]:
    channels = {name: Channel(fd) for name, fd in descriptors(environment.get(variable, ""), variable).items()}
    for channel in channels.values():
        opened.callback(channel.close)
    return channels
