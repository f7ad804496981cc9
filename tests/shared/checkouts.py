"""Checkouts of Tacit's source for tests: a whole copy, and a tiny one."""

import shutil
from pathlib import Path

from shared.bundle import PACKAGES, build_bundle, source_packages
from tests.syntax import ROOT


def copy_checkout(root: Path) -> Path:
    """The whole source as git has it."""
    for package in PACKAGES:
        without = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, root / package, ignore=without)
    for name in ("pyproject.toml", "LICENSE"):
        shutil.copy(ROOT / name, root / name)
    return root


def tiny_checkout(root: Path, version: str = "0.1.0", **files: str) -> Path:
    """A source of a few lines; ``client__a="x"`` writes that to ``client/a.py``."""
    texts = {f"{package}__app": "app = None\n" for package in PACKAGES} | files
    for package in PACKAGES:
        (root / package).mkdir(parents=True)
        (root / package / "__init__.py").touch()
    for name, text in texts.items():
        (root / f"{name.replace('__', '/')}.py").write_text(text, "utf-8")
    told = (ROOT / "shared" / "bundle.toml").read_text("utf-8")
    told = told.replace('version = "0.1.0"', f'version = "{version}"')
    (root / "shared" / "bundle.toml").write_text(told, "utf-8")
    for name in ("pyproject.toml", "LICENSE"):
        shutil.copy(ROOT / name, root / name)
    return root


def built(root: Path) -> bytes:
    """The bundle that a checkout builds."""
    return build_bundle(source_packages(root))
