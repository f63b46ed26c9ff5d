"""`python -m sequencer.trialstart N FILE... COMMAND...`: starts the command in a bubble.

Standard input describes the bubble. The N files are bound in at their own paths.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from bubble.launch import decode_spec, start
from packageformat.errors import MillstreamError


def main() -> int:
    """Start the command; return its exit code."""
    try:
        spec = decode_spec(sys.stdin.buffer.read())
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        count = int(sys.argv[1]) + 2
        files = [Path(name) for name in sys.argv[2:count]]
        return start(spec, sys.argv[count:], files=files, environment=os.environ)
    except MillstreamError as error:
        sys.stderr.write(f"{error.line()}\n")
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
