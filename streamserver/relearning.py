"""Relearning: what clients report is kept, one account once, and merged into the profile it is about."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from packageformat.launchprofile import (
    PackageProfiles,
    decode_profiles,
    encode_profiles,
    extents_of,
)
from packageformat.limits import PAGES_A_BLOCK
from streamserver.database import packs, reports
from streamserver.database.packs import StoredProfile
from streamserver.database.reports import RETENTION_S, LaunchFigures, StoredReport
from streamserver.latepages import LateRun, collected_late, decode_late, encode_late, moved_up
from streamserver.missedpages import (
    MissedRun,
    StackFile,
    collected,
    decode_runs,
    encode_runs,
    learned,
)
from streamserver.packclasses import touched_pages
from streamserver.store import Store
from streamserver.storedlayers import StoredLayers


def keep_report(
    db: sqlite3.Connection,
    version_id: bytes,
    application: str,
    account_id: bytes,
    figures: LaunchFigures,
    missed: Sequence[MissedRun],
    late: Sequence[LateRun],
    *,
    now: int,
) -> None:
    """Keep what a launch missed and what it had too late, with what the account's launches told before it.

    Of an application without a launch profile nothing is kept: there is nothing to learn with.
    """
    if packs.profile_document(db, version_id, application) is None:
        return
    old = reports.find_report(db, version_id, application, account_id)
    if old is not None and old.since <= now - RETENTION_S:
        old = None  # collecting begins anew, or a page of long ago would count for ever
    report = StoredReport(
        account_id,
        old.since if old else now,
        now,
        old.launches + 1 if old else 1,
        figures,
        encode_runs(collected(missed, decode_runs(old.missed) if old else ())),
        encode_late(collected_late(late, decode_late(old.late) if old else ())),
    )
    reports.put_report(db, version_id, application, report)


def relearn(store: Store, layers: StoredLayers, profile: StoredProfile, *, now: float) -> bool:
    """Merge what waits into one profile; return whether it has learned something."""

    def question(
        db: sqlite3.Connection,
    ) -> tuple[tuple[bytes, bytes] | None, list[StoredReport], tuple[bytes, ...], int]:
        counted = db.execute(
            "SELECT reports FROM launch_profile WHERE version_id = ? AND application = ?",
            (profile.version_id, profile.application),
        ).fetchone()
        return (
            packs.profile_document(db, profile.version_id, profile.application),
            reports.list_reports(db, profile.version_id, profile.application, now=int(now)),
            packs.stack_of(db, profile.version_id),
            counted[0] if counted else 0,
        )

    documents, kept, stack, counted = store.reader.ask(question)
    if documents is None:
        return False
    trained, holding = (decode_profiles(one).of(profile.application) for one in documents)
    assert trained is not None
    assert holding is not None
    index = layers.index(stack)
    packages = [layer.package for layer in layers.stack(stack)]
    extents, _ = extents_of(holding, index, [package.tree for package in packages])
    covered = touched_pages(extents, lambda layer, block: packages[layer].block_id(block))
    runs = [decode_runs(report.missed) for report in kept]
    files: dict[bytes, StackFile] = {}
    for content_id in {run.content_id for one in runs for run in one} & index.keys():
        layer, first_block = index[content_id]
        tree = packages[layer].tree
        entry, _ = tree.block_place(first_block)
        files[content_id] = StackFile(tree.sizes[entry], tree.path(entry))

    def is_covered(content_id: bytes, page: int) -> bool:
        layer, first_block = index[content_id]
        name = packages[layer].block_id(first_block + page // PAGES_A_BLOCK)
        return bool(covered.get(name, 0) >> page % PAGES_A_BLOCK & 1)

    found = learned(trained, holding, runs, files, is_covered)
    late = [decode_late(report.late) for report in kept]
    found = moved_up(trained, found or holding, late) or found
    document = encode_profiles(PackageProfiles(profile.version_id, (found,))) if found else None
    store.writer.run(lambda db: packs.put_relearned(db, profile, document, merged=counted, now=int(now)))
    return document is not None
