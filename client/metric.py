"""The one metric that may leave a site: how well each user's newest like is foretold.

It is a Gaussian release for whole users, charged like training; off unless the site's
policy lists ``metrics``. The newest like took part in earlier training, so the value
says how learning goes, not how well strangers are served.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from client.examples import UserExample
from client.model import HybridModel
from client.noise import SecretStreams, normal
from client.sampler import poisson_draw
from shared.metrics import ndcg, ranks
from shared.protocol import Array, Mechanism

PLACES = 10
NAME = f"ndcg@{PLACES}"
BLOCK = 256  # users scored at a time
FEWEST = 2  # likes: one to foretell, one to do it from


def release_metric(
    model: HybridModel,
    examples: Sequence[UserExample],
    mechanism: Mechanism,
    *,
    users: int,
    streams: SecretStreams,
) -> float:
    """Return the noised mean of the metric over the site's declared users.

    Guarantee: one user moves the sum before noise by at most 1, users are drawn by
    independent coins at rate q, and the noise has standard deviation ``metric_sigma``:
    one step of the Poisson-subsampled Gaussian mechanism. The divisor is public.

    Args:
        model: As the round found it.
        examples: One per user of the site.
        mechanism: Gives q and metric_sigma.
        users: The site's declared, public number of users.
        streams: Secret coins and noise.
    """
    drawn = poisson_draw(len(examples), mechanism.q, streams.coins)
    total = per_user(model, [examples[n] for n in drawn]).sum()
    noised = total + mechanism.metric_sigma * float(normal(1, streams.noise)[0])
    return float(np.float32(noised / (mechanism.q * users)))


def per_user(
    model: HybridModel, examples: Sequence[UserExample]
) -> npt.NDArray[np.float64]:
    """Return each user's own value in [0, 1]; 0 for who has too few likes."""
    able = [example for example in examples if len(example.likes) >= FEWEST]
    if not able:
        return np.zeros(0)
    blocks = [able[first : first + BLOCK] for first in range(0, len(able), BLOCK)]
    return np.concatenate([_foretold(model, block) for block in blocks])


def _foretold(
    model: HybridModel, able: Sequence[UserExample]
) -> npt.NDArray[np.float64]:
    """Return how well each of these users' newest like is foretold, in [0, 1]."""
    older = [example.likes[:-1] for example in able]
    newest = np.array([example.likes[-1] for example in able])
    scores = _last_where_undefined(model.score([likes[::-1] for likes in older]))
    seen = [
        np.setdiff1d(likes, [last]) for likes, last in zip(older, newest, strict=True)
    ]
    return np.clip(ndcg(ranks(scores, newest, seen), PLACES), 0.0, 1.0)


def _last_where_undefined(scores: Array) -> Array:
    """Return the scores with minus infinity for NaN, which has no place in an order."""
    return np.where(np.isnan(scores), np.float32(-np.inf), scores)
