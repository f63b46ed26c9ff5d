"""What a screenshot shows, as far as a test can tell."""

from __future__ import annotations

from pathlib import Path

from PIL import Image


def is_drawn(picture: Path) -> bool:
    """Whether a screenshot shows more than a few flat colours."""
    if not picture.exists():
        return False
    with Image.open(picture) as image:
        colours = image.convert("RGB").getcolors(1 << 20)
    return colours is None or len(colours) > 8
