"""Our own source as syntax trees, for contracts about all files."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("shared", "client", "server", "simulations")


@dataclass(frozen=True)
class Import:
    """What a file imports, by its full name, and whether only inside a function."""

    name: str
    lazy: bool


@dataclass(frozen=True)
class Source:
    """One file of ours."""

    path: str
    tree: ast.Module
    imports: tuple[Import, ...]


@lru_cache(maxsize=1)
def sources() -> tuple[Source, ...]:
    """Every Python file of the four packages."""
    return tuple(
        _source(path)
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
    )


def _source(path: Path) -> Source:
    tree = ast.parse(path.read_text("utf-8"))
    return Source(path.relative_to(ROOT).as_posix(), tree, tuple(_imports(tree)))


@cache
def nodes(tree: ast.AST) -> tuple[ast.AST, ...]:
    """All of a tree; many tests ask for it."""
    return tuple(ast.walk(tree))


@cache
def calls(tree: ast.AST) -> tuple[tuple[str, ast.Call], ...]:
    """Each call with the name that is called: ``f`` and ``m.f`` are both ``f``."""
    return tuple(
        (dotted(node.func).rpartition(".")[2], node)
        for node in nodes(tree)
        if isinstance(node, ast.Call)
    )


def dotted(node: ast.AST) -> str:
    """``np.random.seed`` as written; empty where it is no plain name."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return ""


def _imports(tree: ast.AST, *, lazy: bool = False) -> Iterator[Import]:
    """What is imported in a tree; ``lazy`` if that lies inside a function."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, lazy)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield Import(f"{node.module}.{alias.name}", lazy)
        elif isinstance(node, ast.stmt | ast.excepthandler | ast.match_case):
            function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            yield from _imports(node, lazy=lazy or function)


def importers(package: str) -> dict[str, bool]:
    """Files that import ``package`` -> whether they do so inside functions alone."""
    found: dict[str, bool] = {}
    for source in sources():
        for one in source.imports:
            if one.name.partition(".")[0] == package:
                found[source.path] = found.get(source.path, True) and one.lazy
    return found
