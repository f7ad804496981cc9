"""Real processes on loopback: a server, two sites with sources of their own, a release.

The whole takes about two minutes; every test below looks at the same federation. Its
sites answer round after round from one process each, which ends with its site.
"""

import hashlib
import json
import shutil
import ssl
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import polars as pl
import psutil
import pytest
from safetensors.numpy import load_file

from client.app import app
from client.releases import current
from client.site import open_site
from client.warm import FOLDER, PIDS
from server.app import federate
from server.operator import open_operator
from server.plan_file import read_plan, settings_for
from shared.accounting import epsilon
from shared.programs import beside_python
from simulations.grid import LocalGrid
from tests.client.sources import cluster
from tests.client.sources.shop import PASSWORD
from tests.end_to_end.deployment import (
    Deployment,
    deployed,
    free_port,
    processes_of,
    quiet,
    wait_for,
)
from tests.end_to_end.runs import naming_users
from tests.end_to_end.struck import COMMANDS, process, require_books

pytestmark = pytest.mark.slow

WEIGHTS = "adapter_model.safetensors"
SITES = ("north", "south")
ROUNDS = 3
SOURCE = """\
[source]
kind = "database"
url = "{url}"
cursor = "time"
overlap = 5
password-env = "SHOP_PASSWORD"
[source.queries]
interactions = "SELECT who, what, time, stars FROM events"
items = "SELECT what, title FROM items"
[interactions]
user = "who"
item = "what"
timestamp = "time"
rating = "stars"
positive-rating = 4
[items]
item = "what"
text = ["title"]
"""


@pytest.fixture(scope="module")
def postgres() -> Iterator[cluster.Cluster]:
    where = cluster.binaries()
    if where is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    with cluster.running(where) as server:
        yield server


@pytest.fixture(scope="module")
def federation(
    tmp_path_factory: pytest.TempPathFactory, postgres: cluster.Cluster
) -> Iterator[Deployment]:
    """Three rounds of two sites: ``north`` reads Parquet, ``south`` PostgreSQL."""
    if shutil.which("nginx", path="/usr/sbin:/usr/bin") is None:
        pytest.skip("nginx is not installed: apt-get install nginx-light")
    patch = pytest.MonkeyPatch()
    patch.setenv("SHOP_PASSWORD", PASSWORD)
    root = tmp_path_factory.mktemp("deployment")
    with patch.context(), deployed(root) as made:
        made.init()
        for name in SITES:
            made.make_site(name, insecure_test_noise="true")
        fill_database(made.site("south") / "data", postgres)
        for name in SITES:  # what the sites were before anything was trained
            shutil.copytree(made.site(name), root / "before" / name)
        made.start_server()
        for name in SITES:
            made.join(name)
        made.wait_online(*SITES)
        plan = made.write_plan(*SITES, rounds=ROUNDS)
        made.said = made.tacit("server", "run", plan, made.operator)
        yield made
    patch.undo()


def fill_database(folder: Path, postgres: cluster.Cluster) -> None:
    """Move a site's Parquet into PostgreSQL, where a role may read and nothing else."""
    events = pl.read_parquet(folder / "interactions.parquet").rows()
    items = pl.read_parquet(folder / "items.parquet").select("_item", "_text").rows()
    postgres.run(
        f"CREATE ROLE reader LOGIN PASSWORD '{PASSWORD}'",
        "CREATE TABLE events (who text, what text, time bigint, stars smallint)",
        "CREATE TABLE items (what text, title text)",
        "GRANT SELECT ON events, items TO reader",
    )
    postgres.insert("events", events)
    postgres.insert("items", items)
    for path in folder.iterdir():
        path.unlink()
    text = SOURCE.format(url=postgres.url("reader"))
    (folder / "data.toml").write_text(text, "utf-8")


def weights(folder: Path) -> dict[str, np.ndarray]:
    """The tensors that sites train."""
    tensors = load_file(folder / WEIGHTS)
    return {name: array for name, array in tensors.items() if ".lora_B." in name}


def test_three_rounds_of_both_sites_end_in_a_version_each(
    federation: Deployment,
) -> None:
    rounds = federation.events(kind="round")

    assert [event["number"] for event in rounds] == [1, 2, 3]
    assert [sorted(event["sites_ok"]) for event in rounds] == [[*SITES]] * ROUNDS
    assert federation.events()[-1]["reason"] == "Completed"
    assert "ended: Completed" in federation.said


def worker(made: Deployment) -> psutil.Process:
    """The process from which ``north`` answers."""
    noted = json.loads((made.site("north") / FOLDER / PIDS).read_text("utf-8"))
    return psutil.Process(noted[0]["pid"])


