"""What is remembered of the server between two agents: its last publishing list, and the generations seen."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from appclient import signin as signins
from appclient import workflow
from appclient.errors import CacheError, ServerUntrustedError
from appclient.folders import Folders
from appclient.rollback import Rollbacks
from appclient.signin import SignIn
from appclient.storedfile import store, stored
from appclient.workflow import Seen
from packageformat.errors import FormatError
from packageformat.limits import ENVELOPE_BYTES_MAX
from packageformat.publishing import Publishing

_log = logging.getLogger(__name__)

SEEN_BYTES_MAX = 16 << 20
"""Of seen.json: some 200,000 package versions."""


def publishing_path(folders: Folders) -> Path:
    """Return where the last publishing list is kept, as the server signed it."""
    return folders.state / "publishing"


def kept_publishing(folders: Folders, now: int) -> Publishing | None:
    """Return the last publishing list, checked, or None if there is none that is still good.

    For commands that only look. Raises NotSignedInError.
    """
    signin = signins.recall(folders.config)
    envelope = stored(publishing_path(folders), most=ENVELOPE_BYTES_MAX)
    if envelope is None:
        return None
    seen = recall_seen(seen_path(folders), signin)
    try:
        listed = workflow.accept_publishing(envelope, signin, seen, now)
    except (FormatError, ServerUntrustedError):
        return None
    return Rollbacks(folders.state, signin).applied(listed)


def seen_path(folders: Folders) -> Path:
    """Return where the highest generations seen are kept."""
    return folders.state / "seen.json"


def recall_seen(path: Path, signin: SignIn) -> Seen:
    """Return the generations seen of this server; those of another do not count.

    Raises:
        CacheError: the file cannot be read, or is longer than any that `remember_seen` writes.
    """
    server = _servers(path).get(signin.server_key.hex())
    try:
        if not isinstance(server, dict):
            return Seen()
        publishing = int(server["publishing"].get(signin.user, 0))
        pointers = {bytes.fromhex(name): int(generation) for name, generation in server["pointers"].items()}
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        _log.warning("damaged, generations seen are forgotten: %s", path)
        return Seen()
    return Seen(publishing, pointers)


def remember_seen(path: Path, signin: SignIn, seen: Seen) -> None:
    """Keep the generations seen of this server, beside those of others.

    Raises:
        CacheError: they cannot be written, or there are too many.
    """
    servers = _servers(path)
    before = servers.get(signin.server_key.hex())
    users = before.get("publishing") if isinstance(before, dict) else None
    servers[signin.server_key.hex()] = {
        "publishing": {**(users if isinstance(users, dict) else {}), signin.user: seen.publishing},
        "pointers": {version.hex(): generation for version, generation in seen.pointers.items()},
    }
    content = json.dumps({"servers": servers}, indent=1).encode()
    if len(content) > SEEN_BYTES_MAX:
        raise _too_long(path)
    store(path, content)


def _servers(path: Path) -> dict[str, object]:
    """Return what is kept, by server key in hexadecimal digits; nothing if it is damaged."""
    content = stored(path, most=SEEN_BYTES_MAX)
    if content is None:
        if path.exists():
            raise _too_long(path)
        return {}
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        value = None
    servers = value.get("servers") if isinstance(value, dict) else None
    if not isinstance(servers, dict):
        _log.warning("damaged, generations seen are forgotten: %s", path)
        return {}
    return servers


def _too_long(path: Path) -> CacheError:
    return CacheError(
        f"longer than {SEEN_BYTES_MAX >> 20} MiB: {path}",
        hint="remove it only if you trust what the server says today: it guards against older lists",
    )
