"""What a bubble may reach outside itself. Whatever is not granted is denied."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, get_args

from packageformat.encoding import Value
from packageformat.errors import FormatError
from packageformat.limits import ENVIRONMENT_MAX, NAME_MAX, NAMES_ON_BUS_MAX
from packageformat.names import check_text
from packageformat.record import Record

HomeAccess = Literal["private", "documents", "full"]
HOME_ACCESS: tuple[HomeAccess, ...] = get_args(HomeAccess)

_BUS_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)+(\.\*)?", re.ASCII)
_LOADERS = frozenset({
    "GLIBC_TUNABLES", "GCONV_PATH", "GETCONF_DIR", "HOSTALIASES", "LOCALDOMAIN", "LOCPATH", "MALLOC_TRACE",
    "NIS_PATH", "NLSPATH", "RESOLV_HOST_CONF", "RES_OPTIONS", "TZDIR",
})  # fmt: skip
"""What the C library drops in set-id programs (glibc, sysdeps/generic/unsecvars.h); besides LD_*.

A policy's variables are of the application alone. Should they ever reach a program of the host's, none may
load code or open files there.
"""

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Policy:
    """Permissions of a package, by name. The administrator may narrow or widen them; nobody else."""

    network: bool = False
    x11: bool = False  # not isolated: X11 clients see one another
    wayland: bool = False
    sound: bool = False
    gpu: bool = False
    printing: bool = False
    dbus_session: bool = False  # a session bus at all, filtered to the names below
    dbus_talk: tuple[str, ...] = ()
    dbus_own: tuple[str, ...] = ()
    nested_namespaces: bool = False  # user namespaces of its own (browsers)
    home: HomeAccess = "documents"
    fonts: bool = True  # the host's fonts, read-only
    environment: tuple[tuple[str, str], ...] = ()  # set in the bubble, in this order

    def __post_init__(self) -> None:
        if self.home not in HOME_ACCESS:
            raise FormatError(f"a policy with an unknown access to the home folder: {self.home!r}")
        for names in (self.dbus_talk, self.dbus_own):
            if len(names) > NAMES_ON_BUS_MAX:
                raise FormatError(f"a policy with {len(names)} bus names, allowed {NAMES_ON_BUS_MAX}")
            for name in names:
                if len(name) > NAME_MAX or not _BUS_NAME.fullmatch(name):
                    raise FormatError(f"a policy with something that is no bus name: {name[:NAME_MAX]!r}")
        if len(self.environment) > ENVIRONMENT_MAX:
            raise FormatError(f"a policy with {len(self.environment)} variables, allowed {ENVIRONMENT_MAX}")
        for variable, text in self.environment:
            if len(variable) > NAME_MAX or not _VARIABLE.fullmatch(variable):
                raise FormatError(f"a policy with something that is no variable: {variable[:NAME_MAX]!r}")
            if variable.startswith("LD_") or variable in _LOADERS:
                raise FormatError(f"a policy with a variable of the loader's: {variable}")
            check_text(text)


def policy_value(policy: Policy) -> Value:
    """Return `policy` as fields in their order (FORMAT.md, *Policy*)."""
    return (
        policy.network,
        policy.x11,
        policy.wayland,
        policy.sound,
        policy.gpu,
        policy.printing,
        policy.dbus_session,
        policy.dbus_talk,
        policy.dbus_own,
        policy.nested_namespaces,
        policy.home,
        policy.fonts,
        policy.environment,
    )


def policy_of(value: Value) -> Policy:
    """Return the policy of a decoded, untrusted value.

    Raises:
        FormatError: it is not one.
    """
    record = Record(value, "policy", 13)
    return Policy(
        network=record.flag(),
        x11=record.flag(),
        wayland=record.flag(),
        sound=record.flag(),
        gpu=record.flag(),
        printing=record.flag(),
        dbus_session=record.flag(),
        dbus_talk=record.texts(NAMES_ON_BUS_MAX),
        dbus_own=record.texts(NAMES_ON_BUS_MAX),
        nested_namespaces=record.flag(),
        home=_home_of(record.text(NAME_MAX)),
        fonts=record.flag(),
        environment=tuple(_variable_of(item) for item in record.items(ENVIRONMENT_MAX)),
    )


def _home_of(text: str) -> HomeAccess:
    for access in HOME_ACCESS:
        if access == text:
            return access
    raise FormatError(f"a policy with an unknown access to the home folder: {text!r}")


def _variable_of(value: Value) -> tuple[str, str]:
    record = Record(value, "variable", 2)
    return record.text(NAME_MAX), record.text()
