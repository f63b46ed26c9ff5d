"""Launch profiles: which pages a launch touches, in first-touch order, told by content.

    preamble · document (one zstd frame)

A profile names file contents, not blocks of a version, so that it outlives a rebuild: `extents_of` finds
the same content wherever it lies in a stack today, and what has changed by its path. It is a hint and
trusted with nothing: whatever it says, a launch pack's pages are proved by the manifests.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import accumulate, groupby, pairwise

from packageformat.compression import compress, decompress
from packageformat.encoding import Value, decode, encode
from packageformat.entry import Kind
from packageformat.errors import FormatError, UnsupportedError
from packageformat.hashing import FILE_DOMAIN
from packageformat.limits import (
    APPLICATIONS_MAX,
    BLOCK_SIZE,
    DIGEST_SIZE,
    FILE_SIZE_MAX,
    FORMAT_VERSION,
    LABEL_MAX,
    PAGE_SIZE,
    PAGES_A_BLOCK,
    PROFILE_BYTES_MAX,
    PROFILE_CONTENTS_MAX,
    PROFILE_RUNS_MAX,
    PROFILE_TIME_MAX,
    PROFILE_TOUCHES_MAX,
)
from packageformat.names import check_application_id, check_path, check_text
from packageformat.packdirectory import PackExtent
from packageformat.record import Record
from packageformat.tree import Tree

MAGIC = b"OVPPROF1"
PREAMBLE = struct.Struct("<8sHHII12x32s")
"""Magic, version, zero, stored and plain bytes of the document, zeros, SHA-256 of the stored document."""

RUN_NAME_MAX = 256

PROFILE_FIELDS = 13

TOUCH_COLUMNS = "IIIIB"
"""Content, first page, pages, milliseconds, run."""

ContentIndex = Mapping[bytes, tuple[int, int]]
"""Where a content lies in a stack: content id to layer (position, bottom first) and first block there."""


@dataclass(frozen=True, slots=True)
class ProfileRun:
    """One run that pages were seen in."""

    name: str  # for people: what was done, "first launch"
    window_ms: int  # from the start to the first window

    def __post_init__(self) -> None:
        check_text(self.name, RUN_NAME_MAX)
        if not 0 <= self.window_ms <= PROFILE_TIME_MAX:
            raise FormatError("a launch profile with a run of impossible length")


@dataclass(frozen=True, slots=True)
class ProfileContent:
    """A file's content that was touched."""

    content_id: bytes
    size: int  # bytes
    path: bytes  # in the merged view: where to look when no layer has this content any more

    def __post_init__(self) -> None:
        if len(self.content_id) != DIGEST_SIZE or not 0 < self.size <= FILE_SIZE_MAX:
            raise FormatError("a launch profile with a file of impossible size")
        if not check_path(self.path):
            raise FormatError("a launch profile with a file that is the root folder")

    @property
    def pages(self) -> int:
        """How many pages it has."""
        return -(-self.size // PAGE_SIZE)


@dataclass(frozen=True, slots=True)
class Touch:
    """Pages of one content, one after the other, that were touched one after the other."""

    content: int  # position in the profile's contents
    first_page: int  # in the file
    pages: int
    after_ms: int  # since the start of the run that touched them first
    run: int  # position in the profile's runs


def touches_of(pages: Sequence[tuple[int, int]], after_ms: int, run: int) -> list[Touch]:
    """Return touches of pages (content, page), consecutive ones as one."""
    ordered = list(dict.fromkeys(page[0] for page in pages))
    found: list[Touch] = []
    for number in ordered:
        own = sorted(page for content, page in pages if content == number)
        for _, group in groupby(enumerate(own), key=lambda item: item[1] - item[0]):
            run_pages = [page for _, page in group]
            found.append(Touch(number, run_pages[0], len(run_pages), after_ms, run))
    return found


@dataclass(frozen=True, slots=True)
class LaunchProfile:
    """What launches of one application touch.

    The order of the touches is that in which pages should arrive: those that lead to the first window come
    first, `window_touches` of them. No page is there twice.
    """

    application: str
    bubble_id: bytes  # of the stack that it was trained on: another one, if it was taken over
    runs: tuple[ProfileRun, ...]  # the first launch first
    contents: tuple[ProfileContent, ...]
    touches: tuple[Touch, ...]
    window_touches: int

    def __post_init__(self) -> None:
        check_application_id(self.application)
        if len(self.bubble_id) != DIGEST_SIZE:
            raise FormatError("a launch profile with a bubble id that is not one")
        for what, count, most in (
            ("runs", len(self.runs), PROFILE_RUNS_MAX),
            ("files", len(self.contents), PROFILE_CONTENTS_MAX),
            ("touches", len(self.touches), PROFILE_TOUCHES_MAX),
        ):
            if count > most:
                raise FormatError(f"a launch profile of {count} {what}, allowed {most}")
        if not self.runs:
            raise FormatError("a launch profile without a run")
        if not 0 <= self.window_touches <= len(self.touches):
            raise FormatError("a launch profile whose first window is beyond its end")
        if len({content.content_id for content in self.contents}) != len(self.contents):
            raise FormatError("a launch profile with a file's content twice")
        self._check_touches()

    def _check_touches(self) -> None:
        page_counts = [content.pages for content in self.contents]
        run_count = len(self.runs)
        spans: list[tuple[int, int, int]] = []
        for touch in self.touches:
            end = touch.first_page + touch.pages
            if not 0 <= touch.content < len(page_counts) or not 0 <= touch.run < run_count:
                raise FormatError("a launch profile that touches a file or names a run that it does not have")
            if touch.first_page < 0 or touch.pages < 1 or end > page_counts[touch.content]:
                raise FormatError("a launch profile that touches pages that are not in their file")
            if not 0 <= touch.after_ms <= PROFILE_TIME_MAX:
                raise FormatError("a launch profile with a touch at an impossible time")
            spans.append((touch.content, touch.first_page, end))
        spans.sort()
        if any(a[0] == b[0] and a[2] > b[1] for a, b in pairwise(spans)):
            raise FormatError("a launch profile with a page twice")

    @property
    def window_ms(self) -> int:
        """Milliseconds from the start to the first window, in the first launch."""
        return self.runs[0].window_ms

    @property
    def pages(self) -> int:
        """How many pages are touched."""
        return sum(touch.pages for touch in self.touches)

    def before_window(self) -> LaunchProfile:
        """Return the part that leads to the first window."""
        return replace(self, touches=self.touches[: self.window_touches])


@dataclass(frozen=True, slots=True)
class PackageProfiles:
    """The launch profiles of a package's applications: what stands in `NAME_VERSION.profile`."""

    version_id: bytes  # of the version that they are for
    profiles: tuple[LaunchProfile, ...]

    def __post_init__(self) -> None:
        if len(self.version_id) != DIGEST_SIZE or len(self.profiles) > APPLICATIONS_MAX:
            raise FormatError("launch profiles of a package that cannot be")
        if len({profile.application for profile in self.profiles}) != len(self.profiles):
            raise FormatError("launch profiles with an application twice")

    def of(self, application: str) -> LaunchProfile | None:
        """Return the profile of an application, or None."""
        return next((profile for profile in self.profiles if profile.application == application), None)


def encode_profiles(profiles: PackageProfiles) -> bytes:
    """Return the bytes of a profile file (FORMAT.md, *Launch profile*).

    Raises:
        FormatError: they are longer than a reader would accept.
    """
    document = encode(
        (FORMAT_VERSION, profiles.version_id, tuple(_profile_value(item) for item in profiles.profiles))
    )
    if len(document) > PROFILE_BYTES_MAX:
        raise FormatError(f"launch profiles of {len(document)} bytes, allowed {PROFILE_BYTES_MAX}")
    stored = compress(document, 19)
    head = PREAMBLE.pack(MAGIC, FORMAT_VERSION, 0, len(stored), len(document), sha256(stored).digest())
    return head + stored


def _profile_value(profile: LaunchProfile) -> Value:
    contents, touches = profile.contents, profile.touches
    columns = (
        [touch.content for touch in touches],
        [touch.first_page for touch in touches],
        [touch.pages for touch in touches],
        [touch.after_ms for touch in touches],
        [touch.run for touch in touches],
    )
    return (
        profile.application,
        profile.bubble_id,
        tuple((run.name, run.window_ms) for run in profile.runs),
        b"".join(content.content_id for content in contents),
        struct.pack(f"<{len(contents)}Q", *[content.size for content in contents]),
        struct.pack(f"<{len(contents)}H", *[len(content.path) for content in contents]),
        b"".join(content.path for content in contents),
        *(
            struct.pack(f"<{len(touches)}{code}", *column)
            for code, column in zip(TOUCH_COLUMNS, columns, strict=True)
        ),
        profile.window_touches,
    )


def decode_profiles(data: bytes) -> PackageProfiles:
    """Return the profiles that `data`, untrusted, holds.

    Raises:
        FormatError: it is no profile file.
    """
    if len(data) < PREAMBLE.size:
        raise FormatError("a launch profile that is cut short")
    magic, version, zero, stored_size, plain_size, digest = PREAMBLE.unpack_from(data)
    if magic != MAGIC or zero or any(data[20:32]):
        raise FormatError("not a launch profile")
    if version != FORMAT_VERSION:
        raise UnsupportedError(f"a launch profile of format {version}, this is {FORMAT_VERSION}")
    if not 0 < plain_size <= PROFILE_BYTES_MAX or len(data) != PREAMBLE.size + stored_size:
        raise FormatError("a launch profile that is cut short or goes on after its end")
    stored = data[PREAMBLE.size :]
    if sha256(stored).digest() != digest:
        raise FormatError("a launch profile that is damaged")
    document = decode(decompress(stored, plain_size), max_bytes=PROFILE_BYTES_MAX)
    record = Record(document, "launch profile", 3)
    record.number(FORMAT_VERSION, FORMAT_VERSION)
    version_id = record.digest()
    return PackageProfiles(version_id, tuple(map(_profile_of, record.items(APPLICATIONS_MAX))))


def _profile_of(value: Value) -> LaunchProfile:
    record = Record(value, "launch profile", PROFILE_FIELDS)
    application = record.text(2 * LABEL_MAX)
    bubble = record.digest()
    runs = tuple(map(_run_of, record.items(PROFILE_RUNS_MAX)))
    ids = record.octets(DIGEST_SIZE * PROFILE_CONTENTS_MAX)
    sizes = _numbers(record.octets(8 * PROFILE_CONTENTS_MAX), "Q")
    path_sizes = _numbers(record.octets(2 * PROFILE_CONTENTS_MAX), "H")
    paths = record.octets(PROFILE_BYTES_MAX)
    columns = [_numbers(record.octets(4 * PROFILE_TOUCHES_MAX), code) for code in TOUCH_COLUMNS]
    if len(ids) != DIGEST_SIZE * len(sizes) or len(sizes) != len(path_sizes) or sum(path_sizes) != len(paths):
        raise FormatError("a launch profile whose columns are of different length")
    if len({len(column) for column in columns}) != 1:
        raise FormatError("a launch profile whose columns are of different length")
    ends = accumulate(path_sizes, initial=0)
    contents = tuple(
        ProfileContent(ids[index * DIGEST_SIZE : (index + 1) * DIGEST_SIZE], sizes[index], paths[start:end])
        for index, (start, end) in enumerate(pairwise(ends))
    )
    touches = tuple(map(Touch, *columns))
    return LaunchProfile(application, bubble, runs, contents, touches, record.number(PROFILE_TOUCHES_MAX))


def _run_of(value: Value) -> ProfileRun:
    record = Record(value, "launch profile's run", 2)
    return ProfileRun(record.text(RUN_NAME_MAX), record.number(PROFILE_TIME_MAX))


def _numbers(packed: bytes, code: str) -> tuple[int, ...]:
    size = struct.calcsize("<" + code)
    if len(packed) % size:
        raise FormatError("a launch profile with a column that is cut short")
    return struct.unpack(f"<{len(packed) // size}{code}", packed)


def content_index(layers: Sequence[tuple[bytes, Tree, bytes]]) -> ContentIndex:
    """Return where each content lies in a stack.

    A content that is there more than once is found in the lowest layer, and there at its first file: the
    layer that most bubbles share.

    Args:
        layers: for each package, bottom first, its version id, its tree and its block ids.
    """
    index: dict[bytes, tuple[int, int]] = {}
    for position, (_, tree, block_ids) in enumerate(layers):
        # Written out, not by `file_content_id`: a stack has tens of thousands of files.
        sizes = tree.sizes
        for entry, first in tree.files():
            size = sizes[entry]
            end = first - -size // BLOCK_SIZE
            content = sha256(
                FILE_DOMAIN + size.to_bytes(8, "little") + block_ids[first * DIGEST_SIZE : end * DIGEST_SIZE]
            ).digest()
            index.setdefault(content, (position, first))
    return index


@dataclass(frozen=True, slots=True)
class ContentPlace:
    """Where a profile's content lies in a stack today."""

    layer: int  # position, bottom first
    first_block: int
    pages: int  # so many it has there


def places_of(
    profile: LaunchProfile, index: ContentIndex, trees: Sequence[Tree]
) -> list[ContentPlace | None]:
    """Return where each of a profile's contents lies in a stack; None for what it no longer has.

    A content is looked up by its id; one that no layer has any more by its path in the merged view.

    Args:
        profile: of this stack or of another version of it.
        index: the stack's, see `content_index`.
        trees: the stack's, bottom first.
    """
    places: list[ContentPlace | None] = []
    for content in profile.contents:
        place = index.get(content.content_id)
        places.append(ContentPlace(*place, content.pages) if place else _place_by_path(content.path, trees))
    return places


def extents_of(
    profile: LaunchProfile, index: ContentIndex, trees: Sequence[Tree], close_gaps: int = 0
) -> tuple[list[PackExtent], int]:
    """Return a profile's pages as they lie in a stack, in the profile's order, none twice.

    Of a file that has changed (see `places_of`) they are as many as it has now.

    Args:
        profile: of this stack or of another version of it.
        index: the stack's, see `content_index`.
        trees: the stack's, bottom first.
        close_gaps: holes of up to so many pages between touched pages of one block are filled: few more
            bytes, half the extents.

    Returns:
        The extents, and how many pages of the profile are not in this stack.
    """
    places = places_of(profile, index, trees)
    missing = 0
    wanted: list[tuple[int, int, int]] = []  # layer, block, pages as bits: in order
    touched: dict[tuple[int, int], int] = {}
    for touch in profile.touches:
        place = places[touch.content]
        end = min(touch.first_page + touch.pages, place.pages) if place else 0
        if place is None or touch.first_page >= end:
            missing += touch.pages
            continue
        missing += touch.first_page + touch.pages - end
        page = touch.first_page
        while page < end:
            start = page % PAGES_A_BLOCK
            count = min(PAGES_A_BLOCK - start, end - page)
            key = (place.layer, place.first_block + page // PAGES_A_BLOCK)
            bits = ((1 << count) - 1) << start
            wanted.append((*key, bits))
            touched[key] = touched.get(key, 0) | bits
            page += count
    return _extents(wanted, touched, close_gaps), missing


def _place_by_path(path: bytes, trees: Sequence[Tree]) -> ContentPlace | None:
    """Return the place of the file that a stack shows at `path`; None if it shows none."""
    folders = [path[:place] for place, letter in enumerate(path) if letter == 0x2F]
    for layer in range(len(trees) - 1, -1, -1):
        tree = trees[layer]
        entry = tree.find(path)
        if entry is not None:
            size = tree.file_size(entry)
            if tree.kinds[entry] not in (Kind.FILE, Kind.HARDLINK) or not size:
                return None
            return ContentPlace(layer, tree.first_block(entry), -(-size // PAGE_SIZE))
        for folder in (b"", *folders):
            entry = tree.find(folder)
            if entry is None:
                break
            if tree.kinds[entry] != Kind.FOLDER or tree.opaques[entry]:
                return None  # what lies below is hidden
    return None


def _extents(
    wanted: Sequence[tuple[int, int, int]], touched: Mapping[tuple[int, int], int], close_gaps: int
) -> list[PackExtent]:
    """Return wanted pages as extents, each page where it was wanted first.

    A filled hole goes with whichever of its neighbours was wanted earlier: then the two never wait for it.
    """
    extents: list[PackExtent] = []
    given: dict[tuple[int, int], int] = {}
    holes = {key: _closed(bits, close_gaps) & ~bits for key, bits in touched.items()} if close_gaps else {}
    for layer, block, bits in wanted:
        key = (layer, block)
        done = given.get(key, 0)
        bits &= ~done
        free = holes.get(key, 0) & ~done
        if free:
            grown = bits
            while more := (grown << 1 | grown >> 1) & free & ~grown:
                grown |= more
            bits = grown
        given[key] = done | bits
        while bits:
            start = (bits & -bits).bit_length() - 1
            run = bits >> start
            count = (~run & (run + 1)).bit_length() - 1
            bits &= ~(((1 << count) - 1) << start)
            last = extents[-1] if extents else None
            if last and (last.layer, last.block, last.first_page + last.pages) == (layer, block, start):
                extents[-1] = PackExtent(layer, block, last.first_page, last.pages + count)
            else:
                extents.append(PackExtent(layer, block, start, count))
    return extents


def _closed(bits: int, most: int) -> int:
    """Return `bits` with each hole of up to `most` clear bits between set ones filled."""
    closed = bits
    last = -1
    for page in range(PAGES_A_BLOCK):
        if bits >> page & 1:
            if last >= 0 and page - last - 1 <= most:
                closed |= ((1 << (page - last)) - 1) << last
            last = page
    return closed
