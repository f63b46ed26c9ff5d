"""Files that a launch reads for its language, told from those that were read for another one. Pure.

A profile is trained in one language and, for what users differ in, once more in a second one. What a third
language needs is not in it, but it lies beside what was touched: `share/locale/de/LC_MESSAGES/gtk30.mo` says
that a user of French will read `share/locale/fr/LC_MESSAGES/gtk30.mo`. Measured: of a first launch in French
2.6 to 3.0% of the pages of galculator and inkscape were not in their profiles, nearly all of them such files.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from itertools import pairwise

_LOCALE = re.compile(rb"[a-z]{2,3}(?:_[A-Z]{2})?(?:\.(?:UTF-8|utf8))?(?:@[a-z]+)?")
_HERE = b"locale"
"""The folder that holds one folder a language: usr/share/locale, usr/lib/locale, usr/share/X11/locale."""


def locale_files(touched: Iterable[bytes], language: str, exists: Callable[[bytes], bool]) -> list[bytes]:
    """Return the paths that a launch in `language` will read in the place of touched ones, each once.

    Args:
        touched: paths of files in a launch pack, relative to the root.
        language: as LANG says it: fr_FR.UTF-8. Of C, POSIX and nonsense nothing comes.
        exists: whether the merged view has a file at a path.
    """
    names = _names(language)
    found: dict[bytes, None] = {}
    for path in touched:
        parts = path.split(b"/")
        for place in range(1, len(parts) - 1):
            if parts[place - 1] != _HERE or not _LOCALE.fullmatch(parts[place]):
                continue
            if parts[place] not in names:
                for name in names:
                    other = b"/".join((*parts[:place], name, *parts[place + 1 :]))
                    if exists(other):
                        found[other] = None
            break
    return list(found)


def is_of_other_language(path: bytes, language: str) -> bool:
    """Return whether a file is for one language, and that not `language`: a launch in it does not read it."""
    names = _names(language)
    parts = path.split(b"/")
    return any(
        above == _HERE and _LOCALE.fullmatch(part) is not None and part not in names
        for above, part in pairwise(parts[:-1])
    )


def _names(language: str) -> list[bytes]:
    """Return the names of folders for a language, as gettext and the C library look for them."""
    match = re.fullmatch(r"([a-z]{2,3})(?:_([A-Z]{2}))?(?:\.[A-Za-z0-9-]+)?(@[a-z]+)?", language)
    if match is None:
        return []
    short, country, modifier = match[1], match[2], match[3] or ""
    whole = f"{short}_{country}" if country else short
    names = [whole + modifier, whole, f"{whole}.UTF-8", f"{whole}.utf8", short + modifier, short]
    return list(dict.fromkeys(name.encode() for name in names))
