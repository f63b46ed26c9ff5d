"""`streamserver trust`: whose packages are accepted."""

from __future__ import annotations

import argparse
import json
import os
import re
import stat
import time
from pathlib import Path

from packageformat.keytext import PUBLIC_TAG, is_private, key_of_text
from packageformat.signature import fingerprint
from streamserver.database import catalogue
from streamserver.errors import StoreError
from streamserver.statearguments import add_state_arguments, state_arguments
from streamserver.store import open_store

KEY_FILE_MAX = 4096  # bytes
_HEX = re.compile(r"[0-9a-fA-F]{64}", re.ASCII)

EPILOG = """\
examples:
  streamserver trust add /srv/millstream publisher.key.pub --name "Our packagers"
  streamserver trust add /srv/millstream 3b6a27bcceb6a42d62a3a8d02a6f0d73653215771de243a63ac048a18b59da29

KEY is the file FILE.pub that 'sequencer keygen' wrote, or the 64 hexadecimal digits in it. Compare its
fingerprint with the publisher's before you trust it.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "trust", help="whose packages are accepted", description="Say whose packages are accepted."
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    adding = actions.add_parser(
        "add",
        help="trust a publisher's key",
        description="Accept packages signed by a key.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_state_arguments(adding, "KEY", json=True)
    adding.add_argument("--name", default="", help="whose key it is")
    adding.set_defaults(run=run_add)
    removing = actions.add_parser(
        "remove",
        help="trust a key no longer",
        description="Accept no more packages signed by a key. What it published stays until it is removed.",
    )
    add_state_arguments(removing, "KEY", json=True)
    removing.set_defaults(run=run_remove)
    listing = actions.add_parser("list", help="list the trusted keys", description="List the trusted keys.")
    add_state_arguments(listing, json=True)
    listing.set_defaults(run=run_list)


def run_add(args: argparse.Namespace) -> int:
    """Trust a key."""
    path, (text,) = state_arguments(args, 1)
    key = public_key_of(text)
    name = args.name or (Path(text).stem if not _HEX.fullmatch(text) else "")
    with open_store(path) as store:
        store.writer.run(lambda db: catalogue.add_publisher(db, key, name, now=int(time.time())))
    if args.json:
        print(json.dumps({"key": key.hex(), "fingerprint": fingerprint(key), "name": name}))
    else:
        print(f"trusted: {fingerprint(key)}{f' ({name})' if name else ''}")
    return 0


def run_remove(args: argparse.Namespace) -> int:
    """Trust a key no longer."""
    path, (text,) = state_arguments(args, 1)
    key = public_key_of(text)
    with open_store(path) as store:
        store.writer.run(lambda db: catalogue.remove_publisher(db, key))
    print(json.dumps({"key": key.hex()}) if args.json else f"no longer trusted: {fingerprint(key)}")
    return 0


def run_list(args: argparse.Namespace) -> int:
    """List the keys."""
    path, _ = state_arguments(args, 0)
    with open_store(path) as store:
        for publisher in store.reader.ask(catalogue.list_publishers):
            told = {
                "key": publisher.public_key.hex(),
                "fingerprint": fingerprint(publisher.public_key),
                "name": publisher.name,
                "added": publisher.added,
            }
            print(json.dumps(told) if args.json else f"{told['key']}  {publisher.name}")
    return 0


def public_key_of(text: str) -> bytes:
    """Return the key that `text` is in hexadecimal, or that the file called so holds.

    A file says by its tag that it holds the public half; the digits alone are taken from a file `*.pub`.

    Raises:
        StoreError: neither.
    """
    if _HEX.fullmatch(text):
        return bytes.fromhex(text)
    path = Path(text)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor, not a path
            regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
            content = file.read(KEY_FILE_MAX).decode("utf-8", "replace") if regular else ""
    except (OSError, ValueError) as error:
        raise StoreError(
            f"neither a key nor a readable file: {text[:200]}",
            hint="give 64 hexadecimal digits or a key file",
        ) from error
    if is_private(content):
        raise StoreError(
            f"this is a private key: {path}",
            hint="give the public one (FILE.pub); keep the private one secret",
        )
    key = key_of_text(content, PUBLIC_TAG, bare=path.suffix == ".pub")
    if key is None:
        raise StoreError(
            f"no public key in this file: {path}", hint="give the file FILE.pub that 'sequencer keygen' wrote"
        )
    return key
