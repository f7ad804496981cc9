"""One of several processes that serve: it ends when asked to, and when left alone.

Whoever starts it asks it over and over whether it lives, from the very first second; so
this file loads nothing before ``work`` does.
"""

import logging
import multiprocessing
import os
import signal
import socket
import sys
import threading

from shared.logs import told

log = logging.getLogger("tacit.serving")


def work(sockets: list[socket.socket] | None) -> None:
    """Serve at sockets that listen.

    Where that fails a line says why, without the text of an error that is not ours;
    whoever started this process starts another.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    threading.Thread(target=_end_after_parent, daemon=True).start()
    try:
        from client.serving.process import server  # noqa: PLC0415  # it takes seconds

        server().run(sockets)
    except Exception as error:  # noqa: BLE001  # or its text would be printed
        log.error("a worker ends: %s", told(error))
        sys.exit(1)


def _end_after_parent() -> None:
    """End this process once the one that started it is gone, even if it was killed."""
    if parent := multiprocessing.parent_process():
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
