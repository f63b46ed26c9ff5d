"""Which application a user means."""

from __future__ import annotations

import pytest

from appclient.catalogue import choose
from appclient.errors import UnknownPackageError
from packageformat.application import Application
from packageformat.policy import Policy
from packageformat.publishing import Published, Publishing


def package(name: str, *applications: Application) -> Published:
    version = name.encode().ljust(32, b".")
    return Published(name, "1", name, version, (version,), applications, Policy(), 0)


OFFICE = package(
    "office",
    Application("org.office.Writer", "Office Writer", "writer"),
    Application("org.office.Calc", "Office Calc", "calc"),
)
EDITOR = package("editor", Application("editor", "Editor", "editor"))
TWIN = package("twin", Application("twin", "Editor", "twin"))
PUBLISHING = Publishing("s", "ann", 1, 1, 2, (OFFICE, EDITOR, TWIN))


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("org.office.Writer", "org.office.Writer"),
        ("ORG.OFFICE.WRITER", "org.office.Writer"),
        ("org.office.Calc.desktop", "org.office.Calc"),
        ("millstream-org.office.Calc.desktop", "org.office.Calc"),
        ("office calc", "org.office.Calc"),
        ("calc", "org.office.Calc"),
        ("editor", "editor"),
    ],
)
def test_an_application_is_found_by_what_people_call_it(wanted: str, found: str) -> None:
    assert choose(PUBLISHING, wanted).application.id == found


def test_a_name_that_means_several_is_refused_and_lists_them() -> None:
    with pytest.raises(UnknownPackageError, match=r"org\.office\.Writer.*org\.office\.Calc"):
        choose(PUBLISHING, "office")


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(UnknownPackageError, match="'painter'"):
        choose(PUBLISHING, "painter")
