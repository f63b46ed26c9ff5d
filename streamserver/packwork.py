"""What there is to do about launch packs, seen from the database: cheap enough to look often."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from streamserver.database import objects, packs
from streamserver.database.packs import LanguagePack, StoredPack, StoredProfile
from streamserver.packclasses import RULES
from streamserver.store import Store, is_pack_whole

Key = tuple[bytes, str]
"""Version id and application."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What there is to do, by the database and the files' sizes alone."""

    build: tuple[StoredProfile, ...]  # no pack, or one of another profile, other rules, or a damaged one
    weigh: tuple[StoredProfile, ...]  # other profiles have come: would classes made for them pay?
    merge: tuple[StoredProfile, ...]  # reports wait
    expired: frozenset[bytes]  # retired objects whose time is over

    def __bool__(self) -> bool:
        return bool(self.build or self.weigh or self.merge or self.expired)


def plan(store: Store, *, now: float) -> Plan:
    """Return what there is to do. Cheap: reads no objects."""

    def question(
        db: sqlite3.Connection,
    ) -> tuple[
        list[StoredProfile],
        dict[Key, StoredPack],
        dict[Key, list[LanguagePack]],
        dict[Key, set[bytes]],
        set[bytes],
    ]:
        profiles = packs.list_profiles(db)
        stacks = packs.stacks_of(db, profiles)
        others = {
            (one.version_id, one.application): {
                other.digest for other in packs.others_of(one, profiles, stacks)
            }
            for one in profiles
        }
        there = {(pack.version_id, pack.application): pack for pack in packs.list_packs(db)}
        languages: dict[Key, list[LanguagePack]] = {}
        for one in packs.list_language_packs(db):
            languages.setdefault((one.version_id, one.application), []).append(one)
        return profiles, there, languages, others, objects.expired_objects(db, now=int(now))

    profiles, there, languages, others, expired = store.reader.ask(question)
    build, weigh = [], []
    for profile in profiles:
        key = (profile.version_id, profile.application)
        pack = there.get(key)
        if (
            pack is None
            or pack.profile_digest != profile.digest
            or pack.rules != RULES
            or not is_pack_whole(store, pack)
            or not all(is_pack_whole(store, one) for one in languages.get(key, ()))
        ):
            build.append(profile)
        elif not all(map(pack.has_considered, others[key])):
            weigh.append(profile)
    merge = tuple(profile for profile in profiles if profile.unmerged > 0)
    return Plan(tuple(build), tuple(weigh), merge, frozenset(expired))
