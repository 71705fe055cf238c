"""Settings of the loop: what every planner's options have, beside its own."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from dynamos.model.units import Duration, Rate
from dynamos.model.values import Value


class Weighing(Value):
    """What a second, a megabyte between parties and a joule cost, in a unit of one's own."""

    time: float = Field(default=1.0, ge=0)
    bytes: float = Field(default=0.0, ge=0)
    energy: float = Field(default=0.0, ge=0)


class LoopSettings(Value):
    """When something counts as a symptom, how old a reading may be, and what energy is reckoned with.

    A symptom is raised after `raise_after` readings in a row beyond its bound, and cleared after `clear_after` on the
    other side of the lower one, not before `hold`. A party or a way whose symptom was raised `flaps` times within
    `flap_window` is held off for as long again. A party that fails at jobs of others is left alone from a score of
    `failing_above` on until it is down to `failing_below`: a failure adds one, and half is forgiven every `forgive`.

    Joules are processor seconds x `watts_per_core` + bytes x `joules_per_byte`. The defaults are those of the Cloud
    Carbon Footprint methodology (cloudcarbonfootprint.org/docs/methodology): 3.5 W for a busy virtual processor, the
    mean of AWS' machines, and 0.001 kWh per gigabyte moved. They are estimates: measure your own.
    """

    overload_above: float = Field(default=0.8, gt=0)
    overload_below: float = Field(default=0.6, ge=0)
    memory_above: float = Field(default=0.9, gt=0)
    memory_below: float = Field(default=0.8, ge=0)
    slow_link: Rate = Rate.parse("50mbit")
    fair_link: Rate = Rate.parse("100mbit")
    raise_after: int = Field(default=2, ge=1)
    clear_after: int = Field(default=3, ge=1)
    hold: Duration = Duration.parse("3s")
    flaps: int = Field(default=3, ge=2)
    flap_window: Duration = Duration.parse("30s")
    failing_above: float = Field(default=1.5, gt=0)
    failing_below: float = Field(default=0.75, gt=0)
    forgive: Duration = Duration.parse("10s")
    stale: Duration = Duration.parse("3s")
    stale_link: Duration = Duration.parse("60s")
    compress: Literal["none", "lz4", "zstd"] = "zstd"
    watts_per_core: float = Field(default=3.5, ge=0)
    joules_per_byte: float = Field(default=3.6e-6, ge=0)
    budget: Duration = Duration.parse("100ms")
