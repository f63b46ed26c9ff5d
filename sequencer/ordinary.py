"""Training as an ordinary user, when the sequencer itself runs as root.

What root's launch touches is not what users' launches touch: firefox as root leaves out its sandbox, and of
the pages that a user's launch then needed 113 were in no profile (6 since; tests/bench/RESULTS.md). So a
training by root is done in a child process with ids of root's subordinate range: ids that belong to no
account. It has nothing of root's but the open package files.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import sequencer
from bubble.launch import probe
from bubble.namespaces import stay_visible_to_owner
from packageformat.errors import MillstreamError
from sequencer.errors import HostError, TrainingError
from sequencer.kernel import end_with_parent
from sequencer.subids import find_subordinate_ids

ROOM = Path("/var/tmp")  # noqa: S108 - a folder of our own in it; on a local disk, and passable by everybody
_LINE_MAX = 1 << 28
"""Bytes of one line from the child: the profiles are the longest."""

Tell = Callable[[str, str], None]
"""Is told what happens, by the kind of message and its text."""


@dataclass(frozen=True, slots=True)
class Ordinary:
    """Who trains instead of root, and a folder of his."""

    uid: int
    gid: int
    folder: Path

    @property
    def home(self) -> str:
        """The path at which applications find his home; it need not be on this machine."""
        return f"/home/user{self.uid}"


@contextmanager
def ordinary_user(say: Callable[[str], None]) -> Iterator[Ordinary | None]:
    """Give somebody who can train instead of root; None if this is not root, or nobody else could train here.

    Args:
        say: is told why nobody else can.
    """
    if os.getuid() != 0:
        yield None
        return
    try:
        ids, told = find_subordinate_ids()
        if told:
            say(told)
        folder = Path(tempfile.mkdtemp(prefix="millstream-train-", dir=ROOM))
    except (HostError, OSError) as error:
        say(f"trained as root, whose launches may touch other pages than a user's: {error}")
        yield None
        return
    try:
        user = Ordinary(ids.users.first, ids.groups.first, folder / "work")
        try:
            folder.chmod(
                0o711
            )  # root's own, so that nobody else puts a link in the way of what root makes here
            user.folder.mkdir(0o700)
            os.chown(user.folder, user.uid, user.gid)
            obstacle = _in_child(user, lambda tell: _obstacle().encode(), lambda kind, text: None).decode()
        except (OSError, TrainingError) as error:  # in a container these ids may be mapped to nobody
            obstacle = str(error)
        if obstacle:
            say(f"trained as root, whose launches may touch other pages than a user's: {obstacle}")
        yield None if obstacle else user
    finally:
        with suppress(RecursionError):  # a home may be as deep as its application likes
            shutil.rmtree(folder, ignore_errors=True)


def as_ordinary(user: Ordinary, work: Callable[[Tell], bytes], tell: Tell) -> bytes:
    """Return what `work` returns, done by `user` in a child process of this one.

    Args:
        user: who works.
        work: is given what tells this process something.
        tell: is told it.

    Raises:
        TrainingError: `work` raised a MillstreamError, or the child ended.
    """
    return _in_child(user, work, tell)


def given_to(user: Ordinary, files: tuple[Path, ...]) -> tuple[Path, ...]:
    """Return copies of files that `user` can read, under their own names."""
    copies = []
    for number, file in enumerate(files):
        place = user.folder.parent / f"given-{number}"
        place.mkdir()
        place.chmod(0o755)
        copy = place / file.name
        shutil.copyfile(file, copy)
        copy.chmod(0o644)
        copies.append(copy)
    return tuple(copies)


def _obstacle() -> str:
    """Return why this user could not train here, or nothing."""
    for path, mode in ((sys.executable, os.X_OK), (sequencer.__file__, os.R_OK)):
        if not os.access(path, mode):
            return f"{path} is closed to other users"
    try:
        probe().require()
    except MillstreamError as error:
        return error.line()
    return ""


def _in_child(user: Ordinary, work: Callable[[Tell], bytes], tell: Tell) -> bytes:
    inward, outward = os.pipe()
    process = os.fork()
    if not process:
        code = 1
        try:
            os.setsid()  # the terminal's Ctrl-C is the parent's, who passes it on; and no terminal of root's
            os.close(inward)
            _work_as(user, work, outward)
            code = 0
        except KeyboardInterrupt:
            pass
        except BaseException:  # noqa: BLE001 - nothing of the parent's goes on here
            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(outward)
    result: bytes | None = None
    try:
        with os.fdopen(inward, "rb") as lines:
            while (line := lines.readline(_LINE_MAX)).endswith(b"\n"):  # else: it was killed while it wrote
                told: Mapping[str, str] = json.loads(line)
                if "done" in told:
                    result = bytes.fromhex(told["done"])
                elif "failed" in told:
                    raise TrainingError(told["failed"], hint=told["hint"] or None)  # noqa: TRY301
                else:
                    tell(told["kind"], told["text"])
    except BaseException:
        os.kill(process, signal.SIGINT)  # it ends what it has started
        raise
    finally:
        os.waitpid(process, 0)
    if result is None:
        raise TrainingError("the training process ended early", hint="what it printed above says why")
    return result


def _work_as(user: Ordinary, work: Callable[[Tell], bytes], outward: int) -> None:
    """Become `user`, work, and say what came of it."""
    with os.fdopen(outward, "w") as lines:

        def say(**told: str) -> None:
            lines.write(json.dumps(told) + "\n")
            lines.flush()

        try:
            _become(user)
            result = work(lambda kind, text: say(kind=kind, text=text))
        except (MillstreamError, OSError) as error:
            say(failed=str(error), hint=getattr(error, "hint", ""))
        else:
            say(done=result.hex())


def _become(user: Ordinary) -> None:
    os.setgroups([])
    os.setresgid(user.gid, user.gid, user.gid)
    os.setresuid(user.uid, user.uid, user.uid)
    stay_visible_to_owner()  # a change of user hides it from himself: he could map no ids
    end_with_parent()
    os.chdir(user.folder)
    code = Path(sequencer.__file__).resolve().parents[1]  # may have been found by the working directory
    path = os.pathsep.join([str(code), *filter(None, [os.environ.get("PYTHONPATH")])])
    for name in [name for name in os.environ if name.startswith(("XDG_", "SUDO_")) or name == "XAUTHORITY"]:
        del os.environ[name]
    os.environ.pop("TMPDIR", None)
    tempfile.tempdir = None  # root's may be closed to others
    name = f"user{user.uid}"
    os.environ.update(HOME=user.home, USER=name, LOGNAME=name, PYTHONPATH=path)
