"""What a hostile recipe, key, package file or terminal does to `sequencer`."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from watchdog.utils import BaseThread

from sequencer.errors import HostError, RecipeError
from sequencer.keys import read_key, read_public_key, write_key
from sequencer.progress import CaptureDisplay
from sequencer.recipe import parse_recipe
from sequencer.services import NAME, stopped_services
from tests.packages import build_package

SMALL = '[package]\nname = "x"\nversion = "1"\nbase = "b"\n[build]\n'


def program(*words: str | Path, shell: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sequencer", *map(str, words)]
    if shell:
        command = ["sh", "-c", f'"$@" {shell}', "sh", *command]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def one_line(done: subprocess.CompletedProcess[str], code: int, *told: str) -> None:
    assert done.returncode == code, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert "a bug" not in done.stderr
    for text in told:
        assert text in done.stderr


@pytest.mark.parametrize(
    "text",
    [
        "x = " + "[" * 100_000,
        "x = " + "1" * 5000,
        SMALL + "commands = [" + "[" * 400 + "]" * 400 + "]",
        SMALL + 'commands = ["true"]\ntimeout_s = 0x' + "f" * 9000,
        SMALL + 'commands = ["echo \\u0000"]',
        SMALL + 'commands = ["true"]\n[build.environment]\nA = "b\\u0000"',
        SMALL + 'commands = ["true"]\n[policy.environment]\nA = "b\\u0000"',
    ],
)
def test_a_recipe_that_no_parser_or_kernel_can_take_is_told(text: str) -> None:
    with pytest.raises(RecipeError) as caught:
        parse_recipe(text)
    assert len(caught.value.line()) < 400


def test_a_key_says_which_half_it_is(tmp_path: Path) -> None:
    write_key(tmp_path / "key")
    private, public = tmp_path / "key", tmp_path / "key.pub"
    assert private.read_text().startswith("millstream-private-key ")
    assert public.read_text().startswith("millstream-public-key ")
    seed = read_key(private)
    with pytest.raises(HostError, match="public key"):
        read_key(public)
    with pytest.raises(HostError, match="private key"):
        read_public_key(private)
    private.write_text(f"{seed.hex()}\n")  # as keys were written before
    assert read_key(private) == seed
    key = read_public_key(public)
    public.write_text(key.hex())
    assert read_public_key(public) == key
    private.chmod(0o644)
    with pytest.raises(HostError, match="open to others"):
        read_key(private)


def test_a_key_into_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    one_line(program("keygen", tmp_path / "mistyped" / "key"), 24, "mistyped")
    assert not (tmp_path / "mistyped").exists()


def test_what_is_no_file_is_told_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    one_line(program("inspect", tmp_path / "pipe"), 24, "not a file")
    one_line(program("inspect", tmp_path), 24, "a folder", "name a package file")
    one_line(program("inspect", "/dev/zero"), 24, "not a file")


def test_a_path_outside_is_a_wrong_argument_and_not_a_damaged_file(tmp_path: Path) -> None:
    package = build_package(tmp_path, "small", {"bin/x": b"x"})
    done = program("tree", package.path, "../../x")
    one_line(done, 2, "not a path")
    assert "damaged" not in done.stderr


def test_an_output_that_cannot_be_written_is_no_bug(tmp_path: Path) -> None:
    package = build_package(tmp_path, "small", {f"bin/x{number}": b"x" for number in range(2000)})
    one_line(program("tree", package.path, shell=">/dev/full"), 24, "output", "No space")
    one_line(program("inspect", package.path, shell=">/dev/full"), 24, "output", "No space")
    assert program("inspect", package.path, shell=">&-").returncode == 0
    closed = program("tree", package.path, shell="| head -n 1")
    assert closed.stderr == ""
    assert program("inspect", tmp_path / "none", shell="2>&-").returncode == 24


def test_watching_never_speaks_of_its_own_troubles(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Failing(BaseThread):  # type: ignore[misc, unused-ignore]
        def run(self) -> None:
            raise KeyError(b"a folder that has gone")

    before = threading.excepthook
    display = CaptureDisplay(quiet=True)
    with display:
        display.watch(tmp_path)
        for number in range(300):
            (tmp_path / f"folder{number}" / "inner").mkdir(parents=True)
        for number in range(300):
            (tmp_path / f"folder{number}").rename(tmp_path / "moved")
            (tmp_path / "moved" / "inner").rmdir()
            (tmp_path / "moved").rmdir()
        failing = Failing()
        failing.start()
        failing.join(10)
        assert capsys.readouterr().err == ""
        hook = threading.excepthook
    assert hook is not before
    assert threading.excepthook is before


def system(path: Path) -> Path:
    (path / "usr/sbin").mkdir(parents=True)
    return path


def test_no_trace_of_the_stopped_services_stays(tmp_path: Path) -> None:
    root = system(tmp_path)
    before = (root / "usr/sbin").stat().st_mtime_ns
    with stopped_services(str(root)):
        assert (root / "usr/sbin" / NAME).stat().st_mode & 0o777 == 0o755
    assert not (root / "usr/sbin" / NAME).exists()
    assert (root / "usr/sbin").stat().st_mtime_ns == before


def test_an_installer_that_removes_the_folder_harms_nothing(tmp_path: Path) -> None:
    root = system(tmp_path)
    with stopped_services(str(root)):
        subprocess.run(["rm", "-r", str(root / "usr/sbin")], check=True)
    assert not (root / "usr/sbin").exists()


def test_an_installer_that_bends_the_folder_outside_harms_nothing(tmp_path: Path) -> None:
    root = system(tmp_path / "root")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / NAME).write_text("of the host")
    with stopped_services(str(root)):
        (root / "usr/sbin").rename(root / "usr/old")
        (root / "usr/sbin").symlink_to(outside)
    assert (outside / NAME).read_text() == "of the host"
    assert not (root / "usr/old" / NAME).exists()
    (root / "usr/bin").mkdir()
    (root / "usr/sbin").unlink()
    (root / "usr/sbin").symlink_to("/usr/bin")  # from inside: below the root
    (root / "usr/bin" / NAME).symlink_to(outside / NAME)
    with stopped_services(str(root)):
        assert (root / "usr/bin" / NAME).is_file()
    assert not (root / "usr/bin" / NAME).exists()
    assert (outside / NAME).read_text() == "of the host"


def test_a_copy_that_took_the_folders_place_is_cleaned_too(tmp_path: Path) -> None:
    root = system(tmp_path)
    with stopped_services(str(root)):
        subprocess.run(["cp", "-a", root / "usr/sbin", root / "usr/new"], check=True)
        subprocess.run(["rm", "-r", root / "usr/sbin"], check=True)
        (root / "usr/new").rename(root / "usr/sbin")
    assert not (root / "usr/sbin" / NAME).exists()
