"""Patterns of paths, and what a capture leaves out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sequencer.exclusions import exclusions_for
from sequencer.patterns import Patterns


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("etc/*-", b"etc/passwd-", True),
        ("etc/*-", b"etc/x/passwd-", False),
        ("etc/*-", b"etc/passwd", False),
        ("**/*.dpkg-new", b"usr/lib/x.dpkg-new", True),
        ("tmp/**", b"tmp/a/b", True),
        ("tmp/**", b"tmp", False),
        ("usr/share/doc", b"usr/share/doc", True),
        ("usr/share/doc", b"usr/share/doc/a/b", True),
        ("usr/share/doc", b"usr/share/docs", False),
        ("/usr/share/doc", b"usr/share/doc/x", True),
        ("usr/[abc]?", b"usr/b1", True),
        ("usr/[!abc]?", b"usr/b1", False),
        ("usr/[a-c]x", b"usr/bx", True),
        ("a.b", b"axb", False),
        ("a[", b"a[", True),
        ("opt/*", b"opt/\xff\xfe", True),
    ],
)
def test_a_pattern_matches(pattern: str, path: bytes, *, matches: bool) -> None:
    assert Patterns([pattern]).match(path) is matches


def test_no_pattern_matches_nothing() -> None:
    assert not Patterns([]).match(b"anything")


@given(st.lists(st.text(max_size=20), max_size=5), st.binary(max_size=40))
def test_any_pattern_is_understood(patterns: list[str], path: bytes) -> None:
    assert Patterns(patterns).match(path) in (True, False)


@pytest.mark.parametrize(
    ("path", "application", "runtime"),
    [
        (b"var/lib/dpkg/status", True, False),
        (b"etc/passwd", True, False),
        (b"etc/pam.d/common-auth", True, False),
        (b"etc/pam.d/cups", False, False),
        (b"etc/ld.so.cache", False, False),
        (b"var/cache/apt/pkgcache.bin", True, True),
        (b"etc/shadow-", True, True),
        (b"var/log/dpkg.log", True, True),
        (b"var/log", False, False),
        (b"tmp", False, False),
        (b"usr/sbin/policy-rc.d", True, True),
        (b"etc/apt/sources.list.d/debian.sources", True, True),
        (b"usr/bin/editor", False, False),
        (b"var/cache/fontconfig/x", False, False),
    ],
)
def test_the_defaults_leave_out(path: bytes, *, application: bool, runtime: bool) -> None:
    assert exclusions_for("application", (), ()).excludes(path) is application
    assert exclusions_for("runtime", (), ()).excludes(path) is runtime


def test_a_recipe_leaves_out_more_and_keeps_what_it_names() -> None:
    exclusions = exclusions_for("application", ("usr/share/doc",), ("var/log/journal",))
    assert exclusions.excludes(b"usr/share/doc/editor/copyright")
    assert exclusions.excludes(b"var/log/dpkg.log")
    assert not exclusions.excludes(b"var/log/journal")
