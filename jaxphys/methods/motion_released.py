"""How the released code of MotionPhysics moves a material: one substep's response, and steps scaled by their range.

Its tape records only the last substep of a frame, and all frames share the buffers that the last one leaves. What comes
out is not the gradient of the motion: all that the clip asks of the positions, added up over the frames, times the
response of the positions to the unknowns within a single substep at the end of the clip.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def last_substep(step: Callable[[Any, Any], jax.Array], unknowns: Any, state: Any, pull: jax.Array) -> Any:
    """The direction sum_f dL/dx_f . dx_step/d(unknowns), at the last state.

    Args:
        step: (unknowns, state) -> positions after one substep (N, 3).
        unknowns: tree of arrays.
        state: before the last substep of the clip; a constant.
        pull: dL/dx of each frame (T, N, 3).

    Raises:
        ValueError: `pull` does not fit the positions.

    >>> step = lambda stiffness, x: x - 0.1 * stiffness * x
    >>> round(float(last_substep(step, jnp.array(2.0), jnp.ones((1, 3)), jnp.ones((4, 1, 3)))), 4)
    -1.2
    """
    x, pullback = jax.vjp(lambda u: step(u, jax.lax.stop_gradient(state)), unknowns)
    if pull.ndim != x.ndim + 1 or pull.shape[1:] != x.shape:
        raise ValueError(f"last_substep: dL/dx must have shape (T, {', '.join(map(str, x.shape))}), got {pull.shape}")
    return pullback(pull.sum(0).astype(x.dtype))[0]


def released_update(log10_value: jax.Array, gradient: jax.Array, rate: Any, low: float, high: float) -> jax.Array:
    """p - rate ((g - min g) / (max g - min g) - 1/2), kept within the bounds.

    The sign of a step is relative to the other particles: where all gradients are within 1e-6 of each other nothing
    moves, so a single number never does.

    Args:
        log10_value: per particle (N,).
        gradient: per particle (N,).
        rate: step in decades; published: from 1 to 0.1 by a cosine over 100 iterations.
        low, high: bounds of log10_value.

    Raises:
        ValueError: shapes differ, or the bounds are not in order.

    >>> released_update(jnp.zeros(3), jnp.array([1.0, 2.0, 5.0]), 1.0, -4.0, 4.0).tolist()
    [0.5, 0.25, -0.5]
    """
    if log10_value.shape != gradient.shape or not low < high:
        raise ValueError(
            f"released_update: needs one gradient per value and low < high, got {log10_value.shape}, {gradient.shape}, "
            f"{low} and {high}"
        )
    least = gradient.min()
    width = gradient.max() - least
    flat = width < 1e-6
    relative = jnp.where(flat, 0.0, (gradient - least) / jnp.where(flat, 1.0, width) - 0.5)
    return jnp.clip(log10_value - rate * relative, low, high)
