"""Patterns of paths: `*` and `?` stay inside one component, `**` crosses them, `[abc]` is a set.

A pattern that matches a folder takes in everything below it; one that ends in `/**` takes what is below and
leaves the folder itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable


def expression(pattern: str) -> str:
    """Return `pattern` as a regular expression over a path without its leading `/`."""
    parts: list[str] = []
    place = 0
    while place < len(pattern):
        character = pattern[place]
        if pattern.startswith("**", place):
            parts.append(".*")
            place += 2
            continue
        if character == "*":
            parts.append("[^/]*")
        elif character == "?":
            parts.append("[^/]")
        elif character == "[" and (end := pattern.find("]", place + 2)) > 0:
            inside = pattern[place + 1 : end]
            negated = inside.startswith("!")
            members = re.escape(inside[negated:]).replace(r"\-", "-")
            parts.append(f"[{'^' * negated}{members}]")
            place = end
        else:
            parts.append(re.escape(character))
        place += 1
    return "".join(parts)


class Patterns:
    """A set of patterns, matched as one."""

    __slots__ = ("_matcher",)

    def __init__(self, patterns: Iterable[str]) -> None:
        expressions = [f"(?:{expression(pattern.lstrip('/'))})" for pattern in patterns]
        self._matcher = re.compile(f"(?:{'|'.join(expressions)})(?:/.*)?", re.DOTALL) if expressions else None

    def match(self, path: bytes) -> bool:
        """Tell whether `path`, relative to the root of the capture, or a folder above it, is meant."""
        if self._matcher is None:
            return False
        return self._matcher.fullmatch(path.decode("utf-8", "surrogateescape")) is not None
