"""A disk on which nothing can be made durable: every fsync answers EIO. Linux alone.

SQLite calls the C library itself, so the kernel has to answer: a seccomp filter, for
the rest of the process (``man 2 seccomp``; instructions as in ``linux/filter.h``).
"""

import ctypes
import platform
import struct
import sys

SYNCS = {"x86_64": (74, 75), "aarch64": (82, 83)}  # fsync, fdatasync
LOAD, IF_EQUAL, ANSWER = 0x20, 0x15, 0x06
ALLOW, EIO = 0x7FFF0000, 0x00050005
NO_NEW_PRIVILEGES, SET_FILTER = 38, 22  # of prctl


def fail_syncs() -> bool:
    """Fail every fsync and fdatasync from now on, if this machine lets us."""
    numbers = SYNCS.get(platform.machine(), ()) if sys.platform == "linux" else ()
    steps = [
        (LOAD, 0, 0),  # the number of the system call
        *((IF_EQUAL, len(numbers) - n, number) for n, number in enumerate(numbers)),
        (ANSWER, 0, ALLOW),
        (ANSWER, 0, EIO),
    ]
    code = b"".join(struct.pack("HBBI", op, jump, 0, k) for op, jump, k in steps)
    kept = ctypes.create_string_buffer(code)
    program = struct.pack("HxxxxxxP", len(steps), ctypes.addressof(kept))
    if not numbers:
        return False
    kernel = ctypes.CDLL(None)
    allowed = kernel.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0) == 0
    return bool(allowed and kernel.prctl(SET_FILTER, 2, program, 0, 0) == 0)
