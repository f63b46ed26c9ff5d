"""Every size and bound of the format. FORMAT.md repeats them; a test compares the two.

Whatever is parsed is hostile, so each number here is checked before anything of its size is allocated.
"""

from __future__ import annotations

FORMAT_VERSION = 1
"""The version that stands in every header and document."""

FEATURE_LEVEL = 1
"""The highest feature level of a package that this code can run."""

PAGE_SIZE = 4096
"""Bytes of a page: the unit of a launch pack and of a page hash."""

BLOCK_SIZE = 65536
"""Bytes of a block: the unit of identity, verification and de-duplication."""

PAGES_A_BLOCK = BLOCK_SIZE // PAGE_SIZE

FRAME_PLAIN_MAX = 262144
"""Plain bytes of one zstd frame of blocks."""

FRAME_STORED_MAX = FRAME_PLAIN_MAX + 4096
"""Stored bytes of one frame: zstd grows incompressible data by less than this."""

DIGEST_SIZE = 32
"""Bytes of a SHA-256: page hash, block id, version id, bubble id."""

PUBLIC_KEY_SIZE = 32
SIGNATURE_SIZE = 64
SEED_SIZE = 32

# Names
NAME_MAX = 255
"""Bytes of one component of a path, as in Linux."""

PATH_MAX = 4095
"""Bytes of a whole path, without a NUL."""

DEPTH_MAX = 128
"""Folders above an entry, the root counted."""

SYMLINK_TARGET_MAX = 4095
LABEL_MAX = 64
TEXT_MAX = 4096
DESCRIPTION_MAX = 65536

# Tree
TREE_ENTRIES_MAX = 500_000
TREE_BYTES_MAX = 64 << 20
"""Plain bytes of an encoded tree."""

MODE_MAX = 0o7777
OWNER_MAX = 0xFFFF_FFFE
"""The highest user or group id; 0xFFFFFFFF means "none" to the kernel."""

FILE_SIZE_MAX = 1 << 40
MTIME_SECONDS_MAX = 1 << 40
"""Seconds before or after 1970 (about 35,000 years)."""

XATTR_VALUE_MAX = 65536
XATTRS_AN_ENTRY_MAX = 64
XATTRS_BYTES_MAX = 4 << 20
"""Encoded bytes of all extended attributes of a tree."""

# Blocks
BLOCKS_MAX = 1 << 20
"""Blocks of one package: 64 GiB of plain bytes."""

LAYOUT_BYTES_MAX = 16 << 20
BLOCKS_SECTION_MAX = 1 << 37

# Documents
ENCODING_DEPTH_MAX = 12
"""Arrays inside arrays in any encoded document."""

MANIFEST_BYTES_MAX = 1 << 20
POINTER_BYTES_MAX = 1 << 18
PUBLISHING_BYTES_MAX = 4 << 20
ENVELOPE_BYTES_MAX = PUBLISHING_BYTES_MAX + 4096
STACK_MAX = 32
"""Packages in one bubble."""

APPLICATIONS_MAX = 256
ICONS_MAX = 64
TYPES_MAX = 1024
"""Categories, MIME types or URL schemes of one application."""

CONTENTS_MAX = 8192
"""Distribution packages that a manifest may list."""

PUBLISHED_MAX = 4096
PACKS_MAX = 256
NAMES_ON_BUS_MAX = 256
ENVIRONMENT_MAX = 256
GENERATION_MAX = (1 << 53) - 1
INSTANT_MAX = 1 << 40
"""The latest moment, in seconds since 1970."""

CLOCK_SKEW = 300
"""Seconds by which a document may seem to come from the future."""

# Launch pack
PACK_DIRECTORY_BYTES_MAX = 8 << 20
"""Plain bytes of a launch pack's directory."""

PACK_FRAME_PLAIN_MAX = 2 << 20
"""Plain bytes of one zstd frame of launch pages."""

PACK_FRAME_STORED_MAX = PACK_FRAME_PLAIN_MAX + 4096

PACK_FRAMES_MAX = 1 << 16
PACK_BLOCKS_MAX = 1 << 16
PACK_EXTENTS_MAX = 1 << 19

# Launch profile
PROFILE_BYTES_MAX = 32 << 20
"""Plain bytes of the profiles of one package."""

PROFILE_RUNS_MAX = 256
PROFILE_CONTENTS_MAX = 1 << 16
PROFILE_TOUCHES_MAX = 1 << 19
PROFILE_TIME_MAX = (1 << 32) - 1
"""Milliseconds since the start of a run."""

# Delta
DELTA_DIRECTORY_BYTES_MAX = 16 << 20
"""Plain bytes of a delta's directory."""

DELTA_REGION_MAX = 1 << 20
"""Bytes of the old pages that one frame of a delta is written against."""

DELTA_SEGMENTS_MAX = 1 << 14
"""Segments of one frame of a delta."""

DELTA_EXTENTS_MAX = 1 << 20
"""Extents of old pages in a delta."""

# Memory: what a parser may take above its input, whatever the input
MEMORY_FIXED = 8 << 20
"""Bytes that any parser may take, however small its input."""

MEMORY_FACTOR = 64
"""Bytes that a parser may take for each plain byte of its input (after decompression)."""

COMPRESSION_RATIO_MAX = 32768
"""The most that zstd can give: a block of 128 KiB out of 4 bytes."""
