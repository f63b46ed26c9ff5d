"""Servers that are filled once: building the launch packs of all samples takes minutes, so it is kept.

A kept server is found again by what went into it: package files and profiles, the server's sources, its
address. Whoever wants one gets a copy; its large files, which a server never changes, are linked.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from samples import sequenced
from samples.lock import locked
from samples.service import Service

_ROOT = Path(__file__).resolve().parent.parent
_SOURCES = (
    *("packageformat/*.py", "streamserver/pack*.py", "streamserver/database/*"),
    *("streamserver/importing.py", "streamserver/profileimport.py", "streamserver/relearning.py"),
)
"""What a filled server depends on."""

_LARGE = 1 << 20
_KEPT_MAX = 6


def filled_server(
    names: Sequence[str],
    with_people: Callable[[Service], None],
    *,
    programs: Path,
    cache: Path,
    host: str,
    say: Callable[[str], None],
    recipes: Path = sequenced.SAMPLES,
) -> tuple[Path, str]:
    """Return the folder of a server that holds the samples `names`, and its certificate's fingerprint.

    Args:
        names: samples; each is imported with what it runs on, and everybody may run it.
        with_people: makes its users, and the group `everybody`.
        programs: the folder that holds `streamserver`.
        cache: where packages and servers are kept.
        host: the address it will listen on, for its certificate.
        say: is told what takes a while.
        recipes: where recipes lie that are no samples.

    Raises:
        RuntimeError: a command of the server failed.
    """
    stacks = {name: sequenced.stack(name, cache, say, recipes) for name in names}
    key = _key(stacks, host)
    kept = cache / "servers" / key
    kept.parent.mkdir(exist_ok=True)
    with locked(cache / "servers.lock"):
        if not (kept / "fingerprint.json").exists():
            say(f"filling a server with {', '.join(names)} (this takes a while, and is kept)")
            shutil.rmtree(kept, ignore_errors=True)
            with tempfile.TemporaryDirectory(prefix=".server-", dir=cache) as work:
                service = Service(Path(work) / "state", programs / "streamserver", host=host)
                service.initialise()
                service.command("trust", "add", sequenced.public_key(cache))
                with_people(service)
                for package in dict.fromkeys(package for stack in stacks.values() for package in stack):
                    service.command("import", package)
                for name in names:
                    service.entitle(name, "everybody")
                service.command("packs", "build", timeout_s=3600)
                (Path(work) / "fingerprint.json").write_text(json.dumps(service.fingerprint))
                shutil.copytree(work, kept, copy_function=_linked)
            _forget_old(kept.parent)
        os.utime(kept)
    return kept / "state", str(json.loads((kept / "fingerprint.json").read_text()))


def copy_server(kept: Path, place: Path) -> None:
    """Make `place` the folder of a server of its own, as `kept` is."""
    shutil.copytree(kept, place, copy_function=_linked)


def _linked(source: str, target: str) -> str:
    if os.path.getsize(source) >= _LARGE and "/objects/" in source:
        os.link(source, target)
        return target
    return str(shutil.copy2(source, target))


def _key(stacks: dict[str, list[Path]], host: str) -> str:
    digest = hashlib.sha256(host.encode())
    for name, stack in sorted(stacks.items()):
        digest.update(name.encode())
        for package in stack:
            digest.update(f"{package.parent.name}/{package.name} {package.stat().st_size}".encode())
            for profile in sorted(package.parent.glob("*.profile")):
                digest.update(profile.read_bytes())
    for pattern in _SOURCES:
        for source in sorted(_ROOT.glob(pattern)):
            if source.is_file():
                digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


def _forget_old(folder: Path) -> None:
    kept = sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in kept[_KEPT_MAX:]:
        shutil.rmtree(path, ignore_errors=True)
