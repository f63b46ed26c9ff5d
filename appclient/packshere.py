"""Which launch packs are in the cache, and what they hold, in the order of its use, for the launches to come.

    cache/views/<bubble id>.packs                     digests of the packs that are here, by application
    cache/views/<bubble id>.<a pack's digest>.order   its pages (bubble.launchorder)

A launch of which everything is here gets no pack: the order says at once what is wanted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from appclient.errors import CacheError
from appclient.storedfile import store, store_json, stored_json
from bubble.launchorder import Run, encode_order


class PacksHere:
    """The notes of one user. A bubble's begin with its id, and go with its view image."""

    def __init__(self, views: Path) -> None:
        """Keep notes in the folder `views`."""
        self._views = views

    def digest_of(self, bubble: bytes, application: str) -> bytes:
        """Return the digest of the launch pack that is in the cache, all of it; empty if none is."""
        value = stored_json(self._packs_path(bubble))
        text = value.get(application) if isinstance(value, dict) else None
        try:
            name = bytes.fromhex(text) if isinstance(text, str) else b""
        except ValueError:
            return b""
        return name if name and self._order_path(bubble, name).exists() else b""

    def note(self, bubble: bytes, application: str, name: bytes, order: Sequence[Run]) -> None:
        """Note that a launch pack is in the cache, all of it.

        Args:
            bubble: whose.
            application: that it is named after.
            name: its digest.
            order: its pages that lead to the window.
        """
        before = self.digest_of(bubble, application)
        value = stored_json(self._packs_path(bubble))
        packs = value if isinstance(value, dict) else {}
        packs[application] = name.hex()
        store(self._order_path(bubble, name), encode_order(order))
        store_json(self._packs_path(bubble), packs)
        if before and before != name:
            self._order_path(bubble, before).unlink(missing_ok=True)

    def orders(self, bubble: bytes, applications: Iterable[str]) -> tuple[Path, ...]:
        """Return where the orders are that views begin with; none if the disk does not tell."""
        try:
            names = [self.digest_of(bubble, one) for one in applications]
        except CacheError:
            return ()
        return tuple(self._order_path(bubble, name) for name in names if name)

    def _packs_path(self, bubble: bytes) -> Path:
        return self._views / f"{bubble.hex()}.packs"

    def _order_path(self, bubble: bytes, name: bytes) -> Path:
        return self._views / f"{bubble.hex()}.{name.hex()[:16]}.order"
