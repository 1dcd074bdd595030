"""What is seen of a motion: squash, rebound, bounces, spread, wobble, flow, measured on particles.

All are pure numbers or seconds from positions over time, so a prompt that names an outcome can be compared with a
simulation without a network, and a simulated clip can be captioned.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxphys.pytree import pytree

TAIL = 2.0  # percent of the particles on either side that no extent counts: single grains are not the body


@pytree
class Outcomes:
    """Measured outcomes of one motion; leaves may have leading axes."""

    squash: Any  # greatest loss of height over the first height, 0..1
    rebound: Any  # rise of the centre after its lowest point over its fall before, 0..
    bounces: Any  # times that the body leaves the ground after it first touched it
    spread: Any  # last horizontal size over the first
    wobble: (
        Any  # time from the lowest point until the height keeps within 5 % of the first height of its last value [s]
    )
    flow: (
        Any  # time from touching the ground to half of the spread [s]; the length of the clip where it does not spread
    )


@jax.jit
def measure(x: jax.Array, fps: float, ground: float = 0.0, *, gap: float = 0.02) -> Outcomes:
    """Outcomes of a motion over a flat ground.

    Sizes are distances between percentiles (2 and 98) of the particles, which carry equal weight.

    Args:
        x: (T, N, 3) positions [m], T >= 3; the first frame is the undisturbed body.
        fps: frames per second.
        ground: height of the ground [m].
        gap: the body is in the air where its lowest part is more than this above where it rests [m].

    Returns:
        Outcomes.

    >>> still = jnp.broadcast_to(jnp.eye(3), (5, 3, 3))
    >>> float(measure(still, 10.0).squash), float(measure(still, 10.0).bounces)
    (0.0, 0.0)
    """
    if x.ndim != 3 or x.shape[0] < 3 or x.shape[2] != 3:
        raise ValueError(f"measure: positions must have shape (T, N, 3) with T >= 3, got {x.shape}")
    low, high = jnp.percentile(x, jnp.array([TAIL, 100.0 - TAIL]), axis=1)
    frames = jnp.arange(x.shape[0])
    size = high - low
    height, width = size[:, 2], jnp.maximum(size[:, 0], size[:, 1])
    centre = x[..., 2].mean(1)

    # Not the least of all frames: a body that lands twice is as low the second time.
    least = jnp.min(centre)
    fall = centre[0] - least
    lowest = jnp.argmax(centre <= least + 0.05 * fall)
    after = jnp.where(frames >= lowest, centre, -jnp.inf)
    rebound = (jnp.max(after) - least) / jnp.maximum(fall, gap)

    # Contact on a grid sets in up to half a cell early, so a body rests a little above the ground.
    rest = jnp.maximum(jnp.min(low[:, 2]), ground)
    air = low[:, 2] > rest + gap
    touched = jnp.cumsum(~air) > 0
    bounces = jnp.sum(touched[1:] & air[1:] & ~air[:-1])

    moved = (jnp.abs(height - height[-1]) > 0.05 * height[0]) & (frames >= lowest)
    wobble = jnp.where(moved.any(), jnp.max(jnp.where(moved, frames, 0)) - lowest + 1, 0) / fps

    contact = jnp.argmax(touched)
    grown = width - width[0] >= 0.5 * (width[-1] - width[0])
    half = jnp.argmax(grown & (frames >= contact))
    spreads = width[-1] > 1.05 * width[0]
    flow = jnp.where(spreads, half - contact, x.shape[0] - 1) / fps

    return Outcomes(
        squash=jnp.max(height[0] - height) / height[0],
        rebound=rebound,
        bounces=bounces.astype(x.dtype),
        spread=width[-1] / width[0],
        wobble=wobble,
        flow=flow,
    )
