"""What a figure of speed was measured on; a figure without it says nothing."""

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

FLAGS = (  # what decides the speed of a matrix product
    *("avx2", "fma", "f16c", "avx512f", "avx512_bf16", "avx512_vnni"),
    *("avx_vnni", "amx_bf16", "amx_int8", "asimd", "bf16", "sve"),
)
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
LIBRARIES = ("numpy", "torch", "faiss-cpu", "fastapi", "uvicorn", "transformers")


def machine() -> dict[str, Any]:
    """Return the machine's facts, and how busy it is at this moment."""
    said = _cpu()
    flags = set(said.get("flags", said.get("Features", "")).split())
    return {
        "cpu": said.get("model name", platform.processor() or platform.machine()),
        "cores": os.cpu_count(),
        "cores_usable": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "flags": [flag for flag in FLAGS if flag in flags],
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "libraries": {name: version(name) for name in LIBRARIES},
        "load_average": busy(),
    }


def busy() -> list[float]:
    """Return the load averages of 1, 5 and 15 minutes: what else ran."""
    return [round(load, 2) for load in os.getloadavg()]


def _cpu() -> dict[str, str]:
    """Return what the system says of the first core; nothing where it says nothing."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").split("\n\n")[0].splitlines()
    except OSError:
        return {}
    pairs = (line.partition(":") for line in lines)
    return {name.strip(): value.strip() for name, _, value in pairs}
