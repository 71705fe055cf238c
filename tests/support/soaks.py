"""Cases that take long: `make soak` tries them, beside what `make e2e` tries less often or on a smaller scale."""

import pytest


def soaking(*values):
    """Give the values of a case as one that only `make soak` tries."""
    return pytest.param(*values, marks=pytest.mark.soak)