def test_one_process_answered_all_rounds(federation: Deployment) -> None:
    log = federation.site("north") / "node" / "logs" / "superexec.log"
    said = log.read_text("utf-8", errors="replace").splitlines()
    lines = [json.loads(line) for line in said if line[:1] == "{"]
    started = [line for line in lines if line["event"].endswith(" started")]
    answered = [line for line in lines if line["event"] == "answered"]

    assert [line["event"] for line in started] == [
        f"worker {worker(federation).pid} started"
    ]
    assert [line["round"] for line in answered] == [1, 2, 3]
    require_books(federation, "spring", SITES)


def test_the_worker_runs_the_code_of_the_approved_bundle(
    federation: Deployment,
) -> None:
    code = worker(federation).environ()["PYTHONPATH"].split(":")[0]

    unpacked = federation.site("north") / "node" / "flwr" / "apps"
    assert Path(code, "client", "worker.py").is_file()
    assert Path(code).is_relative_to(unpacked)


def test_the_result_is_that_of_the_engine_in_one_process(
    federation: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same data, policies and test noise; other machines, in a manner of speaking.

    PostgreSQL is still there: the copy of the site reads it as the deployed one did.
    """
    monkeypatch.setenv("SHOP_PASSWORD", PASSWORD)
    nodes = {}
    for name in SITES:
        copy = tmp_path / name
        shutil.copytree(federation.root / "before" / name, copy)
        nodes[name] = {"site": str(copy)}
    operator = open_operator(federation.operator)
    plan = read_plan(federation.root / "spring.toml")
    settings = settings_for(operator, plan, resume=False)
    out = tmp_path / "out"
    out.mkdir()
    federation_of = replace(settings.federation, out=str(out), key="")

    federate(LocalGrid(app, nodes), replace(settings, federation=federation_of))

    for number in range(1, ROUNDS + 1):
        version = f"registry/round-{number:04}"
        here = weights(out / version)
        there = weights(federation.operator / "runs" / "spring" / version)
        assert here.keys() == there.keys()
        for tensor, array in here.items():
            assert np.abs(array).max() > 1e-3
            np.testing.assert_allclose(array, there[tensor], atol=1e-5)


def test_the_release_loads_with_peft_alone(
    federation: Deployment, tmp_path: Path
) -> None:
    from peft import PeftModel  # noqa: PLC0415

    from shared.encoder import load_base  # noqa: PLC0415

    listed = federation.tacit("server", "releases", "list", federation.operator)
    exported = tmp_path / "exported"
    federation.tacit(
        *("server", "releases", "export", "spring/3", exported, federation.operator)
    )
    model = PeftModel.from_pretrained(load_base("tiny").model, exported)

    assert "spring/3" in listed
    loaded = {
        name.replace(".default", ""): tensor.detach().numpy()
        for name, tensor in model.named_parameters()
        if "lora_B" in name
    }
    for name, array in weights(exported).items():
        np.testing.assert_array_equal(loaded[name], array)


def test_what_the_ledgers_charged_is_what_the_plan_asked(
    federation: Deployment,
) -> None:
    for name in SITES:
        exported = federation.root / f"{name}.jsonl"
        federation.tacit("site", "ledger", federation.site(name), "--out", exported)
        audited = federation.tacit(
            *("audit", "ledger", exported),
            *("--server", federation.operator / "runs" / "spring" / "registry"),
        )
        assert "holds" in audited
        site = open_site(federation.site(name))
        events = site.open_ledger().chain().events
        assert sum(event.steps for event in events) == 1 + ROUNDS * 3
        assert 0 < epsilon(events, 1e-5) < 100


def test_no_user_is_named_outside_the_data_of_a_site(federation: Deployment) -> None:
    """Not at the operator, not in logs of either side, not in what a site keeps."""
    named = [
        path.relative_to(federation.root)
        for path in naming_users(federation.root)
        if "data" not in path.relative_to(federation.root).parts
    ]
    assert named == []


def test_only_a_sites_own_user_can_read_its_folder(federation: Deployment) -> None:
    for name in SITES:
        folder = federation.site(name)
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        for key in ("site.key", "node.key", "node/superexec.secret"):
            assert stat.S_IMODE((folder / key).stat().st_mode) == 0o600
        tried = subprocess.run(
            ["ls", str(folder / "data")],
            check=False,
            user="nobody",
            capture_output=True,
        )
        assert tried.returncode != 0


def post(federation: Deployment, path: str) -> httpx.Response:
    """What the public port answers to a partner's request without a signature."""
    context = ssl.create_default_context(cafile=federation.operator / "tls" / "ca.crt")
    return httpx.post(
        f"https://127.0.0.1:{federation.public}{path}",
        headers={"Content-Type": "application/protobuf"},
        verify=context,
    )


@pytest.mark.parametrize("path", ["/v1/control/list-runs", "/v1/runtime/acquire-task"])
def test_the_proxy_passes_no_request_to_control_or_runtime(
    federation: Deployment, path: str
) -> None:
    assert post(federation, path).status_code == 404


def test_the_superlink_does_not_listen_outside_loopback(
    federation: Deployment,
) -> None:
    listening = subprocess.run(
        ["ss", "-ltnH", f"sport = :{federation.port}"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert [line.split()[3] for line in listening.splitlines()] == [
        f"127.0.0.1:{federation.port}"
    ]


def test_plain_http_is_refused(federation: Deployment) -> None:
    answer = httpx.get(f"http://127.0.0.1:{federation.public}/v1/fleet/activate-node")
    assert answer.status_code == 400


def test_a_fleet_request_without_a_signature_is_refused(
    federation: Deployment,
) -> None:
    assert post(federation, "/v1/fleet/activate-node").status_code == 401


def supernode(federation: Deployment, key: Path, ca: Path, home: Path) -> str:
    """What a SuperNode says that tries to join with a key and a CA, until it ends."""
    home.mkdir()
    done = subprocess.run(
        [
            beside_python("flower-supernode"),
            "--superlink", f"127.0.0.1:{federation.public}",
            "--root-certificates", ca, "--auth-supernode-private-key", key,
            "--isolation", "process", "--port", str(free_port()), "--max-retries", "1",
        ],
        env=quiet() | {"FLWR_HOME": str(home)},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    return done.stdout + done.stderr


def test_an_unregistered_key_is_refused(federation: Deployment, tmp_path: Path) -> None:
    key = tmp_path / "stranger"
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ecdsa", "-b", "384", "-N", "", "-f", key],
        check=True,
    )
    said = supernode(
        federation, key, federation.operator / "tls" / "ca.crt", tmp_path / "home"
    )
    assert "not" in said
    assert federation.online() == {*SITES}


def test_a_server_with_another_ca_is_not_spoken_to(
    federation: Deployment, tmp_path: Path
) -> None:
    subprocess.run(
        [
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
            "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=other",
            "-keyout", tmp_path / "ca.key", "-out", tmp_path / "ca.crt",
        ],
        check=True, capture_output=True,
    )  # fmt: skip
    said = supernode(
        federation,
        federation.site("north") / "node.key",
        tmp_path / "ca.crt",
        tmp_path / "home",
    )
    assert "CERTIFICATE_VERIFY_FAILED" in said


def test_a_rollback_reaches_the_sites(federation: Deployment) -> None:
    federation.tacit("server", "releases", "rollback", "spring/2", federation.operator)

    said = federation.tacit("server", "releases", "send", federation.operator)

    assert said == "release spring/2 sent: north Kept, south Kept\n"
    for name in SITES:
        folder = current(open_site(federation.site(name)))
        assert folder is not None
        held = weights(federation.operator / "runs/spring/registry/round-0002")
        for tensor, array in weights(folder).items():
            np.testing.assert_array_equal(array, held[tensor])


def test_a_pause_frees_the_memory_and_what_follows_is_answered_again(
    federation: Deployment,
) -> None:
    made, first = federation, worker(federation)

    made.tacit("site", "pause", made.site("north"))
    wait_for(lambda: not first.is_running(), 30, "the worker ends")
    made.tacit("site", "resume", made.site("north"))
    made.wait_online("north")
    plan = made.write_plan("north", run="pause", rounds=1)
    made.tacit("server", "run", plan, made.operator)

    assert worker(made).pid != first.pid
    assert made.events("pause", "round")[0]["sites_ok"] == ["north"]


def test_a_bundle_that_is_not_approved_is_refused_and_never_unpacked(
    federation: Deployment,
) -> None:
    """After this one site has approved nothing."""
    south = federation.site("south")
    digest = hashlib.sha256((federation.operator / "bundle.fab").read_bytes())
    federation.tacit("site", "approve", south, "--revoke", digest.hexdigest())
    before = ledger_lines(federation, "south")
    plan = federation.write_plan(*SITES, run="summer", rounds=1, quorum=1)

    federation.tacit("server", "run", plan, federation.operator)

    [told] = federation.events("summer", "round")
    assert told["sites_ok"] == ["north"]
    assert told["refused"] == {"south": "FlowerError7"}
    assert ledger_lines(federation, "south") == before
    assert digest.hexdigest() in federation.tacit("site", "status", south)


def ledger_lines(federation: Deployment, name: str) -> int:
    return len(open_site(federation.site(name)).open_ledger().entries())


def test_nothing_of_a_killed_site_stays_behind(federation: Deployment) -> None:
    """Last in this file: the site is gone."""
    made, last = federation, worker(federation)

    for role in ("site", "supernode", "superexec"):
        found = process(made.site("north"), role)
        assert found is not None
        found.kill()
    wait_for(lambda: not last.is_running(), 10, "the worker ends")

    assert [
        role for role in COMMANDS if process(made.site("north"), role) is not None
    ] == []
    assert processes_of(made.site("north") / FOLDER) == []
