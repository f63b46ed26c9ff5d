"""What the pages say is there."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

CLONE = Path(__file__).resolve().parents[3]
PAGES = sorted(page for page in CLONE.rglob("*.md") if ".venv" not in page.parts)
ENTRIES = (
    "samples/quickstart",
    "samples/setup",
    "tests/run",
    "tests/show",
    "tests/bench/coldstart",
    ".ci/run",
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(CLONE)))
def test_every_link_inside_the_clone_leads_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = [link.split("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    assert not [link for link in links if link and not (page.parent / link).exists()]


@pytest.mark.parametrize("entry", ENTRIES)
def test_every_entry_can_be_started_and_is_valid_bash(entry: str) -> None:
    script = CLONE / entry
    assert script.stat().st_mode & 0o111
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0


@pytest.mark.parametrize("entry", ["samples/quickstart", "samples/setup", "tests/run", "tests/show"])
def test_every_entry_tells_how_it_is_used(entry: str) -> None:
    told = subprocess.run([CLONE / entry, "--help"], capture_output=True, text=True, check=False)
    assert told.returncode == 0
    assert entry in told.stdout
    assert not told.stderr


def test_an_unknown_topic_is_told_in_one_line() -> None:
    done = subprocess.run(
        [CLONE / ".venv/bin/python", "-m", "tests.points", "nothing"],
        capture_output=True, text=True, check=False, cwd=CLONE,
    )  # fmt: skip
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
