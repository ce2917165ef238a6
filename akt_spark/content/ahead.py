"""Work done ahead of its use, in another thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def ahead(work: Callable[[Item], Result], items: Iterable[Item], depth: int) -> Iterator[tuple[Item, Future[Result]]]:
    """Items in their order, each with the future of ``work(item)``; at most ``depth`` items are worked on ahead.

    One thread does all the work, in order. An exception waits in its item's future.
    """
    with ThreadPoolExecutor(max_workers=1) as thread:
        waiting: deque[tuple[Item, Future[Result]]] = deque()
        for item in items:
            waiting.append((item, thread.submit(work, item)))
            if len(waiting) > depth:
                yield waiting.popleft()
        yield from waiting
