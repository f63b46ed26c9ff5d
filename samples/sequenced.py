"""Packages of the samples, each really sequenced, once: kept in a folder until its recipe changes.

A package is found again by the digest of its recipe, of the files beside it that the recipe names, and of
all that under it. One that no longer opens (the format has moved on) is sequenced again. Beside a package
lies the launch profile of its applications; one that lacks it is trained, not sequenced again.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samples.demonstration import open_fuse_device
from samples.lock import locked

SAMPLES = Path(__file__).resolve().parent
_TRAINED_BY = "4: an ordinary user, rehearsed\n"
"""Lies beside a profile; another text than this one: it is made anew."""

_opened: set[Path] = set()
_trained: set[Path] = set()


@dataclass(frozen=True, slots=True)
class Sample:
    """A recipe here. `base` is the name of the sample under it, or empty; `key` names its content."""

    name: str
    recipe: Path
    base: str
    key: str


def sample(name: str, folder: Path = SAMPLES) -> Sample:
    """Return the sample `name`, whose recipe lies in `folder` or here.

    Raises:
        FileNotFoundError: there is no such recipe.
    """
    recipe = folder / f"{name}.toml"
    if not recipe.exists():
        recipe, folder = SAMPLES / f"{name}.toml", SAMPLES
    content = recipe.read_bytes()
    told: dict[str, Any] = tomllib.loads(content.decode())
    base = str(told["package"].get("base", ""))
    digest = hashlib.sha256(content)
    for file in told.get("build", {}).get("files", []):
        place = folder / file
        for path in sorted(place.rglob("*")) if place.is_dir() else [place]:
            if path.is_file():
                digest.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes())
    if base:
        digest.update(sample(base, folder).key.encode())
    return Sample(name, recipe, base, digest.hexdigest()[:16])


def stack(name: str, cache: Path, say: Callable[[str], None] = print, folder: Path = SAMPLES) -> list[Path]:
    """Return the packages that `name` runs on and itself, runtimes first, sequencing what is not there."""
    wanted = sample(name, folder)
    below = stack(wanted.base, cache, say, folder) if wanted.base else []
    return [*below, sequenced(name, cache, say, folder)]


def publisher_key(cache: Path) -> Path:
    """Return the file with the key that signs the samples; made on first use, for these samples alone."""
    key = cache / "publisher.key"
    with locked(cache / "publisher.lock"):
        if not key.exists():
            _sequencer("keygen", key)
    return key


def public_key(cache: Path) -> Path:
    """Return the file with the public half of `publisher_key`."""
    key = publisher_key(cache)
    return key.with_name(f"{key.name}.pub")


def sequenced(name: str, cache: Path, say: Callable[[str], None] = print, folder: Path = SAMPLES) -> Path:
    """Return the package file of the sample `name` in `cache`; two callers at once make it once.

    Raises:
        RuntimeError: the sequencer failed; the message holds its last lines.
    """
    wanted = sample(name, folder)
    base = sequenced(wanted.base, cache, say, folder) if wanted.base else None
    kept = cache / f"{name}-{wanted.key}"
    with locked(cache / f"{name}.lock"):
        found = _package(kept)
        if found is not None:
            _train(found, base, say)
            return found
        key = publisher_key(cache)
        say(f"sequencing {name} (this takes a while, and is kept)")
        with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=cache) as work:
            below: list[str | Path] = [] if base is None else ["--base", base]
            _sequencer("build", wanted.recipe, *below, "--key", key, "--output", work, "--no-train")
            shutil.rmtree(kept, ignore_errors=True)
            Path(work).chmod(0o755)
            shutil.copytree(work, kept, copy_function=os.link)
        found = _package(kept)
        if found is None:
            raise RuntimeError(f"the sequencer made no package of {name} that opens")
        _train(found, base, say)
        return found


def _train(package: Path, base: Path | None, say: Callable[[str], None]) -> None:
    """Have the launch profile of a package's applications beside it; without one all works, but slower."""
    if package in _trained:
        return
    _trained.add(package)
    stem = package.name.removesuffix(".ovp")
    rules = package.with_name("trained.by")
    if package.with_name(f"{stem}.profile").exists() and rules.exists() and rules.read_text() == _TRAINED_BY:
        return
    told: dict[str, Any] = json.loads(package.with_name(f"{stem}.report.json").read_text("utf-8"))
    if all(application["terminal"] for application in told["applications"]):
        return
    say(f"training {package.name} (starts it a few times; this is kept)")
    try:
        with open_fuse_device():
            _sequencer("train", package, *([] if base is None else ["--packages", base.parent]), "--quiet")
        rules.write_text(_TRAINED_BY)
    except RuntimeError as error:
        say(f"{package.name} has no launch profile: {error}")


def forget_old(cache: Path) -> None:
    """Remove the packages of samples whose recipes have changed since."""
    for recipe in SAMPLES.glob("*.toml"):
        key = sample(recipe.stem).key
        for folder in cache.glob(f"{recipe.stem}-{'[0-9a-f]' * len(key)}"):
            if folder.name != f"{recipe.stem}-{key}":
                shutil.rmtree(folder, ignore_errors=True)


def _package(folder: Path) -> Path | None:
    found = next(iter(folder.glob("*.ovp")), None)
    if found is None or found in _opened:
        return found
    try:
        _sequencer("inspect", found)
    except RuntimeError:
        return None
    _opened.add(found)
    return found


def _sequencer(*words: str | Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sequencer", *map(str, words)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        said = "\n".join(done.stdout.strip().splitlines()[-15:])
        raise RuntimeError(f"sequencer {' '.join(map(str, words))} ended with {done.returncode}:\n{said}")
