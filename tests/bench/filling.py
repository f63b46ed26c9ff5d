"""Having everything of an application in the client's cache."""

from __future__ import annotations

import time

from tests.stage import Stage

_ENOUGH_S = 1800.0


def fill(on: Stage, application: str) -> bool:
    """Fetch all of `application`; return whether the client says that it has all of it.

    Raises:
        RuntimeError: it could not be fetched.
    """
    if can_fill(on):
        on.visit.appclient("fill", application, "--wait", timeout_s=_ENOUGH_S)
    else:  # every byte that the bubble shows; what a higher layer hides stays away
        script = "find / -xdev -type f -exec cat {} + >/dev/null 2>&1; exit 0"
        on.visit.appclient("run", application, "--quiet", "--shell", "--", "-c", script, timeout_s=_ENOUGH_S)
    time.sleep(1.0)
    return is_whole(on, application)


def can_fill(on: Stage) -> bool:
    """Whether this client has a command that fills its cache."""
    return not on.visit.appclient("fill", "--help", check=False).returncode


def is_whole(on: Stage, application: str) -> bool:
    """Whether the client's list says that all of `application` is here."""
    names = {application, f"{application}.desktop"}
    for one in on.listed():
        if names & {str(one.get("id")), str(one.get("package")), str(one.get("name"))}:
            return bool(one.get("whole", one.get("complete", one.get("cached") == "whole")))
    return False
