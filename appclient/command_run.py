"""appclient run: start an application."""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote

from appclient.agentlink import ask
from appclient.commandfolders import Subparsers, own_folders
from appclient.commandline import invocation
from appclient.company import Company
from appclient.documents import document_folders
from appclient.errors import AgentError, NoAgentError
from appclient.folders import Folders
from appclient.language import language
from appclient.wire import Message
from bubble.errors import LaunchError
from bubble.launch import Threshold, approach, decode_spec, require_once, start, unmade_sandbox
from bubble.offspring import fork
from bubble.spec import BubbleSpec
from packageformat.application import Application

PREPARE_SECONDS = 20.0
"""For how long a question is put to the next agent when one has died over it."""

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


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What is to be started."""

    spec: BubbleSpec
    argv: tuple[str, ...]
    files: tuple[Path, ...]
    watch: tuple[str, ...]  # command line of what shows what is being fetched, if that is to be shown
    others: tuple[tuple[str, ...], ...]  # command lines for more windows of the application


def run(args: argparse.Namespace) -> int:
    """Start the application and wait for it; return its exit code."""
    wanted = _wanted(args)
    company = Company(wanted.watch, wanted.others)
    try:
        return start(wanted.spec, wanted.argv, files=wanted.files, environment=os.environ, cwd=Path.cwd())
    except LaunchError as error:
        raise _explained(wanted.spec.bubble_id, error) from error
    finally:
        company.end()


def hand_over(args: argparse.Namespace, take: Callable[[Threshold, list[str]], None]) -> int:
    """Do what `run` does, for another process, up to the bubble's threshold: `take` it and what to do there.

    The words are: flags, bubblewrap, working folder, bubble, and three or more lists, each after its length:
    the command, that which shows what is being fetched, more commands.
    """
    wanted = _wanted(args)
    try:
        threshold = approach(
            wanted.spec,
            wanted.argv,
            files=wanted.files,
            environment=os.environ,
            cwd=Path.cwd(),
            start_process=fork,
        )
    except LaunchError as error:
        raise _explained(wanted.spec.bubble_id, error) from error
    words = [str(threshold.flags), threshold.bwrap, threshold.folder, wanted.spec.bubble_id.hex()]
    for line in (threshold.command, wanted.watch, *wanted.others):
        words += [str(len(line)), *line]
    with threshold:
        take(threshold, words)
    return 0


def tell_unmade(bubble: str, command: str) -> int:
    """Tell that the sandbox could not be made.

    Raises:
        LaunchError: always.
    """
    raise _explained(bytes.fromhex(bubble), LaunchError(unmade_sandbox(command)))


def _wanted(args: argparse.Namespace) -> _Wanted:
    """Find out what is to be started, with the agent's help."""
    folders = own_folders()
    folders.prepare()
    require_once(folders.state, folders.host_memory)
    shown = not args.quiet and sys.stderr.isatty()

    def progress(message: Message) -> None:
        if shown:
            print(f"\r\033[K{message.text('text')}", end="", file=sys.stderr, flush=True)

    prepared = _prepared(folders, args.application, progress)
    if shown:
        print("\r\033[K", end="", file=sys.stderr, flush=True)
    if prepared.text("notice"):
        print(f"appclient: {prepared.text('notice')}", file=sys.stderr)
    spec = decode_spec(prepared.text("spec"))
    if spec.policy.home == "documents":
        spec = replace(spec, documents=document_folders(Path.home(), os.environ))
    if args.shell or args.command:
        return _Wanted(spec, (args.command or "/bin/sh", *args.files), (), (), ())
    arguments, files = _arguments(args.files)
    application = Application(
        id=prepared.text("id"),
        name=prepared.text("name"),
        command=prepared.text("command"),
        icon=prepared.text("icon"),
        desktop_file=prepared.octets("desktop_file"),
    )
    call = invocation(application, arguments)
    own = (sys.executable, "-m", "appclient")
    watch: tuple[str, ...] = ()
    if shown and not prepared.flag("terminal"):
        watch = (*own, "watch", spec.bubble_id.hex(), prepared.text("name"))
    # It takes one file at a time.
    others = tuple((*own, "run", "--quiet", application.id, argument) for argument in call.left)
    return _Wanted(spec, call.argv, tuple(files), watch, others)


def _prepared(folders: Folders, application: str, progress: Callable[[Message], None]) -> Message:
    """Return the agent's answer; if it dies over the question, another agent's.

    Raises:
        MillstreamError: see `ask`.
    """
    question = Message("prepare", {"application": application, "language": language(os.environ)})
    end = time.monotonic() + PREPARE_SECONDS
    while True:
        try:
            return ask(folders, question, on_progress=progress)
        except NoAgentError:
            if time.monotonic() > end:
                raise


def _explained(bubble: bytes, error: LaunchError) -> LaunchError:
    """Return `error` with what keeps blocks from coming, if the agent knows of something."""
    trouble = _trouble(own_folders(), bubble)
    return LaunchError(f"{error}: {trouble}", hint=error.hint) if trouble else error


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
