"""A run in which any test was skipped, or failed as expected, is not green; and every run ends."""

from __future__ import annotations

import faulthandler
import signal
import sys
from collections.abc import Generator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# How long something takes says how busy the machine is: no test fails for that.
settings.register_profile(
    "millstream", deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
settings.load_profile("millstream")

_NOT_RUN: list[str] = []
_ALARM_AGAIN_S = 60.0
_TIMER = pytest.StashKey[Any]()

# A shell ignores SIGINT in what it starts in the background, and every child inherits that: tests of Ctrl-C
# would then wait for ever.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True, optionalhook=True)
def pytest_timeout_set_timer(item: pytest.Item, settings: Any) -> Generator[None, Any, Any]:
    """Let a test's timer go off again and again: what undoes the test and its fixtures waits, too."""
    made = yield
    item.stash[_TIMER] = settings
    if settings.method == "signal":
        signal.setitimer(signal.ITIMER_REAL, settings.timeout, min(_ALARM_AGAIN_S, settings.timeout))
    return made


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    """Set the timer again: pytest-timeout takes it away when a test fails, before its fixtures are undone."""
    settings = item.stash.get(_TIMER, None)
    if settings is not None and settings.method == "signal" and not signal.getitimer(signal.ITIMER_REAL)[0]:
        item.config.hook.pytest_timeout_set_timer(item=item, settings=settings)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """End also where a thread does not: Python would wait for it, and nobody know for which."""
    seconds = float(config.getini("faulthandler_timeout") or 0)
    if seconds:
        faulthandler.dump_traceback_later(seconds, exit=True, file=sys.__stderr__ or 2)


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
