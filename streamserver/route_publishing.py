"""GET /v1/publishing and POST /v1/pointers: what a user may run, and where its bytes are."""

from __future__ import annotations

import asyncio
import base64
import sqlite3
import time
from dataclasses import dataclass

from aiohttp import web

from packageformat.launchpack import language_of
from streamserver.capability import LIFETIME_S, object_path
from streamserver.context import CONTEXT
from streamserver.database import catalogue, deltas, packs
from streamserver.database.catalogue import StoredPackage
from streamserver.database.deltas import StoredDelta
from streamserver.database.packs import LanguagePack, StoredPack
from streamserver.publication import Audience, publishing_etag, sealed_pointer, sealed_publishing
from streamserver.reply import RefusedError, json_response
from streamserver.request import had_version_ids_of, locale_of, read_json, signed_in, version_ids_of
from streamserver.store import is_delta_whole, is_pack_whole, is_whole


@dataclass(frozen=True, slots=True)
class Named:
    """What the database says of the versions asked for."""

    packages: dict[bytes, StoredPackage]
    packs: dict[bytes, list[StoredPack]]
    languages: dict[bytes, list[LanguagePack]]
    deltas: dict[bytes, list[StoredDelta]]
    unnoted: list[bytes]  # versions of which it is to be noted that a client asked for them, or has them


_HEADERS = {"Cache-Control": "private, no-cache"}


async def publishing(request: web.Request) -> web.StreamResponse:
    """Answer with the user's signed publishing document, or 304 if he has it."""
    context = request.app[CONTEXT]
    now = time.time()
    account, _ = signed_in(request, now=now)
    secrets = context.store.secrets

    def question(db: sqlite3.Connection) -> tuple[Audience, list[StoredPackage]]:
        server = catalogue.server_row(db)
        audience = Audience(account.id, account.name, server.name, server.generation)
        return audience, catalogue.published_packages(db, account.id)

    audience, packages = await asyncio.to_thread(context.store.reader.ask, question)
    etag = publishing_etag(audience, secrets.public, now=now)
    headers = {**_HEADERS, "ETag": f'"{etag}"'}
    if any(tag.value in (etag, "*") for tag in request.if_none_match or ()):
        return web.Response(status=304, headers=headers)
    body = await asyncio.to_thread(sealed_publishing, audience, packages, secrets.seed, now=now)
    return web.Response(body=body, content_type="application/msgpack", headers=headers)


async def pointers(request: web.Request) -> web.StreamResponse:
    """Answer with the signed pointers of versions that the user may read, and URLs for their objects.

    All or nothing; a version that does not exist and one that he may not read get the same answer.
    """
    context = request.app[CONTEXT]
    now = time.time()
    account, _ = signed_in(request, now=now)
    asked = await read_json(request)
    wanted, had = version_ids_of(asked), had_version_ids_of(asked)
    language = language_of(locale_of(asked))

    def question(db: sqlite3.Connection) -> Named:
        found = catalogue.readable_packages(db, account.id, wanted)
        # What a delta differs by tells of both versions: it is for who may read both.
        old = catalogue.readable_packages(db, account.id, had)
        return Named(
            found,
            {version_id: packs.list_packs(db, version_id) for version_id in found},
            {
                version_id: packs.list_language_packs(db, version_id, language) if language else []
                for version_id in found
            },
            {version_id: deltas.deltas_to(db, version_id, old) for version_id in found},
            deltas.unnoted(db, (*found, *old), now=int(now)),
        )

    told = await asyncio.to_thread(context.store.reader.ask, question)
    found, named = told.packages, told.packs
    if len(found) != len(wanted):
        raise RefusedError("unknown_package")
    if told.unnoted:
        await asyncio.to_thread(
            context.store.writer.run, lambda db: deltas.note_asked(db, told.unnoted, now=int(now))
        )
    for package in found.values():
        if not is_whole(context.store, package):
            raise RefusedError(
                "damaged_package", log=f"{package.name} {package.version} is missing or cut short"
            )
    secrets = context.store.secrets
    expires = int(now) + LIFETIME_S
    whole = {  # a pack that is missing is built again: until then the launch goes without
        version_id: [pack for pack in there if is_pack_whole(context.store, pack)]
        for version_id, there in named.items()
    }
    return json_response(
        {
            "pointers": [
                {
                    "version_id": version_id.hex(),
                    "pointer": base64.b64encode(
                        sealed_pointer(found[version_id], whole[version_id], secrets.seed, now=now)
                    ).decode(),
                    "url": object_path(secrets.capability, found[version_id].object_digest, expires),
                    "expires": expires,
                    "packs": [
                        {
                            "application": pack.application,
                            "bubble_id": pack.bubble_id.hex(),
                            "url": object_path(secrets.capability, pack.object_digest, expires),
                            "window_size": pack.window_size or pack.object_size,
                        }
                        for pack in whole[version_id]
                    ],
                    "language_packs": [
                        {
                            "application": pack.application,
                            "language": pack.language,
                            "bubble_id": pack.bubble_id.hex(),
                            "digest": pack.object_digest.hex(),
                            "size": pack.object_size,
                            "url": object_path(secrets.capability, pack.object_digest, expires),
                        }
                        for pack in told.languages[version_id]
                        if is_pack_whole(context.store, pack)
                    ],
                    "deltas": [
                        {
                            "from": delta.old_version_id.hex(),
                            "digest": delta.object_digest.hex(),
                            "size": delta.object_size,
                            "url": object_path(secrets.capability, delta.object_digest, expires),
                        }
                        for delta in told.deltas[version_id]
                        if is_delta_whole(context.store, delta)
                    ],
                }
                for version_id in wanted
            ]
        }
    )
