"""appclient login: sign in to a server and pin it."""

from __future__ import annotations

import argparse
import getpass
import json
import sys
from dataclasses import replace

from appclient.commandfolders import Subparsers, own_folders
from appclient.errors import ServerUntrustedError, WrongPasswordError
from packageformat.errors import MillstreamError


def add_parser(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    """Add this command."""
    parser = subparsers.add_parser(
        "login",
        help="sign in to a server",
        description="Sign in. The server's certificate must be vouched for by an authority that this machine "
        "knows, or you are shown its fingerprint to compare with what the administrator told you. Both the "
        "certificate and the server's signing key are remembered: no other server can take its place. "
        "Publishers that are pinned stay so at this server until others are given, or --any-publisher.",
        epilog="examples:\n  appclient login https://apps.example.org\n"
        '  printf %s "$SECRET" | appclient login https://127.0.0.1:8470 --user ann --password-stdin \\\n'
        "      --accept-fingerprint 5f2c...",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("url", metavar="URL", help="of the server; https is understood")
    parser.add_argument("--user", default="", help="your name there (default: your name here)")
    parser.add_argument("--password-stdin", action="store_true", help="read the password from standard input")
    parser.add_argument(
        "--accept-fingerprint", metavar="HEX", default="", help="SHA-256 of the certificate to accept"
    )
    pins = parser.add_mutually_exclusive_group()
    pins.add_argument(
        "--publisher",
        metavar="KEY",
        action="append",
        default=[],
        help="pin a publisher: run only what is signed by KEY (64 hexadecimal digits); may be repeated",
    )
    pins.add_argument("--any-publisher", action="store_true", help="pin no publisher; forget those pinned")
    parser.add_argument("--no-refresh", action="store_true", help="do not fetch the list of applications yet")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Sign in."""
    from appclient import login
    from appclient.address import address_of
    from appclient.agentlink import refresh
    from appclient.signin import remember

    folders = own_folders()
    address = address_of(args.url)
    address.require_privacy()
    folders.prepare()
    accepted = login.fingerprint_of(args.accept_fingerprint) if args.accept_fingerprint else b""
    publishers = tuple(dict.fromkeys(login.publisher_of(text) for text in args.publisher))
    server = login.look(address, accepted)
    if server.certificate and not accepted:
        _confirm(address.url, server.certificate)
    user = args.user or getpass.getuser()
    login.check_pins(folders, server)
    if not publishers and not args.any_publisher:
        publishers = login.pinned_publishers(folders, server)
    signin = replace(login.sign_in(server, user, _password(args, user, address.url)), publishers=publishers)
    remember(folders.config, signin)
    told: dict[str, object] = {
        "server": signin.url,
        "server_name": signin.server_name,
        "user": signin.user,
        "server_key": signin.server_key.hex(),
        "certificate": signin.certificate.hex(),
        "publishers": [key.hex() for key in signin.publishers],
    }
    if not args.json:
        print(f"signed in to {signin.server_name or signin.url} as {signin.user}")
    if not args.no_refresh:
        answer = refresh(folders)
        told["applications"] = answer.number("applications")
        if not args.json:
            print(f"{answer.number('applications')} applications published to you; see 'appclient list'")
    if args.json:
        print(json.dumps(told))
    return 0


def _confirm(url: str, certificate: bytes) -> None:
    """Show a certificate that no authority vouches for, and ask.

    Raises:
        ServerUntrustedError: not accepted, or nobody there to ask.
    """
    shown = certificate.hex(":").upper()
    refused = ServerUntrustedError(
        f"no authority vouches for the certificate of {url}, SHA-256 {certificate.hex()}",
        hint="compare it with what the administrator told you, then add --accept-fingerprint HEX",
    )
    if not sys.stdin.isatty():
        raise refused
    print(f"No authority that this machine knows vouches for {url}.", file=sys.stderr)
    print(f"SHA-256 fingerprint of its certificate:\n  {shown}", file=sys.stderr)
    print(
        "Is that what the administrator told you? Type yes to accept: ", end="", file=sys.stderr, flush=True
    )
    if sys.stdin.readline().strip().lower() != "yes":
        raise refused


def _password(args: argparse.Namespace, user: str, url: str) -> str:
    if args.password_stdin:
        password = sys.stdin.readline(65536).removesuffix("\n")
    elif sys.stdin.isatty():
        password = getpass.getpass(f"Password of {user} on {url}: ")
    else:
        raise MillstreamUsageError("no terminal to ask for a password", hint="use --password-stdin")
    if not password:
        raise WrongPasswordError("an empty password is never sent")
    return password


class MillstreamUsageError(MillstreamError):
    """The command line does not fit the situation."""

    exit_code = 2
