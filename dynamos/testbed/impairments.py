"""Impairments: what a packet meets on its way over a link, in the words of tc. Pure.

A packet of one direction passes two places. At the sender's end it waits in the queue of the link and leaves at the
link's rate (tbf and pfifo, which every kernel has); then it is on its way: delayed, lost, reordered (netem).
"""

from __future__ import annotations

import math

from dynamos.kit.errors import BadInput
from dynamos.model.networks import Direction

ETHERNET = 14
"""Bytes of a frame's header, which a rate counts too, as tc does."""

_OPEN = "40gbit"
_WHOLE_BURST = 70_000
_BACKLOG = 64 << 20
_BURST_SECONDS = 0.004
_LARGEST_BURST = 256 << 10
_MEAN_FRAME = 128
_FEWEST, _MOST = 2000, 50_000
_FASTEST = 1e9


def needs_netem(direction: Direction) -> bool:
    """Tell whether a direction does something to packets that only netem can do."""
    return any((direction.delay, direction.jitter, direction.loss, direction.reorder))


def check(direction: Direction, where: str) -> None:
    """Raise BadInput for what no emulator can do."""
    if direction.reorder and not direction.delay:
        raise BadInput(
            "packets cannot be reordered on a way that takes no time", where=where, hint="give the link a delay"
        )


def queue(direction: Direction, device: str, mtu: int) -> tuple[str, ...]:
    """Give the lines of `tc -batch` for the sender's end of a direction; they may be repeated to change it.

    The outer tbf lets everything pass, and cuts what is handed down as one large piece into packets, so that rate,
    queue, loss and order are of packets. Where there is only a delay, large pieces pass whole, which is ten times
    faster.
    """
    whole = not (direction.rate or direction.loss or direction.jitter or direction.reorder)
    outer = _WHOLE_BURST if whole else _cutting_burst(mtu)
    rate, burst = (f"{float(direction.rate):.0f}bit", _burst(float(direction.rate), mtu)) if direction.rate else (
        _OPEN, _WHOLE_BURST)  # fmt: skip
    return (
        f"qdisc replace dev {device} root handle 1: tbf rate {_OPEN} burst {outer} limit {_BACKLOG}",
        f"qdisc replace dev {device} parent 1:1 handle 2: tbf rate {rate} burst {burst} limit {_BACKLOG}",
        f"qdisc replace dev {device} parent 2:1 handle 3: pfifo limit {direction.queue}",
    )


def way(direction: Direction, device: str) -> tuple[str, ...]:
    """Give the lines of `tc -batch` for the way of a direction, on the device that its packets leave by.

    The rate, far beyond any link's, keeps packets in order whatever their delays: only those that `reorder` picks
    overtake others. What is on its way counts towards netem's limit, so that is large.
    """
    words = [f"limit {_in_flight(direction)}", f"delay {_microseconds(direction.delay)}us"]
    if direction.jitter:
        words[-1] += f" {_microseconds(direction.jitter)}us distribution normal"
    if direction.loss:
        words.append(f"loss {_percent(direction.loss)}")
    if direction.reorder:
        words.append(f"reorder {_percent(direction.reorder)} gap 1")
    words.append("rate 100gbit")
    return (f"qdisc replace dev {device} root handle 1: netem {' '.join(words)}",)


def _burst(rate: float, mtu: int) -> int:
    """Give the bytes that may leave at once: enough for a timer that is some milliseconds late."""
    return round(min(max(rate / 8 * _BURST_SECONDS, 3 * (mtu + ETHERNET)), _LARGEST_BURST))


def _cutting_burst(mtu: int) -> int:
    """Give a burst that holds any one packet, and no two of them in one piece."""
    return round(1.6 * (mtu + ETHERNET))


def _in_flight(direction: Direction) -> int:
    seconds = float(direction.delay) + 5 * float(direction.jitter)
    packets = seconds * float(direction.rate or _FASTEST) / 8 / _MEAN_FRAME
    return min(max(math.ceil(packets), _FEWEST), _MOST)


def _microseconds(duration: float) -> int:
    return round(float(duration) * 1e6)


def _percent(share: float) -> str:
    return f"{share * 100:.6g}%"
