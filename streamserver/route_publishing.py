"""GET /v1/publishing and POST /v1/pointers: what a user may run, and where its bytes are."""

from __future__ import annotations

import asyncio
import base64
import sqlite3
import time

from aiohttp import web

from streamserver.capability import LIFETIME_S, object_path
from streamserver.context import CONTEXT
from streamserver.database import catalogue, packs
from streamserver.database.catalogue import StoredPackage
from streamserver.database.packs import StoredPack
from streamserver.publication import Audience, publishing_etag, sealed_pointer, sealed_publishing
from streamserver.reply import RefusedError, json_response
from streamserver.request import read_json, signed_in, version_ids_of
from streamserver.store import is_pack_whole, is_whole

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
    wanted = version_ids_of(await read_json(request))

    def question(db: sqlite3.Connection) -> tuple[dict[bytes, StoredPackage], dict[bytes, list[StoredPack]]]:
        found = catalogue.readable_packages(db, account.id, wanted)
        return found, {version_id: packs.list_packs(db, version_id) for version_id in found}

    found, named = await asyncio.to_thread(context.store.reader.ask, question)
    if len(found) != len(wanted):
        raise RefusedError("unknown_package")
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
                        }
                        for pack in whole[version_id]
                    ],
                }
                for version_id in wanted
            ]
        }
    )
