"""Point 4: what an application does stays in its bubble, and it sees nothing that is not its own."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from pathlib import Path

from samples.visit import Launch
from tests.packagefiles import open_package
from tests.points.hostfiles import list_host
from tests.points.outcome import Outcome
from tests.points.slice_samples import compare_host, own_folders
from tests.stage import Stage, stage

MARK = "mark-of-the-host"
"""Text that the test puts where no application may read it."""

PROBE = """
mark=mark-of; mark="$mark-the-host"
echo written > /usr/probe-written && echo usr-written
echo written > /etc/probe-written && echo etc-written
echo changed >> /etc/debian_version && echo etc-changed
rm -rf /usr/share/doc && echo usr-removed
mkdir -p "$HOME/.config/probe" && echo settings > "$HOME/.config/probe/settings" && echo settings-written
echo saved > "{home}/Documents/saved.txt" && echo document-saved
for place in {client}; do
    ls -A "$place" 2>/dev/null | grep -q . && echo "SEEN $place"
    mkdir -p "$place" 2>/dev/null && echo intruder > "$place/intruder" 2>/dev/null
done
for file in .bashrc .profile .bash_profile .ssh/id_test; do
    grep -qs "$mark" "$HOME/$file" "{home}/$file" && echo "SEEN $file"
    echo intruder >> "{home}/$file" 2>/dev/null
    echo intruder >> "$HOME/$file" 2>/dev/null
done
find / -xdev -name 'secret-of-probe-two*' 2>/dev/null | sed 's/^/SEEN /'
for place in /home /root /var /tmp /run /opt /srv /mnt /media; do
    grep -rls "$mark" "$place" 2>/dev/null | sed 's/^/SEEN /'
done
ls /proc | grep -c '^[0-9]' | sed 's/^/processes /'
cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' ' | grep -q appclient && echo "SEEN appclient's processes"
grep -i capeff /proc/self/status | sed 's/^/caps /'
echo end
"""

TWO = """
echo secret > "$HOME/secret-of-probe-two" && echo written
probe-version
touch "{home}/Documents/{name}.here"
n=0
while [ ! -e "{home}/Documents/{other}.here" ] && [ $n -lt 300 ]; do sleep 0.1; n=$((n + 1)); done
[ -e "{home}/Documents/{other}.here" ] && echo met
probe-version
"""


def isolation(outcome: Outcome, artefacts: Path) -> None:
    """Writes, settings, sight, two libraries at once, entitlement; the host before and after."""
    with stage("millstream-show") as on:
        for name in ("probe-one", "probe-two"):
            on.publish(name)
        on.service.person("other", on.password, "others")
        on.publish("galculator", "others")
        scripts = _prepare_home(on)
        on.sign_in()
        before = list_host(own_folders(on, artefacts))
        _two_libraries_at_once(on, outcome, artefacts, scripts)
        _one_that_tries_everything(on, outcome, artefacts, scripts / "probe.sh")
        on.visit.leave()
        documents = on.user.home / "Documents"
        names = ("saved.txt", "probe-one.here", "probe-two.here")
        compare_host(on, outcome, artefacts, before, {f"+ {documents / name}" for name in names})
        _entitlement(on, outcome)


def _prepare_home(on: Stage) -> Path:
    """Give the user documents, scripts, and files that carry the mark; return the scripts' folder."""
    home = on.user.home
    for folder in ("Documents", "scripts", ".ssh"):
        (home / folder).mkdir(mode=0o700, exist_ok=True)
        on.user.give(home / folder)
    for name in (".bashrc", ".profile", ".bash_profile", ".ssh/id_test", "private.txt"):
        (home / name).write_text(MARK + "\n")
        on.user.give(home / name)
    client = [home / name for name in (".cache/millstream", ".local/state/millstream", ".config/millstream")]
    client.append(on.user.runtime / "millstream")
    texts = {
        "probe": PROBE.format(home=home, client=" ".join(map(str, client))),
        "one": TWO.format(home=home, name="probe-one", other="probe-two"),
        "two": TWO.format(home=home, name="probe-two", other="probe-one"),
    }
    for name, text in texts.items():
        (home / "scripts" / f"{name}.sh").write_text(text)
        on.user.give(home / "scripts" / f"{name}.sh")
    return home / "scripts"


def _two_libraries_at_once(on: Stage, outcome: Outcome, artefacts: Path, scripts: Path) -> None:
    """Two packages carry different versions of one file; both run at the same time."""
    launches: dict[str, Launch] = {}
    for number in ("one", "two"):
        launches[number] = on.visit.start(f"probe-{number}", scripts / f"{number}.sh")
    deadline = time.monotonic() + 120
    for number, launch in launches.items():
        while launch.process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
        said = launch.output()
        (artefacts / f"library-{number}.txt").write_text(said)
        launch.end()
        lines = said.split()
        outcome.require(f"probe-{number} met the other while it ran", "met" in lines, said)
        versions = [line for line in lines if line in ("one", "two")]
        outcome.require(f"probe-{number} has its own library, twice", versions == [number, number], said)


