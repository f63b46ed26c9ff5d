"""`python -m sequencer.trialstart COMMAND...`: starts it in the bubble that standard input describes."""

from __future__ import annotations

import os
import sys

from bubble.launch import decode_spec, start
from packageformat.errors import MillstreamError


def main() -> int:
    """Start the command; return its exit code."""
    try:
        spec = decode_spec(sys.stdin.buffer.read())
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        return start(spec, sys.argv[1:], environment=os.environ)
    except MillstreamError as error:
        sys.stderr.write(f"{error.line()}\n")
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
