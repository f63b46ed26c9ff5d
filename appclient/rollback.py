"""Going back to the version before: which packages have one, and which are gone back.

When a refresh brings another version of a package, the publishing list that named the version before is
kept whole, as the server signed it: what is run after a rollback is what the server once published to this
user, and nothing else. A rollback turns away from one version. When the server publishes yet another one,
that is current again. A package that is no longer published is not run by way of a rollback either.

    state/rollback/packages.json     package: digest of the list, version turned away from (or none)
    state/rollback/<digest>          publishing lists, as signed
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

from appclient.errors import UnknownPackageError
from appclient.signin import SignIn
from appclient.storedfile import store, store_json, stored, stored_json
from packageformat.errors import FormatError
from packageformat.limits import ENVELOPE_BYTES_MAX
from packageformat.publishing import Published, Publishing, decode_publishing
from packageformat.signed import open_sealed

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Before:
    """The version before of one package."""

    published: Published
    listed: str  # name of the list's file
    away_from: str  # version id in hexadecimal digits that the user turned away from; empty: none


class Rollbacks:
    """What one sign-in may go back to, and has. Changes are on disk when a method returns."""

    def __init__(self, state: Path, signin: SignIn) -> None:
        self._folder = state / "rollback"
        self._signin = signin
        self._before: dict[str, Before] = self._load()

    def applied(self, listed: Publishing) -> Publishing:
        """Return a publishing list with the version before of each package that is gone back."""
        items = []
        for item in listed.items:
            before = self._before.get(item.name)
            back = before is not None and before.away_from == item.version_id.hex()
            items.append(before.published if before is not None and back else item)
        return replace(listed, items=tuple(items))

    def replaced(self, envelope: bytes, new: Publishing) -> None:
        """Note what `new` replaces of the list before it, signed as in `envelope`; that may have expired.

        Raises:
            CacheError: it cannot be kept.
        """
        try:
            old = self._opened(envelope)
        except FormatError as error:
            _log.warning("no version before is noted: %s", error)
            return
        now = {item.name: item for item in new.items}
        changed = {
            item.name: item
            for item in old.items
            if item.name in now and now[item.name].version_id != item.version_id
        }
        if not changed:
            return
        name = sha256(envelope).hexdigest()
        store(self._folder / name, envelope)
        for package, item in changed.items():
            before = self._before.get(package)
            if before is not None and before.away_from == item.version_id.hex():
                # He ran the version before, not the one that is replaced: that stays what he can go back to.
                self._before[package] = replace(before, away_from="")
            else:
                self._before[package] = Before(item, name, "")
        self._keep()

    def before(self, listed: Publishing, package: str) -> Published:
        """Return the version before of a package of a publishing list, as the server signs it.

        Raises:
            UnknownPackageError: none is known.
        """
        found = self._before.get(package)
        current = next((item for item in listed.items if item.name == package), None)
        if found is None or current is None or current.version_id == found.published.version_id:
            raise UnknownPackageError(
                f"no earlier version of {package} is known here",
                hint="it is kept when a refresh brings another version",
            )
        return found.published

    def go_back(self, listed: Publishing, package: str) -> None:
        """Let `applied` give the version before of a package. Raises as `before`."""
        self.before(listed, package)
        current = next(item for item in listed.items if item.name == package)
        self._before[package] = replace(self._before[package], away_from=current.version_id.hex())
        self._keep()

    def undo(self, package: str) -> bool:
        """Let `applied` give what the server publishes again; False if it did."""
        before = self._before.get(package)
        if before is None or not before.away_from:
            return False
        self._before[package] = replace(before, away_from="")
        self._keep()
        return True

    def _keep(self) -> None:
        store_json(
            self._folder / "packages.json",
            {
                "server": self._signin.server_key.hex(),
                "user": self._signin.user,
                "packages": {
                    name: {
                        "list": before.listed,
                        "version_id": before.published.version_id.hex(),
                        "away_from": before.away_from,
                    }
                    for name, before in self._before.items()
                },
            },
        )
        needed = {before.listed for before in self._before.values()} | {"packages.json"}
        for path in self._folder.iterdir():
            if path.name not in needed and not path.name.startswith("."):
                path.unlink(missing_ok=True)

    def _load(self) -> dict[str, Before]:
        kept = stored_json(self._folder / "packages.json")
        if not isinstance(kept, dict) or not isinstance(kept.get("packages"), dict):
            return {}
        if (kept.get("server"), kept.get("user")) != (self._signin.server_key.hex(), self._signin.user):
            return {}  # of somebody else's sign-in: replaced by the next one
        lists: dict[str, Mapping[str, Published]] = {}
        found: dict[str, Before] = {}
        for package, told in kept["packages"].items():
            try:
                listed, version, away = str(told["list"]), str(told["version_id"]), str(told["away_from"])
                if listed not in lists:
                    lists[listed] = self._listed(listed)
                item = lists[listed].get(version)
            except (KeyError, TypeError, FormatError) as error:
                _log.warning("the version before of %s is forgotten: %s", package, error)
                continue
            if item is not None and item.name == package:
                found[package] = Before(item, listed, away)
        return found

    def _listed(self, name: str) -> dict[str, Published]:
        """Return the packages of a kept list by version id, checked against the pinned key."""
        envelope = stored(self._folder / Path(name).name, most=ENVELOPE_BYTES_MAX)
        if envelope is None:
            raise FormatError("its publishing list is gone")
        return {item.version_id.hex(): item for item in self._opened(envelope).items}

    def _opened(self, envelope: bytes) -> Publishing:
        publishing = decode_publishing(open_sealed("publishing", envelope, (self._signin.server_key,))[0])
        if publishing.user != self._signin.user:
            raise FormatError(f"a publishing list for {publishing.user}")
        return publishing
