"""All randomness comes from a run's seed and the name of what it is for, never from a generator's saved state.

So a run that is killed and resumed draws what it would have drawn, and adding a draw somewhere changes no other draw.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def derive(seed: int, *purpose: str | int) -> int:
    """An integer in [0, 2^63) that depends on every part: `derive(seed, "member-1", "order", epoch)`."""
    text = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 1


def generator(seed: int, *purpose: str | int) -> torch.Generator:
    """A CPU generator for one purpose. Data are drawn on the CPU, so that every device sees the same images."""
    return torch.Generator().manual_seed(derive(seed, *purpose))


@contextmanager
def seeded(seed: int, *purpose: str | int) -> Iterator[None]:
    """Seed torch's global generators for the block and put them back afterwards."""
    with torch.random.fork_rng(range(torch.cuda.device_count())):
        torch.manual_seed(derive(seed, *purpose))
        yield
