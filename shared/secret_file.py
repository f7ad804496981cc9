"""Secrets in files: readable by their owner alone, whole or not there at all."""

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from shared.durable import sync_folder


def keep_secret(path: Path, content: bytes) -> None:
    """Put ``content`` at ``path`` durably, with mode 0600, over what was there before.

    Guarantee: at no moment can another account read it, whatever the umask.
    """
    descriptor, aside = tempfile.mkstemp(dir=path.parent, prefix=".secret-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(aside).replace(path)
    except BaseException:
        with suppress(FileNotFoundError):
            Path(aside).unlink()
        raise
    sync_folder(path.parent)
