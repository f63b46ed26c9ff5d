"""A build from recipe to package: everything in its order, everything cleaned up after."""

from __future__ import annotations

import os
import platform
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from packageformat.application import Application
from packageformat.errors import FormatError
from packageformat.limits import FEATURE_LEVEL
from packageformat.manifest import Manifest
from packageformat.names import check_version
from packageformat.policy import Policy
from packageformat.signature import public_key
from packageformat.stack import bubble_id
from packageformat.tree import Tree
from sequencer import capture, unpack
from sequencer.contents import version_label
from sequencer.desktopentries import applications_of, desktop_files
from sequencer.enclosure import Channel, Enclosure, enclose
from sequencer.errors import HostError, RecipeError
from sequencer.exclusions import exclusions_for
from sequencer.hostconfig import acquire_options, read_host_config
from sequencer.installation import Captured, InstallLog, follow
from sequencer.keys import read_key
from sequencer.pack import FILES_AT_ONCE, hash_blocks, package_id, write_package, write_text
from sequencer.packagefile import SUFFIX, PackageFile, newest, open_package_file, open_stack
from sequencer.profiling import Profiled, provide_profile
from sequencer.progress import CaptureDisplay, PackDisplay, TrainingDisplay
from sequencer.recipe import Recipe, read_recipe
from sequencer.report import Report
from sequencer.rooms import furnish
from sequencer.subids import SubordinateIds, find_subordinate_ids
from sequencer.training import Watch
from sequencer.workfolder import BASES, CAPTURES, WorkFolder, cache_folder

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
FILE_MAX = 256 << 20
GUI = Policy(x11=True, wayland=True, gpu=True, fonts=True)
"""What an application with a window gets unless its recipe says otherwise."""


@dataclass(frozen=True, slots=True)
class Request:
    """What `sequencer build` was asked for."""

    recipe: Path
    output: Path  # folder
    key: Path
    packages: Path  # folder with bases
    base: Path | None = None  # a file, instead of looking in `packages`
    version: str = ""  # instead of the recipe's
    train: bool = True
    profile: Path | None = None  # of an earlier version, for when it is not trained
    quiet: bool = False


@dataclass(frozen=True, slots=True)
class Built:
    """What came out."""

    package: Path
    report_path: Path
    log: Path
    report: Report
    profiled: Profiled


def build(request: Request) -> Built:
    """Capture what the recipe installs, pack and sign it, then train it.

    Raises:
        MillstreamError: (one of its kinds) with what to do; nothing half-written is left.
    """
    began = time.monotonic()
    recipe = read_recipe(request.recipe)
    if request.version:
        _check_version(request.version)
    seed = read_key(request.key)
    architecture = _architecture()
    files = _files_of(recipe)
    if recipe.build.bootstrap and shutil.which("mmdebstrap") is None:
        raise HostError("mmdebstrap is missing", hint="have an administrator run: apt-get install mmdebstrap")
    stack = _open_base(request, recipe, architecture)
    ids, note = find_subordinate_ids()
    work = WorkFolder(cache_folder(), ids)
    log_path = request.output / f"{recipe.name}.log"
    with CaptureDisplay(quiet=request.quiet) as display:
        if note:
            display.stage(note)
        work.sweep()
        base = _unpacked(work, ids, stack, display)
        with work.capture() as folder, InstallLog(log_path) as log:
            job = _job(recipe, work, folder, base, files, log.descriptor)
            network = recipe.build.network or bool(recipe.build.bootstrap)
            with enclose(
                lambda channel: capture.work(channel, job), ids, work.path, network=network
            ) as worker:
                captured = follow(worker, recipe, work, folder, display, log)
                display.unwatch()
                built = _pack(request, recipe, stack, seed, architecture, captured, worker, display, began)
    for file in stack:
        file.close()
    folders = list(dict.fromkeys((request.output, request.packages, *(file.path.parent for file in stack))))
    with TrainingDisplay(quiet=request.quiet) as training:
        profiled = provide_profile(
            built[0],
            folders,
            training=request.train,
            earlier=request.profile,
            watch=Watch(training.say, training.tick),
        )
    return Built(built[0], built[1], log_path, built[2], profiled)


