"""Every large library has its home files, and some things have none."""

import ast

import pytest

from tests.syntax import PACKAGES, ROOT, calls, dotted, importers, nodes, sources

UNSAFE = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
GENERATORS = {"np.random.default_rng", "np.random.Generator"}
SEEDERS = {"seed", "manual_seed", "manual_seed_all", "set_seed"}
PROCESS = {"torch", "torch.random", "torch.cuda", "torch.mps", "np.random", "random"}


@pytest.mark.parametrize("library", ["transformers", "peft"])
def test_the_encoder_is_the_one_home_of_transformers_and_peft(library: str) -> None:
    plain = {"simulations/bench/plain_model.py"}  # the ordinary program, compared

    assert set(importers(library)) - plain == {"shared/encoder.py"}


def test_opacus_trains_at_the_client_and_checks_the_accountant() -> None:
    inside_functions_alone = {
        "client/gradients.py": False,  # of rows
        "client/train.py": False,  # the step
        "shared/accounting.py": True,
        "simulations/bench/plain.py": False,  # the ordinary program, to compare with
    }

    assert importers("opacus") == inside_functions_alone


def test_flower_is_imported_only_where_messages_are() -> None:
    assert set(importers("flwr")) == {
        "client/app.py",
        "client/doctor/server.py",
        "client/node.py",
        "server/aggregate.py",
        "server/app.py",
        "server/broadcast.py",
        "server/delivery.py",
        "server/flower.py",
        "server/inbox.py",
        "server/replies.py",
        "server/rounds.py",
        "server/spectral.py",
        "shared/bundle.py",
        "shared/wire.py",
        "simulations/attack.py",
        "simulations/audit/conduct.py",
        "simulations/bench/plain.py",
        "simulations/crew_grid.py",
        "simulations/grid.py",
    }


def test_the_private_identity_of_flower_is_touched_in_one_file() -> None:
    found = {
        source.path
        for source in sources()
        if "TaskIdentity" in (ROOT / source.path).read_text("utf-8")
        or any("task_identity" in one.name for one in source.imports)
    }

    assert found == {"simulations/grid.py"}


def test_nothing_loads_code_from_data() -> None:
    unsafe = {name: importers(name) for name in UNSAFE if importers(name)}
    loaded = {
        f"{source.path}:{call.lineno}"
        for source in sources()
        for name, call in calls(source.tree)
        if dotted(call.func) in {"torch.load", "eval", "exec", "__import__"}
        or any(keyword.arg == "allow_pickle" for keyword in call.keywords)
    }

    assert (unsafe, loaded) == ({}, set())


def forked(tree: ast.AST) -> set[int]:
    """Nodes inside ``with torch.random.fork_rng()``, which restores what was there."""
    return {
        id(inner)
        for node in nodes(tree)
        if isinstance(node, ast.With)
        and any("fork_rng" in ast.unparse(item) for item in node.items)
        for inner in ast.walk(node)
    }


def draws_globally(tree: ast.Module, imported: set[str]) -> list[str]:
    """Calls that seed or use a generator of the whole process, as written.

    A generator's own ``manual_seed`` is its own affair.
    """
    kept, found = forked(tree), []
    for name, call in calls(tree):
        whole = dotted(call.func)
        owner = whole.rpartition(".")[0] if whole != name else "imported"
        everyones = owner in PROCESS or (owner == "imported" and name in imported)
        seeds = name in SEEDERS and everyones and id(call) not in kept
        legacy = whole.startswith("np.random.") and whole not in GENERATORS
        if seeds or legacy:
            found.append(whole)
    return found


def test_no_generator_is_global() -> None:
    """No seeding outside a fork, no ``random``, of ``np.random`` only generators."""
    found = {
        source.path: draws_globally(
            source.tree,
            {
                one.name.rpartition(".")[2]
                for one in source.imports
                if one.name.partition(".")[0] not in PACKAGES
            },
        )
        for source in sources()
    }

    assert {path: calls for path, calls in found.items() if calls} == {}
    assert importers("random") == {}


@pytest.mark.parametrize(
    "line",
    ["torch.manual_seed(1)", "np.random.rand(3)", "np.random.seed(1)", "set_seed(1)"],
)
def test_a_generator_that_is_global_would_be_found(line: str) -> None:
    honest = "g = torch.Generator().manual_seed(1)\nwith fork_rng():\n    "

    assert draws_globally(ast.parse(line), {"set_seed"}) == [line.partition("(")[0]]
    assert draws_globally(ast.parse(f"{honest}torch.manual_seed(1)"), set()) == []
