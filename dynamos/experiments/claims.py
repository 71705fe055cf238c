"""Claims: what the trials show of what a script says, and by what."""

from __future__ import annotations

from dynamos.experiments.outcomes import Outcomes
from dynamos.experiments.scripts import Claim


def settle(claim: Claim, outcomes: Outcomes) -> tuple[bool | None, str]:
    """Give whether a claim holds (None where these trials cannot tell), and what shows it.

    A claim whose function raises cannot be told, for that reason.
    """
    try:
        found = claim.find(outcomes)
        held, shown = found if isinstance(found, tuple) else (found, "")
        return (None if held is None else bool(held)), str(shown)
    except Exception as error:  # noqa: BLE001  the user's own code
        return None, f"{type(error).__name__}: {error}"
