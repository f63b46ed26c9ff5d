"""`streamserver init`: make a new server."""

from __future__ import annotations

import argparse
import datetime
import json
import socket

from packageformat.signature import fingerprint
from streamserver.statearguments import add_state_arguments, state_arguments
from streamserver.statefolder import StateFolder
from streamserver.store import create_store

EPILOG = """\
examples:
  streamserver init /srv/millstream
  streamserver init /srv/millstream --name "Applications" --self-signed apps.example.org 192.0.2.7

The self-signed certificate is used by 'serve' by itself. Clients see its fingerprint at their first
login and keep it; give it to them by a way they trust.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "init",
        help="make a new server",
        description="Make a new server in an empty folder.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_state_arguments(parser, json=True)
    parser.add_argument(
        "--name", default=socket.gethostname(), help="what clients show (default: %(default)s)"
    )
    parser.add_argument(
        "--self-signed", nargs="+", metavar="HOST", help="make a certificate for these names and addresses"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    # Here and not above: x509 takes longer to load than the other commands take to run.
    from streamserver.certificate import fingerprint_of, make_self_signed

    path, _ = state_arguments(args, 0)
    made = None
    if args.self_signed:
        made = make_self_signed(args.self_signed, now=datetime.datetime.now(datetime.UTC))
    create_store(path, args.name, made)
    folder = StateFolder(path.absolute())
    certificate = None
    if made is not None:
        certificate = fingerprint_of(folder.certificate)
    public = folder.read_secrets().public
    if args.json:
        told = {
            "path": str(folder.path),
            "key": public.hex(),
            "key_fingerprint": fingerprint(public),
            "certificate": str(folder.certificate) if certificate else None,
            "certificate_sha256": certificate,
        }
        print(json.dumps(told))
        return 0
    print(f"made a server in {folder.path}")
    print(f"server key:  {fingerprint(public)}")
    if certificate:
        print(f"certificate: {folder.certificate}")
        print(f"  SHA-256    {certificate}")
    print(f"next: streamserver trust add {folder.path} PUBLISHER.key.pub, then import packages")
    return 0
