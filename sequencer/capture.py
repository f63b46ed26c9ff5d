"""One capture, as its worker does it: compose, install, scan, then hand out the files.

What the worker says to its parent, in order: `stage` at each step, `failed` when a command did, then
`scanned`, followed by the encoded tree; after that it answers `open` with open files until its parent leaves.
"""

# Raw file names in a mount namespace, where Path adds nothing:
# ruff: noqa: PTH102, PTH112, PTH113, PTH114, PTH118, PTH123, PTH208
from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass

from packageformat.tree import Kind, Tree, build_tree, encode_tree
from sequencer import kernel
from sequencer.contents import added_packages, installed_packages
from sequencer.enclosure import Channel
from sequencer.exclusions import Exclusions
from sequencer.hostconfig import INSIDE, HostConfig
from sequencer.inside import resolve
from sequencer.libraries import ELF_MAGIC, Needs, configured_folders, missing_libraries, needs_of
from sequencer.rooms import PATH, ROOM, Command, Room, borrow, close_room, end_all, furnish, open_room, run
from sequencer.scan import Scan
from sequencer.services import stopped_services

WORK = f"{ROOM}/work"
BASE = f"{ROOM}/base"


@dataclass(frozen=True, slots=True)
class Job:
    """Everything that a worker must know; all of it read beforehand."""

    capture: str  # the capture's folder, relative to the sequencer's
    base: str  # the unpacked base's root folder, likewise; empty: none
    commands: tuple[str, ...]
    tools: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]
    files: tuple[tuple[str, bytes, int], ...]  # name, content, mode
    host: HostConfig
    exclusions: Exclusions
    bootstrap: tuple[str, ...]  # mmdebstrap's arguments, less its target; empty: none
    apt_options: str  # for mmdebstrap: lines of an apt.conf
    log: int


class CommandFailedError(Exception):
    """A command of the capture ended with a status other than 0."""


def work(channel: Channel, job: Job) -> None:
    """Do the capture `job`; return when the parent has taken what it wants."""
    folders = [(job.capture, "work")]
    if job.base:
        folders.append((job.base, "base"))
    furnish(folders)
    borrow(job.host, job.files)
    try:
        room = _bootstrap(channel, job) if job.bootstrap else _install(channel, job)
    except CommandFailedError:
        return
    _offer(channel, job, room)


