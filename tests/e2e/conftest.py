"""Figures that end-to-end tests measure: printed when all are done, and never what a test depends on."""

import pytest

from support.typed import Typed

_FIGURES = pytest.StashKey()


def pytest_configure(config):
    config.stash[_FIGURES] = []


@pytest.fixture
def figure(request):
    """Notes a figure under a name."""

    def note(name, text):
        request.config.stash[_FIGURES].append((name, text))

    return note


@pytest.fixture
def typed(tmp_path):
    """Types commands; every testbed is down and gone afterwards."""
    made = Typed(tmp_path / "state")
    yield made
    if made.state.exists():
        made("down", "--all", "--purge")


def pytest_terminal_summary(terminalreporter, config):
    figures = config.stash[_FIGURES]
    if figures:
        terminalreporter.section("figures")
        width = max(len(name) for name, _ in figures)
        for name, text in figures:
            terminalreporter.write_line(f"{name:<{width}}  {text}")
