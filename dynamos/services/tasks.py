"""What one service process is started for: the environment of the contract, read (design §5.1)."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from dynamos.kit.errors import BadInput, Mistake, Mistakes
from dynamos.kit.words import suggest
from dynamos.model.values import Value

DATA = "/data"

_FOR_ALL = ("algorithm", "columns")
"""What every service is told of the request. A service that does not declare them as options is not shown them."""

T = TypeVar("T")
OptionsT = TypeVar("OptionsT", bound=Value)


@dataclass(frozen=True, slots=True)
class Task:
    """The one job that this process works for.

    `provider` is whose rows it works on, if just one's; `deadline` is in seconds from the start, None for no bound;
    `data` is the folder of the party's data and `scratch` the one folder that it may write in.
    """

    job: str = ""
    party: str = ""
    service: str = ""
    provider: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    deadline: float | None = None
    trace: Mapping[str, str] = field(default_factory=dict)
    data: Path = Path(DATA)
    scratch: Path = Path("/tmp")  # noqa: S108  the sandbox mounts a private one there
    resources: ExitStack = field(default_factory=ExitStack, repr=False)

    def enter(self, resource: AbstractContextManager[T]) -> T:
        """Enter a context that must last as long as the service's streams: it is left when the run has ended."""
        return self.resources.enter_context(resource)

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> Task:
        """Read DYNAMOS_JOB, DYNAMOS_DATA and TMPDIR. Raises BadInput where DYNAMOS_JOB is not a JSON object."""
        try:
            members = json.loads(environment.get("DYNAMOS_JOB", ""))
        except ValueError:
            members = None
        if not isinstance(members, dict):
            raise BadInput("DYNAMOS_JOB is not a JSON object", hint='start from {"job": "1", "options": {}}')
        known = ("job", "party", "service", "provider", "options", "deadline", "trace")
        return cls(
            **{name: members[name] for name in known if members.get(name) is not None},
            data=Path(environment.get("DYNAMOS_DATA") or DATA),
            scratch=Path(environment.get("TMPDIR") or tempfile.gettempdir()),
        )


def descriptors(text: str, variable: str) -> dict[str, int]:
    """Read "name=fd,other=fd" into file descriptors by name. Raises BadInput that names the variable."""
    found = {}
    for pair in filter(None, text.split(",")):
        name, _, number = pair.rpartition("=")
        if not name or not number.isdecimal():
            raise BadInput(f"{variable} holds {pair!r}", hint="write name=fd pairs with commas between them")
        found[name] = int(number)
    return found


def options_of(task: Task, kind: type[OptionsT]) -> OptionsT:
    """Give the task's options as `kind`. Raises Mistakes, all at once, with near names for unknown options."""
    told = {name: value for name, value in task.options.items() if name in kind.model_fields or name not in _FOR_ALL}
    try:
        return kind.model_validate(told)
    except ValidationError as error:
        known = [member.alias or name for name, member in kind.model_fields.items()]
        # The values are left out: options may hold a party's key.
        mistakes = [
            Mistake(
                ".".join(["options", *map(str, found["loc"])]),
                "there is no such option" if found["type"] == "extra_forbidden" else found["msg"],
                suggest(str(found["loc"][-1]), known) if found["type"] == "extra_forbidden" else "",
            )
            for found in error.errors(include_input=False, include_url=False, include_context=False)
        ]
        raise Mistakes(mistakes, subject=task.service or "the service") from None
