"""What everything above a denoiser may ask of it, and nothing more.

A denoiser maps a noisy clip to a velocity. Time runs from 0 (data) to 1 (noise):

    x_t = (1 - t) x_0 + t eps,    v = dx_t/dt = eps - x_0

(Lipman et al., Flow Matching for Generative Modeling, 2023; Liu et al., Rectified Flow, 2023). A clip is a latent video
or the pixels themselves, `(T, H, W, C)`, unbatched: callers `vmap`.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from jaxphys.pytree import pytree


@pytree
class Condition:
    """What a clip is conditioned on. A field that is None is absent; guidance replaces `text` by another text.

    >>> Condition(text=jnp.zeros((4, 8))).clip is None
    True
    """

    text: jax.Array  # embeddings (L, D); padding is zero vectors, as the text encoder returns them
    concat: jax.Array | None = None  # channels appended to the input (T, H, W, C'): mask and image latents (Wan I2V)
    clip: jax.Array | None = None  # features of the first image (N, D') for the image branch (Wan 2.1 I2V)
    known: jax.Array | None = None  # clean frames (T, H, W, C), read where `mask` is 1 (Wan TI2V, video prediction)
    mask: jax.Array | None = None  # (T,) 1 where the frame is `known`, 0 where it is generated


@runtime_checkable
class Denoiser(Protocol):
    """A frozen, hashable object (a static argument under `jit`) whose parameters are a pytree of arrays."""

    def init(self, key: jax.Array) -> Any:
        """Random parameters: a nested dict of arrays."""
        ...

    def velocity(self, params: Any, x: jax.Array, t: jax.Array, cond: Condition, *, taps: tuple[str, ...] = ()) -> Any:
        """The velocity at x, in x's shape and dtype; with `taps`, (velocity, {name: features}).

        Frames that `cond` holds are replaced by `cond.known` at time 0 (see `hold`), and their velocity is 0: a sampler
        that starts with them in place (`impose`) leaves them there.

        Args:
            params: from `init`.
            x: noisy clip (T, H, W, C).
            t: time in [0, 1]: (), or (T,) one per frame.
            cond: conditions.
            taps: names of hidden features to return, such as "block_3": (tokens in time, in height, in width, width).
        """
        ...


def impose(x: jax.Array, cond: Condition) -> jax.Array:
    """x with the frames that `cond` holds in place: m known + (1 - m) x.

    Args:
        x: (T, H, W, C).
        cond: its `known` and `mask` are used; both None: x as it is.

    Raises:
        ValueError: only one of the two is given, or a shape differs.

    >>> cond = Condition(jnp.zeros((1, 1)), known=jnp.ones((2, 1, 1, 1)), mask=jnp.array([1.0, 0.0]))
    >>> impose(jnp.zeros((2, 1, 1, 1)), cond).ravel().tolist()
    [1.0, 0.0]
    """
    if cond.known is None and cond.mask is None:
        return x
    _check_held(x, cond)
    return jnp.where(cond.mask[:, None, None, None] > 0, cond.known.astype(x.dtype), x)


def hold(x: jax.Array, t: jax.Array, cond: Condition) -> tuple[jax.Array, jax.Array, jax.Array | None]:
    """What a denoiser sees of a clip with known frames: these are clean, and their time is 0.

    Returns:
        The clip (T, H, W, C), the time (as given, or (T,) where frames are held), and the factor (T, 1, 1, 1) on the
        velocity, 0 on held frames (None: no frame is held).
    """
    held = impose(x, cond)
    if cond.mask is None:
        return held, t, None
    free = jnp.where(cond.mask > 0, 0.0, 1.0)
    return held, t * free.astype(t.dtype), free[:, None, None, None].astype(x.dtype)


def _check_held(x, cond):
    if cond.known is None or cond.mask is None:
        raise ValueError("Condition: known and mask belong together; give both or neither")
    if jnp.shape(cond.known) != jnp.shape(x) or jnp.shape(cond.mask) != jnp.shape(x)[:1]:
        raise ValueError(
            f"Condition: known must have the shape of the clip {jnp.shape(x)} and mask {jnp.shape(x)[:1]}, "
            f"got {jnp.shape(cond.known)} and {jnp.shape(cond.mask)}"
        )
