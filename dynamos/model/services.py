"""Services: data-exchange microservices and what the planner and the runner must know of them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from dynamos.model.units import Duration, Size
from dynamos.model.values import Name, Value

Label = Literal["dataProvider", "computeProvider"]


class Limits(Value):
    """What one service process may use."""

    memory: Size = Size.parse("1GiB")
    cpu: Duration = Duration.parse("10m")
    processes: int = 64
    scratch: Size = Size.parse("256MiB")


class Service(Value):
    """One data-exchange microservice, with its manifest.

    `label`, `allowed_outputs` and `invalid_archetypes` are upstream's: which role the service belongs to, which
    services may follow it, under which archetypes it may not run. `inputs` tells how many streams it reads: "none"
    (it reads the party's data), "one", or "many" (a union). `command` is empty for a Python service that is installed
    under its name, else the program and its arguments. `image` is the container image that has the program, for
    parties that run jobs in containers; without one it is ours.
    """

    name: Name
    label: Label
    allowed_outputs: tuple[Name, ...] = ()
    invalid_archetypes: tuple[Name, ...] = ()
    inputs: Literal["none", "one", "many"] = "one"
    reads_data: bool = False
    command: tuple[str, ...] = ()
    image: str = ""
    options: dict[str, str] = Field(default_factory=dict)
    limits: Limits = Limits()
    description: str = ""
