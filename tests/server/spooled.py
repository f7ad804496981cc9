"""Updates in a spool, as the server keeps them in a round."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from server.spool import BLOCK, Row, Spool
from shared.protocol import AdapterUpdate
from tests.standin import SHAPE, B


@contextmanager
def spooled(
    updates: Sequence[AdapterUpdate], block: int = BLOCK
) -> Iterator[tuple[Spool, list[Row]]]:
    """A spool of these updates, in this order; of ``block`` values at once."""
    shapes = {n: a.shape for n, a in updates[0].delta.items()} if updates else {}
    spool = Spool(Path(tempfile.gettempdir()), shapes or {B: SHAPE}, block)
    with closing(spool):
        yield spool, [spool.append(one.site, one.delta) for one in updates]
