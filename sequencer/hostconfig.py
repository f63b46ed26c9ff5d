"""What a capture borrows from this machine: the package manager's sources, name servers, certificates.

So no mirror's name stands in a recipe, and none in a package: all of it is mounted over the capture and never
part of it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

APT = Path("/etc/apt")
KEYRINGS = "millstream-keyrings"
FILE_MAX = 16 << 20
INSIDE = "/run/millstream"
"""Where the capture sees what is borrowed."""

_SIGNED_BY = re.compile(r"(?im)(?<=signed-by[:=])\s*(/[^\s\],]+)")
_PASSED_ON = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY",
              "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_DEFAULT_TIMEOUT")  # fmt: skip


@dataclass(frozen=True, slots=True)
class HostConfig:
    """Contents, read while we still may; nothing is read later."""

    apt: Mapping[str, bytes] = field(default_factory=dict)  # path below /etc/apt: content
    sources: tuple[str, ...] = ()  # the host's files of package sources, for mmdebstrap
    name_servers: bytes = b""  # /etc/resolv.conf
    certificates: bytes = b""  # PEM
    pip: bytes = b""  # pip.conf
    environment: tuple[tuple[str, str], ...] = ()


def read_host_config(*, network: bool, with_sources: bool = False) -> HostConfig:
    """Return what a capture with or without `network` borrows. What cannot be read is left out.

    Args:
        network: whether the capture has the host's network.
        with_sources: whether its apt shall know source packages too.
    """
    if not network:
        return HostConfig()
    sources = [path for path in _files(APT) if _is_source(path)]
    return HostConfig(
        apt=_apt_files(sources, with_sources=with_sources),
        sources=tuple(str(path) for path in sources),
        name_servers=_read(Path("/etc/resolv.conf")),
        certificates=_read(Path("/etc/ssl/certs/ca-certificates.crt")),
        pip=_read(Path("/etc/pip.conf")),
        environment=tuple((key, os.environ[key]) for key in _PASSED_ON if os.environ.get(key)),
    )


def acquire_options() -> str:
    """Return how this machine's apt fetches (proxies, dates), as lines of an apt.conf."""
    if shutil.which("apt-config") is None:
        return ""
    done = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("Acquire::")]
    return "".join(f"{line}\n" for line in lines if "::IndexTargets" not in line)


def _apt_files(sources: list[Path], *, with_sources: bool) -> dict[str, bytes]:
    """Return a folder /etc/apt that fetches as this machine does, with no hooks of this machine."""
    found: dict[str, bytes] = {}
    for path in _files(APT):
        top = path.relative_to(APT).parts[0]
        if top in ("trusted.gpg", "trusted.gpg.d", "keyrings", "auth.conf", "auth.conf.d"):
            found[str(path.relative_to(APT))] = _read(path)
    for path in sources:
        text = _read(path).decode("utf-8", "surrogateescape")
        for keyring in set(_SIGNED_BY.findall(text)):
            content = _read(Path(keyring))
            if content:
                name = f"{KEYRINGS}/{keyring.strip('/').replace('/', '-')}"
                found[name] = content
                text = text.replace(keyring, f"{APT}/{name}")
        if with_sources:
            text = add_source_packages(text)
        found[str(path.relative_to(APT))] = text.encode("utf-8", "surrogateescape")
    found["apt.conf.d/90capture"] = (
        acquire_options()
        + 'Acquire::Languages "none";\n'
        + 'Dir::Cache::pkgcache "";\nDir::Cache::srcpkgcache "";\n'
        + 'APT::Sandbox::User "root";\n'  # the capture's root is nobody outside
    ).encode("utf-8", "surrogateescape")
    return found


def add_source_packages(text: str) -> str:
    """Return a file of package sources, of either style, that names source packages too (deb-src)."""
    text = re.sub(r"(?m)^(Types:)[ \t]*deb[ \t]*$", r"\1 deb deb-src", text)
    return re.sub(r"(?m)^deb([ \t].*)$", r"deb\1\ndeb-src\1", text)


def _is_source(path: Path) -> bool:
    return path.suffix in (".list", ".sources")


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(FILE_MAX)
    except OSError:
        return b""
