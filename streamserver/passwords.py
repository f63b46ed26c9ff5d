"""Passwords: argon2id, the only module that knows it. Slow on purpose: call from a thread."""

from __future__ import annotations

from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from streamserver.errors import StoreError

PASSWORD_MAX = 1024  # UTF-8 bytes
_HASHER = PasswordHasher(time_cost=3, memory_cost=65536, parallelism=2)  # 64 MiB, about 60 ms


def check_password_shape(password: str) -> bytes:
    """Return the bytes of a password that may be one.

    Raises:
        StoreError: empty, longer than `PASSWORD_MAX`, or with a NUL or surrogate.
    """
    hint = f"give 1 to {PASSWORD_MAX} bytes of text"
    try:
        plain = password.encode("utf-8") if len(password) <= PASSWORD_MAX else b""
    except UnicodeEncodeError as error:
        raise StoreError("password cannot be used", hint=hint) from error
    if not 0 < len(plain) <= PASSWORD_MAX or b"\0" in plain:
        raise StoreError("password cannot be used: empty or too long", hint=hint)
    return plain


def hash_password(password: str) -> str:
    """Return the hash to store, a PHC string."""
    return _HASHER.hash(check_password_shape(password))


@cache
def hash_of_nobody() -> str:
    """Return what is checked for users who do not exist, so that they take as long as those who do."""
    return _HASHER.hash("the password of nobody")


def verify_password(stored: str, password: bytes) -> bool:
    """Tell whether `password` is the one whose hash is `stored`; takes the same time either way."""
    try:
        return _HASHER.verify(stored, password)
    except (VerificationError, InvalidHashError):
        return False


def needs_rehash(stored: str) -> bool:
    """Tell whether `stored` was made with costs other than today's."""
    try:
        return _HASHER.check_needs_rehash(stored)
    except InvalidHashError:
        return False
