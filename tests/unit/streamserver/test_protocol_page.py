"""PROTOCOL.md and README.md say what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from streamserver import capability, identity, passwords, request, webapplication
from streamserver.database.accounts import NAME_MAX
from streamserver.reply import ERRORS

PAGE = (Path(request.__file__).parent / "PROTOCOL.md").read_text()


def rows(heading: str) -> list[list[str]]:
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    table = [line for line in section.splitlines() if line.startswith("|")][2:]
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in table]


def test_the_page_lists_exactly_the_routes() -> None:
    assert [(row[0], row[1]) for row in rows("Routes")] == [
        (method, path) for method, path, _ in webapplication.ROUTES
    ]


def test_the_page_lists_exactly_the_errors() -> None:
    assert [(row[0], int(row[1])) for row in rows("Errors")] == [
        (one.code, one.status) for one in ERRORS.values()
    ]


def test_every_error_that_the_code_names_is_in_the_table() -> None:
    named = set()
    for path in Path(request.__file__).parent.glob("*.py"):
        named |= set(re.findall(r'(?:RefusedError\(|ERRORS\[)\s*"(\w+)"', path.read_text()))
    assert named <= set(ERRORS)
    assert named | {"bad_request", "internal"} == set(ERRORS)


def test_the_numbers_on_the_page_are_those_of_the_code() -> None:
    assert f"up to {NAME_MAX} bytes, a password 1 to {passwords.PASSWORD_MAX}" in PAGE
    assert f"1 to {request.POINTERS_MAX} of them" in PAGE
    assert f"lasts {identity.TOKEN_LIFETIME_S // 3600} hours" in PAGE
    assert f"until {identity.RENEWABLE_S // 86400} days" in PAGE
    assert f"at most {request.BODY_MAX // 1024} KiB" in PAGE
    assert f"URL's end ({capability.LIFETIME_S // 60} minutes)" in PAGE
