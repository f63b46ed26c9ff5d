"""The client's checks: what a hostile server or proxy could try."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from appclient import workflow
from appclient.errors import ServerUntrustedError
from appclient.signin import SignIn
from appclient.workflow import Seen
from packageformat.errors import FormatError, SignatureError, UnsupportedError
from packageformat.header import HEADER_SIZE, decode_header
from packageformat.package import Package, PackageParser, complete, front_extent
from packageformat.pointer import Pointer, encode_pointer
from packageformat.policy import Policy
from packageformat.publishing import Published, Publishing, encode_publishing
from packageformat.signature import public_key
from packageformat.signed import seal
from tests.packages import PUBLISHER, BuiltPackage, build_package

SERVER = sha256(b"the server").digest()
STRANGER = sha256(b"a stranger").digest()
NOW = 1_000_000
DAY = 86400

SIGNIN = SignIn(
    url="https://apps.example.org",
    user="ann",
    server_name="apps",
    server_key=public_key(SERVER),
    certificate=b"",
    token="t",
    token_expires=NOW + DAY,
)
PUBLISHING = Publishing("apps", "ann", 7, NOW - 10, NOW + DAY, ())


def sealed(publishing: Publishing, seed: bytes = SERVER) -> bytes:
    return seal("publishing", encode_publishing(publishing), seed)


def test_a_good_publishing_list_is_accepted() -> None:
    assert workflow.accept_publishing(sealed(PUBLISHING), SIGNIN, Seen(7), NOW) == PUBLISHING


def test_a_publishing_list_by_another_key_is_refused() -> None:
    with pytest.raises(SignatureError):
        workflow.accept_publishing(sealed(PUBLISHING, STRANGER), SIGNIN, Seen(), NOW)


def test_a_publishing_list_of_another_user_is_refused() -> None:
    with pytest.raises(ServerUntrustedError):
        workflow.accept_publishing(sealed(replace(PUBLISHING, user="bob")), SIGNIN, Seen(), NOW)


def test_an_older_publishing_list_is_refused() -> None:
    with pytest.raises(ServerUntrustedError, match="older"):
        workflow.accept_publishing(sealed(PUBLISHING), SIGNIN, Seen(8), NOW)


@pytest.mark.parametrize("now", [NOW + 2 * DAY, NOW - DAY])
def test_a_publishing_list_of_another_time_is_refused(now: int) -> None:
    with pytest.raises(FormatError):
        workflow.accept_publishing(sealed(PUBLISHING), SIGNIN, Seen(), now)


def test_a_pointer_is_no_publishing_list() -> None:
    envelope = seal("pointer", encode_publishing(PUBLISHING), SERVER)
    with pytest.raises(SignatureError):
        workflow.accept_publishing(envelope, SIGNIN, Seen(), NOW)


@pytest.fixture
def runtime(tmp_path: Path) -> BuiltPackage:
    return build_package(tmp_path, "base", {"lib/a": b"a"}, kind="runtime")


@pytest.fixture
def editor(tmp_path: Path, runtime: BuiltPackage) -> BuiltPackage:
    return build_package(tmp_path, "editor", {"usr/bin/editor": b"x" * 100_000}, requires=[runtime])


def pointer_of(built: BuiltPackage) -> Pointer:
    data = built.path.read_bytes()
    header = decode_header(data[:HEADER_SIZE])
    return Pointer(built.version_id, sha256(data).digest(), len(data), header, (), 3, NOW, NOW + DAY)


def package_of(built: BuiltPackage) -> Package:
    parser = PackageParser(None)
    parser.feed(0, built.path.read_bytes())
    assert parser.package is not None
    return parser.package


def published(built: BuiltPackage) -> Published:
    return Published(
        built.manifest.name, built.manifest.version, "", built.version_id, built.stack, (), Policy(), 0
    )


def test_a_pointer_must_be_of_the_version_that_was_asked_for(
    editor: BuiltPackage, runtime: BuiltPackage
) -> None:
    pointer = pointer_of(editor)
    envelope = seal("pointer", encode_pointer(pointer), SERVER)
    assert workflow.accept_pointer(envelope, editor.version_id, SIGNIN, Seen(), NOW) == pointer
    with pytest.raises(ServerUntrustedError):
        workflow.accept_pointer(envelope, runtime.version_id, SIGNIN, Seen(), NOW)
    with pytest.raises(SignatureError):
        forged = seal("pointer", encode_pointer(pointer), STRANGER)
        workflow.accept_pointer(forged, editor.version_id, SIGNIN, Seen(), NOW)
    with pytest.raises(ServerUntrustedError, match="older"):
        seen = Seen().with_pointer(replace(pointer, generation=4))
        workflow.accept_pointer(envelope, editor.version_id, SIGNIN, seen, NOW)


def test_generations_only_grow(editor: BuiltPackage) -> None:
    pointer = pointer_of(editor)
    seen = Seen().with_pointer(pointer).with_pointer(replace(pointer, generation=1))
    assert seen.pointers[editor.version_id] == 3
    assert seen.with_publishing(PUBLISHING).with_publishing(replace(PUBLISHING, generation=2)).publishing == 7


def front_of(built: BuiltPackage) -> bytes:
    offset, size = front_extent(pointer_of(built).header)
    return built.path.read_bytes()[offset : offset + size]


def test_a_front_of_another_version_is_refused(editor: BuiltPackage, runtime: BuiltPackage) -> None:
    wrong = replace(pointer_of(runtime), version_id=editor.version_id)
    with pytest.raises(FormatError, match="expected"):
        workflow.accept_front(wrong, front_of(runtime), SIGNIN, "amd64")


def test_a_front_tells_what_the_whole_head_tells_and_the_rest_completes_it(editor: BuiltPackage) -> None:
    front = front_of(editor)
    outline = workflow.accept_front(pointer_of(editor), front, SIGNIN, "amd64")
    whole = package_of(editor)
    assert (outline.manifest, outline.tree) == (whole.manifest, whole.tree)
    head = editor.path.read_bytes()[: whole.header.head_size]
    rest = head[HEADER_SIZE + len(front) :]
    package = complete(outline, front, rest)
    assert (package.block_ids, package.layout) == (whole.block_ids, whole.layout)
    with pytest.raises(FormatError, match="damaged"):
        complete(outline, front, rest[:-1] + bytes([rest[-1] ^ 1]))
    with pytest.raises(FormatError, match="damaged"):
        complete(outline, front, rest[:-1])
    stored = workflow.accept_stored_front(head[: HEADER_SIZE + len(front)], editor.version_id, SIGNIN)
    assert stored == outline
    with pytest.raises(FormatError):
        workflow.accept_stored_front(head[: HEADER_SIZE + len(front) - 1], editor.version_id, SIGNIN)


def test_with_pinned_publishers_no_other_is_accepted(editor: BuiltPackage) -> None:
    head = editor.path.read_bytes()
    pinned = replace(SIGNIN, publishers=(PUBLISHER,))
    assert workflow.accept_stored_head(head, editor.version_id, pinned).manifest.name == "editor"
    with pytest.raises(SignatureError):
        stranger = replace(SIGNIN, publishers=(public_key(STRANGER),))
        workflow.accept_stored_head(head, editor.version_id, stranger)


def test_a_head_cut_short_is_refused(editor: BuiltPackage) -> None:
    with pytest.raises(FormatError):
        workflow.accept_stored_head(editor.path.read_bytes()[:600], editor.version_id, SIGNIN)


def test_another_layout_than_the_pointers_is_refused(editor: BuiltPackage, runtime: BuiltPackage) -> None:
    with pytest.raises(FormatError):
        workflow.accept_front(pointer_of(runtime), front_of(editor), SIGNIN, "amd64")


def test_a_package_for_another_machine_is_refused(tmp_path: Path) -> None:
    other = build_package(tmp_path, "other", {"a": b"a"}, architecture="arm64")
    with pytest.raises(UnsupportedError):
        workflow.accept_front(pointer_of(other), front_of(other), SIGNIN, "amd64")


def test_a_stack_is_what_the_publishers_required(
    tmp_path: Path, editor: BuiltPackage, runtime: BuiltPackage
) -> None:
    layers = {built.version_id: package_of(built).manifest for built in (editor, runtime)}
    assert [manifest.name for manifest in workflow.check_stack(published(editor), layers)] == [
        "base",
        "editor",
    ]
    other = build_package(tmp_path, "evil", {"lib/a": b"b"}, kind="runtime")
    swapped = replace(published(editor), stack=(other.version_id, editor.version_id))
    with pytest.raises(SignatureError, match="other runtimes"):
        workflow.check_stack(swapped, {**layers, other.version_id: package_of(other).manifest})
    with pytest.raises(FormatError, match="another name"):
        workflow.check_stack(replace(published(editor), name="painter"), layers)
