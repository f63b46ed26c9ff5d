"""appclient run: start an application."""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

from appclient.agentlink import ask
from appclient.commandfolders import Subparsers, own_folders
from appclient.documents import document_folders
from appclient.errors import AgentError
from appclient.folders import Folders
from appclient.wire import Message

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")


def add_parser(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    """Add this command."""
    parser = subparsers.add_parser(
        "run",
        help="start an application",
        description="Start an application, streaming what it needs. It sees its own system, the files that "
        "you name here, and as much of your home as its package's policy says.",
        epilog="examples:\n  appclient run gimp photo.png\n  appclient run org.gnome.Calculator\n"
        "  appclient run gimp --shell -- -c 'ls /usr'   another program in its bubble: a shell",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "application", metavar="APP", help="an id, a name, or a package, see 'appclient list'"
    )
    parser.add_argument("files", metavar="FILE", nargs="*", help="files or URLs to open")
    parser.add_argument("--command", metavar="PROGRAM", help="run this program of the bubble instead")
    parser.add_argument("--shell", action="store_true", help="run /bin/sh in the bubble instead")
    parser.add_argument("--quiet", action="store_true", help="show no progress")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Start the application and wait for it; return its exit code."""
    from appclient.commandline import invocation
    from bubble.errors import LaunchError
    from bubble.launch import probe, start
    from bubble.spec import decode_spec
    from packageformat.application import Application

    folders = own_folders()
    folders.prepare()
    probe(folders.state).require()
    shown = not args.quiet and sys.stderr.isatty()

    def progress(message: Message) -> None:
        if shown:
            print(f"\r\033[K{message.text('text')}", end="", file=sys.stderr, flush=True)

    prepared = ask(folders, Message("prepare", {"application": args.application}), on_progress=progress)
    if shown:
        print("\r\033[K", end="", file=sys.stderr, flush=True)
    if prepared.text("notice"):
        print(f"appclient: {prepared.text('notice')}", file=sys.stderr)
    spec = decode_spec(prepared.text("spec"))
    if spec.policy.home == "documents":
        spec = replace(spec, documents=document_folders(Path.home(), os.environ))
    files: list[Path] = []
    others: list[subprocess.Popen[bytes]] = []
    if args.shell or args.command:
        argv: Sequence[str] = (args.command or "/bin/sh", *args.files)
    else:
        arguments, files = _arguments(args.files)
        application = Application(
            id=prepared.text("id"),
            name=prepared.text("name"),
            command=prepared.text("command"),
            icon=prepared.text("icon"),
            desktop_file=prepared.octets("desktop_file"),
        )
        call = invocation(application, arguments)
        argv = call.argv
        own = (sys.executable, "-m", "appclient", "run", "--quiet", application.id)
        others = [subprocess.Popen((*own, argument)) for argument in call.left]  # it takes one at a time
    watcher = None
    if shown and not prepared.flag("terminal") and not args.shell and not args.command:
        watcher = subprocess.Popen(
            (sys.executable, "-m", "appclient", "watch", spec.bubble_id.hex(), prepared.text("name"))
        )
    try:
        return start(spec, argv, files=files, environment=os.environ, cwd=Path.cwd())
    except LaunchError as error:
        trouble = _trouble(folders, spec.bubble_id)
        if not trouble:
            raise
        raise LaunchError(f"{error}: {trouble}", hint=error.hint) from error
    finally:
        if watcher is not None:
            watcher.terminate()
            watcher.wait()
        for other in others:
            other.wait()


def _trouble(folders: Folders, bubble: bytes) -> str:
    """Return what keeps blocks from coming, in the agent's words; nothing if it knows of nothing."""
    try:
        answer = ask(folders, Message("bubble", {"bubble": bubble.hex()}), start=False, timeout=5)
    except AgentError:
        return ""
    return answer.text("trouble")


def _arguments(given: Sequence[str]) -> tuple[list[str], list[Path]]:
    """Return what the application is told, and the files of it that the bubble must show."""
    arguments: list[str] = []
    files: list[Path] = []
    for item in given:
        local = item
        if item.startswith("file:///"):
            local = unquote(item.removeprefix("file://"))
        elif _URL.match(item) and not os.path.lexists(item):  # a file may have a colon in its name
            arguments.append(item)
            continue
        path = Path(os.path.abspath(local))  # noqa: PTH100 - links are kept
        files.append(path)
        arguments.append(str(path))
    return arguments, files
