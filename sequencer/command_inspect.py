"""`sequencer inspect`: what a package says of itself."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from packageformat.package import Package
from packageformat.signature import fingerprint
from packageformat.tree import Kind
from sequencer.packagefile import open_package

EXAMPLES = """\
examples:
  sequencer inspect packages/galculator_2.1.4-1.1.ovp
  sequencer inspect --json packages/galculator_2.1.4-1.1.ovp | jq .applications
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add this command."""
    parser = commands.add_parser(
        "inspect",
        help="show what a package is",
        description="Show a package's manifest: identity, applications, policy, contents. The head of the "
        "file is verified up to its publisher's signature; blocks are not read (see verify).",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("package", type=Path, metavar="PKG.ovp")
    parser.add_argument("--json", action="store_true", help="all of it, for scripts")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Show it; return 0."""
    package = open_package(args.package)
    if args.json:
        print(json.dumps(record(package), indent=1, default=_text))
    else:
        print("\n".join(lines(package)))
    return 0


def record(package: Package) -> dict[str, object]:
    """Return everything that a script may want of a package's head."""
    return {
        "version_id": package.version_id.hex(),
        **asdict(package.manifest),
        "fingerprint": fingerprint(package.manifest.publisher),
        "entries": len(package.tree),
        "kinds": {kind.name.lower(): package.tree.kinds.count(kind) for kind in Kind},
        "frames": len(package.layout.frames),
        "stored_bytes": package.layout.stored_bytes,
        "sections": {
            section.name.lower(): asdict(extent) for section, extent in package.header.sections.items()
        },
    }


def lines(package: Package) -> list[str]:
    """Return the package's head for a person."""
    manifest = package.manifest
    policy = asdict(manifest.policy)
    granted = [name for name, value in policy.items() if value is True]
    told = [f"{name}={value}" for name, value in policy.items() if value and value is not True]
    shown = [
        f"{manifest.name} {manifest.version}: {manifest.title}",
        f"  kind          {manifest.kind}, {manifest.architecture}, feature level {manifest.feature_level}",
        f"  version id    {package.version_id.hex()}",
        f"  publisher     {fingerprint(manifest.publisher)}",
        f"  entries       {len(package.tree):,}: "
        + ", ".join(f"{package.tree.kinds.count(kind):,} {kind.name.lower()}" for kind in Kind),
        f"  files         {manifest.plain_bytes / 1e6:,.1f} MB in {manifest.block_count:,} blocks",
        f"  stored        {package.layout.stored_bytes / 1e6:,.1f} MB in "
        f"{len(package.layout.frames):,} frames",
        f"  policy        {', '.join(granted + told) or 'nothing'}",
    ]
    if manifest.description:
        shown.insert(1, f"  {manifest.description}")
    shown.extend(f"  requires      {version.hex()}" for version in manifest.requires)
    for application in manifest.applications:
        shown.append(f"  application   {application.id}: {application.name}")
        shown.append(f"    command     {application.command}")
        if application.categories:
            shown.append(f"    categories  {', '.join(application.categories)}")
        if application.mime_types or application.url_schemes:
            types = len(application.mime_types)
            shown.append(
                f"    opens       {types} types, schemes: {', '.join(application.url_schemes) or 'none'}"
            )
        if application.icons:
            sizes = ", ".join(str(icon.size or "scalable") for icon in application.icons)
            shown.append(f"    icons       {sizes}")
    if manifest.contents:
        shown.append(f"  contains      {len(manifest.contents)} distribution packages (--json lists them)")
    return shown


def _text(value: object) -> str:
    assert isinstance(value, bytes)
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError:
        return value.hex()
    return text if text.isprintable() and text else value.hex()
