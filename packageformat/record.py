"""A record: the fields of a decoded array, taken in order, each checked for its type and bounds."""

from __future__ import annotations

from packageformat.encoding import Value
from packageformat.errors import FormatError
from packageformat.limits import DIGEST_SIZE, TEXT_MAX


class Record:
    """Reads the fields of one array in their order. What goes wrong is a FormatError that names it."""

    __slots__ = ("_fields", "_name", "_next")

    def __init__(self, value: Value, name: str, count: int) -> None:
        if not isinstance(value, tuple) or len(value) != count:
            raise FormatError(f"not a {name}: expected an array of {count} fields")
        self._fields = value
        self._name = name
        self._next = 0

    def value(self) -> Value:
        """Return the next field, whatever it is."""
        field = self._fields[self._next]
        self._next += 1
        return field

    def text(self, most: int = TEXT_MAX) -> str:
        """Return the next field, text of up to `most` characters."""
        field = self.value()
        if not isinstance(field, str) or len(field) > most:
            raise self._wrong(f"text of up to {most} characters")
        return field

    def octets(self, most: int, least: int = 0) -> bytes:
        """Return the next field, `least` to `most` bytes."""
        field = self.value()
        if not isinstance(field, bytes) or not least <= len(field) <= most:
            raise self._wrong(f"{least} to {most} bytes")
        return field

    def digest(self) -> bytes:
        """Return the next field, a SHA-256."""
        return self.octets(DIGEST_SIZE, DIGEST_SIZE)

    def number(self, most: int, least: int = 0) -> int:
        """Return the next field, a number from `least` to `most`."""
        field = self.value()
        if type(field) is not int or not least <= field <= most:
            raise self._wrong(f"a number from {least} to {most}")
        return field

    def flag(self) -> bool:
        """Return the next field, true or false."""
        field = self.value()
        if type(field) is not bool:
            raise self._wrong("true or false")
        return field

    def items(self, most: int) -> tuple[Value, ...]:
        """Return the next field, an array of up to `most` values."""
        field = self.value()
        if not isinstance(field, tuple) or len(field) > most:
            raise self._wrong(f"an array of up to {most}")
        return field

    def texts(self, most: int) -> tuple[str, ...]:
        """Return the next field, an array of up to `most` texts."""
        found: list[str] = []
        for item in self.items(most):
            if not isinstance(item, str):
                raise self._wrong("an array of texts")
            found.append(item)
        return tuple(found)

    def digests(self, most: int) -> tuple[bytes, ...]:
        """Return the next field, an array of up to `most` SHA-256."""
        found: list[bytes] = []
        for item in self.items(most):
            if not isinstance(item, bytes) or len(item) != DIGEST_SIZE:
                raise self._wrong(f"an array of {DIGEST_SIZE}-byte digests")
            found.append(item)
        return tuple(found)

    def _wrong(self, expected: str) -> FormatError:
        return FormatError(f"a damaged {self._name}: field {self._next} is not {expected}")
