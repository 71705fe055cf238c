"""Messages with descriptors between two ends, also when one of them does not read."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from dynamos.jobs import wires

Ends = tuple[socket.socket, socket.socket]


@pytest.fixture
def ends() -> Iterator[Ends]:
    one, other = wires.pair()
    yield one, other
    one.close()
    other.close()


def test_descriptors_arrive_as_copies(ends: Ends) -> None:
    reading, writing = os.pipe()
    wires.send(ends[0], {"step": 1}, [writing])
    os.close(writing)
    received = wires.receive(ends[1])
    assert received is not None
    message, (copy,) = received
    assert message == {"step": 1}
    os.write(copy, b"x")
    os.close(copy)
    assert os.read(reading, 2) == b"x"
    assert os.read(reading, 2) == b""
    os.close(reading)


def test_messages_keep_their_order_and_their_bounds(ends: Ends) -> None:
    sent = [{"n": n, "text": "x" * n * 1000} for n in range(20)]
    for message in sent:
        wires.send(ends[0], message)
    assert [wires.receive(ends[1]) for _ in sent] == [(message, []) for message in sent]


def test_the_end_of_the_other_side_is_none(ends: Ends) -> None:
    ends[0].close()
    assert wires.receive(ends[1]) is None


def test_half_a_message_is_none(ends: Ends) -> None:
    ends[0].sendall(wires.pack({"step": 1})[:-3])
    ends[0].close()
    assert wires.receive(ends[1]) is None


def test_frames_are_put_together_from_any_pieces() -> None:
    messages = [{"step": n, "log": "x" * n} for n in range(5)]
    data = b"".join(map(wires.pack, messages))
    for size in (1, 3, 7, len(data)):
        frames = wires.Frames()
        pieces = [data[start : start + size] for start in range(0, len(data), size)]
        assert [message for piece in pieces for message in frames.feed(piece)] == messages


def test_an_outbox_never_waits_and_loses_nothing(ends: Ends) -> None:
    reading, writing = os.pipe()
    outbox = wires.Outbox(ends[0])
    for number in range(2000):
        outbox.put({"step": number}, [writing])
    assert outbox  # more than the socket holds
    os.close(writing)
    copies = []
    for number in range(2000):
        received = wires.receive(ends[1])
        assert received is not None
        assert received[0] == {"step": number}
        copies += received[1]
        wires.close_all(received[1])
        outbox.flush()
    assert not outbox
    assert len(copies) == 2000
    assert os.read(reading, 1) == b""  # no copy of the other end is left anywhere
    os.close(reading)


def test_what_was_not_sent_is_closed_when_discarded(ends: Ends) -> None:
    reading, writing = os.pipe()
    outbox = wires.Outbox(ends[0])
    while not outbox:
        outbox.put({"text": "x" * 10_000}, [writing])
    outbox.discard()
    os.close(writing)
    ends[1].close()  # and with it what is on its way
    assert os.read(reading, 1) == b""
    os.close(reading)
