"""The warm worker is no second way out of a site."""

import ast

from tests.syntax import calls, dotted, sources

NETWORK = {"socket", "socketserver", "asyncio", "http", "urllib", "httpx", "requests"}


def importing(module: str) -> set[str]:
    """Files of a site that import a module, beside those that serve or ask for it."""
    return {
        source.path
        for source in sources()
        for one in source.imports
        if source.path.startswith("client/") and one.name.partition(".")[0] == module
    }


def test_sockets_of_a_site_are_those_of_the_worker_and_a_look_for_a_free_port() -> None:
    found = importing("socket")

    assert {
        p for p in found if not p.startswith(("client/serving/", "client/doctor/"))
    } == {
        "client/supernode.py",
        "client/warm.py",
        "client/worker.py",
    }


def test_the_worker_and_who_asks_it_speak_over_no_network() -> None:
    made = {
        source.path: [
            ast.unparse(call)
            for _, call in calls(source.tree)
            if dotted(call.func).startswith("socket.")
        ]
        for source in sources()
        if source.path in {"client/warm.py", "client/worker.py"}
    }
    others = {
        (source.path, one.name)
        for source in sources()
        for one in source.imports
        if source.path in made and one.name.partition(".")[0] in NETWORK - {"socket"}
    }

    assert made == {
        "client/warm.py": ["socket.socket(socket.AF_UNIX)"],
        "client/worker.py": ["socket.socket(socket.AF_UNIX)"],
    }
    assert others == set()
