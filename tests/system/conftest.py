"""One system for all tests of a module that leave it as it was; they run in one worker."""

import tempfile
from pathlib import Path

import pytest

from support.systems import system


def pytest_collection_modifyitems(items):
    for item in items:
        if "tests/system" in str(item.path):
            item.add_marker(pytest.mark.xdist_group("system"))
            item.add_marker(pytest.mark.system)


@pytest.fixture(scope="session")
def running():
    # Not pytest's own temporary folder, which only its owner may enter: services run as somebody else.
    with tempfile.TemporaryDirectory(prefix="dynamos-system-") as folder, system(Path(folder)) as it:
        yield it
