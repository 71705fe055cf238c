"""Steps: what the engine does to each resource, and what it complains of, from the events that it tells. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Phase = Literal["begins", "done", "failed"]
_KINDS = re.compile(r"(?:pulumi-python:dynamic/testbed|^kubernetes:[\w.]+/\w+):(\w+)$")
"""What is really there; components are only names for some of it."""
_QUIET = ("same", "read", "refresh")
_NOISE = re.compile(r"<\{%[^%]*%\}>|\x1b\[[0-9;]*m|^(?:error|warning): |Exception calling application: ")


@dataclass(frozen=True, slots=True)
class Step:
    """One resource and what happens to it: `action` in Pulumi's words, `changes` what of it becomes what."""

    action: str
    kind: str
    name: str
    phase: Phase
    changes: tuple[str, ...] = ()

    def __str__(self) -> str:
        why = f": {', '.join(self.changes)}" if self.changes else ""
        return f"{self.action} {self.kind.lower()} {self.name}{why}"

    def as_json(self) -> dict[str, Any]:
        """Give the step for programs."""
        return {"action": self.action, "kind": self.kind, "name": self.name, "changes": list(self.changes)}


@dataclass
class Listener:
    """Hears the engine's events: hands steps to `told`, and keeps the steps that change something, the counts and the
    complaints."""

    told: Callable[[Step], None]
    steps: list[Step] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def __call__(self, event: Any) -> None:
        """Hear one event of the Automation API."""
        if begun := event.resource_pre_event:
            self._step(begun.metadata, "begins")
        elif done := event.res_outputs_event:
            self._step(done.metadata, "done")
        elif failed := event.res_op_failed_event:
            self._step(failed.metadata, "failed")
        elif said := event.diagnostic_event:
            self._complaint(said)
        elif event.summary_event:
            changes = event.summary_event.resource_changes or {}
            self.counts = {_word(action): int(count) for action, count in changes.items()}

    def _step(self, metadata: Any, phase: Phase) -> None:
        action = _word(metadata.op)
        found = _KINDS.search(str(metadata.type))
        if not found or action in _QUIET:
            return
        old, new = getattr(metadata.old, "outputs", None), getattr(metadata.new, "inputs", None)
        changes = tuple(_turns(old, new)) if old and new else ()
        step = Step(action, found[1], str(metadata.urn).rpartition("::")[2], phase, changes)
        if phase == "begins":
            self.steps.append(step)
        self.told(step)

    def _complaint(self, said: Any) -> None:
        if said.severity != "error":
            return
        text = _NOISE.sub("", said.message).strip()
        name = str(said.urn or "").rpartition("::")[2]
        if not text or re.match(r"(update|preview|refresh|destroy) failed$", text):
            return
        told = text if not name or "pulumi:pulumi:Stack" in str(said.urn) or name in text else f"{name}: {text}"
        if told not in self.problems:
            self.problems.append(told)


def _turns(old: Mapping[str, Any], new: Mapping[str, Any], inside: str = "") -> Iterator[str]:
    """Give what differs of what was wanted now and what is there, down to single values."""
    for name, value in new.items():
        was, path = old.get(name), f"{inside}{name}"
        if name == "__provider" or was == value:
            continue
        if isinstance(was, Mapping) and isinstance(value, Mapping) and name != "on":
            yield from _turns(was, value, "" if name == "item" else f"{path}.")
        elif isinstance(was, str | float | int) and isinstance(value, str | float | int):
            yield f"{path} {was} → {value}"
        else:
            yield path


def _word(action: Any) -> str:
    """Give an operation's name, whether it comes as a word or as one of the API's constants."""
    return str(getattr(action, "value", action)).replace("_", "-").lower()
