"""A process that keeps events of many at once, and says which were acknowledged.

    python -m tests.end_to_end.keeper SITE NAME

Each line of its output is the id of an event, written once the store said that it is
kept. It goes on until it is killed.
"""

import asyncio
import sys
from itertools import count
from pathlib import Path

from client.serving.store import Store
from tests.client.serving.doings import event, shown

WAITING = 16  # writers at a time
BATCH = 3


async def keep_on(store: Store, name: str) -> None:
    """Send batches one after the other, for ever."""
    for turn in count():
        batch = [event(f"{name}-{turn}-{n}", f"user-{name}") for n in range(BATCH)]
        store.log_shown(shown(f"{name}-{turn}", f"user-{name}", "item-1"))
        await store.add_events(batch)
        sys.stdout.write("".join(f"{one.id}\n" for one in batch))
        sys.stdout.flush()


async def live(site: Path, name: str) -> None:
    store = Store(site)
    await asyncio.gather(*(keep_on(store, f"{name}-{n}") for n in range(WAITING)))


if __name__ == "__main__":
    asyncio.run(live(Path(sys.argv[1]), sys.argv[2]))
