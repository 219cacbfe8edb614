"""Randomness without state: every draw is a pure function of a key.

A generator is made afresh from a key such as ``(seed, "expression", epoch, referent)``. Nothing has to be saved or
advanced, so the number of workers is irrelevant, ranks are independent, and a resumed run repeats the run it replaces.
"""

import hashlib
import math
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import numpy as np
    import torch

T = TypeVar("T")

Key = int | str
"""One component of a key. ``1`` and ``"1"`` are different components."""


def seed_of(*key: Key) -> int:
    """The hash of a key: an integer in ``[0, 2**63)``, the same on every machine and Python version (BLAKE2b).

    Raises:
        TypeError: If a component is neither an integer nor a string (a float key would hide rounding).
    """
    parts = []
    for part in key:
        if isinstance(part, bool) or not isinstance(part, (int, str)):
            raise TypeError(f"A random key is made of integers and strings, not {type(part).__name__}: {key!r}")
        parts.append(f"{type(part).__name__[0]}{len(str(part))}:{part}")
    digest = hashlib.blake2b("".join(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator(*key: Key, device: "torch.device | str" = "cpu") -> "torch.Generator":
    """A PyTorch generator for draws on `device`, a function of `key` alone; streams differ between kinds of device."""
    import torch

    return torch.Generator(device=device).manual_seed(seed_of(*key))


def numpy_generator(*key: Key) -> "np.random.Generator":
    """A NumPy generator (counter-based Philox) that depends on `key` alone."""
    import numpy as np

    return np.random.Generator(np.random.Philox(key=seed_of(*key)))


class KeyedRandom:
    """Draws that depend on a key alone, the same on every machine and in every version of NumPy.

    `numpy.random.Generator` promises no stable stream (NEP 19), its bit generators do. Continuous distributions are
    drawn by the inverse of their distribution function.
    """

    def __init__(self, *key: Key) -> None:
        self._bits = numpy_generator(*key).bit_generator

    def below(self, stop: int) -> int:
        """One of 0, 1, …, stop - 1; the bias for ``stop < 2**32`` is below ``2**-32``."""
        return int(self._bits.random_raw()) % stop

    def between(self, start: int, stop: int) -> int:
        """One of start, …, stop - 1."""
        return start + self.below(stop - start)

    def array(self, start: int, stop: int, shape: tuple[int, ...]) -> "np.ndarray":
        """Independent draws of start, …, stop - 1: int64."""
        raw: np.ndarray = self._bits.random_raw(math.prod(shape))
        return (raw % (stop - start)).astype("int64").reshape(shape) + start

    def pick(self, options: Sequence[T]) -> T:
        """One of the options."""
        return options[self.below(len(options))]

    def sample(self, options: Sequence[T], count: int) -> list[T]:
        """`count` of the options, each at most once, in random order."""
        rest = list(options)
        return [rest.pop(self.below(len(rest))) for _ in range(count)]

    def uniform(self, *shape: int) -> "torch.Tensor":
        """Float64 draws inside (0, 1), the ends excluded."""
        import torch

        steps = 2**53
        return torch.from_numpy((self.array(0, steps, shape) + 0.5) / steps)

    def normal(self, *shape: int) -> "torch.Tensor":
        """Float64 draws with mean 0 and deviation 1."""
        import torch

        drawn: torch.Tensor = torch.special.ndtri(self.uniform(*shape))
        return drawn

    def poisson(self, levels: "torch.Tensor", rate: float) -> "torch.Tensor":
        """Counts of light, float64, one for each pixel.

        Args:
            levels: Brightness in 255ths, integers from 0 to 255.
            rate: Mean count at full brightness.
        """
        import torch

        table = _poisson_table(rate)  # [256, K], each row ascending to 1
        # Row r is lifted by r, which makes one ascending list of all rows: one search finds every pixel.
        lifted = (table + torch.arange(256, dtype=torch.float64)[:, None]).flatten()
        places = torch.searchsorted(lifted, self.uniform(*levels.shape) + levels)
        return (places - levels * table.shape[1]).clamp(0, table.shape[1] - 1).double()


class Random:
    """The beginning of a key, such as ``(seed, step, rank)``; a strategy appends a component for each of its draws.

    Args:
        key: The components.
        step: Number of the training step, from 0, for what depends on it without being drawn.

    Example:
        >>> rng = Random(0, 17)
        >>> rng.generator("image mask").initial_seed() == generator(0, 17, "image mask").initial_seed()
        True
    """

    def __init__(self, *key: Key, step: int = 0) -> None:
        self.key, self.step = key, step

    def child(self, *key: Key) -> "Random":
        """The same beginning with `key` appended."""
        return Random(*self.key, *key, step=self.step)

    def generator(self, *key: Key, device: "torch.device | str" = "cpu") -> "torch.Generator":
        """A PyTorch generator for ``(*self.key, *key)``; see `generator`."""
        return generator(*self.key, *key, device=device)

    def seed_dropout(self, *key: Key) -> None:
        """Seed PyTorch's global generators, which dropout and drop path draw from, with ``(*self.key, *key)``."""
        import torch

        seed = seed_of(*self.key, "dropout", *key)
        # Not torch.manual_seed: it asks for every accelerator in turn, which costs milliseconds where there is none.
        torch.default_generator.manual_seed(seed)
        if torch.cuda.is_initialized():
            torch.cuda.manual_seed_all(seed)
        if torch.backends.mps.is_available():
            torch.mps.manual_seed(seed)


@lru_cache(maxsize=16)
def _poisson_table(rate: float) -> "torch.Tensor":
    """Distribution functions of Poisson variables with the means ``rate * level / 255``: ``[256, K]`` float64."""
    import torch

    mean = rate * torch.arange(256, dtype=torch.float64)[:, None] / 255
    k = torch.arange(int(rate + 12 * math.sqrt(rate) + 20), dtype=torch.float64)
    return (torch.xlogy(k, mean) - mean - torch.lgamma(k + 1)).exp().cumsum(1).clamp(max=1)
