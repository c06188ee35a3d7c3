"""Random numbers as a function of what they are for: no stream, so order, threads and retries cannot change them."""

from __future__ import annotations

import numpy as np

from .jit import kernel


@kernel(inline=True)
def mix(seed, label):
    """Hash of two numbers to 64 random bits (the finaliser of splitmix64; Steele, Lea and Flood 2014)."""
    bits = (np.uint64(seed) * np.uint64(0x9E3779B97F4A7C15)) ^ (np.uint64(label) * np.uint64(0xC2B2AE3D27D4EB4F))
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))


@kernel(inline=True)
def below(seed, label, bound):
    """A number in [0, bound), bound < 2^32, that depends on `seed` and `label` alone."""
    # The upper half of a product, instead of a remainder, which takes ten times as long (Lemire 2019).
    return np.int64(((mix(seed, label) >> np.uint64(32)) * np.uint64(bound)) >> np.uint64(32))


def seed_of(*numbers: int) -> int:
    """One 63-bit seed from several whole numbers, for example (random_state, round, partition)."""
    words = np.random.SeedSequence(list(numbers)).generate_state(2, np.uint32).astype(np.uint64)
    return int((words[0] << np.uint64(31)) ^ words[1])
