"""What a bubble is made of, as one value that can travel from the agent to the launching process."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from packageformat.errors import FormatError
from packageformat.limits import DIGEST_SIZE
from packageformat.policy import Policy


@dataclass(frozen=True, slots=True)
class BubbleSpec:
    """One bubble of one user. All paths are absolute, on the host."""

    bubble_id: bytes  # packageformat.stack.bubble_id of the versions
    view_image: Path  # made by composition.compose
    cache: Path  # folder of cachefile.CacheFolder
    supplier: Path  # unix socket of supply.serve_views
    supplier_restart: tuple[str, ...]  # argv that starts the supplier if it is gone; may be empty
    state: Path  # this bubble's own folder, on a local disk: the user's changes, locks, logs
    home: Path  # the package's private home
    runtime: Path  # folder for mount points and sockets; short, under XDG_RUNTIME_DIR
    policy: Policy
    documents: tuple[Path, ...] = ()  # the user's document folders, bound at their own paths
    hidden: tuple[Path, ...] = ()  # never visible inside: the client's own folders
    streamed: bool = (
        False  # not all of it is in the cache: the kernel must not read ahead, see bubble.pushing
    )

    orders: tuple[Path, ...] = ()  # files with what a launch wants, in order: see bubble.launchorder

    def __post_init__(self) -> None:
        if len(self.bubble_id) != DIGEST_SIZE:
            raise ValueError("a bubble id has 32 bytes")
        for path in (
            self.view_image, self.cache, self.supplier, self.state, self.home, self.runtime,
            *self.documents, *self.hidden, *self.orders,
        ):  # fmt: skip
            if not path.is_absolute():
                raise ValueError(f"a bubble's paths are absolute: {path}")


def encode_spec(spec: BubbleSpec) -> str:
    """Return `spec` as one line of JSON."""
    record = {field.name: getattr(spec, field.name) for field in fields(spec)}
    record["policy"] = {field.name: getattr(spec.policy, field.name) for field in fields(spec.policy)}
    return json.dumps(record, default=lambda value: value.hex() if isinstance(value, bytes) else str(value))


def decode_spec(text: str | bytes) -> BubbleSpec:
    """Return the spec that `encode_spec` wrote.

    Raises:
        FormatError: the text is something else.
    """
    try:
        record: dict[str, Any] = json.loads(text)
        policy = dict(record["policy"])
        for name in ("dbus_talk", "dbus_own"):
            policy[name] = tuple(policy[name])
        policy["environment"] = tuple((name, value) for name, value in policy["environment"])
        return BubbleSpec(
            bubble_id=bytes.fromhex(record["bubble_id"]),
            view_image=Path(record["view_image"]),
            cache=Path(record["cache"]),
            supplier=Path(record["supplier"]),
            supplier_restart=tuple(str(part) for part in record["supplier_restart"]),
            state=Path(record["state"]),
            home=Path(record["home"]),
            runtime=Path(record["runtime"]),
            policy=Policy(**policy),
            documents=tuple(Path(path) for path in record["documents"]),
            hidden=tuple(Path(path) for path in record["hidden"]),
            streamed=bool(record["streamed"]),
            orders=tuple(Path(path) for path in record.get("orders", ())),
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise FormatError(f"a bubble's description that is not one: {error}") from error
