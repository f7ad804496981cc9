"""Heavy imports, made quicker: nothing that a module makes is garbage.

While torch and transformers are imported the collector runs again and again over
hundreds of thousands of objects that all stay: measured, a quarter of the time.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """Import inside the block without the collector, and never look at it again.

    What was made by then is left out of every later collection too: that is quicker,
    and in a process that is forked it stays shared.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if enabled:
            gc.enable()
