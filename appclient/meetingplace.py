"""Where the processes of one user meet. Imported by every start, so it imports nothing."""

from __future__ import annotations

TYPE_CHECKING = False  # importing typing would take as long as the rest
if TYPE_CHECKING:
    from collections.abc import Mapping

LAUNCHER = "launcher.sock"
"""In the runtime folder: where `appclient run` finds the agent's launcher."""


def runtime_folder(environment: Mapping[str, str], user: int) -> str:
    """Return the folder with the sockets of the user `user` (numeric id). It may belong to somebody else."""
    given = environment.get("XDG_RUNTIME_DIR", "")
    return f"{given.rstrip('/')}/millstream" if given.startswith("/") else f"/tmp/millstream-{user}"  # noqa: S108
