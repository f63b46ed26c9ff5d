"""A profile's map and picture: every page has its place, and what is drawn is what was touched."""

from __future__ import annotations

import io
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from PIL import Image

from packageformat.launchprofile import PackageProfiles
from sequencer.canvas import PngCanvas, SvgCanvas
from sequencer.command_profile import added, seconds, shares
from sequencer.profilepicture import GROUND, HEIGHT, RAMP, WIDTH, Caption, draw, hilbert, ramp
from sequencer.stackmap import NEVER, Region, StackMap
from tests.vectors.sample import SAMPLE, make_profiles

PROFILES: PackageProfiles = make_profiles()
PROFILE = PROFILES.profiles[0]
MAP = StackMap([SAMPLE.package], PROFILE)


@pytest.mark.parametrize("order", range(6))
def test_the_curve_visits_each_cell_once_and_never_jumps(order: int) -> None:
    cells = list(hilbert(order))
    assert sorted(cells) == sorted((x, y) for x in range(1 << order) for y in range(1 << order))
    assert all(abs(a[0] - b[0]) + abs(a[1] - b[1]) == 1 for a, b in pairwise(cells))


def test_every_page_of_the_stack_is_in_the_row_and_knows_its_touch() -> None:
    sizes = [size for size in SAMPLE.package.tree.sizes if size]
    assert MAP.pages == sum(-(-size // 4096) for size in sizes)
    assert MAP.layers == [Region("calculator 1.2.3-4+b1", 0, MAP.pages)]
    assert MAP.missing == 0
    # The program is the first file: pages 3 and 4 first, 15 to 34 by the fourth touch, 0 and 1 by the fifth.
    assert list(MAP.touches[:6]) == [4, 4, NEVER, 0, 0, NEVER]
    assert set(MAP.touches[15:35]) == {3}
    assert MAP.touched(MAP.layers[0]) == PROFILE.pages


def test_regions_are_the_smallest_that_are_large_enough() -> None:
    assert [region.name for region in MAP.regions(30)] == ["usr/bin/calculator"]
    assert MAP.regions(5)[1].name == "usr/share/calculator"
    assert MAP.regions(3)[1:3] == [
        Region("usr/share/calculator/digits", 38, 41),
        Region("usr/share/calculator/digits.copy", 41, 44),
    ]
    assert MAP.regions(10_000) == []


def test_the_figures_are_those_of_the_profile() -> None:
    found = shares(PROFILE)
    assert [(one.path, one.touched, one.pages, one.first_ms) for one in found] == [
        ("usr/bin/calculator", 24, 37, 0),
        ("usr/share/calculator/digits", 3, 3, 400),
        ("usr/share/applications/calculator.desktop", 1, 1, 15),
    ]
    assert seconds(PROFILE) == [3, 20]
    assert added(PROFILE) == [23, 5]


def test_the_ramp_goes_from_its_first_colour_to_its_last() -> None:
    assert ramp(-1) == ramp(0) == RAMP[0][1]
    assert ramp(1) == ramp(7) == RAMP[-1][1]


def test_the_picture_is_a_png_and_an_svg_of_one_size() -> None:
    png, svg = PngCanvas(WIDTH, HEIGHT, GROUND), SvgCanvas(WIDTH, HEIGHT, GROUND)
    for canvas in (png, svg):
        draw(canvas, MAP, PROFILE, Caption("A <title> & more", "below"))
    with Image.open(io.BytesIO(png.file())) as picture:
        assert (picture.format, picture.size) == ("PNG", (WIDTH, HEIGHT))
        assert len(picture.convert("RGB").getcolors(1 << 16) or ()) > 20
    root = ElementTree.fromstring(svg.file())
    assert root.get("width") == str(WIDTH)
    told = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "A <title> & more" in told
    assert "first window" in told


def test_a_profile_without_pages_has_a_picture_too() -> None:
    canvas = PngCanvas(WIDTH, HEIGHT, GROUND)
    draw(canvas, StackMap([SAMPLE.package], PROFILES.profiles[1]), PROFILES.profiles[1], Caption("", ""))
    assert canvas.file()
