"""A recipe: what to install on what, as a packager writes it (TOML, told key by key in README.md)."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from packageformat.application import Application
from packageformat.errors import FormatError
from packageformat.manifest import PACKAGE_KINDS, PackageKind
from packageformat.names import check_description, check_label, check_text, check_version
from packageformat.policy import Policy
from sequencer.errors import RecipeError

RECIPE_BYTES_MAX = 1 << 20
TIMEOUT_DEFAULT = 1800
TIMEOUT_MAX = 24 * 3600

_DISTRIBUTION_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]+(:[a-z0-9-]+)?(=[A-Za-z0-9.+:~-]+)?", re.ASCII)

KEYS: Mapping[str, tuple[str, ...]] = {
    "package": ("name", "version", "version_of", "title", "description", "kind", "base"),
    "build": (
        "commands", "network", "sources", "timeout_s", "environment", "tools", "files", "bootstrap",
        "packages",
    ),
    "exclude": ("paths", "keep"),
    "policy": (
        "network", "x11", "wayland", "sound", "gpu", "printing", "dbus_session", "dbus_talk", "dbus_own",
        "nested_namespaces", "home", "fonts", "environment",
    ),
    "application": (
        "id", "name", "command", "comment", "icon", "categories", "mime_types", "terminal", "check",
    ),
}  # fmt: skip
"""Every key that a recipe may have, by table; README.md tells the same (a test compares)."""


@dataclass(frozen=True, slots=True)
class Build:
    """How the files of a package come to be."""

    commands: tuple[str, ...] = ()  # each by /bin/sh -e, as root of the capture
    network: bool = False
    sources: bool = False  # the distribution's source packages too (apt-get source)
    timeout_s: int = TIMEOUT_DEFAULT  # for all commands together
    environment: tuple[tuple[str, str], ...] = ()
    tools: tuple[str, ...] = ()  # distribution packages that are there while the commands run, not captured
    files: tuple[str, ...] = ()  # beside the recipe; seen as /run/millstream/files/NAME
    bootstrap: str = ""  # a runtime: the distribution's suite
    packages: tuple[str, ...] = ()  # a runtime: what mmdebstrap adds to the minimal system


@dataclass(frozen=True, slots=True)
class Recipe:
    """A valid recipe."""

    name: str
    kind: PackageKind
    build: Build
    version: str = ""  # empty: the version of the distribution package `version_of`
    version_of: str = ""
    title: str = ""
    description: str = ""
    base: str = ""  # name of the package below; empty for a runtime on nothing
    exclude: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    policy: Mapping[str, Any] = field(default_factory=dict)  # fields of Policy that the recipe states
    applications: tuple[Application, ...] = ()
    checks: tuple[tuple[str, str], ...] = ()  # application id, the command that verify runs for it
    folder: Path = field(default=Path())  # where the recipe lies

    def policy_with(self, defaults: Policy) -> Policy:
        """Return `defaults` with what the recipe states instead."""
        return replace(defaults, **self.policy)


class _Table:
    """One table of a recipe: takes each key once, with its type, and tells where something is wrong."""

    def __init__(self, name: str, values: object) -> None:
        if not isinstance(values, dict):
            raise RecipeError(f"[{name}] must be a table")
        self.name = name
        self.values: dict[str, object] = values
        known = KEYS[name]
        for key in values:
            if key not in known:
                raise RecipeError(f"[{name}] has no key {key!r}; it has: {', '.join(known)}")

    def _wrong(self, key: str, what: str) -> RecipeError:
        try:
            shown = repr(self.values[key])
        except (ValueError, RecursionError):  # a number of thousands of digits, brackets in brackets
            shown = f"this {type(self.values[key]).__name__}"
        shown = shown if len(shown) <= 80 else f"{shown[:79]}…"
        return RecipeError(f"{self.name}.{key} must be {what}, not {shown}")

    def text(self, key: str, default: str | None = None) -> str:
        if key not in self.values:
            if default is None:
                raise RecipeError(f"[{self.name}] needs {key!r}")
            return default
        value = self.values[key]
        if not isinstance(value, str):
            raise self._wrong(key, "a text")
        return value

    def flag(self, key: str, default: bool) -> bool:
        value = self.values.get(key, default)
        if not isinstance(value, bool):
            raise self._wrong(key, "true or false")
        return value

    def number(self, key: str, default: int, most: int) -> int:
        value = self.values.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= most:
            raise self._wrong(key, f"a whole number from 1 to {most}")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        value = self.values.get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
            raise self._wrong(key, "a list of texts")
        return tuple(value)

    def variables(self, key: str) -> tuple[tuple[str, str], ...]:
        value = self.values.get(key, {})
        if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
            raise self._wrong(key, "a table of texts")
        for variable in value:
            if not variable.isidentifier() or not variable.isascii():
                raise RecipeError(f"{self.name}.{key}: {variable!r} is not the name of a variable")
            if "\0" in value[variable]:
                raise RecipeError(f"{self.name}.{key}: {variable} has a NUL, which no variable can hold")
        return tuple(value.items())


def read_recipe(path: Path) -> Recipe:
    """Return the recipe in the file `path`.

    Raises:
        RecipeError: it cannot be read or is not a recipe.
    """
    try:
        with path.open("rb") as file:
            data = file.read(RECIPE_BYTES_MAX + 1)
    except OSError as error:
        raise RecipeError(f"cannot read the recipe {path}: {error.strerror}", hint="name a recipe") from error
    if len(data) > RECIPE_BYTES_MAX:
        raise RecipeError(f"{path} is larger than a recipe may be ({RECIPE_BYTES_MAX} bytes)")
    try:
        return parse_recipe(data.decode("utf-8"), path.absolute().parent)
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path}: not UTF-8 text at byte {error.start}") from error
    except RecipeError as error:
        raise RecipeError(f"{path}: {error}", hint=error.hint) from error


def parse_recipe(text: str, folder: Path = Path()) -> Recipe:
    """Return the recipe that `text` is; `folder` is where its files lie.

    Raises:
        RecipeError: it is not one; the message names the line or the key.
    """
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"not TOML: {error}") from error
    except ValueError as error:  # int() refuses numbers of thousands of digits
        raise RecipeError(f"not TOML: {str(error).partition(';')[0]}") from error
    except RecursionError as error:
        raise RecipeError("not TOML: brackets inside brackets inside brackets, too deep") from error
    for key in tables:
        if key not in KEYS:
            raise RecipeError(f"no table [{key}] is known; there are: {', '.join(KEYS)}")
    if "package" not in tables:
        raise RecipeError("[package] is missing")
    try:
        return _recipe_of(tables, folder)
    except FormatError as error:
        raise RecipeError(str(error)) from error


def _recipe_of(tables: Mapping[str, object], folder: Path) -> Recipe:
    package = _Table("package", tables["package"])
    build = _build_of(_Table("build", tables.get("build", {})))
    exclude = _Table("exclude", tables.get("exclude", {}))
    applications = _applications_of(tables.get("application", []))
    kind = _kind_of(package.text("kind", "application"))
    recipe = Recipe(
        name=_checked("package.name", package.text("name"), check_label),
        kind=kind,
        build=build,
        version=package.text("version", ""),
        version_of=package.text("version_of", ""),
        title=_checked("package.title", package.text("title", ""), check_text),
        description=_checked("package.description", package.text("description", ""), check_description),
        base=package.text("base", ""),
        exclude=exclude.texts("paths"),
        keep=exclude.texts("keep"),
        policy=_policy_of(_Table("policy", tables.get("policy", {}))),
        applications=tuple(application for application, _ in applications),
        checks=tuple((application.id, check) for application, check in applications if check),
        folder=folder,
    )
    if bool(recipe.version) == bool(recipe.version_of):
        raise RecipeError("[package] needs one of 'version' and 'version_of'")
    if recipe.version:
        _checked("package.version", recipe.version, check_version)
    if recipe.base:
        _checked("package.base", recipe.base, check_label)
    if bool(build.bootstrap) == bool(recipe.base):
        raise RecipeError("a recipe has either package.base or build.bootstrap")
    if build.bootstrap and kind != "runtime":
        raise RecipeError('build.bootstrap makes a runtime: say package.kind = "runtime", or name a base')
    if build.bootstrap and build.tools:
        raise RecipeError("build.tools are for packages with a base")
    if build.packages and not build.bootstrap:
        raise RecipeError("build.packages goes with build.bootstrap; install by build.commands instead")
    if recipe.base and not build.commands:
        raise RecipeError("build.commands is empty: nothing would be installed")
    return recipe


def _checked(key: str, text: str, check: Callable[[str], str]) -> str:
    try:
        return check(text)
    except FormatError as error:
        raise RecipeError(f"{key}: {error}") from error


def _kind_of(text: str) -> PackageKind:
    for kind in PACKAGE_KINDS:
        if kind == text:
            return kind
    raise RecipeError(f"package.kind must be one of {', '.join(PACKAGE_KINDS)}, not {text!r}")


def _build_of(table: _Table) -> Build:
    build = Build(
        commands=table.texts("commands"),
        network=table.flag("network", default=False),
        sources=table.flag("sources", default=False),
        timeout_s=table.number("timeout_s", TIMEOUT_DEFAULT, TIMEOUT_MAX),
        environment=table.variables("environment"),
        tools=table.texts("tools"),
        files=table.texts("files"),
        bootstrap=table.text("bootstrap", ""),
        packages=table.texts("packages"),
    )
    if build.bootstrap:
        _checked("build.bootstrap", build.bootstrap, check_label)
    for number, command in enumerate(build.commands, 1):
        if "\0" in command:
            raise RecipeError(f"build.commands: number {number} has a NUL, which no command can hold")
    for name in build.files:
        parts = PurePosixPath(name).parts
        if len(parts) != 1 or parts[0] in ("/", "..") or "\0" in name:
            raise RecipeError(f"build.files: {name!r} must be the name of a file beside the recipe")
    for key, names in (("tools", build.tools), ("packages", build.packages)):
        for name in names:
            if not _DISTRIBUTION_PACKAGE.fullmatch(name):
                raise RecipeError(f"build.{key}: {name!r} is not the name of a distribution package")
    return build


def _policy_of(table: _Table) -> Mapping[str, Any]:
    stated: dict[str, Any] = {}
    for key in table.values:
        if key in ("dbus_talk", "dbus_own"):
            stated[key] = table.texts(key)
        elif key == "environment":
            stated[key] = table.variables(key)
        elif key == "home":
            stated[key] = table.text(key)
        else:
            stated[key] = table.flag(key, default=False)
    try:
        Policy(**stated)
    except FormatError as error:
        raise RecipeError(f"[policy]: {error}") from error
    return stated


def _applications_of(values: object) -> list[tuple[Application, str]]:
    if not isinstance(values, list):
        raise RecipeError("applications are written as [[application]]")
    found: list[tuple[Application, str]] = []
    for number, value in enumerate(values, 1):
        table = _Table("application", value)
        try:
            application = Application(
                id=table.text("id"),
                name=table.text("name"),
                command=table.text("command"),
                comment=table.text("comment", ""),
                icon=table.text("icon", ""),
                categories=table.texts("categories"),
                mime_types=table.texts("mime_types"),
                terminal=table.flag("terminal", default=True),
            )
        except FormatError as error:
            raise RecipeError(f"[[application]] number {number}: {error}") from error
        if application.id in {other.id for other, _ in found}:
            raise RecipeError(f"two [[application]] with the id {application.id!r}")
        found.append((application, table.text("check", "")))
    return found
