"""What HTTP adds to the tree of errors: leaves with statuses of their own."""

from __future__ import annotations

from collections.abc import Iterator

from dynamos.kit.errors import BadInput, Conflict, DynamosError, NotFound, TimedOut


class UnknownMethod(BadInput):
    """The path is right, the method is not."""

    code, status = "method-not-allowed", 405


class NotAcceptable(BadInput):
    """The result cannot be given in any form that the client accepts."""

    code, status = "not-acceptable", 406


class SlowBody(TimedOut):
    """The client did not send its request in time."""

    code, status = "slow-body", 408


class Gone(NotFound):
    """It was there once, or upstream had it, and it will not come back."""

    code, status = "gone", 410


class Outdated(Conflict):
    """The `If-Match` or `If-None-Match` of a change does not hold: somebody else was first."""

    code, status = "outdated", 412


class BodyTooLarge(BadInput):
    """The body of the request is larger than the API takes."""

    code, status = "body-too-large", 413


class UnknownMedia(BadInput):
    """The body of the request is not JSON."""

    code, status = "unknown-media", 415


def kinds(base: type[DynamosError] = DynamosError) -> Iterator[type[DynamosError]]:
    """Give every kind of error that is known to this process."""
    for kind in base.__subclasses__():
        yield kind
        yield from kinds(kind)
