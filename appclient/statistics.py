"""What was fetched for each bubble: counted in memory, kept in a small file, so that `status` can tell."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from appclient.storedfile import store_json, stored_json

BUBBLES_MAX = 256


@dataclass(slots=True)
class Tally:
    """The counts of one bubble, since it was first started here."""

    package: str = ""  # "name version"
    application: str = ""
    bytes_received: int = 0  # stored bytes of frames and heads, as they came over the network
    blocks_fetched: int = 0
    blocks_ahead: int = 0  # of them, those that no application had asked for yet
    faults_served: int = 0  # blocks that an application waited for
    pages_packed: int = 0  # pages that came in launch packs
    faults_packed: int = 0  # faults that a launch pack was about to answer: of `faults_served`
    delta_bytes: int = 0  # of `bytes_received`, those of deltas
    misses: int = 0  # pages that launches waited for and their packs did not hold
    round_trips: int = 0  # requests that were waited for one after another, those before the start counted
    requests: int = 0
    corrupt: int = 0  # frames that came damaged
    damaged: int = 0  # blocks found damaged in the cache, and fetched again
    last_fetch: float = 0.0  # seconds since 1970


class Statistics:
    """The tallies of all bubbles. One writer: the agent."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._tallies: dict[str, Tally] = {}
        self._written: object = None
        value = stored_json(path)
        for name, counts in value.items() if isinstance(value, dict) else ():
            tally = Tally()
            for column in fields(Tally):
                kept = counts.get(column.name) if isinstance(counts, dict) else None
                if isinstance(kept, type(getattr(tally, column.name))):
                    setattr(tally, column.name, kept)
            self._tallies[str(name)] = tally

    def of(self, bubble: bytes) -> Tally:
        """Return the tally of a bubble, to be read and counted up."""
        name = bubble.hex()
        tally = self._tallies.get(name)
        if tally is None:
            while len(self._tallies) >= BUBBLES_MAX:
                del self._tallies[min(self._tallies, key=lambda other: self._tallies[other].last_fetch)]
            tally = self._tallies[name] = Tally(last_fetch=time.time())
        return tally

    def last_fetch(self, bubble: bytes) -> float:
        """Return when something came for a bubble last, in seconds since 1970; 0 if that is not known."""
        tally = self._tallies.get(bubble.hex())
        return tally.last_fetch if tally is not None else 0.0

    def table(self) -> dict[str, dict[str, object]]:
        """Return all counts by bubble id in hexadecimal digits."""
        return {name: asdict(tally) for name, tally in self._tallies.items()}

    def save(self) -> None:
        """Write the counts if they have changed.

        Raises:
            CacheError: they cannot be written.
        """
        table = self.table()
        if table != self._written:
            store_json(self._path, table)
            self._written = table

    def forget(self, bubble: bytes) -> None:
        """Drop a bubble's counts."""
        self._tallies.pop(bubble.hex(), None)
