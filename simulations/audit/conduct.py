"""How a site behaves in a round: charge first, count everything, send only the noised.

A small site is made on disk and asked through the very entry that Flower calls. What it
charges is held against what its optimiser was seen to do, what it sends against what
its ledger sealed.
"""

import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import RecordDict
from safetensors.numpy import load_file
from torch.optim.optimizer import register_optimizer_step_pre_hook

from client import round as client_round
from client.app import reply
from client.cooccurrence import Cooccurrence, looked_at
from client.data import save
from client.policy import RELEASES, SitePolicy
from client.policy_file import policy_text
from client.site import LEDGER, SiteSettings, settings_text
from shared.accounting import GaussianEvent, epsilon
from shared.chain import Chain
from shared.encoder import base_digest, open_encoder
from shared.errors import TacitError
from shared.ledger_file import read_ledger
from shared.protocol import (
    COOCCURRENCE,
    AdapterSpec,
    Array,
    Mechanism,
    Recipe,
    RoundPlan,
)
from shared.sealing import metric_bytes, update_bytes
from shared.wire import open_refusal, open_reply, pack_plan
from simulations.audit.finding import Finding
from simulations.audit.observe import observed_steps
from simulations.population import generate

NAME, USERS, DELTA = "audited", 40, 1e-5
NOISE = Mechanism(q=0.5, sigma=2.0, clip=0.5, steps=4, prior_sigma=4.0)
STILL = Recipe(
    factors=4,
    history=6,
    targets=2,
    negatives=8,
    learning_rate=1e-6,
    head_learning_rate=1e-6,
)
MADE = replace(STILL, head=COOCCURRENCE)  # a head from one release
LOUD = replace(NOISE, head_sigma=50.0)  # so that users are lost in its noise
CROWD = 6000  # declared where there are ``USERS``: what is looked at tells which counts
MAKER = "release_cooccurrence"  # in ``client/round.py``
RUNS = ("audit", "again")  # of two rounds each
QUIETEST, LOUDEST = 0.8, 1.2  # of all numbers of a loud co-occurrence; both sure
REPEATS = 16  # releases of one unchanged metric
NARROWEST, WIDEST = 0.3, 2.5  # of their deviation over the charged one; both sure


def conduct(folder: Path) -> list[Finding]:
    """Return what a site made in ``folder`` was seen to do."""
    return [
        *_charged(make_site(folder / "charged")),
        _before_data(make_site(folder / "before")),
        *_head(make_site(folder / "head", users=CROWD)),
        _head_before_data(make_site(folder / "head before")),
        _restarted(make_site(folder / "restarted", epsilon=_cost(2) + 0.01)),
        _metric(make_site(folder / "metric", epsilon=1e3)),
        _metric_is_off(make_site(folder / "off", releases=("popularity",))),
    ]


def make_site(
    folder: Path,
    *,
    epsilon: float = 100.0,
    releases: tuple[str, ...] = RELEASES,
    users: int = USERS,
) -> Path:
    """Make a site with generated users on the tiny encoder, and return its folder.

    Args:
        folder: Of the site.
        epsilon: Its budget.
        releases: What its policy lists.
        users: How many it declares.
    """
    folder.mkdir(parents=True)
    population = generate(np.random.default_rng(1), users=USERS, items=144)
    save(folder / "data", population.data)
    cache = str(folder.parent.resolve() / "cache")
    settings = SiteSettings(name=NAME, base="tiny", cache=cache, device="cpu")
    policy = SitePolicy(
        epsilon=epsilon, delta=DELTA, users=users, max_q=1.0, releases=releases
    )
    (folder / "site.toml").write_text(settings_text(settings), "utf-8")
    (folder / "policy.toml").write_text(policy_text(policy), "utf-8")
    return folder


