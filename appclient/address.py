"""The address of a server, as a user types it. Pure."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

from appclient.errors import ServerUntrustedError


@dataclass(frozen=True, slots=True)
class Address:
    """scheme://host[:port], without a path."""

    url: str

    @property
    def secure(self) -> bool:
        """Whether it is https."""
        return self.url.startswith("https://")

    @property
    def loopback(self) -> bool:
        """Whether it is this machine: then nobody listens on the way."""
        host = urlsplit(self.url).hostname or ""
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host == "localhost"

    def require_privacy(self) -> None:
        """Check that a password may be sent there.

        Raises:
            ServerUntrustedError: plain HTTP over a network.
        """
        if not self.secure and not self.loopback:
            raise ServerUntrustedError(
                f"a password is never sent over plain HTTP: {self.url}",
                hint="use https://, or ask the administrator for a certificate",
            )


def address_of(text: str) -> Address:
    """Return the address that a user typed; https is understood where no scheme is named.

    Raises:
        ServerUntrustedError: it is not the address of a server.
    """
    full = text if "://" in text else f"https://{text}"
    try:
        parts = urlsplit(full)
        port = parts.port
    except ValueError as error:
        raise _wrong(text) from error
    host = parts.hostname or ""
    if parts.scheme not in ("http", "https") or not host or parts.username or parts.query or parts.fragment:
        raise _wrong(text)
    if parts.path not in ("", "/") or any(not letter.isprintable() or letter.isspace() for letter in full):
        raise _wrong(text)
    shown = f"[{host}]" if ":" in host else host
    return Address(f"{parts.scheme}://{shown}" + (f":{port}" if port is not None else ""))


def _wrong(text: str) -> ServerUntrustedError:
    return ServerUntrustedError(
        f"not the address of a server: {text!r}", hint="write it as https://server.example[:port]"
    )
