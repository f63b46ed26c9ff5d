"""The places in every bubble where something of the host's or of its own is mounted."""

from __future__ import annotations

MOUNT_FOLDERS = (b"dev", b"proc", b"sys", b"tmp", b"run", b"home", b"root", b"mnt", b"media")
"""Folders that every bubble has, because something is mounted there."""

FONT_CONFIGURATION = b"etc/fonts/conf.d/05-millstream-host.conf"

MOUNT_FILES = (
    b"etc/passwd",
    b"etc/group",
    b"etc/hosts",
    b"etc/hostname",
    b"etc/nsswitch.conf",
    b"etc/resolv.conf",
    b"etc/localtime",
    b"etc/timezone",
    b"etc/machine-id",
    FONT_CONFIGURATION,
)
"""Plain files that every bubble has, because the host's answer is bound there."""
