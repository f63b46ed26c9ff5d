"""Importing launch profiles: what the sequencer trained, for a version that is here.

A profile is not signed: it says which pages a launch wants early, and a launch pack proves each of them by
the publishers' manifests. Whoever may import packages may say what comes first.
"""

from __future__ import annotations

import os
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from packageformat.errors import FormatError
from packageformat.launchprofile import MAGIC, PREAMBLE, PackageProfiles, decode_profiles, encode_profiles
from packageformat.limits import PROFILE_BYTES_MAX
from packageformat.manifest import decode_manifest
from streamserver.database import catalogue, packs
from streamserver.errors import MissingPackageError, StoreError
from streamserver.statefolder import explained
from streamserver.store import Store

SUFFIX = ".profile"


@dataclass(frozen=True, slots=True)
class ImportedProfile:
    """What an import did: `imported` new profiles, or nothing (they were here)."""

    outcome: Literal["imported", "present"]
    name: str  # of the package
    version: str
    version_id: bytes
    applications: tuple[str, ...]


def profile_beside(package: Path) -> Path | None:
    """Return the profile file beside a package file, if there is one."""
    path = package.with_suffix(SUFFIX)
    return path if path != package and path.is_file() else None


def is_profile(descriptor: int) -> bool:
    """Tell whether an open file is one of launch profiles, by its first bytes."""
    return stat.S_ISREG(os.fstat(descriptor).st_mode) and os.pread(descriptor, len(MAGIC), 0) == MAGIC


def declared_profile_size(descriptor: int) -> int | None:
    """Return the size that an untrusted profile file claims; None if it is none, or cut short in front."""
    head = os.pread(descriptor, PREAMBLE.size, 0)
    if len(head) < PREAMBLE.size or not head.startswith(MAGIC):
        return None
    return PREAMBLE.size + int.from_bytes(head[12:16], "little")


def import_profile(store: Store, source: Path) -> ImportedProfile:
    """Take the profiles in the file `source`.

    Raises:
        FormatError: it is no profile file, or of an application that the package does not have.
        MissingPackageError: the version that was trained is not here.
        StoreError: it cannot be read.
    """
    with explained(source):
        descriptor = os.open(source, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        return import_profile_descriptor(store, source, descriptor)
    finally:
        os.close(descriptor)


def import_profile_descriptor(store: Store, source: Path, descriptor: int) -> ImportedProfile:
    """Take the profiles of an open file, as `import_profile` does; `source` is how to call it in errors."""
    with explained(source):
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise StoreError(f"not a file: {source}", hint="give a profile file (.profile)")
        data = os.pread(descriptor, PROFILE_BYTES_MAX + 1, 0)
    found = decode_profiles(data)
    package = store.reader.ask(lambda db: catalogue.find_package(db, found.version_id))
    if package is None:
        raise MissingPackageError(f"launch profile of a package that is not here: {found.version_id.hex()}")
    there = {application.id for application in decode_manifest(package.manifest).applications}
    strange = sorted({profile.application for profile in found.profiles} - there)
    if strange:
        raise FormatError(
            f"launch profile of an application that {package.name} {package.version} does not have:"
            f" {strange[0]}"
        )
    documents = {
        profile.application: encode_profiles(PackageProfiles(found.version_id, (profile,)))
        for profile in found.profiles
    }
    now = int(time.time())
    changed = store.writer.run(
        lambda db: [
            packs.put_profile(db, found.version_id, application, document, now=now)
            for application, document in documents.items()
        ]
    )
    return ImportedProfile(
        "imported" if any(changed) else "present",
        package.name,
        package.version,
        package.version_id,
        tuple(documents),
    )
