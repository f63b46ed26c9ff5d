"""What was asked before a launch, and when it must be asked again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from appclient.foresight import Foresight
from appclient.session import DeltaReference, Origin, Session
from packageformat.pointer import PackReference, Pointer
from packageformat.policy import Policy
from packageformat.publishing import Published
from packageformat.stack import bubble_id
from tests.packages import build_package, open_package

OLD, GONE = b"o" * 32, b"g" * 32


class _Session(Session):
    """Says what the test has it say."""

    def __init__(self, said: dict[bytes, Origin]) -> None:
        """There is no server."""
        self.said = said
        self.asked = 0

    async def origins(
        self, versions: Sequence[bytes], have: Sequence[bytes] = (), language: str = ""
    ) -> dict[bytes, Origin]:
        """Return what the server would say."""
        self.asked += 1
        return {version: self.said[version] for version in versions}


@pytest.fixture
def said(tmp_path: Path) -> dict[bytes, Origin]:
    built = build_package(tmp_path, "app", {"usr/file": b"x"})
    package = open_package(built.path).package
    pack = PackReference("app", bubble_id([package.version_id]), bytes(32), 1)
    pointer = Pointer(
        package.version_id, bytes(32), package.header.file_size, package.header, (pack,), 1, 0, 1 << 40
    )
    deltas = tuple(DeltaReference(old, bytes(32), 1, "/") for old in (OLD, GONE))
    return {package.version_id: Origin(pointer, "", 1 << 40, deltas=deltas)}


def _published(version: bytes) -> Published:
    return Published("app", "1", "App", version, (version,), (), Policy(), 1)


async def test_deltas_are_from_what_is_still_here(said: dict[bytes, Origin]) -> None:
    session = _Session(said)
    foresight = Foresight(lambda: session)
    foresight.speaks("de_DE")
    ((version, origin),) = said.items()
    stack = (version,)
    await foresight.look([_published(version)], [OLD, GONE])
    found = foresight.origins(stack, "de_DE", [OLD])
    assert found == {version: replace(origin, deltas=origin.deltas[:1])}
    assert foresight.origins(stack, "de_DE", [])[version].deltas == (), "none of them is here any more"
    assert foresight.origins(stack, "fr_FR", [OLD]) == {}
    assert foresight.origins(stack, "de_DE", [b"n" * 32]) == {}, "there may be a delta from it"
    await foresight.look([_published(version)], [OLD])
    assert session.asked == 1