def ask(
    folder: Path,
    number: int,
    mechanism: Mechanism = NOISE,
    recipe: Recipe = STILL,
    run: str = "audit",
) -> RecordDict:
    """Ask the site for a round, as a server does, and return what it sends."""
    shapes = exchanged()
    plan = RoundPlan(
        run=run,
        number=number,
        sites=(NAME,),
        spec=_spec(),
        mechanism=mechanism,
        recipe=recipe,
        shapes=shapes,
        max_norm=100.0,
        quorum=1,
        deadline_s=60.0,
    )
    start = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    return reply(pack_plan(plan, start), folder)


def exchanged() -> dict[str, tuple[int, ...]]:
    """Return the tensors that the site exchanges."""
    return open_encoder("tiny", _spec(), "cpu").shapes()


def answer_elsewhere(folder: Path, numbers: list[int]) -> list[str]:
    """Ask for rounds in a fresh process; return the refusal of each, or nothing."""
    code = (
        "import sys\nfrom pathlib import Path\n"
        "from simulations.audit.conduct import ask, refusal\n"
        "for n in sys.argv[2:]: print(refusal(ask(Path(sys.argv[1]), int(n))))\n"
    )
    words = [sys.executable, "-c", code, str(folder), *map(str, numbers)]
    done = subprocess.run(  # noqa: S603 - our own code
        words, capture_output=True, text=True, check=False, cwd=Path.cwd()
    )
    return done.stdout.splitlines()


def refusal(content: RecordDict) -> str:
    """Return the class name that a reply refuses with, or nothing."""
    refused = open_refusal(content)
    return refused[1] if refused else ""


def _spec() -> AdapterSpec:
    return AdapterSpec(base=base_digest("tiny"), rank=4, max_tokens=12)


def _charged(folder: Path) -> list[Finding]:
    """One round: what is charged is what ran, before it ran; what left is sealed."""
    with observed_steps() as steps, _ledger_at_first_step(folder) as seen:
        content = ask(folder, 1)
    chain = read_ledger(folder / LEDGER)
    charged = [e.body for e in chain.entries if e.state == "planned"]
    said = {(b["what"], b["sigma"], b["steps"]) for b in charged}
    wanted = {
        ("training", NOISE.sigma, len(steps)),
        ("popularity", NOISE.prior_sigma, 1),
    }
    early = [e.body["what"] for c in seen for e in c.entries if e.state == "planned"]
    return [
        Finding(
            audit="conduct.charged",
            holds=said == wanted and len(charged) == len(wanted),
            says=f"{len(steps)} steps were taken; charged: {sorted(said)}",
            figures={"steps": len(steps), "epsilon": epsilon(chain.events, DELTA)},
        ),
        Finding(
            audit="conduct.charged first",
            holds=sorted(early) == ["popularity", "training"],
            says=f"at the first step the ledger on disk held charges for {early}",
            figures={"charged": early},
        ),
        _sealed(content, chain),
    ]


def _sealed(content: RecordDict, chain: Chain) -> Finding:
    """Return whether the reply is exactly what the ledger sealed, and nothing else."""
    names = sorted(content)
    if names != ["delta", "update", "witness"]:
        says = f"the reply holds {names}, not delta, update and witness"
        return _finding("sealed", holds=False, says=says)
    told = open_reply(content, exchanged())
    left = sha256(update_bytes(told.update)).hexdigest()
    sealed = [
        e.body["sha256"]
        for e in chain.entries
        if e.state == "sealed" and e.body["leaves"]
    ]
    same = sealed == [left] and told.witness == chain.witness
    says = f"one update left, sealed as {left[:16]}, with the ledger's own end"
    return _finding(
        "sealed", holds=same, says=says if same else "what left is not what was sealed"
    )


def _before_data(folder: Path) -> Finding:
    """Charge comes before data: with no data to read the charge stands already."""
    (folder / "data").rename(folder / "elsewhere")
    refused = refusal(ask(folder, 1))
    states = [
        f"{entry.state} {entry.body.get('what', '')}".strip()
        for entry in read_ledger(folder / LEDGER).entries
    ]
    return Finding(
        audit="conduct.charged before data",
        holds="planned popularity" in states,
        says=f"without data the site refuses ({refused}); its ledger holds {states}",
        figures={"states": states},
    )


