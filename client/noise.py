"""Where randomness that protects users comes from: the operating system, never a seed.

Normals are sums of four Box-Muller draws, halved, so that no single floating-point draw
shows (Holohan and Braghin 2021, arXiv 2107.10138). A seeded stream exists for tests and
reproducible simulations only, and everything made with it carries no privacy claim.
"""

import os
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from client.sampler import Uniform
from shared.protocol import Array

DRAWS = 4  # draws summed into one normal


def system_uniform(count: int) -> npt.NDArray[np.float64]:
    """Return ``count`` uniform draws in [0, 1) with 53 bits each from the OS."""
    bits = np.frombuffer(os.urandom(8 * count), np.uint64)
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


@dataclass(frozen=True, slots=True)
class SecretStreams:
    """The two streams that privacy rests on: who is drawn, and the noise."""

    coins: Uniform
    noise: Uniform


def secret_streams() -> SecretStreams:
    """Return streams fed by the operating system's generator."""
    return SecretStreams(system_uniform, system_uniform)


def insecure_streams(*key: int) -> SecretStreams:
    """Return seeded streams: repeatable, therefore without any privacy.

    Only a site whose policy says ``insecure-test-noise`` gets here.
    """
    coins, noise = np.random.default_rng([0, *key]), np.random.default_rng([1, *key])
    return SecretStreams(coins.random, noise.random)


def normal(count: int, uniform: Uniform) -> Array:
    """Return ``count`` standard normal float32 values.

    Guarantee: mean 0, standard deviation 1, each value independent of all others and of
    every earlier call of the same stream.
    """
    pairs = (DRAWS * count + 1) // 2
    radius = np.sqrt(-2.0 * np.log1p(-uniform(pairs)))
    angle = 2.0 * np.pi * uniform(pairs)
    drawn = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])
    total = drawn[: DRAWS * count].reshape(DRAWS, count).sum(axis=0)
    return np.asarray(total / np.sqrt(DRAWS), np.float32)
