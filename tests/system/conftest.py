"""What the system tests share: everything real, the slow parts made once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from samples import sequenced
from samples.demonstration import installed_programs
from tests.stage import RECIPES, Stage, package_cache, say, stage


@pytest.fixture(scope="session")
def programs() -> Path:
    """The folder with `sequencer`, `streamserver` and `appclient`, which every user can run."""
    return installed_programs()


@pytest.fixture(scope="session")
def packages() -> Callable[[str], Path]:
    """The package file of a sample by its name: sequenced for real, kept between runs."""
    return lambda name: sequenced.sequenced(name, package_cache(), say, RECIPES)


@pytest.fixture(scope="module")
def on_stage() -> Iterator[Stage]:
    """A server, a user without rights and a display (tests/stage.py), for one file of tests."""
    with stage() as made:
        yield made
