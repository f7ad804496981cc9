"""The plain program: Flower, PEFT and Opacus put together by the book, without Tacit.

It is what Tacit is measured against: the same model, loss and mechanism, written the
ordinary way. Every step reads every text anew through the whole model: the rows of the
drawn users with gradients, and the catalogue, which the softmax needs, without. Texts
are padded to the longest of their batch, Opacus keeps one gradient for each row, and
the rows are summed per user before the clip. It has no ledger, no egress and no secret
randomness of its own: no site may run it.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

import torch
from flwr.app import (
    ArrayRecord,
    ConfigRecord,
    Context,
    Message,
    MetricRecord,
    RecordDict,
)
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAvg
from opacus.grad_sample import GradSampleHooks
from opacus.optimizers import DPOptimizer
from opacus.utils.module_utils import trainable_modules
from torch import Tensor
from torch.autograd import backward

from client.examples import UserExample, draw_batch
from client.reach import BETAS
from client.sampler import Uniform, poisson_draw
from shared.errors import RoundError
from shared.protocol import Array, Mechanism
from simulations.bench.plain_model import PlainModel
from simulations.grid import LocalGrid

USERS = 4  # in one physical batch: Opacus keeps a gradient for each of their rows


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainSite:
    """What one site of the plain program works with.

    Attributes:
        model: Its encoder and head.
        examples: One per user.
        users: Declared number of users.
        coins: Who is drawn.
        key: Names the site for the data order.
    """

    model: PlainModel
    examples: Sequence[UserExample]
    users: int
    coins: Uniform
    key: tuple[int, ...]

    def __repr__(self) -> str:
        return "PlainSite(...)"


def train(
    site: PlainSite,
    mechanism: Mechanism,
    *,
    number: int,
    noise: float | None = None,
) -> None:
    """Run the steps of one round on the site's model, in place.

    Args:
        site: Whose adapter and head change.
        mechanism: q, sigma, clip and steps.
        number: Of the round.
        noise: Noise multiplier in place of the mechanism's; 0 to compare.
    """
    model, examples, q = site.model, site.examples, mechanism.q
    hooks, optimizer = with_opacus(model, mechanism, site.users, noise)
    for step in range(mechanism.steps):
        drawn = [examples[n] for n in poisson_draw(len(examples), q, site.coins)]
        one_step(model, optimizer, drawn, [*site.key, number, step])
    hooks.cleanup()


def with_opacus(
    model: PlainModel, mechanism: Mechanism, users: int, noise: float | None = None
) -> tuple[GradSampleHooks, DPOptimizer]:
    """Put Opacus' hooks on the model; return them, and Opacus' optimiser."""
    for _, module in trainable_modules(model):
        module.train()  # Opacus looks at no other; the rest stays without dropout
    recipe, head = model.recipe, list(model.head.parameters())
    lora = [p for p in model.bert.parameters() if p.requires_grad]
    adam = torch.optim.Adam(
        [
            {"params": lora, "lr": recipe.learning_rate},
            {"params": head, "lr": recipe.head_learning_rate},
        ],
        betas=BETAS,
    )
    optimizer = DPOptimizer(
        adam,
        noise_multiplier=mechanism.sigma if noise is None else noise,
        max_grad_norm=mechanism.clip,
        expected_batch_size=mechanism.q * users,
        loss_reduction="mean",  # of the optimiser: it divides by that
    )
    return GradSampleHooks(model, loss_reduction="sum"), optimizer


def one_step(
    model: PlainModel,
    optimizer: DPOptimizer,
    drawn: Sequence[UserExample],
    key: Sequence[int],
) -> None:
    """Encode the catalogue, then learn from the drawn users."""
    learn(model, optimizer, model.catalogue(), drawn, key)


def learn(
    model: PlainModel,
    optimizer: DPOptimizer,
    catalogue: Tensor,
    drawn: Sequence[UserExample],
    key: Sequence[int],
) -> None:
    """Take the gradient of every row, sum them per user; clip, noise, step."""
    for part, last in physical_batches(drawn):
        if part:
            losses = model(draw_batch(part, model.recipe, key), catalogue)
            with warnings.catch_warnings():  # under the lowest B no gradient is asked
                warnings.filterwarnings("ignore", message="Full backward hook is firin")
                backward(losses.sum())
        sum_rows(optimizer, len(part))
        optimizer.signal_skip_step(do_skip=not last)
        optimizer.step()
        optimizer.zero_grad()


def physical_batches(
    drawn: Sequence[UserExample],
) -> Iterator[tuple[Sequence[UserExample], bool]]:
    """Yield users who fit in memory together, and whether they are the last."""
    starts = range(0, max(len(drawn), 1), USERS)
    for start in starts:
        yield drawn[start : start + USERS], start == starts[-1]


def sum_rows(optimizer: DPOptimizer, users: int) -> None:
    """Make of the gradient of every row one for every user: the unit of privacy."""
    for p in optimizer.params:
        if users:
            p.grad_sample = p.grad_sample.unflatten(0, (users, -1)).sum(1)
        else:
            p.grad_sample = torch.zeros(0, *p.shape, device=p.device)


def client_app(sites: Mapping[str, PlainSite]) -> ClientApp:
    """Return the Flower app that every site runs."""
    app = ClientApp()

    @app.train()
    def train_site(message: Message, context: Context) -> Message:
        site = sites[str(context.node_config["site"])]
        asked = cast("Mapping[str, Any]", message.content["config"])
        number, noise = asked["server-round"], asked["noise"]
        sent = cast("ArrayRecord", message.content["arrays"]).to_torch_state_dict()
        site.model.set_adapter(sent)
        if "head" in context.state:  # it stays at the site between rounds
            kept = cast("ArrayRecord", context.state["head"])
            site.model.head.load_state_dict(kept.to_torch_state_dict())
        train(site, mechanism_of(asked), number=number, noise=noise)
        context.state["head"] = ArrayRecord(site.model.head.state_dict())
        count = MetricRecord({"num-examples": len(site.examples)})
        arrays = ArrayRecord(site.model.adapter())
        content = RecordDict({"arrays": arrays, "metrics": count})
        return Message(content, reply_to=message)

    return app


def mechanism_of(config: Mapping[str, Any]) -> Mechanism:
    """Return the mechanism that the server's config describes."""
    return Mechanism(**{name: config[name] for name in asdict(Mechanism())})


def federate(
    sites: Mapping[str, PlainSite],
    mechanism: Mechanism,
    *,
    rounds: int = 1,
    noise: float | None = None,
) -> dict[str, Array]:
    """Return the adapter after some rounds of FedAvg over sites in this process."""
    grid = LocalGrid(client_app(sites), {name: {"site": name} for name in sites})
    strategy = FedAvg(fraction_evaluate=0.0, min_train_nodes=1, min_available_nodes=1)
    level = mechanism.sigma if noise is None else noise
    result = strategy.start(
        grid,
        ArrayRecord(next(iter(sites.values())).model.adapter()),
        num_rounds=rounds,
        train_config=ConfigRecord({**asdict(mechanism), "noise": level}),
    )
    averaged = result.arrays.to_torch_state_dict()
    if not averaged:
        raise RoundError("no site of the plain program answered: see Flower's log")
    return {name: tensor.numpy() for name, tensor in averaged.items()}
