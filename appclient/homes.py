"""Private homes: each belongs to one server's packages of one name by one publisher.

    state/homes/<package>             of the first server and publisher with a package of that name
    state/homes/<package>@<owner>     of any other
    state/homes/.owners/<package>     whose the first is; out of the applications' reach

Else a package of that name from elsewhere would be handed the settings and secrets of another's.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from appclient.storedfile import store, stored

_OWNERS = ".owners"  # no package's name begins with a dot, and none has an @
_DIGITS = 16


def owner_of(server_key: bytes, publisher: bytes) -> str:
    """Return who owns the homes of a publisher's packages from a server, both by their Ed25519 keys."""
    return hashlib.sha256(b"millstream home 1\0" + server_key + publisher).hexdigest()


def home_of(homes: Path, package: str, owner: str) -> Path:
    """Return the home of `owner`'s package of this name; who asks first has the one without an addition.

    Raises:
        CacheError: it cannot be noted whose it is.
    """
    marker = homes / _OWNERS / package
    known = stored(marker, most=len(owner))
    if known is None and not marker.exists():
        store(marker, owner.encode())
        known = owner.encode()
    return homes / (package if known == owner.encode() else f"{package}@{owner[:_DIGITS]}")