def _one_that_tries_everything(on: Stage, outcome: Outcome, artefacts: Path, script: Path) -> None:
    done = on.visit.appclient("run", "probe-one", script, timeout_s=300, check=False)
    (artefacts / "probe.txt").write_text(done.stdout + done.stderr)
    said = done.stdout.splitlines()
    outcome.require(
        "the probe ran to its end", done.returncode == 0 and "end" in said, done.stdout + done.stderr
    )
    for did in ("usr-written", "etc-written", "etc-changed", "settings-written", "document-saved"):
        outcome.require(f"inside, it could: {did}", did in said, done.stdout)
    seen = [line for line in said if line.startswith("SEEN")]
    outcome.require(
        "it saw nothing of the client, the user's shell files or the other package", not seen, seen
    )
    caps = [line.split()[-1] for line in said if line.startswith("caps")]
    outcome.require("it has no capabilities", caps == ["0" * 16], caps)
    outcome.figures["processes_seen"] = next(
        (int(x.split()[1]) for x in said if x.startswith("processes")), -1
    )

    home = on.user.home
    state = home / ".local/state/millstream"
    written = [path for path in (home, Path("/usr"), Path("/etc")) for path in path.rglob("probe-written")]
    outcome.figures["writes_lie_in"] = sorted(
        {str(path.relative_to(home)) for path in written if path.is_relative_to(home)}
    )
    uppers = [path for path in written if path.is_relative_to(state / "bubbles")]
    outcome.require(
        "its writes to /usr and /etc lie only in its system upper", len(uppers) == len(written) == 2, written
    )
    settings = [path for path in home.rglob("settings") if path.parent.name == "probe"]
    outcome.require(
        "its settings lie only in its private home",
        len(settings) == 1 and settings[0].is_relative_to(state / "homes"),
        settings,
    )
    intruders = [path for path in home.rglob("intruder") if not path.is_relative_to(state / "homes")]
    intruders = [path for path in intruders if not path.is_relative_to(state / "bubbles")]
    outcome.require("it wrote nothing into the client's own folders", not intruders, intruders)
    for name in (".bashrc", ".profile", ".bash_profile", ".ssh/id_test", "private.txt"):
        outcome.require(f"the user's {name} is as it was", (home / name).read_text() == MARK + "\n")


def _entitlement(on: Stage, outcome: Outcome) -> None:
    """`demo` may not have galculator; `other` may. A valid token of `demo` must not help."""
    secret = open_package(on.package("galculator")).package.version_id
    listed = on.visit.appclient("list", "--json").stdout
    outcome.require("it is not in the list of who may not run it", "galculator" not in listed, listed)
    run = on.visit.appclient("run", "galculator", check=False)
    outcome.require("he cannot run it, and is told so in one line", run.returncode in (42, 43), run.stderr)
    outcome.require("in one line, without a traceback", len(run.stderr.strip().splitlines()) == 1, run.stderr)
    demo, other = (_token(on, name) for name in ("demo", "other"))
    for name, token, may in (("demo", demo, False), ("other", other, True)):
        document = _ask(on, "/v1/publishing", token)[1]
        outcome.require(f"{name}'s publishing {'has' if may else 'lacks'} it", (secret in document) is may)
        status, answer = _ask(on, "/v1/pointers", token, {"version_ids": [secret.hex()]})
        outcome.require(
            f"{name} {'gets' if may else 'gets no'} pointer", status == (200 if may else 404), answer
        )
        if may:
            address = json.loads(answer)["pointers"][0]["url"]
            outcome.require("with its capability its bytes can be read", _ask(on, address, other)[0] == 200)
            bare = address.split("?")[0]
            outcome.require("a token is no capability", _ask(on, bare, demo)[0] == 403)
            forged = address[:-2] + ("aa" if address[-2:] != "aa" else "bb")
            outcome.require("a forged capability is refused", _ask(on, forged, demo)[0] == 403)


def _token(on: Stage, name: str) -> str:
    status, answer = _ask(on, "/v1/login", "", {"user": name, "password": on.password})
    if status != 200:
        raise RuntimeError(f"login of {name}: {status} {answer[:200]!r}")
    return str(json.loads(answer)["token"])


def _ask(on: Stage, path: str, token: str, message: object = None) -> tuple[int, bytes]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    body = None
    if message is not None:
        headers["Content-Type"] = "application/json"
        body = json.dumps(message).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(on.service.url + path, body, headers)) as reply:
            return int(reply.status), reply.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()
