"""The hybrid score and its loss, against slow and obvious versions."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.autograd import backward

from client.examples import UserExample, draw_batch
from client.gradients import user_gradients
from client.model import HALF_TRUST, HybridModel, default_alpha, trust
from tests.factories import tiny_model, users

KEY = [3]


def softmax_gradient(model: HybridModel, user: UserExample) -> torch.Tensor:
    """The oracle: cross-entropy over every item, all of them encoded with gradients.

    Twice: over text and prior, and over the whole score with the text held still.
    """
    batch = draw_batch([user], model.recipe, KEY)
    every = torch.arange(model.catalogue)
    vectors = model._centred(model.encoder.sums(model.activations, every))
    head = torch.cat(model.head(every), dim=1)
    whole = torch.cat([vectors.detach(), head], dim=1)
    past = torch.from_numpy(batch.items[:, : model.recipe.history])
    weights, aims = torch.from_numpy(batch.history), torch.from_numpy(batch.targets[0])
    targets = torch.from_numpy(batch.items[0, model.recipe.history :])
    model.zero_grad()
    for rows, mine in (
        (vectors, model._tastes(weights, vectors[past])[0]),
        (whole, model._users(weights, whole[past])[0]),
    ):
        log_chance = torch.log_softmax(rows @ mine + model.prior, 0)
        backward(-(aims * log_chance[targets]).sum())
    return torch.cat(
        [p.grad.reshape(-1) for p in model.trained.parameters() if p.grad is not None]
    )


def test_the_loss_has_the_gradient_of_softmaxes_over_the_whole_catalogue(
    tmp_path: Path,
) -> None:
    """Unbiased: with many draws of the items' side the two gradients meet."""
    model, user = tiny_model(tmp_path, negatives=40_000, factors=4), users(1)[0]
    wanted = softmax_gradient(model, user)

    found = user_gradients(model, model.encoded(), [user], KEY)

    head = torch.zeros(model.catalogue, 5).index_add_(0, found.items[0], found.head[0])
    got = torch.cat([found.adapter[0], head[:, :-1].flatten(), head[:, -1]])
    assert (got - wanted).norm() < 0.03 * wanted.norm()


def test_negatives_are_drawn_as_often_as_the_softmax_says_held_out_items_too(
    tmp_path: Path,
) -> None:
    """No leak: nothing about a test event steers who is pushed down."""
    model = tiny_model(tmp_path, negatives=50_000, temperature=1.0)
    user = users(1)[0]
    batch, rows = draw_batch([user], model.recipe, KEY), model.item_rows()

    weights = torch.from_numpy(batch.history)
    drawn, _ = model._softmax(batch, weights, rows, model._users)

    past = rows[torch.from_numpy(batch.items[:, : model.recipe.history])]
    mine = model._users(weights, past)
    chance = torch.softmax(mine @ rows.T + model.prior, 1)[0].numpy()
    counts = np.bincount(drawn[0].numpy(), minlength=model.catalogue) / 50_000
    assert np.abs(counts - chance).max() < 5 * np.sqrt(chance.max() / 50_000)
    likely = np.delete(np.arange(model.catalogue), user.likes)[
        np.delete(chance, user.likes) > 1e-3
    ]
    assert len(likely) > 20
    assert (counts[likely] > 0).all()


def test_a_score_is_alpha_text_plus_the_rest_cf_plus_prior(tmp_path: Path) -> None:
    model = tiny_model(tmp_path)
    history = np.array([4, 9, 2])
    rows = model.item_rows().numpy()
    vectors, factors, biases = rows[:, :32], rows[:, 32:-1], rows[:, -1]
    weights = np.array([1, 1 / 2, 1 / 3]) / (11 / 6)
    taste = weights @ vectors[history]
    text = vectors @ taste / np.linalg.norm(taste)
    cf = factors @ (weights @ factors[history]) + biases
    wanted = 0.3 * model.recipe.temperature * text + 0.7 * model.recipe.cf_scale * cf
    wanted *= 9 / (9 + HALF_TRUST)

    got = model.score([history], alpha=0.3)[0]

    assert got == pytest.approx(wanted + np.linspace(0, 1, 30), abs=1e-4)


def test_users_of_any_history_length_are_scored_together(tmp_path: Path) -> None:
    model = tiny_model(tmp_path)
    histories = [np.zeros(0, np.int64), np.array([3]), np.arange(12)]

    together = model.score(histories, alpha=0.5)

    alone = [model.score([history], alpha=0.5)[0] for history in histories]
    assert together == pytest.approx(np.stack(alone), abs=1e-5)
    assert together[0] == pytest.approx(model.score([histories[0]], 0.5)[0])


def test_a_user_without_history_is_served_by_the_prior(tmp_path: Path) -> None:
    model = tiny_model(tmp_path)

    got = model.score([np.zeros(0, np.int64)], alpha=0.5)[0]

    assert got == pytest.approx(np.linspace(0, 1, 30))


def test_a_history_counts_more_the_longer_it_is_and_nothing_without_likes() -> None:
    assert trust(torch.tensor([0, 1, 3, 50])).tolist() == pytest.approx(
        [0, 0.25, 0.75, 2500 / 2503]
    )


def test_a_user_without_likes_teaches_nothing(tmp_path: Path) -> None:
    model = tiny_model(tmp_path)
    nobody = UserExample(1, np.zeros(0, np.int64))

    found = user_gradients(model, model.encoded(), [nobody], KEY)

    assert not found.adapter.any()
    assert not found.head.any()


def test_the_default_alpha_leans_to_text_when_the_history_is_short(
    tmp_path: Path,
) -> None:
    falling = default_alpha(torch.tensor([0, 1, 10, 1000]), 0.5)
    model, history = tiny_model(tmp_path), np.arange(5)

    assert falling.tolist() == pytest.approx([1, 11 / 12, 2 / 3, 101 / 201])
    assert model.score([history]) == pytest.approx(
        model.score([history], float(default_alpha(torch.tensor(5), 0.5))),
        abs=1e-5,
    )
