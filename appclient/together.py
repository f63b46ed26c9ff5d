"""Several things at once, of which the first failure ends the others and is raised as itself."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import TypeVar

from packageformat.errors import MillstreamError

T = TypeVar("T")


async def together(works: Iterable[Coroutine[object, object, T]]) -> list[T]:
    """Do all at once; return what they return, in order.

    Raises:
        BaseException: what the first of them raised; a MillstreamError rather than another.
    """
    try:
        async with asyncio.TaskGroup() as tasks:
            done = [tasks.create_task(work) for work in works]
    except BaseExceptionGroup as group:
        first: BaseException = group.subgroup(MillstreamError) or group
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        failure = first
    else:
        return [task.result() for task in done]
    raise failure  # out here, where it keeps its own cause
