"""Addresses of servers, and where a password may go."""

from __future__ import annotations

import pytest

from appclient.address import address_of
from appclient.errors import ServerUntrustedError


@pytest.mark.parametrize(
    ("typed", "url"),
    [
        ("apps.example.org", "https://apps.example.org"),
        ("https://apps.example.org/", "https://apps.example.org"),
        ("http://127.0.0.1:8470", "http://127.0.0.1:8470"),
        ("https://[::1]:8470", "https://[::1]:8470"),
    ],
)
def test_an_address_is_understood_as_typed(typed: str, url: str) -> None:
    assert address_of(typed).url == url


@pytest.mark.parametrize(
    "typed",
    [
        "",
        "ftp://x",
        "https://",
        "https://u:p@x",
        "https://x/path",
        "https://x?q",
        "https://x:99999",
        "https://a b",
    ],
)
def test_what_is_no_address_is_refused(typed: str) -> None:
    with pytest.raises(ServerUntrustedError):
        address_of(typed)


@pytest.mark.parametrize(
    "typed", ["http://apps.example.org", "http://10.0.0.1", "http://127.0.0.1.example.org"]
)
def test_a_password_never_goes_over_plain_http(typed: str) -> None:
    with pytest.raises(ServerUntrustedError, match="plain HTTP"):
        address_of(typed).require_privacy()


@pytest.mark.parametrize("typed", ["http://127.0.0.1:1", "http://localhost", "http://[::1]", "https://x"])
def test_a_password_may_go_to_this_machine_or_over_tls(typed: str) -> None:
    address_of(typed).require_privacy()