def _pack(
    request: Request,
    recipe: Recipe,
    stack: Sequence[PackageFile],
    seed: bytes,
    architecture: str,
    captured: Captured,
    worker: Enclosure,
    display: CaptureDisplay,
    began: float,
) -> tuple[Path, Path, Report]:
    tree = captured.tree

    def opener(indexes: Sequence[int]) -> list[int]:
        worker.channel.say(open=list(indexes))
        return worker.channel.take_files()

    applications, notes = applications_of(tree, _texts(tree, opener))
    applications = _together(applications, recipe.applications)
    version = request.version or recipe.version or _found_version(recipe, captured.installed)
    gui = any(not application.terminal for application in applications)
    policy = recipe.policy_with(GUI if gui else Policy())

    def manifest(digest: bytes, size: int, root: bytes) -> Manifest:
        return Manifest(
            name=recipe.name,
            version=version,
            kind=recipe.kind,
            architecture=architecture,
            feature_level=FEATURE_LEVEL,
            requires=tuple(file.package.version_id for file in stack),
            tree_digest=digest,
            tree_size=size,
            blocks_root=root,
            block_count=tree.block_count,
            plain_bytes=tree.plain_bytes,
            applications=applications,
            policy=policy,
            publisher=public_key(seed),
            title=recipe.title or _title(recipe, applications),
            description=recipe.description,
            contents=captured.contents,
        )

    path = request.output / f"{recipe.name}_{version}{SUFFIX}"
    display.stage(f"pack {len(tree):,} entries, {tree.plain_bytes / 1e6:,.1f} MB")
    display.pause()
    with PackDisplay(quiet=request.quiet) as bar:
        block_ids = hash_blocks(tree, opener, lambda done, total: bar.show("hash", done, total))
        made = write_package(
            path,
            tree,
            block_ids,
            manifest,
            seed,
            opener,
            lambda done, total: bar.show("compress", done, total),
        )
    report = Report(
        manifest=made,
        version_id=package_id(made),
        entries=len(tree),
        stored_bytes=path.stat().st_size,
        seconds=time.monotonic() - began,
        findings=captured.findings,
        missing_libraries=captured.missing,
        desktop_notes=notes,
        base=_base_name(stack),
        checks=recipe.checks,
    )
    report_path = request.output / f"{recipe.name}_{version}.report.json"
    write_text(report_path, report.as_json() + "\n")
    return path, report_path, report


def _base_name(stack: Sequence[PackageFile]) -> str:
    return f"{stack[-1].package.manifest.name} {stack[-1].package.manifest.version}" if stack else ""


def _open_base(request: Request, recipe: Recipe, architecture: str) -> list[PackageFile]:
    """Return the stack below the new package, bottom first."""
    if not recipe.base:
        return []
    if request.base is None and not request.packages.is_dir():
        raise RecipeError(
            f"no folder {request.packages} to look for the base {recipe.base} in",
            hint="say where it lies: --packages DIR or --base FILE",
        )
    path = request.base or newest(request.packages, recipe.base)
    file = open_package_file(path)
    manifest = file.package.manifest
    if manifest.name != recipe.base or manifest.kind != "runtime":
        raise RecipeError(f"{path} is {manifest.name} ({manifest.kind}), not the runtime {recipe.base}")
    manifest.require_support(architecture)
    return open_stack(file, (path.parent, request.packages))


def _unpacked(
    work: WorkFolder, ids: SubordinateIds, stack: list[PackageFile], display: CaptureDisplay
) -> str:
    """Return the base's folder relative to the work folder, unpacked now if it was not before."""
    if not stack:
        return ""
    key = f"{bubble_id([file.package.version_id for file in stack]).hex()[:40]}-{ids.users.first}"
    if work.base(key) is None:
        display.stage(f"unpack the base {_base_name(stack)} (kept for the next build)")
        with work.capture() as folder:
            inside = f"{CAPTURES}/{folder.name}"
            with enclose(
                lambda channel: _unpack(channel, inside, stack), ids, work.path, network=False
            ) as worker:
                while (worker.hear(time.monotonic() + 0.25) or {}).get("done") is None:
                    display.tick()
            work.keep_base(folder, key)
    return f"{BASES}/{key}/root"


