"""One line of text, whatever stands in it: for errors and the log, where a line is a record."""

from __future__ import annotations


def one_line(text: str) -> str:
    """Return `text` as one line: what cannot be printed (line ends, escapes) written as an escape."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text
    )


def shown(name: str) -> str:
    """Return a file's name as a line of the log shows it: one line, not endless."""
    line = one_line(name)
    return line if len(line) <= 120 else f"{line[:119]}…"
