"""Figures that end-to-end tests measure: printed when all are done, and never what a test depends on."""

import pytest

from support.typed import Typed

_FIGURE = "figure "


@pytest.fixture
def figure(record_property):
    """Notes a figure under a name. It is a property of the test, so that it comes from whichever process ran it."""

    def note(name, text):
        record_property(f"{_FIGURE}{name}", text)

    return note


@pytest.fixture
def typed(tmp_path):
    """Types commands; every testbed is down and gone afterwards."""
    made = Typed(tmp_path / "state")
    yield made
    if made.state.exists():
        made("down", "--all", "--purge")


def pytest_terminal_summary(terminalreporter):
    reports = [report for reports in terminalreporter.stats.values() for report in reports if hasattr(report, "when")]
    told = [each for report in reports if report.when == "call" for each in report.user_properties]
    figures = [(name.removeprefix(_FIGURE), text) for name, text in told if name.startswith(_FIGURE)]
    if figures:
        terminalreporter.section("figures")
        width = max(len(name) for name, _ in figures)
        for name, text in figures:
            terminalreporter.write_line(f"{name:<{width}}  {text}")
