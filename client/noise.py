"""Where randomness that protects users comes from: the operating system, never a seed.

Every call takes a new 256-bit key from the system's generator and stretches it by AES
in counter mode, the core of a standard generator (NIST SP 800-90A, 10.2.1), for the
system alone takes several times as long. No key is kept.
Normals are sums of four Box-Muller draws, halved, so that no single floating-point draw
shows (Holohan and Braghin 2021, arXiv 2107.10138). A seeded stream exists for tests and
reproducible simulations only, and everything made with it carries no privacy claim.
"""

import os
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from client.sampler import Uniform
from shared.protocol import Array

DRAWS = 4  # draws summed into one normal


def system_uniform(count: int) -> npt.NDArray[np.float64]:
    """Return ``count`` uniform draws in [0, 1) of 53 bits, under a key of their own."""
    bits = np.frombuffer(secret_bytes(8 * count), np.uint64)
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def secret_bytes(count: int) -> bytes:
    """Return bytes that nobody can tell from random without the key, which is gone."""
    key = algorithms.AES256(os.urandom(32))
    return Cipher(key, modes.CTR(bytes(16))).encryptor().update(bytes(count))


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
    radius = torch.from_numpy(uniform(pairs)).neg().log1p().mul(-2.0).sqrt()
    angle = torch.from_numpy(uniform(pairs)) * (2.0 * np.pi)
    drawn = torch.cat([radius * angle.cos(), radius * angle.sin()])
    total = drawn[: DRAWS * count].view(DRAWS, count).sum(0)
    values: Array = (total / DRAWS**0.5).float().numpy()
    return values
