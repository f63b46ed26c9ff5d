"""The hash tree over a package's block ids, in the shape of RFC 6962, section 2.1, with multiproofs.

A leaf is SHA-256(0x00 || leaf), a node SHA-256(0x01 || left || right); a tree of n > 1 leaves splits at the
largest power of two below n. The empty tree's root is SHA-256 of nothing.

A multiproof proves several leaves at once: the hashes of the largest subtrees without any of those leaves,
from left to right. The shape of the tree says where each belongs, so that only the hashes travel.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256

from packageformat.errors import FormatError
from packageformat.limits import BLOCKS_MAX, DIGEST_SIZE

EMPTY_ROOT = sha256(b"").digest()


def split(block_ids: bytes) -> tuple[bytes, ...]:
    """Return concatenated digests as a tuple of digests."""
    return tuple(block_ids[i : i + DIGEST_SIZE] for i in range(0, len(block_ids), DIGEST_SIZE))


def root(leaves: Sequence[bytes]) -> bytes:
    """Return the root over `leaves`, in order."""
    return _root_of_hashes([sha256(b"\0" + leaf).digest() for leaf in leaves])


def _root_of_hashes(level: list[bytes]) -> bytes:
    # Pairing neighbours and carrying an odd last one up gives RFC 6962's shape.
    if not level:
        return EMPTY_ROOT
    while len(level) > 1:
        odd = level[-1:] if len(level) & 1 else []
        level = [sha256(b"\1" + a + b).digest() for a, b in zip(level[::2], level[1::2], strict=False)] + odd
    return level[0]


def _split_point(count: int) -> int:
    return 1 << ((count - 1).bit_length() - 1)


def multiproof(leaves: Sequence[bytes], indexes: Iterable[int]) -> tuple[bytes, ...]:
    """Return the hashes that, with the leaves at `indexes`, give the root over `leaves`."""
    wanted = sorted(set(indexes))
    if not wanted or wanted[0] < 0 or wanted[-1] >= len(leaves):
        raise ValueError("a multiproof is for one leaf or more of those that there are")
    hashes = [sha256(b"\0" + leaf).digest() for leaf in leaves]
    proof: list[bytes] = []

    def walk(start: int, end: int, first: int, last: int) -> None:
        if first == last:
            proof.append(_root_of_hashes(hashes[start:end]))
        elif end - start > 1 and last - first < end - start:
            middle = start + _split_point(end - start)
            cut = bisect_left(wanted, middle, first, last)
            walk(start, middle, first, cut)
            walk(middle, end, cut, last)

    walk(0, len(leaves), 0, len(wanted))
    return tuple(proof)


def root_of_multiproof(count: int, leaves: Mapping[int, bytes], proof: Sequence[bytes]) -> bytes:
    """Return the root that `leaves` (untrusted) and `proof` (untrusted) give in a tree of `count` leaves.

    Whoever calls compares it with a root that is trusted; then each of `leaves` is what was signed, at its
    index.

    Raises:
        FormatError: these leaves and hashes do not make up a tree of that size.
    """
    wanted = sorted(leaves)
    if not 0 < count <= BLOCKS_MAX or not wanted or wanted[0] < 0 or wanted[-1] >= count:
        raise FormatError("a proof for blocks that are not there")
    if any(len(part) != DIGEST_SIZE for part in (*proof, *leaves.values())):
        raise FormatError("a proof whose hashes are not hashes")
    parts = iter(proof)

    def walk(start: int, end: int, first: int, last: int) -> bytes:
        if first == last:
            part = next(parts, None)
            if part is None:
                raise FormatError("a proof that is cut short")
            return part
        if last - first == end - start:
            return _root_of_hashes([sha256(b"\0" + leaves[i]).digest() for i in wanted[first:last]])
        middle = start + _split_point(end - start)
        cut = bisect_left(wanted, middle, first, last)
        left = walk(start, middle, first, cut)
        return sha256(b"\1" + left + walk(middle, end, cut, last)).digest()

    found = walk(0, count, 0, len(wanted))
    if next(parts, None) is not None:
        raise FormatError("a proof that goes on after its end")
    return found
