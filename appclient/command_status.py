"""appclient status: how things stand."""

from __future__ import annotations

import argparse
import json
import time

from appclient.agentlink import QUICK_SECONDS, ask
from appclient.commandfolders import Subparsers, own_folders
from appclient.errors import NoAgentError, NotSignedInError
from appclient.folders import Folders
from appclient.signin import recall
from appclient.storedfile import stored_json
from appclient.wire import Message


def add_parser(subparsers: Subparsers[argparse.ArgumentParser]) -> None:
    """Add this command."""
    parser = subparsers.add_parser(
        "status",
        help="how things stand",
        description="Show the sign-in, the agent, and what was fetched for each application. Starts nothing.",
    )
    parser.add_argument("--json", action="store_true", help="print it as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Show the status."""
    folders = own_folders()
    try:
        status = ask(folders, Message("status"), start=False, timeout=QUICK_SECONDS)
    except NoAgentError:
        status = _without_agent(folders)
    if args.json:
        print(json.dumps(dict(status.fields)))
    else:
        _show(status)
    return 0


def _without_agent(folders: Folders) -> Message:
    signed: dict[str, object] = {}
    try:
        signin = recall(folders.config)
    except NotSignedInError:
        pass
    else:
        signed = {"server": signin.url, "user": signin.user, "server_name": signin.server_name}
        signed["publishers"] = [key.hex() for key in signin.publishers]
    bubbles = stored_json(folders.state / "statistics.json")
    return Message(
        "done",
        {
            "agent": 0,
            "signed_in": signed,
            "trouble": "",
            "fetching": False,
            "bubbles": bubbles if isinstance(bubbles, dict) else {},
            "fill": {"doing": "rests", "reason": "", "bytes_received": 0, "pieces": 0, "versions": []},
            "reports": {},
            "settings_trouble": "",
            "log": str(folders.log),
        },
    )


def _show(status: Message) -> None:
    signed = status.record("signed_in")
    if signed:
        print(f"signed in to {signed.get('server')} as {signed.get('user')}")
    else:
        print("not signed in; sign in with 'appclient login URL'")
    pinned = signed.get("publishers")
    for key in pinned if isinstance(pinned, list) else ():
        print(f"runs only packages by publisher {key}")
    confirmed, expires = signed.get("confirmed"), signed.get("expires")
    if isinstance(confirmed, int) and confirmed:
        print(f"list of applications confirmed {_ago(confirmed)}")
    elif isinstance(expires, int) and expires:
        print(f"server not heard yet; the list at hand is good until {time.ctime(expires)}")
    agent = status.number("agent")
    print(f"agent runs as process {agent}" if agent else "no agent runs; it starts when needed")
    if status.text("trouble"):
        print(f"trouble: {status.text('trouble')}")
    if status.text("settings_trouble"):
        print(f"settings: {status.text('settings_trouble')}")
    _show_fill(status.record("fill"))
    for name, tally in status.record("bubbles").items():
        if isinstance(tally, dict):
            print(
                f"  {tally.get('package') or name[:16]}: "
                f"{tally.get('bytes_received', 0) / 1e6:.1f} MB received, "
                f"{tally.get('blocks_fetched', 0)} blocks, {tally.get('faults_served', 0)} of them awaited"
            )
    print(f"log: {status.text('log')}")


def _show_fill(fill: dict[str, object]) -> None:
    versions = fill.get("versions")
    for version in versions if isinstance(versions, list) else ():
        here, size = version["bytes_here"], version["bytes"]
        if version["whole"]:
            print(f"fill: {version['package']} is here, all {size / 1e6:.1f} MB of it")
        else:
            part = 100 * here // max(size, 1)
            print(f"fill: {version['package']}: {here / 1e6:.1f} of {size / 1e6:.1f} MB ({part}%)")
    if fill.get("reason"):
        print(f"fill waits: {fill['reason']}")
    elif fill.get("doing") == "fills":
        rate = fill.get("rate")
        print(f"fill goes on at {rate / 1e6 if isinstance(rate, int) else 0:.1f} MB/s")


def _ago(then: int) -> str:
    seconds = max(0, int(time.time()) - then)
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit} ago"
    return f"{seconds} seconds ago"
