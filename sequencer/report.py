"""What a capture took, left out and noticed: as JSON beside the package, and as lines for a person."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from packageformat.manifest import Manifest
from packageformat.signature import fingerprint
from sequencer.scan import Findings

SHOWN = 8
"""Lines of one kind that the summary shows; the JSON has all."""


@dataclass(frozen=True, slots=True)
class Report:
    """The facts of one build."""

    manifest: Manifest
    version_id: bytes
    entries: int
    stored_bytes: int  # of the package file
    seconds: float
    findings: Findings
    missing_libraries: Mapping[str, Sequence[str]]  # library: files that need it
    desktop_notes: Sequence[str]
    base: str  # "name version", or empty
    checks: Sequence[tuple[str, str]] = ()  # application id, command that verify runs for it

    def as_json(self) -> str:
        """Return the report for scripts."""
        manifest = self.manifest
        return json.dumps(
            {
                "name": manifest.name,
                "version": manifest.version,
                "kind": manifest.kind,
                "version_id": self.version_id.hex(),
                "base": self.base,
                "requires": [one.hex() for one in manifest.requires],
                "publisher": manifest.publisher.hex(),
                "entries": self.entries,
                "plain_bytes": manifest.plain_bytes,
                "stored_bytes": self.stored_bytes,
                "blocks": manifest.block_count,
                "seconds": round(self.seconds, 1),
                "applications": [asdict(one) for one in manifest.applications],
                "checks": dict(self.checks),
                "policy": asdict(manifest.policy),
                "contents": list(manifest.contents),
                "findings": asdict(self.findings),
                "missing_libraries": {key: list(files) for key, files in self.missing_libraries.items()},
                "desktop_notes": list(self.desktop_notes),
            },
            indent=1,
            default=lambda value: value.decode("utf-8", "backslashreplace"),
        )

    def lines(self) -> list[str]:
        """Return the summary for a person."""
        manifest, findings = self.manifest, self.findings
        ratio = self.stored_bytes / manifest.plain_bytes if manifest.plain_bytes else 0.0
        lines = [
            f"{manifest.name} {manifest.version} ({manifest.kind}, {manifest.architecture})"
            + (f" on {self.base}" if self.base else ""),
            f"  version id  {self.version_id.hex()}",
            f"  publisher   {fingerprint(manifest.publisher)}",
            f"  captured    {self.entries:,} entries, {manifest.plain_bytes / 1e6:,.1f} MB; "
            f"package {self.stored_bytes / 1e6:,.1f} MB ({ratio:.0%}); {self.seconds:.0f} s",
            f"  excluded    {len(findings.excluded):,} places, {findings.excluded_bytes / 1e6:,.1f} MB; "
            f"{findings.unchanged:,} files as in the base; "
            f"{findings.opaque_spurious:,} needless opaque marks",
        ]
        for application in manifest.applications:
            kind = "console" if application.terminal else "desktop"
            lines.append(f"  application {application.id}: {application.name} ({kind})")
        lines.extend(self._section("set-id", findings.set_id))
        lines.extend(self._section("capabilities (dropped)", findings.capabilities))
        lines.extend(self._section("special files (left out)", findings.special))
        lines.extend(self._section("names not allowed (left out)", findings.refused))
        lines.extend(self._section("hidden from the base", findings.whiteouts + findings.opaque))
        missing = [f"{library} (for {files[0]})" for library, files in sorted(self.missing_libraries.items())]
        lines.extend(self._section("libraries that nobody brings", missing))
        return lines

    @staticmethod
    def _section(title: str, items: Sequence[str]) -> list[str]:
        if not items:
            return []
        more = [f"    … and {len(items) - SHOWN} more (in the report)"] if len(items) > SHOWN else []
        return [f"  {title}: {len(items)}", *(f"    {item}" for item in items[:SHOWN]), *more]
