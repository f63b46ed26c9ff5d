"""The distribution's packages in a capture, as dpkg's status file lists them."""

from __future__ import annotations

from packageformat.limits import CONTENTS_MAX


def installed_packages(status: str) -> dict[str, str]:
    """Return name and version of each package that the text of var/lib/dpkg/status calls installed."""
    found: dict[str, str] = {}
    for paragraph in status.split("\n\n"):
        fields: dict[str, str] = {}
        for line in paragraph.splitlines():
            if line[:1] not in (" ", "\t", ""):
                key, _, value = line.partition(":")
                fields[key] = value.strip()
        if fields.get("Status", "").endswith(" installed") and "Package" in fields and "Version" in fields:
            found[fields["Package"]] = fields["Version"]
    return found


def added_packages(before: dict[str, str], after: dict[str, str]) -> tuple[str, ...]:
    """Return what `after` has and `before` had not, or not in that version: `name=version`, sorted."""
    added = sorted(f"{name}={version}" for name, version in after.items() if before.get(name) != version)
    return tuple(added[:CONTENTS_MAX])


def version_label(version: str) -> str:
    """Return a distribution version as a package's version: without its epoch."""
    return version.rpartition(":")[2]
