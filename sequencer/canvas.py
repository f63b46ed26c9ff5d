"""What a picture is drawn on: the same strokes as PNG or as SVG."""

from __future__ import annotations

import base64
import io
from typing import Literal, Protocol
from xml.sax.saxutils import escape

from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]
Anchor = Literal["start", "middle", "end"]
_PIL_ANCHORS = {"start": "ls", "middle": "ms", "end": "rs"}
COLOURS = 128
"""Of a PNG's palette: a picture of a package is to lie in a repository."""


class Canvas(Protocol):
    """Draws; positions are pixels from the left upper corner, y of a text is its base line."""

    def box(self, x: float, y: float, width: float, height: float, fill: Colour) -> None:
        """Draw a filled rectangle."""

    def line(self, x: float, y: float, to_x: float, to_y: float, colour: Colour) -> None:
        """Draw a line of one pixel."""

    def disc(self, x: float, y: float, radius: float, fill: Colour) -> None:
        """Draw a filled circle around a point."""

    def text(
        self, x: float, y: float, text: str, size: int, colour: Colour, anchor: Anchor = "start"
    ) -> None:
        """Write one line."""

    def pixels(self, x: int, y: int, image: Image.Image) -> None:
        """Put a picture of pixels."""

    def file(self) -> bytes:
        """Return the picture as a file."""


class PngCanvas:
    """A PNG, with a palette."""

    def __init__(self, width: int, height: int, ground: Colour) -> None:
        self._image = Image.new("RGB", (width, height), ground)
        self._draw = ImageDraw.Draw(self._image)
        self._fonts: dict[int, ImageFont.FreeTypeFont | ImageFont.ImageFont] = {}

    def box(self, x: float, y: float, width: float, height: float, fill: Colour) -> None:
        """Draw a filled rectangle."""
        if round(width) > 0 and round(height) > 0:
            left, top = round(x), round(y)
            self._draw.rectangle((left, top, left + round(width) - 1, top + round(height) - 1), fill)

    def line(self, x: float, y: float, to_x: float, to_y: float, colour: Colour) -> None:
        """Draw a line of one pixel."""
        self._draw.line((round(x), round(y), round(to_x), round(to_y)), colour)

    def disc(self, x: float, y: float, radius: float, fill: Colour) -> None:
        """Draw a filled circle around a point."""
        self._draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill)

    def text(
        self, x: float, y: float, text: str, size: int, colour: Colour, anchor: Anchor = "start"
    ) -> None:
        """Write one line."""
        font = self._fonts.setdefault(size, ImageFont.load_default(size))
        self._draw.text((x, y), text, colour, font, _PIL_ANCHORS[anchor])

    def pixels(self, x: int, y: int, image: Image.Image) -> None:
        """Put a picture of pixels."""
        self._image.paste(image, (x, y))

    def file(self) -> bytes:
        """Return the picture as a file."""
        file = io.BytesIO()
        palette = self._image.quantize(COLOURS, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
        palette.save(file, "PNG", optimize=True)
        return file.getvalue()


class SvgCanvas:
    """An SVG; what is made of pixels stands in it as a PNG."""

    def __init__(self, width: int, height: int, ground: Colour) -> None:
        self._size = (width, height)
        self._parts: list[str] = []
        self.box(0, 0, width, height, ground)

    def box(self, x: float, y: float, width: float, height: float, fill: Colour) -> None:
        """Draw a filled rectangle."""
        self._parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" fill="{_hex(fill)}"/>'
        )

    def line(self, x: float, y: float, to_x: float, to_y: float, colour: Colour) -> None:
        """Draw a line of one pixel."""
        self._parts.append(
            f'<line x1="{x:g}" y1="{y:g}" x2="{to_x:g}" y2="{to_y:g}" stroke="{_hex(colour)}"/>'
        )

    def disc(self, x: float, y: float, radius: float, fill: Colour) -> None:
        """Draw a filled circle around a point."""
        self._parts.append(f'<circle cx="{x:g}" cy="{y:g}" r="{radius:g}" fill="{_hex(fill)}"/>')

    def text(
        self, x: float, y: float, text: str, size: int, colour: Colour, anchor: Anchor = "start"
    ) -> None:
        """Write one line."""
        self._parts.append(
            f'<text x="{x:g}" y="{y:g}" font-size="{size}" fill="{_hex(colour)}" '
            f'text-anchor="{anchor}">{escape(text)}</text>'
        )

    def pixels(self, x: int, y: int, image: Image.Image) -> None:
        """Put a picture of pixels."""
        file = io.BytesIO()
        image.quantize(COLOURS, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(
            file, "PNG", optimize=True
        )
        data = base64.b64encode(file.getvalue()).decode()
        self._parts.append(
            f'<image x="{x}" y="{y}" width="{image.width}" height="{image.height}" '
            f'style="image-rendering:pixelated" href="data:image/png;base64,{data}"/>'
        )

    def file(self) -> bytes:
        """Return the picture as a file."""
        width, height = self._size
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
            f'height="{height}" font-family="Inter, Helvetica, Arial, sans-serif">'
        )
        return "\n".join((head, *self._parts, "</svg>\n")).encode()


def _hex(colour: Colour) -> str:
    return f"#{bytes(colour).hex()}"
