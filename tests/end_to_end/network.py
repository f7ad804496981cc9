"""Network namespaces on this machine, and cables between them that can be bad.

A cable is a pair of TUN devices and two threads here that carry each packet across:
late, slowly, or not at all. (The kernel's own netem is a module that many lack.)
"""

import ctypes
import fcntl
import os
import queue
import random
import struct
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

TUN = Path("/dev/net/tun")
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
CLONE_NEWNET = 0x40000000
LARGEST = 65536
SERVER = "10.77.0.1"


@dataclass
class Cable:
    """A cable between the server and a site, as good as it is at the moment."""

    site: str
    delay_s: float = 0.0
    loss: float = 0.0
    bytes_per_s: float = float("inf")
    dropped: int = 0
    ends: tuple[int, int] = (-1, -1)
    _chance: random.Random = field(default_factory=lambda: random.Random(7))  # noqa: S311

    def cut(self) -> None:
        run("ip", "-n", self.site, "link", "set", "wire", "down")

    def mend(self) -> None:
        run("ip", "-n", self.site, "link", "set", "wire", "up")
        run("ip", "-n", self.site, "route", "add", SERVER, "dev", "wire")

    def carry(self, here: int, there: int, over: threading.Event) -> None:
        """Read packets at one end and have them written at the other in time."""
        waiting: queue.Queue[tuple[float, bytes] | None] = queue.Queue()
        writer = threading.Thread(target=_deliver, args=(there, waiting))
        writer.start()
        free = time.monotonic()  # when the last packet has gone out
        while not over.is_set():
            try:
                packet = os.read(here, LARGEST)
            except OSError:  # nothing there, or cut
                time.sleep(0.002)
                continue
            if self._chance.random() < self.loss:
                self.dropped += 1
                continue
            free = max(free, time.monotonic()) + len(packet) / self.bytes_per_s
            waiting.put((free + self.delay_s, packet))
        waiting.put(None)
        writer.join()


@dataclass(frozen=True)
class Network:
    """Namespaces of a server and of sites, each site on a cable of its own."""

    server: str
    cables: dict[str, Cable]

    @property
    def within(self) -> dict[str, tuple[str, ...]]:
        """Words that run a command of a party where it belongs."""
        spaces = {"server": self.server}
        spaces |= {name: cable.site for name, cable in self.cables.items()}
        return {name: ("ip", "netns", "exec", space) for name, space in spaces.items()}


def why_not() -> str:
    """Why there can be no network here; empty if there can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if not TUN.exists():
        return f"{TUN} is missing"
    probe = f"tacit-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", probe], check=False)
    if made.returncode:
        return "network namespaces are not permitted here"
    run("ip", "netns", "del", probe)
    return ""


@contextmanager
def network(names: Sequence[str]) -> Iterator[Network]:
    """Make a server's namespace and one per site; take them away afterwards."""
    with ExitStack() as stack:
        server = stack.enter_context(_namespace("server"))
        run("ip", "-n", server, "address", "add", f"{SERVER}/32", "dev", "lo")
        cables = {}
        for number, name in enumerate(names, start=2):
            site = stack.enter_context(_namespace(name))
            ends = _device(server, f"to-{number}"), _device(site, "wire")
            run("ip", "-n", site, "address", "add", f"10.77.0.{number}", "dev", "wire")
            cables[name] = Cable(site, ends=ends)
            cables[name].mend()
            run("ip", "-n", server, "link", "set", f"to-{number}", "up")
            run(
                *("ip", "-n", server, "route", "add", f"10.77.0.{number}"),
                *("dev", f"to-{number}", "src", SERVER),
            )
            stack.enter_context(_carried(cables[name]))
        yield Network(server, cables)


def run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True)


@contextmanager
def _namespace(name: str) -> Iterator[str]:
    full = f"tacit-{os.getpid()}-{name}"
    run("ip", "netns", "add", full)
    try:
        run("ip", "-n", full, "link", "set", "lo", "up")
        yield full
    finally:
        run("ip", "netns", "del", full)


@contextmanager
def _carried(cable: Cable) -> Iterator[None]:
    """Carry packets both ways."""
    over, (one, other) = threading.Event(), cable.ends
    ways = [(one, other), (other, one)]
    threads = [threading.Thread(target=cable.carry, args=(*way, over)) for way in ways]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()
        for end in cable.ends:
            os.close(end)


def _deliver(there: int, waiting: "queue.Queue[tuple[float, bytes] | None]") -> None:
    while (due := waiting.get()) is not None:
        moment, packet = due
        time.sleep(max(0.0, moment - time.monotonic()))
        with suppress(OSError):  # cut at the other end
            os.write(there, packet)


def _device(space: str, name: str) -> int:
    """Make a TUN device in a namespace; a thread goes there, for it cannot return."""
    made: list[int] = []

    def make() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        with Path("/run/netns", space).open() as there:
            if libc.setns(there.fileno(), CLONE_NEWNET):
                return
        end = os.open(TUN, os.O_RDWR | os.O_NONBLOCK)
        asked = struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI)
        fcntl.ioctl(end, TUNSETIFF, asked)
        made.append(end)

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    assert made, f"no device in {space}"
    return made[0]
