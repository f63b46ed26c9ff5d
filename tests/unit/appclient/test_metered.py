"""NetworkManager's word on the link, asked for over D-Bus: with a real bus."""

from __future__ import annotations

import asyncio
import shutil
import struct
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appclient.metered import call, is_metered, number_in_variant, replies_to
from tests.ending import end_process


@pytest.fixture
def bus(tmp_path: Path) -> Iterator[Path]:
    daemon = shutil.which("dbus-daemon")
    assert daemon, "dbus-daemon is missing"
    place = tmp_path / "bus"
    process = subprocess.Popen(
        [daemon, "--session", "--nofork", "--print-address", f"--address=unix:path={place}"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert process.stdout is not None
    process.stdout.readline()
    yield place
    end_process(process)


async def test_a_bus_without_networkmanager_and_no_bus_at_all_mean_not_metered(
    bus: Path, tmp_path: Path
) -> None:
    assert await is_metered(bus) is False
    assert await is_metered(tmp_path / "none") is False


async def test_something_that_is_no_bus_is_left_after_a_moment(tmp_path: Path) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.0 400\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_unix_server(answer, tmp_path / "odd"):
        assert await is_metered(tmp_path / "odd") is False


def test_a_number_in_a_variant_is_read_and_nothing_else() -> None:
    assert number_in_variant(b"\x01u\0\0" + struct.pack("<I", 4)) == 4
    for wrong in (b"", b"\x01s\0\0" + bytes(4), b"\x01u\0\0" + bytes(3), b"\x01u\0\0" + bytes(5)):
        with pytest.raises(ValueError, match="another answer"):
            number_in_variant(wrong)


def test_a_call_is_laid_out_as_the_specification_says() -> None:
    message = call(7, "org.a", "/o", "org.i", "Get", "x", "Metered")
    assert message[:4] == b"l\x01\0\x01"
    body, serial, fields = struct.unpack_from("<III", message, 4)
    assert serial == 7
    assert len(message) == 16 + fields + -fields % 8 + body


@given(st.binary(max_size=60))
def test_any_header_fields_end_in_a_serial_or_a_value_error(fields: bytes) -> None:
    with suppress(ValueError):
        assert replies_to(fields) >= 0
