"""Every large library has its home files, and some things have none."""

import ast

import pytest

from tests.syntax import calls, dotted, importers, sources

UNSAFE = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
GENERATORS = {"np.random.default_rng", "np.random.Generator"}


@pytest.mark.parametrize("library", ["transformers", "peft"])
def test_the_encoder_is_the_one_home_of_transformers_and_peft(library: str) -> None:
    assert set(importers(library)) == {"shared/encoder.py"}


def test_opacus_trains_in_one_file_and_checks_the_accountant_in_another() -> None:
    inside_functions_alone = {"client/train.py": False, "shared/accounting.py": True}

    assert importers("opacus") == inside_functions_alone


def test_flower_is_imported_only_where_messages_are() -> None:
    assert set(importers("flwr")) == {
        "client/app.py",
        "server/aggregate.py",
        "server/app.py",
        "server/replies.py",
        "server/rounds.py",
        "shared/wire.py",
        "simulations/grid.py",
    }


def test_the_private_identity_of_flower_is_touched_in_one_file() -> None:
    found = {
        source.path
        for source in sources()
        if "TaskIdentity" in ast.dump(source.tree)
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
        for node in ast.walk(tree)
        if isinstance(node, ast.With)
        and any("fork_rng" in ast.unparse(item) for item in node.items)
        for inner in ast.walk(node)
    }


def test_no_generator_is_global() -> None:
    """No seeding outside a fork, no ``random``, of ``np.random`` only generators."""
    found = []
    for source in sources():
        kept = forked(source.tree)
        for name, call in calls(source.tree):
            whole = dotted(call.func)
            seeds = name in {"seed", "manual_seed", "manual_seed_all", "set_seed"}
            legacy = whole.startswith("np.random.") and whole not in GENERATORS
            if (seeds and id(call) not in kept) or legacy:
                found.append(f"{source.path}:{call.lineno}: {whole}")

    assert found == []
    assert importers("random") == {}
