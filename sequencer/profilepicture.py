"""A launch profile as a picture: every page of the package and its runtimes, coloured by when it is touched.

The row of pages (installation order, runtimes first) is folded along a Hilbert curve, so that what lies
together on disk lies together on the map: a library is a blob, a folder a patch.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from PIL import Image

from packageformat.launchprofile import LaunchProfile
from packageformat.limits import PAGE_SIZE
from sequencer.canvas import Canvas, Colour
from sequencer.stackmap import NEVER, Region, StackMap

WIDTH, HEIGHT = 1180, 1068
ORDER, CELL = 8, 3
"""The map has 4 ** ORDER cells of CELL x CELL pixels."""

GROUND: Colour = (16, 18, 27)
INK: Colour = (235, 236, 242)
FAINT: Colour = (150, 155, 172)
HAIR: Colour = (58, 63, 80)
UNTOUCHED: tuple[Colour, ...] = ((38, 42, 56), (52, 57, 75))
"""Of the runtimes and the package, in turn."""

RAMP: tuple[tuple[float, Colour], ...] = (
    (0.0, (255, 240, 150)),
    (0.3, (255, 190, 60)),
    (0.65, (245, 105, 60)),
    (1.0, (214, 40, 110)),
)
"""From the start to the first window."""

AFTER_WINDOW: Colour = (122, 84, 210)
OTHER_RUNS: Colour = (38, 166, 154)
LABELS_MAX = 16
LABEL_SHARE = 0.007
"""Folders and files of at least this share of the stack are named on the map."""

_MAP_X, _MAP_Y = 28, 96
_MAP = CELL << ORDER
_SIDE_X = _MAP_X + _MAP + 28


@dataclass(frozen=True, slots=True)
class Caption:
    """What the picture says of whom it is."""

    title: str
    below: str


def draw(canvas: Canvas, stack: StackMap, profile: LaunchProfile, caption: Caption) -> None:
    """Draw the whole picture."""
    canvas.text(_MAP_X, 46, caption.title, 26, INK)
    canvas.text(_MAP_X, 74, caption.below, 15, FAINT)
    side = 1 << ORDER
    places = list(hilbert(ORDER))
    pages = max(1, stack.pages)
    total = side * side
    ends = array("I", (-(-(cell + 1) * pages // total) for cell in range(total)))
    colours = _colours(profile)
    named = _worth_a_name(stack)
    image = _map(stack, places, ends, colours, named)
    canvas.pixels(_MAP_X, _MAP_Y, image)
    for number, region in enumerate(named, 1):
        x, y = _heart(region, places, pages)
        canvas.disc(x, y, 11, GROUND)
        canvas.text(x, y + 5, str(number), 14, INK, "middle")
    bottom = _legend(canvas, stack, profile)
    bottom = _layers(canvas, stack, bottom + 34)
    _names(canvas, stack, named, bottom + 34)
    _seconds(canvas, profile)


def _worth_a_name(stack: StackMap) -> list[Region]:
    """Return the regions that are named: the largest, and those that are touched most."""
    regions = stack.regions(max(1, int(stack.pages * LABEL_SHARE)))
    touched = {region: stack.touched(region) for region in regions}
    chosen = sorted(regions, key=lambda one: -touched[one])[: LABELS_MAX // 2]
    for region in sorted(regions, key=lambda one: -one.pages):
        if len(chosen) < LABELS_MAX and region not in chosen:
            chosen.append(region)
    return sorted(chosen, key=lambda one: one.start)


def hilbert(order: int) -> Iterator[tuple[int, int]]:
    """Give the points of a Hilbert curve through a square of 2 ** order, in its order."""
    if order == 0:
        yield 0, 0
        return
    half = 1 << (order - 1)
    quarter = list(hilbert(order - 1))
    yield from ((y, x) for x, y in quarter)
    yield from ((x, y + half) for x, y in quarter)
    yield from ((x + half, y + half) for x, y in quarter)
    yield from ((2 * half - 1 - y, half - 1 - x) for x, y in quarter)


def _shares(profile: LaunchProfile) -> list[float]:
    """Return how far on the way to the first window each touch is.

    In pages: time would say more of the machine than of the application.
    """
    most = max(1, profile.before_window().pages)
    shares: list[float] = []
    pages = 0
    for touch in profile.touches:
        shares.append(min(1.0, pages / most))
        pages += touch.pages
    return shares


def _colours(profile: LaunchProfile) -> list[Colour]:
    """Return the colour of each touch."""
    return [
        OTHER_RUNS if touch.run else AFTER_WINDOW if position >= profile.window_touches else ramp(share)
        for position, (touch, share) in enumerate(zip(profile.touches, _shares(profile), strict=True))
    ]


def ramp(share: float) -> Colour:
    """Return the colour of a page on the way from the start (0) to the first window (1)."""
    share = min(1.0, max(0.0, share))
    share = round(share * 24) / 24  # few enough colours for a palette
    for (low, dark), (high, light) in pairwise(RAMP):
        if share <= high:
            part = (share - low) / (high - low)
            return _mixed(dark, light, part)
    return RAMP[-1][1]


def _mixed(one: Colour, other: Colour, part: float) -> Colour:
    red, green, blue = (round(a + (b - a) * part) for a, b in zip(one, other, strict=True))
    return red, green, blue


def _map(
    stack: StackMap,
    places: Sequence[tuple[int, int]],
    ends: array[int],
    colours: Sequence[Colour],
    named: Sequence[Region],
) -> Image.Image:
    """Return the map: cells by the first touch of their pages, lines where layers and named regions meet."""
    side = 1 << ORDER
    image = Image.new("RGB", (_MAP, _MAP), GROUND)
    pixels = image.load()
    assert pixels is not None
    owners = [0] * (side * side)  # by place: layer and region, to see where they meet
    layers = [0] * (side * side)
    layer, region = 0, 0
    start = 0
    for cell, (x, y) in enumerate(places):
        end = ends[cell]
        if end <= start:
            end = start + 1  # fewer pages than cells: a page has several
        while layer + 1 < len(stack.layers) and start >= stack.layers[layer].end:
            layer += 1
        while region < len(named) and start >= named[region].end:
            region += 1
        inside = region < len(named) and start >= named[region].start
        first = min(stack.touches[start:end], default=NEVER)
        colour = UNTOUCHED[layer % 2] if first == NEVER else colours[first]
        owners[y * side + x] = region + 1 if inside else 0
        layers[y * side + x] = layer
        for row in range(CELL):
            for column in range(CELL):
                pixels[x * CELL + column, y * CELL + row] = colour
        start = ends[cell]
    for y in range(side):
        for x in range(side):
            here = y * side + x
            for beside, across in ((here + 1, True), (here + side, False)):
                if (across and x + 1 == side) or (not across and y + 1 == side):
                    continue
                if layers[here] != layers[beside]:
                    line: Colour = INK
                elif owners[here] != owners[beside]:
                    line = GROUND
                else:
                    continue
                for step in range(CELL):
                    if across:
                        pixels[x * CELL + CELL - 1, y * CELL + step] = line
                    else:
                        pixels[x * CELL + step, y * CELL + CELL - 1] = line
    return image


def _heart(region: Region, places: Sequence[tuple[int, int]], pages: int) -> tuple[float, float]:
    """Return the cell of a region that is nearest to its centre, in pixels of the canvas."""
    total = len(places)
    first, last = (
        region.start * total // pages,
        max(region.start * total // pages + 1, region.end * total // pages),
    )
    cells = places[first:last]
    middle_x = sum(x for x, _ in cells) / len(cells)
    middle_y = sum(y for _, y in cells) / len(cells)
    x, y = min(cells, key=lambda cell: (cell[0] - middle_x) ** 2 + (cell[1] - middle_y) ** 2)
    low, high = 12, _MAP - 12
    return (
        _MAP_X + min(high, max(low, x * CELL + CELL / 2)),
        _MAP_Y + min(high, max(low, y * CELL + CELL / 2)),
    )


def _legend(canvas: Canvas, stack: StackMap, profile: LaunchProfile) -> float:
    x, y, width = _SIDE_X, _MAP_Y, WIDTH - _SIDE_X - 28
    canvas.text(x, y + 12, "When a page is touched first", 15, INK)
    y += 26
    steps = 48
    for step in range(steps):
        canvas.box(x + width * step / steps, y, width / steps + 1, 14, ramp(step / (steps - 1)))
    canvas.text(x, y + 32, "start", 13, FAINT)
    canvas.text(x + width, y + 32, f"first window, {profile.window_ms / 1000:.1f} s", 13, FAINT, "end")
    y += 44
    for colour, text in (
        (AFTER_WINDOW, "after the window"),
        (OTHER_RUNS, "second launch, documents, another locale"),
        (UNTOUCHED[(len(stack.layers) - 1) % 2], "never: stays on the server"),
    ):
        canvas.box(x, y, 14, 14, colour)
        canvas.text(x + 24, y + 12, text, 13, FAINT)
        y += 22
    return y


def _layers(canvas: Canvas, stack: StackMap, y: float) -> float:
    x, right = _SIDE_X, WIDTH - 28
    canvas.text(x, y, "Layer", 15, INK)
    canvas.text(right, y, "touched", 15, INK, "end")
    for number, layer in enumerate(stack.layers):
        y += 24
        touched = stack.touched(layer)
        canvas.box(x, y - 12, 14, 14, UNTOUCHED[number % 2])
        canvas.text(x + 24, y, _short(layer.name, 27), 13, INK)
        canvas.text(right, y, f"{_megabytes(touched)} of {_megabytes(layer.pages)} MB", 13, FAINT, "end")
        y += 9
        width = right - x
        canvas.box(x, y, width, 4, HAIR)
        canvas.box(x, y, width * touched / max(1, layer.pages), 4, RAMP[1][1])
    return y


def _names(canvas: Canvas, stack: StackMap, named: Sequence[Region], y: float) -> None:
    x, right = _SIDE_X, WIDTH - 28
    canvas.text(x, y, "On the map", 15, INK)
    canvas.text(right, y, "touched", 15, INK, "end")
    for number, region in enumerate(named, 1):
        y += 21
        share = stack.touched(region) / max(1, region.pages)
        canvas.text(x + 16, y, str(number), 13, FAINT, "end")
        canvas.text(x + 26, y, _short(_familiar(region.name), 30), 13, INK)
        canvas.text(right, y, f"{share:.0%} of {_megabytes(region.pages)} MB", 13, FAINT, "end")


def _seconds(canvas: Canvas, profile: LaunchProfile) -> None:
    """Draw what the first launch touches, moment by moment: bars under the map."""
    mine = [touch for touch in profile.touches if not touch.run]
    last = max((touch.after_ms for touch in mine), default=0)
    step = next((step for step in (20, 50, 100, 200, 500, 1000, 2000, 5000) if last / step <= 140), 10_000)
    early, late = [0] * (last // step + 1), [0] * (last // step + 1)
    on_the_way = [0.0] * len(early)
    for position, (touch, share) in enumerate(zip(profile.touches, _shares(profile), strict=True)):
        if not touch.run:
            (early if position < profile.window_touches else late)[touch.after_ms // step] += touch.pages
            on_the_way[touch.after_ms // step] = share
    most = max(1, *map(sum, zip(early, late, strict=True)))
    left, right, top, floor = _MAP_X, WIDTH - 28, _MAP_Y + _MAP + 48, HEIGHT - 40
    canvas.text(left, top - 16, f"Touched by the first launch, MB in each {_duration(step)}", 15, INK)
    scale = (right - left) / len(early)
    for number, (before, after) in enumerate(zip(early, late, strict=True)):
        x, width = left + number * scale, max(1.0, scale - 1)
        low = (floor - top) * before / most
        high = (floor - top) * after / most
        canvas.box(x, floor - low, width, low, ramp(on_the_way[number]))
        canvas.box(x, floor - low - high, width, high, AFTER_WINDOW)
    canvas.line(left, floor, right, floor, HAIR)
    window = min(right, left + profile.window_ms / step * scale)
    canvas.line(window, top, window, floor, INK)
    near_end = window > (left + right) / 2
    canvas.text(
        window + (-8 if near_end else 8), top + 12, "first window", 13, INK, "end" if near_end else "start"
    )
    canvas.text(left, top + 2, f"{_megabytes(most)} MB", 13, FAINT)
    tick = next(tick for tick in (100, 200, 500, 1000, 2000, 5000, 10_000, 60_000) if last / tick <= 16)
    for moment in range(0, last + 1, tick):
        x = left + moment / step * scale
        canvas.line(x, floor, x, floor + 5, FAINT)
        canvas.text(x, floor + 21, f"{moment / 1000:g} s", 13, FAINT, "start" if not moment else "middle")


def _duration(milliseconds: int) -> str:
    return f"{milliseconds} ms" if milliseconds < 1000 else f"{milliseconds // 1000} s"


def _megabytes(pages: int) -> str:
    size = pages * PAGE_SIZE / 1e6
    return f"{size:,.0f}" if size >= 10 else f"{size:.1f}"


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}\N{HORIZONTAL ELLIPSIS}"


def _familiar(path: str) -> str:
    """Return a path without what every path begins with."""
    for prefix in ("usr/lib/x86_64-linux-gnu/", "usr/lib/aarch64-linux-gnu/", "usr/lib/", "usr/"):
        if path.startswith(prefix):
            return path.removeprefix(prefix)
    return path
