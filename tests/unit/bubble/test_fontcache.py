"""When the host's font cache is the one of its folders, as fontconfig itself says."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from bubble.fontcache import fits

FONT = next(Path("/usr/share/fonts").rglob("*.ttf"))


def cached(tmp_path: Path) -> tuple[Path, Path]:
    """Return a folder with a font, and the cache that fontconfig has made of it."""
    fonts, cache = tmp_path / "fonts", tmp_path / "cache"
    fonts.mkdir()
    shutil.copyfile(FONT, fonts / "a.ttf")
    configuration = tmp_path / "fonts.conf"
    configuration.write_text(
        f"<fontconfig><dir>{fonts}</dir><cachedir>{cache}</cachedir></fontconfig>", encoding="utf-8"
    )
    subprocess.run(["fc-cache", fonts], env=os.environ | {"FONTCONFIG_FILE": str(configuration)}, check=True)
    return fonts, cache


def test_what_fontconfig_has_cached_fits_until_a_font_comes(tmp_path: Path) -> None:
    fonts, cache = cached(tmp_path)
    assert fits([fonts], cache)
    assert fits([fonts, tmp_path / "nothing"], cache)
    times = fonts.stat()
    os.utime(fonts, ns=(times.st_atime_ns, times.st_mtime_ns // 1_000_000_000 * 1_000_000_000))
    if fonts.stat().st_mtime_ns != times.st_mtime_ns:
        assert not fits([fonts], cache), "images of disks are made so: whole seconds only"
    shutil.copyfile(FONT, fonts / "b.ttf")
    assert not fits([fonts], cache)


def test_a_cache_that_is_not_there_or_damaged_does_not_fit(tmp_path: Path) -> None:
    fonts, cache = cached(tmp_path)
    assert not fits([fonts], tmp_path / "nothing")
    assert not fits([fonts, tmp_path], cache)
    for file in cache.iterdir():
        file.write_bytes(file.read_bytes()[:50])
    assert not fits([fonts], cache)
