"""Only one door lets something out of a site."""

import ast

import pytest

from tests.syntax import PACKAGES, calls, nodes, sources


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
        for node in nodes(source.tree)
        if isinstance(node, ast.FunctionDef)
        and node.returns is not None
        and name in ast.unparse(node.returns)
    }


def test_all_files_of_the_four_packages_are_read() -> None:
    read = [source.path for source in sources()]

    assert len(read) >= 60
    assert {path.partition("/")[0] for path in read} == set(PACKAGES)


LEAVING = {  # what leaves -> where it is made, and where it is rebuilt from its bytes
    "AdapterUpdate": {"client/egress.py", "shared/sealing.py"},
    "MetricRelease": {"client/egress.py", "shared/sealing.py", "shared/wire.py"},
    "Reply": {"client/round.py", "shared/wire.py"},
}


@pytest.mark.parametrize("what", LEAVING)
def test_what_leaves_is_made_in_one_place_and_rebuilt_elsewhere_as_it_is(
    what: str,
) -> None:
    assert makers(what) == LEAVING[what]


def test_every_function_that_gives_what_leaves_is_known() -> None:
    found = {what: returning(what) for what in LEAVING}

    assert found == {
        "AdapterUpdate": {
            "client/egress.py:release_update",
            "client/egress.py:seal",
            "client/round.py:_of_this_plan",
            "client/round.py:_sealed_earlier",  # from the bytes that were sealed
            "client/round.py:_train",
            "server/replies.py:_accepted",
            "shared/sealing.py:update_from_bytes",
            "shared/sealing.py:update_of",
        },
        "MetricRelease": {
            "client/egress.py:release_metric_value",
            "client/round.py:_measure",
            "client/round.py:_sealed_earlier",
            "client/round.py:_train",
            "shared/sealing.py:metric_from_bytes",
            "shared/wire.py:_metric",
        },
        "Reply": {
            "client/round.py:answer",
            "shared/wire.py:open_reply",
        },
    }


STEPS = {
    "seal": {"client/egress.py"},
    "release_update": {"client/round.py"},
    "release_metric_value": {"client/round.py"},
    "answer": {"client/app.py"},
    "pack_reply": {"client/app.py"},
    "pack_refusal": {"client/app.py"},
    "update_of": {"shared/sealing.py", "shared/wire.py"},
    "update_from_bytes": {"client/egress.py", "client/round.py"},
    "metric_from_bytes": {"client/round.py"},
}


@pytest.mark.parametrize("door", STEPS)
def test_each_step_to_the_door_is_taken_in_one_place(door: str) -> None:
    """The simulation's audits look on from outside; they are no part of a site."""
    ours = {path for path in makers(door) if not path.startswith("simulations/")}

    assert ours == STEPS[door]


def test_what_leaves_is_opened_by_the_server_and_by_audits_alone() -> None:
    found = makers("open_reply")

    assert "server/replies.py" in found
    assert {path for path in found if not path.startswith("simulations/audit/")} == {
        "server/replies.py"
    }


def test_what_leaves_goes_by_no_other_name() -> None:
    """An alias, or a copy with other values, would hide a maker from these tests."""
    renamed = [
        f"{source.path}: {alias.asname}"
        for source in sources()
        for node in nodes(source.tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.name in LEAVING.keys() | STEPS.keys() and alias.asname
    ]
    copying = {
        f"{source.path}: {one.name}"
        for source in sources()
        for one in source.imports
        if source.path.startswith(("client/", "shared/"))
        and not source.path.startswith(COPIERS)
        and one.name in {"dataclasses", "dataclasses.replace", "copy", "copy.copy"}
    }

    assert renamed == []
    assert copying == set()


COPIERS = ("client/serving/", "client/data.py", "shared/encoder.py", "shared/quick.py")


def test_who_may_copy_with_other_values_never_meets_what_leaves() -> None:
    doors = {"shared.wire", "shared.sealing", "client.egress", "client.round"}
    found = {
        f"{source.path}: {one.name}"
        for source in sources()
        if source.path.startswith(COPIERS)
        for one in source.imports
        if one.name.rpartition(".")[2] in LEAVING.keys() | STEPS.keys()
        or any(one.name == door or one.name.startswith(f"{door}.") for door in doors)
    }

    assert found == set()


def test_only_the_entry_of_a_site_knows_how_messages_are_made() -> None:
    """Beside it, the node answers a bundle it refuses, with Flower's own error alone.

    The doctor asks the server whether it knows the site's key; it makes no message.
    """
    importing = {
        source.path: {one.name for one in source.imports if one.name.startswith("flwr")}
        for source in sources()
        if source.path.startswith("client/")
    }
    made = {
        source.path: ast.unparse(call)
        for source in sources()
        if source.path.startswith("client/") and source.path != "client/app.py"
        for name, call in calls(source.tree)
        if name == "Message"
    }

    assert {path for path, names in importing.items() if names} == {
        "client/app.py",
        "client/doctor/server.py",
        "client/node.py",
    }
    assert made == {
        "client/node.py": "Message(flower.FAB_VERIFICATION_ERROR, reply_to=message)"
    }
