"""Run a program as an ordinary user on an overlay over plain folders: the baseline of the benchmark.

    python overlaid.py LOWER[:LOWER...] SCRATCH XAUTHORITY COMMAND...
    python overlaid.py =FOLDER SCRATCH XAUTHORITY COMMAND...    no overlay: the folder itself, read-only

The same composition as a bubble's (user namespace, overlayfs with userxattr, bubblewrap, private home), but
the lower layers (topmost first) are folders of the host. It says "ready" when Python is there and waits for
a line on standard input, so that neither is measured. It stands alone: the user it runs as cannot read the
clone.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from bubble import namespaces


def main() -> None:
    """Compose, and become bubblewrap."""
    scratch, authority = Path(sys.argv[2]), Path(sys.argv[3])
    print("ready", flush=True)
    if not sys.stdin.readline():
        return
    for name in ("upper", "work", "merged", "home"):
        (scratch / name).mkdir(parents=True, exist_ok=True)
    passwd = scratch / "passwd"
    uid, gid = os.getuid(), os.getgid()
    passwd.write_text(f"root:x:0:0:root:/root:/bin/sh\nuser:x:{uid}:{gid}:user:/home/user:/bin/sh\n")
    namespaces.unshare(namespaces.CLONE_NEWUSER | namespaces.CLONE_NEWNS)
    namespaces.map_own_ids(uid, gid)
    namespaces.mount("none", "/", "", namespaces.MS_REC | namespaces.MS_PRIVATE)
    if sys.argv[1].startswith("="):
        root = ("--ro-bind", sys.argv[1][1:], "/")
    else:
        _mount_overlay(sys.argv[1].split(":"), scratch)
        root = ("--bind", str(scratch / "merged"), "/")
    arguments = [
        *("bwrap", *root, "--dev", "/dev", "--proc", "/proc"),
        *("--tmpfs", "/tmp", "--tmpfs", "/run", "--dir", "/tmp/.X11-unix", "--tmpfs", "/home"),
        *("--ro-bind", "/tmp/.X11-unix", "/tmp/.X11-unix", "--ro-bind", str(authority), "/run/Xauthority"),
        *("--ro-bind", str(passwd), "/etc/passwd", "--bind", str(scratch / "home"), "/home/user"),
        *("--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-net", "--die-with-parent"),
        *("--setenv", "HOME", "/home/user", "--setenv", "XAUTHORITY", "/run/Xauthority"),
        *("--unsetenv", "XDG_RUNTIME_DIR", "--chdir", "/home/user", "--", *sys.argv[4:]),
    ]
    os.execvp("bwrap", arguments)


def _mount_overlay(lowers: Sequence[str], scratch: Path) -> None:
    folders = [*lowers, scratch / "upper", scratch / "work"]
    places = [f"/proc/self/fd/{os.open(folder, os.O_PATH | os.O_DIRECTORY)}" for folder in folders]
    options = f"lowerdir={':'.join(places[:-2])},upperdir={places[-2]},workdir={places[-1]},userxattr"
    flags = namespaces.MS_NOSUID | namespaces.MS_NODEV
    namespaces.mount("overlay", scratch / "merged", "overlay", flags, options)


if __name__ == "__main__":
    main()
