"""The random numbers of torch's CPU generator, computed on any device for many seeds at once.

A GPU's own generator draws other numbers, with which a network would be attacked from other starts. The CPU's is the
Mersenne twister (Matsumoto and Nishimura, 1998, https://doi.org/10.1145/272991.272995), whose integer arithmetic is
exact everywhere. Uniform numbers are equal in every bit; normal ones as far as the device's logarithm, sine and cosine.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

WORDS, SHIFT = 624, 397
"""Words of the state, and the distance of the word with which a new one is combined."""
BLOCK = WORDS - SHIFT
"""Number of new words that depend on old ones alone."""
TAIL = 16
"""torch makes normal numbers from 16 uniform ones at a time, and the last 16 from fresh ones if others would remain."""


def uniform(seeds: Sequence[int], count: int, device: torch.device) -> Tensor:
    """Float64 numbers (seeds, count): the first that `torch.rand` draws with each seed."""
    words = _words(seeds, 2 * count, device).view(count, 2, len(seeds))
    high, low = words.unbind(1)
    return ((((high & 0x1FFFFF) << 32) | low).double() * 2.0**-53).T


def draws_of_normal(count: int) -> int:
    """Number of uniform numbers from which torch makes so many normal ones."""
    return count + (TAIL if count % TAIL else 0)


def normal(uniforms: Tensor, count: int) -> Tensor:
    """Normal numbers (B, count), at least 16, from `draws_of_normal` uniform numbers in each row."""
    whole = _box_muller(uniforms[:, : count // TAIL * TAIL])
    if count % TAIL == 0:
        return whole
    return torch.cat([whole[:, : count - TAIL], _box_muller(uniforms[:, count : count + TAIL])], 1)


def _box_muller(uniforms: Tensor) -> Tensor:
    first, second = uniforms.unflatten(1, (-1, 2, TAIL // 2)).unbind(2)
    radius, angle = (-2 * (1 - first).log()).sqrt(), 2 * math.pi * second
    return torch.stack([radius * angle.cos(), radius * angle.sin()], 2).flatten(1)


def _words(seeds: Sequence[int], count: int, device: torch.device) -> Tensor:
    """The first words (count, seeds) of 32 bits that the generator returns with each seed, as int64."""
    # Both generators expand the lowest 32 bits of a seed in the same way.
    states = [np.random.RandomState(seed & 0xFFFFFFFF).get_state(legacy=False)["state"]["key"] for seed in seeds]
    first = torch.from_numpy(np.stack(states, 1).astype(np.int64))
    words = torch.empty((WORDS + count, len(seeds)), dtype=torch.int64, device=device)
    words[:WORDS].copy_(first.pin_memory() if device.type == "cuda" else first, non_blocking=True)
    for k in range(0, count, BLOCK):
        size = min(BLOCK, count - k)
        mixed = (words[k : k + size] & 0x80000000) | (words[k + 1 : k + 1 + size] & 0x7FFFFFFF)
        new = (mixed & 1).mul_(0x9908B0DF).bitwise_xor_(mixed >> 1)
        torch.bitwise_xor(words[k + SHIFT : k + SHIFT + size], new, out=words[k + WORDS : k + WORDS + size])
    drawn = words[WORDS:]
    drawn ^= drawn >> 11
    drawn ^= (drawn << 7) & 0x9D2C5680
    drawn ^= (drawn << 15) & 0xEFC60000
    drawn ^= drawn >> 18
    return drawn
