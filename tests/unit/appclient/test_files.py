"""What the client keeps on disk: folders, sign-in, counts, document folders."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from appclient import signin
from appclient.documents import document_folders, folders_in
from appclient.errors import CacheError, NotSignedInError
from appclient.folders import folders_of
from appclient.foldertree import remove_folder
from appclient.signin import SignIn
from appclient.statistics import Statistics
from appclient.storedfile import store, stored, stored_json

SIGNIN = SignIn("https://x:1", "ann", "x", b"k" * 32, b"c" * 32, "secret", 5, (b"p" * 32,))


def test_folders_follow_the_environment() -> None:
    folders = folders_of({"HOME": "/h", "XDG_CACHE_HOME": "/c", "XDG_STATE_HOME": "relative"}, 7)
    assert folders.cache == Path("/c/millstream")
    assert folders.state == Path("/h/.local/state/millstream")
    assert folders.runtime == Path("/tmp/millstream-7")
    assert folders.data == Path("/h/.local/share")


def test_without_a_home_nothing_is_guessed() -> None:
    with pytest.raises(CacheError):
        folders_of({"HOME": ""}, 7)


def test_the_folders_are_closed_to_others(tmp_path: Path) -> None:
    folders = folders_of({"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path / "run")}, os.geteuid())
    folders.prepare()
    assert {stat.S_IMODE(folder.stat().st_mode) for folder in folders.own} == {0o700}


def test_a_runtime_folder_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run/millstream").symlink_to(tmp_path / "elsewhere")
    folders = folders_of({"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path / "run")}, os.geteuid())
    with pytest.raises(CacheError, match="not a folder of yours"):
        folders.prepare()


def test_the_sign_in_is_kept_and_closed_to_others(tmp_path: Path) -> None:
    signin.remember(tmp_path, SIGNIN)
    assert signin.recall(tmp_path) == SIGNIN
    assert stat.S_IMODE(signin.path_of(tmp_path).stat().st_mode) == 0o600


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"url": "ftp://x"}', "\0"])
def test_a_damaged_sign_in_means_signing_in_again(tmp_path: Path, content: str) -> None:
    signin.path_of(tmp_path).write_text(content)
    with pytest.raises(NotSignedInError):
        signin.recall(tmp_path)


def test_a_file_that_cannot_be_written_stays_as_it_was(tmp_path: Path) -> None:
    with pytest.raises(CacheError):
        store(Path("/proc/version"), b"x")
    store(tmp_path / "a", b"1")
    store(tmp_path / "a", b"2")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert stored(tmp_path / "a", most=10) == b"2"
    assert stored(tmp_path / "a", most=0) is None
    assert stored_json(tmp_path / "none") is None


def test_counts_survive_the_agent(tmp_path: Path) -> None:
    counts = Statistics(tmp_path / "s.json")
    counts.of(b"b" * 32).bytes_received += 7
    counts.save()
    assert Statistics(tmp_path / "s.json").of(b"b" * 32).bytes_received == 7
    (tmp_path / "s.json").write_text('{"00": {"bytes_received": "many"}, "01": 5}')
    assert Statistics(tmp_path / "s.json").of(b"\0").bytes_received == 0


def test_a_folder_goes_with_all_that_overlayfs_left(tmp_path: Path) -> None:
    inner = tmp_path / "bubble/work/work/deep"
    inner.mkdir(parents=True)
    (inner / "file").write_text("x")
    (tmp_path / "bubble/link").symlink_to("/etc")
    inner.chmod(0)
    inner.parent.chmod(0)
    remove_folder(tmp_path / "bubble")
    remove_folder(tmp_path / "bubble")
    assert list(tmp_path.iterdir()) == []
    assert Path("/etc/passwd").exists()


def test_document_folders_are_those_of_the_desktop(tmp_path: Path) -> None:
    (tmp_path / "Texts").mkdir()
    (tmp_path / ".config").mkdir()
    (tmp_path / ".config/user-dirs.dirs").write_text(
        '# made by xdg-user-dirs\nXDG_DOCUMENTS_DIR="$HOME/Texts"\nXDG_MUSIC_DIR="$HOME/"\n'
        'XDG_VIDEOS_DIR="$HOME/missing"\nXDG_DESKTOP_DIR="/../etc"\nrm -rf /\n'
    )
    assert document_folders(tmp_path, {}) == (tmp_path / "Texts",)
    assert folders_in('XDG_X_DIR="relative"', tmp_path) == ()


def test_without_xdg_user_dirs_the_usual_names_count(tmp_path: Path) -> None:
    (tmp_path / "Documents").mkdir()
    assert document_folders(tmp_path, {}) == (tmp_path / "Documents",)
