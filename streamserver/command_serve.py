"""`streamserver serve`: run the server."""

from __future__ import annotations

import argparse
import ipaddress
import json
import logging
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from packageformat.signature import fingerprint
from streamserver.statearguments import add_state_arguments, state_arguments
from streamserver.statefolder import explained
from streamserver.textline import one_line

if TYPE_CHECKING:
    from streamserver.serving import Serving, Settings
    from streamserver.store import Store

SECONDS_MAX = 7 * 24 * 3600
DEFAULT_LISTEN = "127.0.0.1:8470"

EPILOG = """\
examples:
  streamserver serve /srv/millstream
  streamserver serve /srv/millstream --listen 0.0.0.0:8470 --certificate apps.pem --key apps.key
  streamserver serve /srv/millstream --listen 127.0.0.1:0 --json

Packages and launch profiles dropped into DIR/incoming are imported while it runs; refused ones are moved to
DIR/rejected, with the reason beside them. Launch packs are built behind the clients, by a process of low
priority. SIGTERM and Ctrl-C stop it after the requests under way (10 s at most).
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "serve",
        help="run the server",
        description="Serve clients, and import what is dropped into DIR/incoming.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_state_arguments(parser, json=True)
    parser.add_argument("--listen", default=DEFAULT_LISTEN, metavar="HOST:PORT", help="default: %(default)s")
    parser.add_argument("--certificate", type=Path, metavar="PEM", help="TLS certificate, with its chain")
    parser.add_argument("--key", type=Path, metavar="PEM", help="its private key")
    parser.add_argument(
        "--no-tls", action="store_true", help="plain HTTP; nobody can sign in from another machine then"
    )
    parser.add_argument("--access-log", type=Path, metavar="FILE", help="default: standard error")
    parser.add_argument(
        "--trusted-proxy",
        action="append",
        type=_network,
        default=[],
        metavar="ADDRESS",
        help="believe the last X-Forwarded-For of this address or network (again for more)",
    )
    parser.add_argument(
        "--quiet-s", type=_seconds, default=1.0, metavar="S", help="dropped files must be unchanged so long"
    )
    parser.add_argument(
        "--patience-s",
        type=_seconds,
        default=30.0,
        metavar="S",
        help="a dropped file cut short may grow so long",
    )
    parser.add_argument(
        "--no-packs", action="store_true", help="build no launch packs ('streamserver packs build' does)"
    )
    parser.add_argument(
        "--no-deltas", action="store_true", help="build no deltas ('streamserver deltas build' does)"
    )
    parser.add_argument(
        "--no-reports", action="store_true", help="take no reports of launches; clients are told so"
    )
    parser.add_argument(
        "--relearn-s",
        type=_seconds,
        default=300.0,
        metavar="S",
        help="reports of launches are merged into launch packs that often",
    )
    parser.set_defaults(run=run)


def _seconds(text: str) -> float:
    """Return a duration of the command line."""
    seconds = float(text)
    if not math.isfinite(seconds) or not 0 < seconds <= SECONDS_MAX:
        raise argparse.ArgumentTypeError(f"not a number of seconds above 0: {text[:40]!r}")
    return seconds


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"not an address or network: {text[:80]!r}") from error


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    # Here and not above: the web server takes longer to load than the other commands take to run.
    from streamserver.serving import Settings, address_of_text, choose_tls
    from streamserver.serving import run as run_server
    from streamserver.watcher import Patience

    path, _ = state_arguments(args, 0)
    address = address_of_text(args.listen)
    _log_to(args.access_log)

    def settings_of(store: Store) -> Settings:
        own = (store.folder.certificate, store.folder.certificate_key)
        tls = choose_tls(address, own, (args.certificate, args.key), plain=args.no_tls)
        patience = Patience(args.quiet_s, args.patience_s)
        return Settings(
            address,
            tls,
            patience,
            proxies=tuple(args.trusted_proxy),
            builds_packs=not args.no_packs,
            builds_deltas=not args.no_deltas,
            learns=not args.no_reports,
            relearn_s=args.relearn_s,
        )

    def ready(serving: Serving) -> None:
        if args.json:
            told = {
                "event": "serving",
                "url": serving.url,
                "key": serving.key.hex(),
                "key_fingerprint": fingerprint(serving.key),
                "path": str(path.absolute()),
            }
            print(json.dumps(told), flush=True)
        else:
            print(f"serving {path} on {serving.url}", flush=True)

    run_server(path, settings_of, ready)
    return 0


class _Lines(logging.Formatter):
    """One line for each event, whatever is in the names that it tells of (a bug's trace follows it)."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        return one_line(super().formatMessage(record))


def _log_to(access_log: Path | None) -> None:
    """Send events to standard error, and the access log there or to its file."""
    events = logging.getLogger("streamserver")
    events.setLevel(logging.INFO)
    events.propagate = False
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines("%(asctime)s %(levelname)s %(message)s"))
    events.handlers = [handler]
    access = logging.getLogger("streamserver.access")
    access.propagate = False
    target: logging.Handler = logging.StreamHandler(sys.stderr)
    if access_log is not None:
        with explained(access_log):
            target = logging.FileHandler(access_log, delay=False)
    target.setFormatter(logging.Formatter("%(message)s"))
    access.handlers = [target]
