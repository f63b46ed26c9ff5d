from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bubble.dbusproxy import PORTAL_INTERFACES, proxy_arguments
from bubble.identity import HostAnswers, Person, environment, identity_files
from bubble.sandbox import FONT_FILE, IDENTITY_FILES
from bubble.xauthority import authority_for, display_number
from packageformat.policy import Policy

ANN = Person("ann", 1000, 1001, "staff", "Ann O. Nym", "/home/ann")
HOST = HostAnswers(
    hostname="desk",
    hosts="10.0.0.1 intranet\n",
    resolv_conf="nameserver 10.0.0.53\n",
    localtime=b"TZif",
    timezone="Europe/Berlin",
    machine_id="0123",
)


def test_the_files_that_a_bubble_binds_are_the_files_that_are_written():
    assert set(identity_files(ANN, HOST, Policy(), bytes(32))) == {*IDENTITY_FILES, FONT_FILE}


def test_the_user_has_an_account_and_nobody_else_is_told_of():
    files = identity_files(ANN, HOST, Policy(), bytes(32))
    lines = files["passwd"].decode().splitlines()
    assert "ann:x:1000:1001:Ann O. Nym:/home/ann:/bin/sh" in lines
    assert [line.split(":")[0] for line in lines] == ["root", "ann", "nobody"]
    assert "staff:x:1001:" in files["group"].decode().splitlines()
    assert files["timezone"] == b"Europe/Berlin\n"
    assert files["localtime"] == b"TZif"


def test_root_has_one_account():
    files = identity_files(Person("root", 0, 0, "root", "", "/root"), HOST, Policy(), bytes(32))
    assert [line.split(b":")[0] for line in files["passwd"].splitlines()] == [b"root", b"nobody"]


def test_the_hosts_network_is_told_only_where_there_is_one():
    without = identity_files(ANN, HOST, Policy(), bytes(32))
    granted = identity_files(ANN, HOST, Policy(network=True), bytes(32))
    assert without["resolv.conf"] == b"" and b"intranet" not in without["hosts"]
    assert granted["resolv.conf"] == b"nameserver 10.0.0.53\n" and b"intranet" in granted["hosts"]


def test_two_bubbles_cannot_compare_their_machine_ids():
    ids = {identity_files(ANN, HOST, Policy(), bytes([n]) * 32)["machine-id"] for n in range(5)}
    assert len(ids) == 5
    assert all(len(found) == 33 and found[:4] != b"0123" for found in ids)


def test_a_name_that_would_forge_a_passwd_line_is_refused():
    with pytest.raises(ValueError):
        Person("ann", 1000, 1000, "ann", "x:0:0", "/home/ann")


def test_only_harmless_variables_reach_the_application():
    given_ = {
        "LD_PRELOAD": "/evil.so",
        "PYTHONPATH": "/x",
        "SSH_AUTH_SOCK": "/y",
        "LC_TIME": "de_DE.UTF-8",
        "TERM": "xterm",
        "HOME": "/elsewhere",
        "PATH": "/evil",
        "DISPLAY": ":0",
        "MILLSTREAM_TOKEN": "secret",
    }
    made = environment(
        ANN, HOST, Policy(environment=(("APP", "1"), ("TERM", "dumb"))), given_, {"DISPLAY": ":7"}
    )
    assert not {"LD_PRELOAD", "PYTHONPATH", "SSH_AUTH_SOCK", "MILLSTREAM_TOKEN"} & set(made)
    assert (made["HOME"], made["LC_TIME"], made["TERM"], made["APP"]) == (
        "/home/ann",
        "de_DE.UTF-8",
        "dumb",
        "1",
    )
    assert made["DISPLAY"] == ":7"
    assert made["LANG"] == "C.UTF-8"
    assert "/evil" not in made["PATH"]


@pytest.mark.parametrize(
    ("display", "number"),
    [(":0", 0), (":12.1", 12), ("unix:3", 3), ("host:0", None), ("", None), (":x", None)],
)
def test_displays(display, number):
    assert display_number(display) == number


def record(family: int, address: bytes, number: bytes, cookie: bytes) -> bytes:
    fields = (address, number, b"MIT-MAGIC-COOKIE-1", cookie)
    return struct.pack(">H", family) + b"".join(struct.pack(">H", len(field)) + field for field in fields)


def test_a_bubble_gets_the_cookie_of_its_display_alone():
    data = record(256, b"desk", b"0", b"zero") + record(256, b"desk", b"7", b"seven")
    assert authority_for(data, 7) == record(0xFFFF, b"", b"7", b"seven")
    assert authority_for(data, 5) == b""


@given(st.binary(max_size=200), st.integers(0, 99))
def test_any_authority_file_is_read_without_a_fuss(data, number):
    assert len(authority_for(data, number)) <= len(data) + 10


def test_the_bus_is_filtered_to_the_policys_names():
    policy = Policy(dbus_session=True, dbus_talk=("org.a.B",), dbus_own=("org.c.D.*",))
    place = "@/org/freedesktop/portal/desktop"
    portal = "org.freedesktop.portal.Desktop=org.freedesktop.portal"
    arguments = proxy_arguments(policy, "unix:path=/run/bus", Path("/m/bus"), 5)
    assert arguments == [
        "--fd=5",
        "unix:path=/run/bus",
        "/m/bus",
        "--filter",
        *(f"--call={portal}.{name}.*{place}" for name in PORTAL_INTERFACES),
        f"--call=org.freedesktop.portal.Desktop=org.freedesktop.DBus.Properties.Get{place}",
        f"--call=org.freedesktop.portal.Desktop=org.freedesktop.DBus.Properties.GetAll{place}",
        f"--call={portal}.Request.Close{place}/*",
        f"--broadcast={portal}.*{place}/*",
        "--talk=org.a.B",
        "--own=org.c.D.*",
    ]
    starting = {"Background", "DynamicLauncher", "ScreenCast", "RemoteDesktop", "Secret", "Trash"}
    assert not starting & set(PORTAL_INTERFACES)


def test_the_hosts_font_cache_is_used_only_if_it_fits():
    fonts = {
        cached: identity_files(ANN, replace(HOST, fonts_cached=cached), Policy(), bytes(32))[FONT_FILE]
        for cached in (True, False)
    }
    assert all(b"<dir>/run/host/fonts</dir>" in text for text in fonts.values())
    assert b"remap-dir" in fonts[True] and b"cachedir" in fonts[True]
    assert b"remap-dir" not in fonts[False] and b"cachedir" not in fonts[False]
