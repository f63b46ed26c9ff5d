"""What is remembered of the server between two agents: its last publishing list, and the generations seen."""

from __future__ import annotations

from pathlib import Path

from appclient import signin as signins
from appclient import workflow
from appclient.errors import ServerUntrustedError
from appclient.folders import Folders
from appclient.signin import SignIn
from appclient.storedfile import store_json, stored, stored_json
from appclient.workflow import Seen
from packageformat.errors import FormatError
from packageformat.limits import ENVELOPE_BYTES_MAX
from packageformat.publishing import Publishing


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
        return workflow.accept_publishing(envelope, signin, seen, now)
    except (FormatError, ServerUntrustedError):
        return None


def seen_path(folders: Folders) -> Path:
    """Return where the highest generations seen are kept."""
    return folders.state / "seen.json"


def recall_seen(path: Path, signin: SignIn) -> Seen:
    """Return the generations seen of this server; those of another do not count."""
    value = stored_json(path)
    try:
        if not isinstance(value, dict) or value["server_key"] != signin.server_key.hex():
            return Seen()
        publishing = int(value["publishing"]) if value["user"] == signin.user else 0
        pointers = {bytes.fromhex(name): int(generation) for name, generation in value["pointers"].items()}
    except (KeyError, TypeError, ValueError, AttributeError):
        return Seen()
    return Seen(publishing, pointers)


def remember_seen(path: Path, signin: SignIn, seen: Seen) -> None:
    """Keep the generations seen of this server.

    Raises:
        CacheError: they cannot be written.
    """
    store_json(
        path,
        {
            "server_key": signin.server_key.hex(),
            "user": signin.user,
            "publishing": seen.publishing,
            "pointers": {version.hex(): generation for version, generation in seen.pointers.items()},
        },
    )
