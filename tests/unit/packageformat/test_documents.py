"""Documents: encodings, names, manifests, envelopes, freshness."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packageformat.encoding import decode, encode
from packageformat.errors import FormatError, SignatureError, UnsupportedError
from packageformat.freshness import check_fresh
from packageformat.manifest import decode_manifest, encode_manifest, version_id
from packageformat.names import check_component, check_description, check_label, check_path, check_text
from packageformat.pointer import decode_pointer, encode_pointer
from packageformat.policy import Policy, policy_of, policy_value
from packageformat.publishing import decode_publishing, encode_publishing
from packageformat.signature import check, fingerprint, generate_key, public_key, sign
from packageformat.signed import open_sealed, seal
from packageformat.stack import bubble_id
from tests.vectors.sample import NOW, SAMPLE, SEED, SERVER, SERVER_SEED, make_pointer, make_publishing

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.text(max_size=40)
    | st.binary(max_size=40),
    lambda inner: st.lists(inner, max_size=5).map(tuple),
    max_leaves=30,
)


@given(VALUES)
def test_a_value_has_one_encoding_and_is_read_again(value: object) -> None:
    data = encode(value)  # type: ignore[arg-type]
    assert decode(data, max_bytes=1 << 20) == value


@given(st.binary(max_size=200))
def test_bytes_are_refused_or_the_encoding_of_their_value(data: bytes) -> None:
    try:
        value = decode(data, max_bytes=200)
    except FormatError:
        return
    assert encode(value) == data


def test_a_document_longer_than_its_limit_is_refused() -> None:
    with pytest.raises(FormatError, match="allowed up to 5"):
        decode(encode(b"123456"), max_bytes=5)


def test_what_has_no_encoding_is_a_format_error() -> None:
    for value in (2**64, "\ud800"):
        with pytest.raises(FormatError):
            encode(value)


@pytest.mark.parametrize("name", [b"", b".", b"..", b"a/b", b"/", b"a\0", b"x" * 256])
def test_a_name_cannot_climb_out(name: bytes) -> None:
    with pytest.raises(FormatError):
        check_component(name)
    if name:
        with pytest.raises(FormatError):
            check_path(b"usr/" + name + b"/")


def test_names_that_are_allowed() -> None:
    assert check_path(b"") == ()
    assert check_path(b"usr/...") == (b"usr", b"...")
    assert check_component(b"\xff \n") == b"\xff \n"
    assert check_label("libc++6.1~rc_1") == "libc++6.1~rc_1"
    for text in ("", "A", "-a", "a/b", "a" * 65, "a\n", "\u00e9"):
        with pytest.raises(FormatError):
            check_label(text)
    for text in ("a\nb", "a\x1b[2J", "\ud800", "x" * 4097, "a\u2028b"):
        with pytest.raises(FormatError):
            check_text(text)


@pytest.mark.parametrize("letter", ["\x80", "\x9b", "\x9f", "\u202a", "\u202e", "\u2066", "\u2069"])
def test_a_text_for_people_hides_no_control_and_does_not_turn_around(letter: str) -> None:
    for checked in (check_text, check_description):
        with pytest.raises(FormatError):
            checked(f"photo{letter}gpj.exe")
        assert checked("\u05d0 photo \u00a0\u2027\u202f\u2065\u206a") != ""


def test_documents_are_read_as_they_were_written() -> None:
    manifest = SAMPLE.package.manifest
    assert decode_manifest(encode_manifest(manifest)) == manifest
    assert decode_pointer(encode_pointer(make_pointer())) == make_pointer()
    assert decode_publishing(encode_publishing(make_publishing())) == make_publishing()


@pytest.mark.parametrize("decoder", [decode_manifest, decode_pointer, decode_publishing])
@given(value=VALUES, data=st.binary(max_size=100))
def test_any_value_and_any_bytes_end_in_a_format_error(decoder: object, value: object, data: bytes) -> None:
    assert callable(decoder)
    for candidate in (encode(value), data):  # type: ignore[arg-type]
        with pytest.raises(FormatError):
            decoder(candidate)


def test_any_change_of_a_manifest_is_another_version() -> None:
    manifest = SAMPLE.package.manifest
    changed = replace(manifest, policy=replace(manifest.policy, network=True))
    assert version_id(encode_manifest(changed)) != version_id(encode_manifest(manifest))


def test_a_newer_format_and_a_foreign_machine_are_said_to_be_unsupported() -> None:
    manifest = SAMPLE.package.manifest
    manifest.require_support("amd64")
    with pytest.raises(UnsupportedError, match="for amd64"):
        manifest.require_support("arm64")
    with pytest.raises(UnsupportedError, match="feature level 2"):
        replace(manifest, feature_level=2).require_support("amd64")
    with pytest.raises(UnsupportedError, match="format 9"):
        decode_manifest(encode((9, "anything")))


def test_a_policy_denies_what_it_does_not_grant() -> None:
    policy = Policy()
    assert policy_of(policy_value(policy)) == policy
    granted = {name for name in Policy.__dataclass_fields__ if getattr(policy, name)}
    assert granted == {"home", "fonts"}


@pytest.mark.parametrize(
    "name", ["org", "org.*.x", "", "org.example.Bus.**", "a" * 300, "org.example/x", ".org.x"]
)
def test_what_is_no_bus_name_is_refused(name: str) -> None:
    with pytest.raises(FormatError):
        Policy(dbus_talk=(name,))


def test_a_signature_holds_for_its_bytes_its_domain_and_its_key_only() -> None:
    signature = sign("manifest", b"payload", SEED)
    check("manifest", b"payload", signature, public_key(SEED))
    for domain, payload, by in (
        ("pointer", b"payload", SEED),
        ("manifest", b"payloaD", SEED),
        ("manifest", b"payload", SERVER_SEED),
    ):
        with pytest.raises(SignatureError):
            check(domain, payload, signature, public_key(by))
    for damaged in (signature[:-1], bytes(64), b""):
        with pytest.raises(SignatureError):
            check("manifest", b"payload", damaged, public_key(SEED))
    with pytest.raises(SignatureError):
        check("manifest", b"payload", signature, b"\xff" * 32)


def test_keys_and_domains_that_are_none_are_bugs() -> None:
    with pytest.raises(ValueError, match="32 random bytes"):
        generate_key(b"short")
    with pytest.raises(ValueError, match="nothing is signed"):
        sign("lease", b"", generate_key(SEED))


def test_a_fingerprint_is_short_and_tells_keys_apart() -> None:
    assert fingerprint(public_key(SEED)) != fingerprint(SERVER)
    assert [len(group) for group in fingerprint(SERVER).split(" ")] == [4] * 8


@given(st.integers(0, 10_000), st.integers(0, 7))
def test_one_flipped_bit_of_an_envelope_is_never_accepted(place: int, bit: int) -> None:
    envelope = bytearray(seal("pointer", b"payload " * 5, SERVER_SEED))
    envelope[place % len(envelope)] ^= 1 << bit
    with pytest.raises(FormatError):
        open_sealed("pointer", bytes(envelope), {SERVER})


def test_a_document_that_is_too_large_to_be_read_is_not_sealed() -> None:
    with pytest.raises(FormatError, match="allowed up to"):
        seal("publishing", bytes((4 << 20) + 1), SERVER_SEED)


def test_only_the_newest_document_that_has_not_expired_is_fresh() -> None:
    pointer = make_pointer()
    check_fresh(pointer, NOW + 5, 3)
    check_fresh(pointer, NOW - 299, 0)
    with pytest.raises(FormatError, match="expired"):
        check_fresh(pointer, pointer.expires + 300, 3)
    with pytest.raises(FormatError, match="seconds from now"):
        check_fresh(pointer, NOW - 301, 3)
    with pytest.raises(FormatError, match="after one of 4"):
        check_fresh(pointer, NOW, 4)


def test_a_bubble_is_told_by_its_versions_and_their_order() -> None:
    one, two = bytes(32), b"\1" * 32
    assert bubble_id([one, two]) != bubble_id([two, one])
    for wrong in ([], [one, one], [b"short"], [bytes([i]) * 32 for i in range(33)]):
        with pytest.raises(FormatError):
            bubble_id(wrong)


@pytest.mark.parametrize(
    "variable", ["LD_PRELOAD", "LD_DEBUG_OUTPUT", "GLIBC_TUNABLES", "GCONV_PATH", "LOCPATH"]
)
def test_a_variable_of_the_loaders_is_refused(variable: str) -> None:
    with pytest.raises(FormatError, match="loader"):
        Policy(environment=((variable, "/tmp/x"),))
