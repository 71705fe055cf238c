"""Pulumi programs run without an engine, to their very end, and a guard for tests of them.

Values of outputs are given back, so that tests assert in their own lines and not in callbacks that may never be called.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from unittest import mock

import pulumi
from pulumi.runtime import mocks

_ASSERTING = ("raises", "fail", "gone", "eventually")


class Made(NamedTuple):
    """A resource that a program has asked for."""

    kind: str
    name: str
    inputs: dict[str, Any]


class _Recorder(mocks.Mocks):
    """Makes every resource at once: its outputs are its inputs, and its id tells what it is."""

    def __init__(self) -> None:
        self.made: list[Made] = []

    def call(self, args: mocks.MockCallArgs) -> Any:
        return args.args, None

    def new_resource(self, args: mocks.MockResourceArgs) -> Any:
        kind = args.typ.rpartition(":")[2]
        if args.custom:
            kept = {name: value for name, value in args.inputs.items() if name != "__provider"}
            self.made.append(Made(kind, args.name, kept))
        return f"{kind}/{args.name}", args.inputs


class Run(NamedTuple):
    """What a program has made, and the value of what it gave back."""

    made: list[Made]
    value: Any

    def of(self, kind: str) -> dict[str, dict[str, Any]]:
        """Give the inputs of the resources of a kind by name."""
        return {each.name: each.inputs for each in self.made if each.kind == kind}


def run(program: Callable[[], Any], **config: str) -> Run:
    """Run a program whose resources are made at once; `config` is the stack's."""
    recorder, values = _Recorder(), []
    with _loops():
        mocks.set_mocks(recorder, project="dynamos", stack="tests", preview=False)
        pulumi.runtime.set_all_config({f"dynamos:{name}": value for name, value in config.items()})
        pulumi.runtime.test(lambda: pulumi.Output.from_input(program()).apply(values.append))()
    assert len(values) == 1, "the program did not come to its end"
    return Run(recorder.made, values[0])


@contextmanager
def _loops() -> Iterator[None]:
    """Close what Pulumi's mocks leave open: a loop in each of their threads."""
    made: list[asyncio.AbstractEventLoop] = []
    new = asyncio.new_event_loop

    def noted() -> asyncio.AbstractEventLoop:
        made.append(new())
        return made[-1]

    with mock.patch("asyncio.new_event_loop", noted):
        own = asyncio.new_event_loop()
        asyncio.set_event_loop(own)
        try:
            yield
        finally:
            own.run_until_complete(own.shutdown_default_executor())
            asyncio.set_event_loop(None)
            for loop in made:
                loop.close()


@contextmanager
def watched(function: Callable[..., Any]) -> Iterator[None]:
    """Fail where the function runs no assertion, or not all that it has: one in a callback that nobody calls."""
    code, wanted, ran = function.__code__, assertions(function), set[int]()

    def trace(frame: Any, event: str, _: Any) -> Any:
        if frame.f_code.co_filename != code.co_filename:
            return None
        if event == "line":
            ran.add(frame.f_lineno)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    threading.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)
        threading.settrace(None)  # type: ignore[arg-type]
    assert wanted, f"{function.__name__} asserts nothing"
    missed = sorted(wanted - ran)
    assert not missed, f"{function.__name__} never came to its assertions in lines {missed}"


def assertions(function: Callable[..., Any]) -> set[int]:
    """Give the lines of a function's assertions, those of the functions inside it too."""
    lines, first = inspect.getsourcelines(function)
    tree = ast.parse(textwrap.dedent("".join(lines)))
    return {node.lineno + first - 1 for node in ast.walk(tree) if _asserts(node)}


def _asserts(node: ast.AST) -> bool:
    if isinstance(node, ast.With):
        return any(_asserts(item.context_expr) for item in node.items)
    if isinstance(node, ast.Call):
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        return name in _ASSERTING
    return isinstance(node, ast.Assert)