def _unpack(channel: Channel, inside: str, stack: list[PackageFile]) -> None:
    """Worker: write the base out."""
    furnish([(inside, "work")])
    root = Path(f"{capture.WORK}/root")
    root.mkdir()
    unpack.unpack(stack, os.fsencode(root))
    channel.say(done=True)


def _job(
    recipe: Recipe,
    work: WorkFolder,
    folder: Path,
    base: str,
    files: Sequence[tuple[str, bytes, int]],
    log: int,
) -> capture.Job:
    build_ = recipe.build
    host = read_host_config(network=build_.network or bool(build_.bootstrap), with_sources=build_.sources)
    bootstrap: tuple[str, ...] = ()
    if build_.bootstrap:
        if not host.sources:
            raise HostError(
                "this machine's apt has no sources in /etc/apt", hint="a runtime is made from them"
            )
        included = [f"--include={','.join(build_.packages)}"] if build_.packages else []
        bootstrap = ("--variant=minbase", *included, build_.bootstrap, "TARGET", *host.sources)
    return capture.Job(
        capture=str(folder.relative_to(work.path)),
        base=base,
        commands=build_.commands,
        tools=build_.tools,
        environment=capture.environment_of(host, build_.environment),
        files=tuple(files),
        host=host,
        exclusions=exclusions_for(recipe.kind, recipe.exclude, recipe.keep),
        bootstrap=bootstrap,
        apt_options=acquire_options() if bootstrap else "",
        log=log,
    )


def _texts(tree: Tree, opener: object) -> dict[int, str]:
    """Return the texts of the desktop files of a tree."""
    assert callable(opener)
    found: dict[int, str] = {}
    wanted = desktop_files(tree)
    for start in range(0, len(wanted), FILES_AT_ONCE):
        batch = wanted[start : start + FILES_AT_ONCE]
        for index, descriptor in zip(batch, opener(batch), strict=True):
            found[index] = os.pread(descriptor, tree.file_size(index), 0).decode("utf-8", "replace")
            os.close(descriptor)
    return found


def _together(found: tuple[Application, ...], stated: tuple[Application, ...]) -> tuple[Application, ...]:
    """Return the applications that were found, less those that the recipe states itself, and the latter."""
    own = {application.id for application in stated}
    return (*(application for application in found if application.id not in own), *stated)


def _title(recipe: Recipe, applications: tuple[Application, ...]) -> str:
    return applications[0].name if len(applications) == 1 else recipe.name


def _found_version(recipe: Recipe, installed: dict[str, str]) -> str:
    version = installed.get(recipe.version_of)
    if version is None:
        raise RecipeError(f"package.version_of: the capture has no package {recipe.version_of!r}")
    return _check_version(version_label(version))


def _check_version(version: str) -> str:
    try:
        return check_version(version)
    except FormatError as error:
        raise RecipeError(str(error), hint="state package.version in the recipe") from error


def _files_of(recipe: Recipe) -> list[tuple[str, bytes, int]]:
    """Return the recipe's own files: they are read by us, for the worker cannot."""
    found: list[tuple[str, bytes, int]] = []
    for name in recipe.build.files:
        path = recipe.folder / name
        try:
            with path.open("rb") as file:
                content = file.read(FILE_MAX + 1)
                mode = os.fstat(file.fileno()).st_mode & 0o755
        except OSError as error:
            raise RecipeError(f"build.files: cannot read {path}: {error.strerror}") from error
        if len(content) > FILE_MAX:
            raise RecipeError(f"build.files: {path} is larger than {FILE_MAX >> 20} MiB")
        found.append((name, content, mode | 0o444))
    return found


def _architecture() -> str:
    machine = platform.machine()
    return ARCHITECTURES.get(machine, machine.replace("_", "-").lower())
