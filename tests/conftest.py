"""A run in which any test was skipped, or failed as expected, is not green."""

from __future__ import annotations

import signal

import pytest
from hypothesis import HealthCheck, settings

# How long something takes says how busy the machine is: no test fails for that.
settings.register_profile(
    "millstream", deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
settings.load_profile("millstream")

_NOT_RUN: list[str] = []

# A shell ignores SIGINT in what it starts in the background, and every child inherits that: tests of Ctrl-C
# would then wait for ever.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.skipped or hasattr(report, "wasxfail"):
        _NOT_RUN.append(report.nodeid)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.skipped:
        _NOT_RUN.append(report.nodeid)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if _NOT_RUN and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for name in _NOT_RUN:
        terminalreporter.write_line(f"NOT RUN {name}: nothing may be skipped", red=True)
