"""Capabilities: one object, one moment, one server."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

from hypothesis import given
from hypothesis import strategies as st

from streamserver.capability import Verdict, capability, judge, object_path

digests = st.binary(min_size=32, max_size=32)
moments = st.integers(1, 10**11)
SECRET = b"s" * 32


@given(digests, moments)
def test_a_capability_holds_for_its_object_until_its_moment(digest: bytes, expires: int) -> None:
    url = urlsplit(object_path(SECRET, digest, expires))
    query = parse_qs(url.query)
    assert url.path == f"/v1/objects/{digest.hex()}"
    (until,), (given_,) = query["e"], query["c"]
    assert judge(SECRET, digest, until, given_, now=expires - 1) is Verdict.VALID
    assert judge(SECRET, digest, until, given_, now=expires) is Verdict.EXPIRED


@given(digests, digests, moments, moments)
def test_it_holds_for_nothing_else(digest: bytes, other: bytes, expires: int, later: int) -> None:
    given_ = capability(SECRET, digest, expires)
    if other != digest:
        assert judge(SECRET, other, str(expires), given_, now=0) is Verdict.FORGED
    if later != expires:
        assert judge(SECRET, digest, str(later), given_, now=0) is Verdict.FORGED
    assert judge(b"t" * 32, digest, str(expires), given_, now=0) is Verdict.FORGED
    assert judge(SECRET, digest, f"0{expires}", given_, now=0) is Verdict.FORGED


@given(digests, st.text(), st.text())
def test_any_text_is_forged(digest: bytes, expires: str, given_: str) -> None:
    assert judge(SECRET, digest, expires, given_, now=0) is Verdict.FORGED
