"""What the user has set: background fill, metered links, reports. One small file, read again when it changes.

    ~/.config/millstream/settings.json    the settings that are not as they come; missing: all are

A file that is damaged turns off what the settings are about (nothing is filled, nothing reported) until it is
right again: somebody may have said no in it.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from enum import StrEnum
from pathlib import Path

from appclient.errors import SettingError
from appclient.storedfile import store_json, stored
from packageformat.errors import MillstreamError

_BYTES_MAX = 1 << 16
_LIMIT_MAX = 1e6
_RATE = re.compile(r"(\d+(?:\.\d+)?) ?(mbit(?:/s|ps)?|mb(?:/s)?|)", re.IGNORECASE)


class Fill(StrEnum):
    """Which packages are brought into the cache without being asked for."""

    OFF = "off"
    LAUNCHED = "launched"  # those whose applications were started here
    ALL = "all"  # everything that is published to the user


class Metered(StrEnum):
    """Whether the network link counts as metered."""

    AUTO = "auto"  # as NetworkManager says; without it: no
    YES = "yes"
    NO = "no"


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings, as they come."""

    fill: Fill = Fill.LAUNCHED
    limit_mbit: float = 0.0  # background fill takes no more than this; 0: no limit
    metered: Metered = Metered.AUTO
    reports: bool = True  # what launch packs lacked is reported to the server
    free_percent: float = 5.0  # background fill stops while less of the cache's disk is free,
    free_gib: float = 1.0  # or less than this

    def __post_init__(self) -> None:
        for name, most in (("limit_mbit", _LIMIT_MAX), ("free_percent", 100.0), ("free_gib", 1e6)):
            value = getattr(self, name)
            if not math.isfinite(value) or not 0 <= value <= most:
                raise ValueError(f"{name} is {value}, allowed 0 to {most:g}")


def path_of(config: Path) -> Path:
    """Return where the settings are kept."""
    return config / "settings.json"


def decode_settings(value: object) -> Settings:
    """Return the settings of a decoded settings file; names that we do not know are left alone.

    Raises:
        ValueError: it is not one.
    """
    if not isinstance(value, Mapping):
        raise ValueError("not an object")  # noqa: TRY004 - the caller tells one kind of error
    settings = Settings()
    for field in fields(Settings):
        if field.name not in value:
            continue
        given = value[field.name]
        usual = getattr(settings, field.name)
        if isinstance(usual, bool):
            if not isinstance(given, bool):
                raise ValueError(f"{field.name} is neither true nor false")  # noqa: TRY004
        elif isinstance(usual, float):
            if isinstance(given, bool) or not isinstance(given, (int, float)):
                raise ValueError(f"{field.name} is not a number")  # noqa: TRY004
            given = float(given)
        else:
            given = type(usual)(given)
        settings = replace(settings, **{field.name: given})
    return settings


def load(config: Path) -> Settings:
    """Return the settings on disk.

    Raises:
        SettingError: they are damaged.
        CacheError: they cannot be read.
    """
    path = path_of(config)
    content = stored(path, most=_BYTES_MAX)
    if content is None:
        if path.exists():
            raise SettingError(f"too long: {path}")
        return Settings()
    try:
        return decode_settings(json.loads(content))
    except (ValueError, RecursionError) as error:
        raise SettingError(f"damaged: {path}: {error}") from error


def save(config: Path, settings: Settings) -> None:
    """Keep settings, whole or not at all.

    Raises:
        CacheError: they cannot be written.
    """
    usual = asdict(Settings())
    table = asdict(settings)
    store_json(path_of(config), {name: value for name, value in table.items() if value != usual[name]})


def rate_of(text: str) -> float:
    """Return a bandwidth in Mbit/s: "8", "8Mbit/s", "1MB/s"; "none" and 0 mean no limit.

    Raises:
        ValueError: it is none.
    """
    if text.strip().lower() == "none":
        return 0.0
    match = _RATE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"not a bandwidth: {text[:40]!r}")
    rate = float(match[1]) * (8 if match[2].lower() in ("mb", "mb/s") else 1)
    if rate > _LIMIT_MAX:
        raise ValueError(f"more than any network has: {text[:40]!r}")
    return rate


class SettingsFile:
    """The settings on disk, for a process that lives long."""

    def __init__(self, config: Path) -> None:
        self._config = config
        self._stamp: tuple[int, int, int] | None = None
        self._settings = Settings()
        self.trouble = ""  # one line, if the file is damaged

    def current(self) -> Settings:
        """Return the settings of now; those of a damaged file allow nothing."""
        try:
            status = os.stat(path_of(self._config))  # noqa: PTH116 - often
            stamp = (status.st_ino, status.st_mtime_ns, status.st_size)
        except OSError:
            stamp = (0, 0, 0)
        if stamp != self._stamp:
            self._stamp = stamp
            self.trouble = ""
            try:
                self._settings = load(self._config)
            except MillstreamError as error:
                self.trouble = error.line()
                self._settings = Settings(fill=Fill.OFF, reports=False)
        return self._settings
