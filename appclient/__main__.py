"""appclient: sign in to a stream server, see what it publishes, and run it without installing it."""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # importing typing would take as long as the rest of a start
if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv`, or the process's own; return the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["run"]:
        from appclient.shortcut import start

        code = start(arguments)
        if code is not None:
            return code
    if "site" not in sys.modules:  # samples/setup's start script leaves it out
        import site

        site.main()
    from appclient import program

    return program.main(arguments)


if __name__ == "__main__":
    sys.exit(main())
