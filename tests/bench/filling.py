"""Having everything of an application in the client's cache."""

from __future__ import annotations

import json

from tests.stage import Stage

_ENOUGH_S = 1800.0


def fill(on: Stage, application: str) -> bool:
    """Fetch all of `application`; return whether the client says that it has all of it.

    Raises:
        RuntimeError: it could not be fetched.
    """
    said = on.visit.appclient("fill", application, "--wait", "--json", timeout_s=_ENOUGH_S).stdout
    return bool(json.loads(said.strip().splitlines()[-1])["whole"])
