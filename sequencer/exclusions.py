"""What a capture leaves out: installers' own state, logs, temporary files, and what the host owns.

Measured on ten real installations (shared design, FACTS, *Capture*).
"""

from __future__ import annotations

from dataclasses import dataclass

from packageformat.manifest import PackageKind
from sequencer.patterns import Patterns

ALWAYS: tuple[str, ...] = (
    "dev/**",
    "proc/**",
    "sys/**",
    "run/**",
    "tmp/**",
    "var/tmp/**",
    "var/run/**",
    "var/log/**",
    "var/cache/apt/**",
    "var/cache/ldconfig/**",
    "var/lib/apt/**",
    "var/cache/man/**",
    "root/.cache",
    "root/.wget-hsts",
    "**/*.dpkg-new",
    "**/*.dpkg-tmp",
    "**/*.dpkg-old",
    "**/*.dpkg-bak",
    "**/*.dpkg-dist",
    "etc/.pwd.lock",
    "etc/*-",
    "etc/apt/sources.list",
    "etc/apt/sources.list.d/**",
    "etc/apt/auth.conf.d/**",
    "etc/apt/apt.conf.d/99mmdebstrap",
    "etc/resolv.conf",
    "etc/hostname",
    "etc/hosts",
    "etc/machine-id",
    "etc/mtab",
    "var/lib/dbus/machine-id",
    "var/lib/systemd/random-seed",
    "usr/sbin/policy-rc.d",
)
"""Left out of every package."""

APPLICATION: tuple[str, ...] = (
    "var/lib/dpkg/**",
    "var/cache/debconf/**",
    "var/lib/ucf/**",
    "etc/apt/**",
    # The host's: the client brings identity and names of its own.
    "etc/passwd",
    "etc/group",
    "etc/shadow",
    "etc/gshadow",
    "etc/subuid",
    "etc/subgid",
    "etc/localtime",
    "etc/timezone",
    "etc/pam.d/common-*",
)
"""Left out of application packages only: a runtime needs them for installations on top of it."""


@dataclass(frozen=True, slots=True)
class Exclusions:
    """What one capture leaves out."""

    left_out: Patterns
    kept: Patterns  # stays, whatever `left_out` says

    def excludes(self, path: bytes) -> bool:
        """Tell whether `path`, relative to the root, is left out."""
        return self.left_out.match(path) and not self.kept.match(path)


def exclusions_for(kind: PackageKind, recipe_paths: tuple[str, ...], keep: tuple[str, ...]) -> Exclusions:
    """Return the exclusions of a package: the defaults for its kind, the recipe's own, less what it keeps."""
    defaults = ALWAYS + (APPLICATION if kind == "application" else ())
    return Exclusions(Patterns(defaults + recipe_paths), Patterns(keep))
