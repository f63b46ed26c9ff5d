"""Read-ahead: files read in order, and files that are not."""

from __future__ import annotations

from appclient.readahead import WINDOW_FIRST, WINDOW_MOST, ReadAhead


def test_the_first_fault_of_a_file_brings_nothing_else() -> None:
    assert not ReadAhead().following("file", 5, 100)


def test_a_file_read_in_order_gets_ever_larger_windows() -> None:
    ahead = ReadAhead()
    block, sizes = 0, []
    ahead.following("file", block, 1000)
    for _ in range(6):
        window = ahead.following("file", block + 1, 1000)
        sizes.append(len(window))
        block = window[-1]  # a view asks again only behind what is there
    assert sizes == [WINDOW_FIRST, 8, 16, WINDOW_MOST, WINDOW_MOST, WINDOW_MOST]


def test_a_jump_starts_anew() -> None:
    ahead = ReadAhead()
    ahead.following("file", 0, 1000)
    assert ahead.following("file", 1, 1000)
    assert not ahead.following("file", 500, 1000)


def test_nothing_is_brought_behind_the_end() -> None:
    ahead = ReadAhead()
    ahead.following("file", 7, 10)
    assert ahead.following("file", 8, 10) == range(9, 10)


def test_files_do_not_disturb_one_another() -> None:
    ahead = ReadAhead()
    ahead.following("a", 0, 100)
    ahead.following("b", 50, 100)
    assert ahead.following("a", 1, 100)
