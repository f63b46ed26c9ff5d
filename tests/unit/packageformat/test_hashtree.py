"""The hash tree and its multiproofs, against RFC 6962's recursive definition."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packageformat.errors import FormatError
from packageformat.hashtree import EMPTY_ROOT, multiproof, root, root_of_multiproof

LEAVES = st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=40)


def by_the_rfc(leaves: list[bytes]) -> bytes:
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return sha256(b"\0" + leaves[0]).digest()
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return sha256(b"\1" + by_the_rfc(leaves[:split]) + by_the_rfc(leaves[split:])).digest()


@given(LEAVES)
def test_the_root_is_the_rfcs(leaves: list[bytes]) -> None:
    assert root(leaves) == by_the_rfc(leaves)


def test_the_root_of_nothing_is_the_rfcs() -> None:
    assert root([]) == EMPTY_ROOT == by_the_rfc([])


@given(LEAVES, st.data())
def test_any_leaves_prove_the_root(leaves: list[bytes], data: st.DataObject) -> None:
    wanted = data.draw(st.sets(st.integers(0, len(leaves) - 1), min_size=1))
    proof = multiproof(leaves, wanted)
    assert root_of_multiproof(len(leaves), {i: leaves[i] for i in wanted}, proof) == root(leaves)


@given(LEAVES, st.data())
def test_no_flipped_bit_proves_the_root(leaves: list[bytes], data: st.DataObject) -> None:
    wanted = data.draw(st.sets(st.integers(0, len(leaves) - 1), min_size=1))
    proof = list(multiproof(leaves, wanted))
    shown = {i: leaves[i] for i in wanted}
    bit = data.draw(st.integers(0, 8 * 32 - 1))
    in_proof: bool = data.draw(st.booleans())
    if proof and in_proof:
        index = data.draw(st.integers(0, len(proof) - 1))
        proof[index] = flipped(proof[index], bit)
    else:
        key = data.draw(st.sampled_from(sorted(wanted)))
        shown[key] = flipped(shown[key], bit)
    assert root_of_multiproof(len(leaves), shown, proof) != root(leaves)


def flipped(digest: bytes, bit: int) -> bytes:
    changed = bytearray(digest)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


@given(LEAVES, st.data())
def test_a_proof_of_another_length_is_refused(leaves: list[bytes], data: st.DataObject) -> None:
    wanted = data.draw(st.sets(st.integers(0, len(leaves) - 1), min_size=1))
    proof = multiproof(leaves, wanted)
    shown = {i: leaves[i] for i in wanted}
    with pytest.raises(FormatError, match="goes on"):
        root_of_multiproof(len(leaves), shown, (*proof, bytes(32)))
    if proof:
        with pytest.raises(FormatError, match="cut short"):
            root_of_multiproof(len(leaves), shown, proof[:-1])


def test_proofs_of_nothing_and_of_what_is_not_there_are_refused() -> None:
    for count, shown in (
        (0, {0: bytes(32)}),
        (1, {}),
        (1, {1: bytes(32)}),
        (1, {-1: bytes(32)}),
        (1 << 40, {0: bytes(32)}),
    ):
        with pytest.raises(FormatError):
            root_of_multiproof(count, shown, ())
    with pytest.raises(FormatError, match="not hashes"):
        root_of_multiproof(1, {0: b"short"}, ())
