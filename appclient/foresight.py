"""Where packages are, asked before somebody starts one: a launch then asks for what is in them at once.

A round trip less is a tenth of a far launch. What the server said holds for ten minutes (the addresses are
capabilities); it is asked again as long as connections are kept warm. Who has lost a package keeps an address
of it no longer than that, as always.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from appclient.session import DELTAS_MAX, Origin, Session
from packageformat.publishing import Published
from packageformat.stack import bubble_id

STACKS_MAX = 16
"""Of so many packages at most, those that were started last or stand first in the list."""

LEFT_S, RENEW_S = 60, 180
"""Seconds that an address has to hold to be used, and not to be asked for anew: over two rounds of pings."""


class Foresight:
    """What the server said of packages that may be started next."""

    def __init__(self, session: Callable[[], Session]) -> None:
        self._session = session
        self._language = ""  # the user's locale, once a command has told it
        self._spoken = ""  # that for which was asked
        self._of: Session | None = None
        self._origins: Mapping[bytes, Origin] = {}
        self._have: frozenset[bytes] = frozenset()  # what deltas were told from

    def speaks(self, language: str) -> None:
        """Learn the user's locale: launches to come are foreseen in it."""
        self._language = language or self._language

    def forget(self) -> None:
        """Know nothing until the next look: somebody wants the news."""
        self._of = None

    async def look(self, likely: Sequence[Published], have: Sequence[bytes]) -> None:
        """Ask where packages are, unless that is known for a while.

        Args:
            likely: what may be started, the likeliest first.
            have: versions that are here, of which these may be updates.

        Raises:
            MillstreamError: the server does not say.
        """
        session = self._session()
        wanted = tuple(dict.fromkeys(version for one in likely[:STACKS_MAX] for version in one.stack))
        language = self._language
        have = have[:DELTAS_MAX]
        known = language == self._spoken and self._has(session, wanted, RENEW_S) and self._have >= set(have)
        if not wanted or not language or known:
            return
        found = await session.origins(wanted, have, language)
        self._of, self._origins, self._spoken, self._have = session, found, language, frozenset(have)

    def origins(
        self, stack: Sequence[bytes], language: str, have: Sequence[bytes] = ()
    ) -> dict[bytes, Origin]:
        """Return where the packages of a stack are; nothing if that has to be asked.

        It has to if there was no launch pack, or no delta from what is here: there may be one now, which is
        worth more than a round trip.

        Args:
            stack: the versions, bottom first.
            language: the user's locale.
            have: versions that are here, of which these may be updates.
        """
        if language != self._spoken or not self._has(self._session(), stack, LEFT_S):
            return {}
        if not self._have >= set(have) or (have and not any(self._origins[one].deltas for one in stack)):
            return {}
        bubble = bubble_id(stack)
        if not any(pack.bubble_id == bubble for pack in self._origins[stack[-1]].pointer.packs):
            return {}
        return {version: _from(self._origins[version], have) for version in stack}

    def _has(self, session: Session, versions: Sequence[bytes], left_s: float) -> bool:
        until = time.time() + left_s
        return session is self._of and all(
            version in self._origins and self._origins[version].expires > until for version in versions
        )


def _from(origin: Origin, have: Sequence[bytes]) -> Origin:
    """Return an origin with the deltas from what is here: a version may have gone since they were told."""
    return replace(origin, deltas=tuple(delta for delta in origin.deltas if delta.old_version in have))