def _head(folder: Path) -> list[Finding]:
    """One co-occurrence a run: charged before it is made, as noisy as that, staying."""
    with _charged_at_release(folder) as early:
        replies = [ask(folder, n, LOUD, MADE, run) for run in RUNS for n in (1, 2)]
    refused = [refusal(content) for content in replies]
    if any(refused):
        says = f"asked for a head from a release, the site refuses: {refused}"
        return [_finding("head charged", holds=False, says=says)]
    chain = read_ledger(folder / LEDGER)
    charged = _head_charges(chain)
    said = [(b["run"], b["q"], b["sigma"], b["steps"], b["clip"]) for b in charged]
    wanted = [(run, 1.0, LOUD.head_sigma, 1, 1.0) for run in RUNS]
    sealed = {e.body["planned"]: e.body for e in chain.entries if e.state == "sealed"}
    told = [sealed.get(body["n"], {}) for body in charged]
    paths = [folder / "runs" / run / f"{COOCCURRENCE}.safetensors" for run in RUNS]
    kept = [sha256(path.read_bytes()).hexdigest() for path in paths]
    stays = [(body.get("sha256"), body.get("leaves")) for body in told]
    sent = sorted({name for content in replies for name in content})
    return [
        Finding(
            audit="conduct.head charged",
            holds=said == wanted and early == [1, 2],
            says=f"in {len(replies)} rounds of {len(RUNS)} runs the co-occurrences "
            f"charged are {said} (run, q, sigma, steps, clip), and {early} when each "
            "was made",
            figures={"charged": said, "early": early},
        ),
        _finding(
            "head stays",
            holds=stays == [(digest, False) for digest in kept]
            and sent == ["delta", "update", "witness"],
            says=f"{len(kept)} co-occurrences are kept, {len(told)} are to be sealed "
            f"as staying; the replies hold {sent}",
        ),
        _head_as_charged([load_file(path) for path in paths], folder),
    ]


def _head_before_data(folder: Path) -> Finding:
    """So does the charge of a co-occurrence, where the popularity is there already."""
    ask(folder, 1)
    (folder / "data").rename(folder / "elsewhere")
    refused = refusal(ask(folder, 2, LOUD, MADE))
    charged = len(_head_charges(read_ledger(folder / LEDGER)))
    says = (
        f"without data the site refuses ({refused}); co-occurrences charged: {charged}"
    )
    return _finding("head charged before data", holds=charged == 1, says=says)


def _head_as_charged(made: Sequence[Mapping[str, Array]], folder: Path) -> Finding:
    """Hold each release against its noise and against what alone it may look at."""
    count = looked_at(CROWD, LOUD.head_sigma, MADE.head_items)
    wrong, spreads = 0, []
    for run, released in zip(RUNS, made, strict=True):
        popular = load_file(folder / "runs" / run / "popularity.safetensors")
        first = np.argsort(-popular["popularity"], kind="stable")[:count]
        wrong += not np.array_equal(released["items"], first)
        size = len(released["gram"])
        noise = LOUD.head_sigma * np.sqrt(size * (size + 1) / 2)  # of all its numbers
        spreads.append(float(np.linalg.norm(released["gram"])) / noise)
    different = len({released["gram"].tobytes() for released in made})
    return Finding(
        audit="conduct.head noised",
        holds=not wrong
        and different == len(made)
        and all(QUIETEST < spread < LOUDEST for spread in spreads),
        says=f"{wrong} co-occurrences are about other items than the {count} that the "
        "released popularity and the declared users say; they spread "
        f"{', '.join(f'{s:.2f}' for s in spreads)} times the charged noise",
        figures={"wrong": wrong, "spreads": spreads, "different": different},
    )


def _head_charges(chain: Chain) -> list[Mapping[str, Any]]:
    """Return what a ledger holds of charges for co-occurrences."""
    planned = [entry.body for entry in chain.entries if entry.state == "planned"]
    return [body for body in planned if body["what"] == COOCCURRENCE]


