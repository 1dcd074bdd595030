"""Scans whose reverse mode fits in memory."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax


def nearest_divisor(n: int) -> int:
    """The divisor of n nearest to sqrt(n): the block length that stores the fewest states.

    >>> nearest_divisor(400), nearest_divisor(7)
    (20, 1)
    """
    return next(d for d in range(math.isqrt(n), 0, -1) if n % d == 0)


def checkpointed_scan(step: Callable[[Any], Any], carry: Any, length: int, block: int = 1) -> Any:
    """Applies `step` to `carry` `length` times; reverse mode stores states, not the inside of a step.

    With `block=1` the state before every step is stored (length states) and each step is computed once more in
    the backward pass. With `block=b` only every b-th state is stored, then b states while a block is differentiated:
    length/b + b states for one more forward pass (Griewank and Walther 2000, two-level case).

    Args:
        step: carry -> carry.
        carry: a pytree of arrays.
        length: number of steps.
        block: a divisor of `length`.

    Returns:
        The carry after `length` steps.

    Raises:
        ValueError: `block` does not divide `length`.

    >>> float(jax.grad(lambda x: checkpointed_scan(lambda c: c * c, x, 4, block=2))(1.0))
    16.0
    """
    if length % block:
        raise ValueError(f"block must divide length, got block={block} and length={length}")
    one = jax.checkpoint(lambda c, _: (step(c), None), prevent_cse=False)

    def run(c, n):
        return jax.lax.scan(one, c, None, length=n)[0]

    if block == 1:
        return run(carry, length)
    blocked = jax.checkpoint(lambda c, _: (run(c, block), None), prevent_cse=False)
    return jax.lax.scan(blocked, carry, None, length=length // block)[0]
