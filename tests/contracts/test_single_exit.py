"""Only one function lets something out of a site."""

import ast

import pytest

from tests.syntax import PACKAGES, calls, sources


def makers(name: str) -> set[str]:
    """Files whose code calls ``name(...)``, plain or as an attribute."""
    return {
        source.path
        for source in sources()
        if any(called == name for called, _ in calls(source.tree))
    }


def returning(name: str) -> set[str]:
    """Functions whose answer is annotated with ``name``."""
    return {
        f"{source.path}:{node.name}"
        for source in sources()
        for node in ast.walk(source.tree)
        if isinstance(node, ast.FunctionDef)
        and node.returns is not None
        and name in ast.unparse(node.returns)
    }


def test_all_files_of_the_four_packages_are_read() -> None:
    read = [source.path for source in sources()]

    assert len(read) >= 60
    assert {path.partition("/")[0] for path in read} == set(PACKAGES)


def test_updates_are_sealed_in_one_place_and_rebuilt_in_one() -> None:
    assert makers("AdapterUpdate") == {"client/egress.py", "shared/wire.py"}


def test_every_function_that_gives_an_update_is_known() -> None:
    assert returning("AdapterUpdate") == {
        "client/egress.py:seal",
        "client/round.py:answer",
        "client/round.py:_sealed_earlier",  # rebuilt from the bytes that were sealed
        "server/replies.py:_accepted",
        "server/rounds.py:count",
        "shared/wire.py:open_update",
        "shared/wire.py:update_from_bytes",
        "shared/wire.py:_update",
    }


@pytest.mark.parametrize(
    ("door", "users"),
    [
        ("seal", {"client/round.py"}),
        ("answer", {"client/app.py"}),
        ("pack_update", {"client/app.py"}),
        ("pack_refusal", {"client/app.py"}),
        ("open_update", {"server/replies.py"}),
        ("update_from_bytes", {"client/round.py"}),
    ],
)
def test_each_step_to_the_door_is_taken_in_one_place(
    door: str, users: set[str]
) -> None:
    assert makers(door) == users


def test_an_update_goes_by_no_other_name() -> None:
    """An alias would hide a maker from the test above."""
    renamed = [
        f"{source.path}: {alias.asname}"
        for source in sources()
        for node in ast.walk(source.tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.name in {"AdapterUpdate", "seal", "pack_update"} and alias.asname
    ]

    assert renamed == []


def test_only_the_entry_of_a_site_knows_how_messages_are_made() -> None:
    """Nothing else under client/ can send: Flower is imported in one file there."""
    found = {
        source.path
        for source in sources()
        if source.path.startswith("client/")
        for one in source.imports
        if one.name.startswith("flwr")
    }

    assert found == {"client/app.py"}
