"""Versions of packages from the Debian archive, through a package manager's folder of our own.

Which mirror that is, this machine's own sources say; only the suites are ours, so that an update of a release
that this machine does not run can be had too. Nothing of the machine's package lists changes.
"""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from functools import cmp_to_key
from pathlib import Path

from sequencer.hostconfig import acquire_options

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
APT = Path("/etc/apt")


@dataclass(frozen=True, slots=True)
class Pair:
    """One update: a package in a release, and the same from a later suite of that release."""

    package: str
    old_suite: str
    new_suite: str


class Archive:
    """Downloads and unpacks packages of any suite into a folder."""

    def __init__(self, folder: Path, suites: set[str]) -> None:
        self._folder = folder
        self._environment = os.environ | {"APT_CONFIG": str(self._configure(suites))}
        self._run("apt-get", "-q", "update")
        self._versions: dict[str, dict[str, str]] = {}

    def version(self, package: str, suite: str) -> str | None:
        """Return the newest version that a suite has of a package, or None."""
        if package not in self._versions:
            found: dict[str, str] = {}
            for line in self._run("apt-cache", "madison", package).splitlines():
                fields = [field.strip() for field in line.split("|")]
                if len(fields) == 3 and fields[2].endswith(" Packages"):
                    found.setdefault(fields[2].split()[1].split("/")[0], fields[1])
            self._versions[package] = found
        return self._versions[package].get(suite)

    def sorted(self, versions: set[str]) -> list[str]:
        """Return versions, the older first."""

        def later(one: str, other: str) -> int:
            command = ["dpkg", "--compare-versions", one, "gt", other]
            return -1 if subprocess.run(command, check=False).returncode else 1

        return sorted(versions, key=cmp_to_key(later))

    def unpacked(self, package: str, version: str) -> Path:
        """Return a folder with the files of one version."""
        folder = self._folder / "unpacked" / f"{package}_{version.replace(':', '%3a')}"
        if not folder.is_dir():
            debs = self._folder / "debs"
            debs.mkdir(parents=True, exist_ok=True)
            self._run("apt-get", "-q", "download", f"{package}={version}", at=debs)
            deb = next(debs.glob(f"{package}_{version.replace(':', '%3a')}_*.deb"))
            making = folder.with_suffix(".making")
            making.mkdir(parents=True, exist_ok=True)
            self._run("dpkg-deb", "-x", str(deb), str(making))
            making.rename(folder)
            deb.unlink()
        return folder

    def _configure(self, suites: set[str]) -> Path:
        apt = self._folder / "apt"
        for part in ("lists/partial", "cache/archives/partial", "etc"):
            (apt / part).mkdir(parents=True, exist_ok=True)
        usual, security = _mirrors()
        lines = [
            f"deb [signed-by={KEYRING}] {security if suite.endswith('-security') else usual} {suite} main"
            for suite in sorted(suites)
        ]
        (apt / "etc/sources.list").write_text("".join(f"{line}\n" for line in lines))
        (apt / "etc/status").write_text("")
        config = apt / "etc/apt.conf"
        config.write_text(
            acquire_options()
            + f'Dir::Etc::sourcelist "{apt}/etc/sources.list";\nDir::Etc::sourceparts "-";\n'
            + f'Dir::State::lists "{apt}/lists";\nDir::State::status "{apt}/etc/status";\n'
            + f'Dir::Cache "{apt}/cache";\nAcquire::Languages "none";\nAPT::Sandbox::User "";\n'
        )
        return config

    def _run(self, *command: str, at: Path | None = None) -> str:
        done = subprocess.run(
            command, cwd=at, env=self._environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(f"tests/bench/update: {' '.join(command)} failed: {done.stderr.strip()[-500:]}")
        return done.stdout


def _mirrors() -> tuple[str, str]:
    """Return where this machine gets Debian from, and its security updates."""
    usual = security = ""
    for path in sorted([*APT.glob("sources.list"), *APT.glob("sources.list.d/*")]):
        text = path.read_text("utf-8", "replace")
        stanzas = re.split(r"\n\s*\n", text) if path.suffix == ".sources" else text.splitlines()
        for stanza in stanzas:
            found = re.search(r"(?:^URIs:|^deb\b[^#\n]*?)\s*(\w+://\S+)", stanza, re.MULTILINE)
            if found is None or "debian" not in found[1]:
                continue
            if re.search(r"\S+-security\b", stanza):
                security = security or found[1]
            elif re.search(r"\bmain\b", stanza) and found[1].rstrip("/").endswith("/debian"):
                usual = usual or found[1]
    if not usual:
        raise SystemExit("tests/bench/update: this machine's package sources name no Debian mirror")
    return usual, security or usual
