"""Whether this machine can run a site: Python, libraries, device, memory, disk."""

import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from client.doctor.verdict import Verdict, fault, ok, warning

OLDEST_PYTHON = (3, 11)
FLOWER = "1.41."  # the one minor version whose private names we rely on
LIBRARIES = ("torch", "transformers", "peft", "opacus")
GIB = 2**30
# Encoder and libraries take 0.7 GiB, Flower's two processes 0.3; the rest is batches.
LEAST_MEMORY, EASY_MEMORY = 1.5 * GIB, 3 * GIB
LEAST_DISK, EASY_DISK = 1 * GIB, 5 * GIB


def python(running: tuple[int, ...] = sys.version_info[:3]) -> Verdict:
    """Compare the version of Python with the oldest that Tacit runs on."""
    found = ".".join(map(str, running))
    if running[:2] >= OLDEST_PYTHON:
        return ok("python", found)
    oldest = ".".join(map(str, OLDEST_PYTHON))
    return fault("python", found, f"install Python {oldest} or newer, and Tacit there")


def flower(at_server: str) -> Verdict:
    """Compare Flower's version here with what Tacit needs and the server runs."""
    here = _version("flwr")
    found = f"flwr {here or 'missing'} here, {at_server} at the server"
    if here.startswith(FLOWER) and at_server.startswith(FLOWER):
        return ok("flower", found)
    side = "the operator's" if here.startswith(FLOWER) else "this"
    return fault(
        "flower", found, f"in {side} installation: pip install 'flwr>=1.41.0,<1.42'"
    )


def release(at_server: str) -> Verdict:
    """Compare Tacit's version here with the server's; the bundle decides in the end."""
    here = _version("tacit")
    found = f"tacit {here or 'missing'} here, {at_server} at the server"
    if here == at_server:
        return ok("tacit", found)
    return warning(
        "tacit", found, f"install tacit {at_server}, or approve its bundle from source"
    )


def libraries() -> Verdict:
    """Say which of the libraries that train are installed."""
    found = {name: _version(name) for name in LIBRARIES}
    said = ", ".join(f"{name} {here or 'missing'}" for name, here in found.items())
    if all(found.values()):
        return ok("libraries", said)
    return fault("libraries", said, "pip install tacit, with its constraints.txt")


def device(wanted: str) -> Verdict:
    """Say on what a round would run."""
    import torch  # noqa: PLC0415  # seconds

    from client.workbench import device_of  # noqa: PLC0415

    there = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    chosen = device_of(wanted)
    if there[chosen]:
        return ok("device", f"{wanted} is {chosen}" if wanted == "auto" else chosen)
    return fault(
        "device",
        f"{chosen} is not available to torch {torch.__version__}",
        'set device = "auto" in site.toml, or install the driver and a torch for it',
    )


def memory() -> Verdict:
    """Compare what is free with what a round takes."""
    return _enough(
        "memory",
        psutil.virtual_memory().available,
        (LEAST_MEMORY, EASY_MEMORY),
        "end other programs, or give the machine more memory",
    )


def disk(folder: Path) -> Verdict:
    """Compare what is free under the site's folder with what a run keeps there."""
    return _enough(
        "disk",
        shutil.disk_usage(folder).free,
        (LEAST_DISK, EASY_DISK),
        f"make room on the disk of {folder}: a round is refused when its ledger "
        "cannot be written",
    )


def _enough(
    check: str, free: float, bounds: tuple[float, float], remedy: str
) -> Verdict:
    least, easy = bounds
    found = f"{free / GIB:.1f} GiB free, {least / GIB:.1f} needed"
    if free < least:
        return fault(check, found, remedy)
    if free < easy:
        return warning(check, f"{found}, {easy / GIB:.0f} advised", remedy)
    return ok(check, found)


def _version(name: str) -> str:
    """Return the installed version, or nothing."""
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
