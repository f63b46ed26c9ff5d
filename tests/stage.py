"""Everything at once, for real: a server with packages, a user without rights, a display.

    with stage() as on:
        on.publish("galculator")
        launch = on.visit.launch("galculator")

Used by the system tests, by `tests/points` and by `tests/bench`.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from samples import sequenced
from samples.demonstration import DemonstrationUser, demonstration_user, installed_programs, open_fuse_device
from samples.service import Service
from samples.visit import Visit
from sequencer.display import Display
from tests.servers import copy_server, filled_server

SAMPLE_NAMES = tuple(
    sorted(
        path.stem
        for path in sequenced.SAMPLES.glob("*.toml")
        if tomllib.loads(path.read_text(encoding="utf-8"))["package"].get("kind", "application")
        == "application"
    )
)
"""Every sample that is an application."""

PASSWORD = "correct horse"

RECIPES = Path(__file__).parent / "points" / "recipes"
"""Recipes of packages that only tests need."""


def package_cache() -> Path:
    """Return the folder where sequenced packages are kept between runs."""
    told = os.environ.get("MILLSTREAM_TEST_CACHE")
    cache = (
        Path(told)
        if told
        else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "millstream-tests"
    )
    cache.mkdir(parents=True, exist_ok=True)
    return cache


def say(line: str) -> None:
    """Tell what takes a while."""
    print(f"· {line}", file=sys.stderr, flush=True)


@dataclass(slots=True)
class Stage:
    """What is there. `folder` is for the test's own files and is readable by `user`."""

    programs: Path
    cache: Path
    folder: Path
    service: Service
    user: DemonstrationUser
    display: Display
    visit: Visit
    password: str = PASSWORD
    _published: set[str] = field(default_factory=set)

    def package(self, name: str) -> Path:
        """Return the package file of a sample, or of one of the tests' own recipes."""
        return sequenced.sequenced(name, self.cache, say, RECIPES)

    def note_published(self, names: Sequence[str]) -> None:
        """Note that the server holds these samples already."""
        for name in names:
            stack = sequenced.stack(name, self.cache, say, RECIPES)
            self._published.update(package.name for package in stack)

    def publish(self, name: str, group: str = "everybody") -> list[Path]:
        """Sequence `name` if need be, import it with what it runs on, and let `group` run it."""
        packages = sequenced.stack(name, self.cache, say, RECIPES)
        for package in packages:
            if package.name not in self._published:
                self.service.command("import", package)
                self._published.add(package.name)
        self.service.entitle(name, group)
        return packages

    def sign_in(self, visit: Visit | None = None, name: str = "demo") -> None:
        """Sign `visit` (or the stage's own) in as `name`."""
        (visit or self.visit).login(self.service.url, name, self.password, self.service.fingerprint)

    def forget(self) -> None:
        """Empty the client: agent ended, no cache, no bubbles, no private homes; still signed in."""
        self.visit.leave()
        self.user.end_processes()
        for place in (".cache/millstream", ".local/state/millstream"):
            self.put_aside(self.user.home / place)

    def put_aside(self, place: Path) -> None:
        """Take a folder away without deleting it before the stage ends.

        For minutes after many files were deleted, ext4 looks through all of them each time that one is made
        (`recently_deleted`: 0.4 ms instead of 0.01), which no first launch of a user's meets.
        """
        aside = self.folder / "aside"
        aside.mkdir(exist_ok=True)
        with suppress(FileNotFoundError):
            place.rename(aside / str(len(list(aside.iterdir()))))

    def listed(self) -> list[dict[str, Any]]:
        """Return what `appclient list --json` says."""
        told = json.loads(self.visit.appclient("list", "--json").stdout)
        return list(told["applications"] if isinstance(told, dict) else told)


@contextmanager
def stage(
    name: str = "millstream-test",
    *,
    host: str = "127.0.0.1",
    server_prefix: Sequence[str] = (),
    client_prefix: Sequence[str] = (),
    size: tuple[int, int] = (1280, 800),
    uid: int | None = None,
    served: Sequence[str] = (),
) -> Iterator[Stage]:
    """Set up a server (user `demo` in group `everybody`), a user and a display.

    Samples in `served` are published already and their launch packs built; others can be. The user is not
    signed in yet. Everything is ended and removed with the block.
    """
    with ExitStack() as undo:
        own = os.environ.get("MILLSTREAM_TEST_PROGRAMS")
        programs = installed_programs(Path(own) if own else None)
        cache = package_cache()
        folder = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix=f"{name}-")))
        folder.chmod(0o755)
        log = folder / "access.log"
        kept, fingerprint = (
            filled_server(served, _with_people, programs=programs, cache=cache, host=host, say=say)
            if served
            else (None, "")
        )
        if kept is not None:
            copy_server(kept, folder / "server")
        service = Service(
            folder / "server",
            programs / "streamserver",
            host=host,
            prefix=server_prefix,
            log=log,
            fingerprint=fingerprint,
        )
        undo.enter_context(service)
        undo.enter_context(open_fuse_device())
        user = undo.enter_context(demonstration_user(name, uid))
        display = undo.enter_context(Display(*size))
        visit = Visit(user, programs, prefix=client_prefix)
        visit.use(display)
        undo.callback(visit.leave)
        made = Stage(programs, cache, folder, service, user, display, visit)
        if kept is None:
            service.command("trust", "add", sequenced.public_key(cache))
            _with_people(service)
        made.note_published(served)
        yield made


def _with_people(service: Service) -> None:
    service.person("demo", PASSWORD, "everybody")
