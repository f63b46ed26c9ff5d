"""The user's language, as programs find it."""

from __future__ import annotations

from collections.abc import Mapping


def language(environment: Mapping[str, str]) -> str:
    """Return the language of messages as the C library finds it in the environment, such as fr_FR.UTF-8."""
    for variable in ("LC_ALL", "LC_MESSAGES", "LANG"):
        if environment.get(variable):
            return environment[variable][:64]
    return "C"