def environment_of(host: HostConfig, own: Sequence[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """Return the environment of a capture's commands; `own` is the recipe's and wins."""
    found = {
        "PATH": PATH,
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "LC_ALL": "C.UTF-8",
        "TERM": "dumb",
        "DEBIAN_FRONTEND": "noninteractive",
        "DEBIAN_PRIORITY": "critical",
        "PIP_NO_CACHE_DIR": "1",
        "PIP_ROOT_USER_ACTION": "ignore",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
    found.update(host.environment)
    if host.certificates:
        for name in ("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
            found[name] = f"{INSIDE}/certificates.pem"
    if host.pip:
        # The host's file may name certificates by the host's path: PIP_CERT above wins over it.
        found["PIP_CONFIG_FILE"] = f"{INSIDE}/pip.conf"
    found.update(own)
    return tuple(found.items())


def _bootstrap(channel: Channel, job: Job) -> Room:
    root = f"{WORK}/upper"
    os.mkdir(root, 0o755)
    channel.say(stage="bootstrap", line="mmdebstrap", ready=True)
    options = f"{ROOM}/apt-options"
    with open(options, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(job.apt_options)
    argv = ["mmdebstrap", "--mode=root", f"--aptopt={options}", *job.bootstrap]
    argv = [root if argument == "TARGET" else argument for argument in argv]
    status = _run_outside(argv, job)
    if status:
        _failed(channel, " ".join(argv), status)
    kernel.mount(root, root, flags=kernel.MS_BIND)
    room = Room(root, root, ())
    _run_commands(channel, job, room, job.commands)
    _refresh_linker(job, room)
    return room


def _run_outside(argv: list[str], job: Job) -> int:
    """Run a program of this machine, still as nobody but the namespace's root."""
    child = os.fork()
    if child == 0:
        try:
            nothing = os.open("/dev/null", os.O_RDONLY)
            for number, descriptor in enumerate((nothing, job.log, job.log)):
                os.dup2(descriptor, number)
            os.closerange(3, 4096)
            os.execvpe(argv[0], argv, {**dict(job.environment), "HOME": ROOM, "TMPDIR": ROOM})  # noqa: S606
        finally:
            os._exit(127)
    while True:
        ended, how = os.waitpid(-1, 0)
        if ended == child:
            end_all()
            return os.waitstatus_to_exitcode(how)


def _install(channel: Channel, job: Job) -> Room:
    upper = f"{WORK}/upper"
    lowers: list[str] = [BASE]
    for folder in (upper, f"{WORK}/overlay-work", f"{WORK}/tools", f"{WORK}/tools-work"):
        os.mkdir(folder, 0o755)  # now: our parent closes the capture's folder when it hears from us
    channel.say(stage="compose", line="", ready=True)
    if job.tools:
        tools = open_room("tools", f"{WORK}/tools", f"{WORK}/tools-work", lowers)
        wanted = " ".join(job.tools)
        lines = ("apt-get update", f"apt-get install -y --no-install-recommends {wanted}")
        _run_commands(channel, job, tools, lines)
        close_room(tools)
        lowers.insert(0, f"{WORK}/tools")
    room = open_room("merged", upper, f"{WORK}/overlay-work", lowers)
    _run_commands(channel, job, room, job.commands)
    if job.tools:  # what only the tools have is not there for the linker, nor for the scan
        close_room(room)
        room = open_room("finished", upper, f"{WORK}/overlay-work", [BASE])
    _refresh_linker(job, room)
    return room


def _run_commands(channel: Channel, job: Job, room: Room, lines: Sequence[str]) -> None:
    with stopped_services(room.merged):
        for number, line in enumerate(lines, 1):
            channel.say(stage="command", line=line, number=number, count=len(lines))
            os.write(job.log, f"+ {line}\n".encode())
            status = run(room, Command(line, job.environment, job.log))
            if status:
                _failed(channel, line, status)


def _failed(channel: Channel, line: str, status: int) -> None:
    channel.say(failed=True, line=line, status=status)
    raise CommandFailedError


def _refresh_linker(job: Job, room: Room) -> None:
    """Make ld.so.cache anew, for exactly these files."""
    if resolve(room.merged, "sbin/ldconfig"):
        run(room, Command("exec ldconfig", job.environment, job.log))


def _offer(channel: Channel, job: Job, room: Room) -> None:
    channel.say(stage="scan", line="")
    base = BASE if job.base else ""
    scan = Scan(room.upper.encode(), base.encode(), job.exclusions)
    tree = build_tree(scan.nodes)
    reals = [os.path.join(room.upper.encode(), path) if path else b"" for path in tree.paths()]
    needs = _needs(tree, reals)
    missing = missing_libraries(
        needs, lambda path: bool(resolve(room.merged, path)), _configured(room.merged)
    )
    channel.say(
        scanned=True,
        findings=dataclasses.asdict(scan.findings),
        missing_libraries=missing,
        contents=added_packages(_installed(base), _installed(room.merged)),
        installed=_installed(room.merged),
    )
    channel.say_bytes(encode_tree(tree))
    while True:
        request = channel.hear()
        indexes = request.get("open")
        assert isinstance(indexes, list)
        descriptors = [os.open(reals[index], os.O_RDONLY | os.O_NOFOLLOW) for index in indexes]
        channel.give_files(descriptors)
        for descriptor in descriptors:
            os.close(descriptor)


def _needs(tree: Tree, reals: Sequence[bytes]) -> dict[str, Needs]:
    found: dict[str, Needs] = {}
    for index, real in enumerate(reals):
        if tree.kinds[index] != Kind.FILE or tree.sizes[index] < len(ELF_MAGIC):
            continue
        with open(real, "rb") as file:
            if file.read(len(ELF_MAGIC)) != ELF_MAGIC:
                continue
            file.seek(0)
            needs = needs_of(file)
        if needs is not None:
            found[tree.path(index).decode("utf-8", "backslashreplace")] = needs
    return found


def _configured(root: str) -> list[str]:
    folder = f"{root}/etc/ld.so.conf.d"
    texts: list[str] = []
    if os.path.isdir(folder):
        for name in sorted(os.listdir(folder)):
            if name.endswith(".conf") and os.path.isfile(f"{folder}/{name}"):
                with open(f"{folder}/{name}", encoding="utf-8", errors="replace") as file:
                    texts.append(file.read(65536))
    return configured_folders(texts)


def _installed(root: str) -> dict[str, str]:
    path = f"{root}/var/lib/dpkg/status"
    if not root or not os.path.isfile(path) or os.path.islink(path):
        return {}
    with open(path, encoding="utf-8", errors="replace") as file:
        return installed_packages(file.read())
