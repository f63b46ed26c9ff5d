"""Which published application a user means. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from appclient.errors import UnknownPackageError
from packageformat.application import Application
from packageformat.publishing import Published, Publishing


@dataclass(frozen=True, slots=True)
class Choice:
    """An application and the package that brings it."""

    package: Published
    application: Application


def choices(publishing: Publishing) -> list[Choice]:
    """Return every published application, by package, then as the package lists them."""
    return [Choice(item, application) for item in publishing.items for application in item.applications]


def choose(publishing: Publishing, wanted: str) -> Choice:
    """Return the one application that `wanted` means.

    In this order: an application id, a desktop file's name, an application's name, a package's name (if
    it has one application, or one of the same name); upper and lower case alike.

    Raises:
        UnknownPackageError: none, or several, which are then listed.
    """
    known = choices(publishing)
    plain = wanted.casefold().removesuffix(".desktop").removeprefix("millstream-")
    for found in (
        [choice for choice in known if choice.application.id == wanted],
        [choice for choice in known if choice.application.id.casefold() == plain],
        [choice for choice in known if choice.application.name.casefold() == wanted.casefold()],
        [choice for choice in known if choice.package.name == plain],
        [choice for choice in known if choice.application.id.casefold().rpartition(".")[2] == plain],
    ):
        if len(found) == 1:
            return found[0]
        if found:
            raise UnknownPackageError(
                f"{wanted!r} means more than one application: {_listed(found)}",
                hint="name it by its id",
            )
    raise UnknownPackageError(f"no application {wanted!r} is published to you")


def _listed(found: Iterable[Choice]) -> str:
    return ", ".join(
        f"{choice.application.id} ({choice.package.name} {choice.package.version})" for choice in found
    )