@contextmanager
def _charged_at_release(folder: Path) -> Iterator[list[int]]:
    """Count from disk the co-occurrences charged when the making of one begins."""
    seen: list[int] = []
    made: Callable[..., Cooccurrence] = getattr(client_round, MAKER)

    def look(*given: Any) -> Cooccurrence:
        seen.append(len(_head_charges(read_ledger(folder / LEDGER))))
        return made(*given)

    setattr(client_round, MAKER, look)
    try:
        yield seen
    finally:
        setattr(client_round, MAKER, made)


def _restarted(folder: Path) -> Finding:
    """A budget for two rounds ends after two, though each process starts anew."""
    first = refusal(ask(folder, 1))
    later = answer_elsewhere(folder, [2, 3])
    again = answer_elsewhere(folder, [3])
    spent = epsilon(read_ledger(folder / LEDGER).events, DELTA)
    told = [first, *later, *again]
    return Finding(
        audit="conduct.restart",
        holds=told == ["", "", "BudgetSpent", "BudgetSpent"]
        and abs(spent - _cost(2)) < 1e-6,
        says=f"rounds 1, 2, 3 and 3 again, in three processes: {told}; spent "
        f"{spent:.4f}, two rounds cost {_cost(2):.4f}",
        figures={"answers": told, "spent": spent},
    )


def _metric(folder: Path) -> Finding:
    """A metric of a model that stands still spreads as its noise, and is charged."""
    noise = replace(NOISE, q=1.0, steps=1, metric_sigma=4.0)
    values, hashes = [], []
    for number in range(1, REPEATS + 1):
        content = ask(folder, number, noise)
        try:
            told = open_reply(content, exchanged()).metric
        except TacitError as error:
            says = f"release {number} is no reply: {refusal(content) or error}"
            return _finding("metric", holds=False, says=says)
        values.append(told.value if told else float("nan"))
        hashes.append(sha256(metric_bytes(told)).hexdigest() if told else "")
    spread = float(np.std(values, ddof=1)) / (noise.metric_sigma / USERS)
    entries = read_ledger(folder / LEDGER).entries
    charged = [
        entry.body
        for entry in entries
        if entry.state == "planned" and entry.body["what"] == "metrics"
    ]
    sealed = {entry.body.get("sha256") for entry in entries}
    paid = len(charged) == REPEATS and set(hashes) <= sealed
    return Finding(
        audit="conduct.metric",
        holds=NARROWEST < spread < WIDEST and paid,
        says=f"{REPEATS} releases of one metric spread {spread:.2f} times the charged "
        f"noise; {len(charged)} charged",
        figures={"spread": spread, "charged": len(charged)},
    )


def _metric_is_off(folder: Path) -> Finding:
    """A site whose policy lists no metrics refuses a plan that asks for one."""
    refused = refusal(ask(folder, 1, replace(NOISE, metric_sigma=4.0)))
    charged = read_ledger(folder / LEDGER).events
    says = f"asked for a metric it does not allow, the site says {refused or 'nothing'}"
    return _finding(
        "metric off", holds=refused == "PolicyRefused" and not charged, says=says
    )


@contextmanager
def _ledger_at_first_step(folder: Path) -> Iterator[list[Chain]]:
    """Read the ledger from disk when the first step of an optimiser begins."""
    seen: list[Chain] = []

    def look(*_: object) -> None:
        if not seen and (folder / LEDGER).exists():
            seen.append(read_ledger(folder / LEDGER))

    handle = register_optimizer_step_pre_hook(look)
    try:
        yield seen
    finally:
        handle.remove()


def _cost(rounds: int) -> float:
    """Return the epsilon of so many rounds with the release before them."""
    steps = NOISE.steps * rounds
    return epsilon(
        [
            GaussianEvent(q=1.0, sigma=NOISE.prior_sigma, steps=1),
            GaussianEvent(q=NOISE.q, sigma=NOISE.sigma, steps=steps),
        ],
        DELTA,
    )


def _finding(name: str, *, holds: bool, says: str) -> Finding:
    return Finding(audit=f"conduct.{name}", holds=holds, says=says, figures={})
