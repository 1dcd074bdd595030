"""Flow matching: the straight path between data and noise, where on it to train, and the loss.

    x_t = (1 - t) x_0 + t eps,    v = dx_t/dt = eps - x_0,    loss = E |v_theta(x_t, t) - v|^2

(Lipman et al., Flow Matching for Generative Modeling, 2023; Liu et al., Rectified Flow, 2023). Time runs from 0 (data)
to 1 (noise). A network that predicts the clean clip instead is used through the same velocity,
v = (x_t - x_0) / max(t, floor), and trained on it (Li and He, Back to Basics, 2025): with patches wider than the
network, noise does not fit through it and only the clean clip can be predicted.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxphys.diffusion.protocol import Condition, Denoiser, impose

LAWS = ("uniform", "logit_normal")
SPACES = ("velocity", "data")


def shift_time(t: Any, shift: float) -> Any:
    """Moves times towards noise: t' = s t / (1 + (s - 1) t) (Esser et al. 2024, section 5.3.2), with t' = t for s = 1.

    Args:
        t: times in [0, 1]; an array of NumPy or JAX, or a float.
        shift: s > 0; larger clips need more noise to hide the same amount of their content.

    >>> round(shift_time(0.5, 3.0), 6)
    0.75
    """
    return shift * t / (1.0 + (shift - 1.0) * t)


@dataclasses.dataclass(frozen=True)
class TimeLaw:
    """Which times are trained on: uniform, or t = sigmoid(mean + std n) with n normal; then shifted.

    >>> TimeLaw("uniform").sample(jax.random.key(0), (3,)).shape
    (3,)
    """

    kind: str = "logit_normal"
    mean: float = 0.0
    std: float = 1.0
    shift: float = 1.0

    def __post_init__(self):
        if self.kind not in LAWS:
            raise ValueError(f"TimeLaw: kind must be one of {LAWS}, got {self.kind!r}")
        if self.std <= 0.0 or self.shift <= 0.0:
            raise ValueError(f"TimeLaw: std and shift must be greater than 0, got {self.std} and {self.shift}")

    def of(self, normal: jax.Array) -> jax.Array:
        """Times in [0, 1], of this law if the given numbers are standard normal."""
        uniform = self.kind == "uniform"
        t = jax.scipy.special.ndtr(normal) if uniform else jax.nn.sigmoid(self.mean + self.std * normal)
        return shift_time(t, self.shift)

    def sample(self, key: jax.Array, shape: tuple[int, ...] = (), dtype=jnp.float32) -> jax.Array:
        """Random times in [0, 1] of the given shape."""
        return self.of(jax.random.normal(key, shape, dtype))


def per_frame(t: jax.Array, x: jax.Array) -> jax.Array:
    """A time () or (T,) in a shape that multiplies a clip (T, H, W, C)."""
    return t.reshape(t.shape + (1,) * (x.ndim - 1)) if t.ndim else t


def interpolate(x0: jax.Array, noise: jax.Array, t: jax.Array) -> jax.Array:
    """x_t = (1 - t) x_0 + t eps, for one time or one per frame.

    >>> float(interpolate(jnp.zeros((1, 1, 1, 1)), jnp.ones((1, 1, 1, 1)), jnp.array(0.25)).sum())
    0.25
    """
    t = per_frame(jnp.asarray(t, x0.dtype), x0)
    return (1.0 - t) * x0 + t * noise


def clean(x: jax.Array, v: jax.Array, t: jax.Array, floor: float = 0.0) -> jax.Array:
    """The clean clip that a velocity implies: x_0 = x_t - max(t, floor) v.

    >>> x0, noise, t = jnp.full((1, 1, 1, 1), 2.0), jnp.ones((1, 1, 1, 1)), jnp.array(0.25)
    >>> float(clean(interpolate(x0, noise, t), noise - x0, t).sum())
    2.0
    """
    return x - jnp.maximum(per_frame(jnp.asarray(t, x.dtype), x), floor) * v


def velocity_of_clean(x: jax.Array, x0: jax.Array, t: jax.Array, floor: float = 0.05) -> jax.Array:
    """The velocity that a predicted clean clip implies: v = (x_t - x_0) / max(t, floor).

    Args:
        x: noisy clip (T, H, W, C).
        x0: predicted clean clip.
        t: time, () or (T,).
        floor: greater than 0; below it the division would amplify the error of the prediction without bound.

    Raises:
        ValueError: `floor` is not greater than 0.
    """
    if floor <= 0.0:
        raise ValueError(f"velocity_of_clean: floor must be greater than 0 (the velocity divides by it), got {floor}")
    return (x - x0) / jnp.maximum(per_frame(jnp.asarray(t, x.dtype), x), floor)


def flow_loss(
    params: Any,
    x0: jax.Array,
    cond: Condition,
    denoiser: Denoiser,
    *,
    time: TimeLaw = TimeLaw(),
    frame_times: bool = False,
    floor: float = 0.0,
    space: str = "velocity",
    key: jax.Array,
) -> jax.Array:
    """Flow-matching loss of one clip at one random time.

    With floor = 0: mean |v_theta - (eps - x_0)|^2. With a floor, for a denoiser that predicts the clean clip and
    divides by max(t, floor): mean |v_theta - (x_t - x_0) / max(t, floor)|^2, which below the floor is the error of
    the prediction over floor^2 (Li and He 2025). In data space both are multiplied by max(t, floor)^2. Frames that
    `cond` holds are given clean and do not count.

    Args:
        params: of the denoiser.
        x0: clean clip (T, H, W, C).
        cond: conditions.
        denoiser: see `protocol.Denoiser`.
        time: law of the training times.
        frame_times: one independent time per frame (diffusion forcing, Chen et al. 2024), as autoregressive
            sampling needs; else one time per clip.
        floor: 0 for a velocity prediction; the floor of the denoiser for a prediction of the clean clip.
        space: "velocity" or "data".
        key: of time and noise.

    Returns:
        A scalar, at least float32.

    Raises:
        ValueError: an unknown space.
    """
    if space not in SPACES:
        raise ValueError(f"flow_loss: space must be one of {SPACES}, got {space!r}")
    wide = jnp.promote_types(x0.dtype, jnp.float32)
    times = x0.shape[0] if frame_times else 1
    draws = jax.random.normal(key, (times + x0.size,), wide)  # one call: each takes XLA seconds to compile
    t = time.of(draws[:times] if frame_times else draws[0])
    noise = draws[times:].reshape(x0.shape).astype(x0.dtype)
    x = impose(interpolate(x0, noise, t), cond)
    v = denoiser.velocity(params, x, t, cond).astype(wide)
    scale = jnp.maximum(per_frame(t, x0), floor)
    target = noise - x0
    if floor > 0.0:
        target = target * (per_frame(t, x0) / scale)
    error = (v - target.astype(wide)) ** 2
    if space == "data":
        error = error * scale**2
    if cond.mask is None:
        return error.mean()
    free = jnp.where(cond.mask > 0, 0.0, 1.0).astype(wide)
    return (error.mean(axis=tuple(range(1, x0.ndim))) * free).sum() / jnp.maximum(free.sum(), 1.0)
