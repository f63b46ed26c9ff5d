"""All files of an application and what it runs on, on the local disk, as the user's own."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from samples import sequenced
from tests.packagefiles import open_package, unpack
from tests.stage import RECIPES, Stage, say


@contextmanager
def unpacked(on: Stage, application: str) -> Iterator[Path]:
    """Give the folder for as long as the block lasts."""
    folder = on.folder / f"unpacked-{application}"
    folder.mkdir(mode=0o755)
    say(f"unpacking {application}")
    try:
        unpack([open_package(path) for path in sequenced.stack(application, on.cache, say, RECIPES)], folder)
        subprocess.run(["chown", "-hR", f"{on.user.uid}:{on.user.gid}", folder], check=True)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
