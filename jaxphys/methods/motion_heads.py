"""Heads that look at the motion in a clip: what distillation compares instead of the clip itself.

`identity` compares the clip, `difference` neighbouring frames, `dct` all but the mean over time, and `learned` is the
residual head of MotionPhysics,

    h(u) = u + W2 SiLU(GN(W1 SiLU(u) + b1)) + b2

with W1 (64, T) and W2 (T, 64) acting on the T latent frames of each pixel and channel: a bank of temporal filters. It
starts as the identity (W2 = 0). The student is compared with a slow average of itself, the teacher, as in the Motion
Consistency Model (Zhai et al., 2024).
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxphys.pytree import pytree

HEADS = ("identity", "difference", "dct", "learned")
HIDDEN, GROUPS = 64, 32


@pytree
class Head:
    """Weights of a learned head; 708 numbers for 4 latent frames."""

    expand: Any  # W1 (64, T)
    expand_bias: Any  # b1 (64,)
    scale: Any  # of the group norm (64,)
    shift: Any  # (64,)
    contract: Any  # W2 (T, 64)
    contract_bias: Any  # b2 (T,)

    @classmethod
    def init(cls, frames: int, key: jax.Array, dtype=jnp.float32) -> Head:
        """A head that is the identity: uniform first layer of deviation (3 T)^-1/2, second layer 0.

        >>> sum(leaf.size for leaf in jax.tree.leaves(Head.init(4, jax.random.key(0))))
        708
        """
        if frames < 1:
            raise ValueError(f"Head: needs at least one latent frame, got {frames}")
        draws = jax.random.uniform(key, (HIDDEN, frames + 1), dtype, -1.0, 1.0) / frames**0.5
        return cls(
            expand=draws[:, :frames],
            expand_bias=draws[:, frames],
            scale=jnp.ones(HIDDEN, dtype),
            shift=jnp.zeros(HIDDEN, dtype),
            contract=jnp.zeros((frames, HIDDEN), dtype),
            contract_bias=jnp.zeros(frames, dtype),
        )

    def __call__(self, u: jax.Array) -> jax.Array:
        """The head of a clip (T, H, W, C), in its shape."""
        if len(u) != self.expand.shape[1]:
            raise ValueError(
                f"Head: made for {self.expand.shape[1]} latent frames, the clip has {len(u)}: Head.init({len(u)}, key)"
            )
        h = jnp.einsum("kt,thwc->khwc", self.expand, jax.nn.silu(u)) + self.expand_bias[:, None, None, None]
        groups = h.reshape(GROUPS, -1)
        centred = groups - groups.mean(1, keepdims=True)
        h = (centred * jax.lax.rsqrt((centred**2).mean(1, keepdims=True) + 1e-5)).reshape(h.shape)
        h = h * self.scale[:, None, None, None] + self.shift[:, None, None, None]
        out = jnp.einsum("tk,khwc->thwc", self.contract, jax.nn.silu(h))
        return u + out + self.contract_bias[:, None, None, None]


@pytree
class Heads:
    """The state of learnable motion distillation besides the unknowns of the scene."""

    student: Head
    teacher: Head  # slow average of the student; no gradient
    moments: Any  # of AdamW

    @classmethod
    def init(cls, frames: int, key: jax.Array, dtype=jnp.float32) -> Heads:
        """Student and teacher alike, moments 0."""
        head: Any = Head.init(frames, key, dtype)
        return cls(head, head, _optimizer(0.0).init(head))

    def learn(self, gradient: Any, rate: float = 2e-5, decay: float = 0.95) -> Heads:
        """One AdamW step of the student (betas 0.9 and 0.999, no weight decay), then of the teacher's average.

        Args:
            gradient: of the loss with respect to the student.
            rate: learning rate; published: 2e-5, with which 40 steps leave the head next to the identity.
            decay: share of itself that the teacher keeps; published: 0.95.

        Raises:
            ValueError: a rate below 0 or a decay outside 0..1.
        """
        if rate < 0.0 or not 0.0 <= decay <= 1.0:
            raise ValueError(f"Heads: rate must be at least 0 and decay within 0..1, got {rate} and {decay}")
        before: Any = self.student
        change, moments = _optimizer(rate).update(gradient, self.moments, before)
        student: Any = optax.apply_updates(before, change)
        teacher = jax.tree.map(lambda slow, now: decay * slow + (1.0 - decay) * now, self.teacher, student)
        return Heads(student, teacher, moments)


def _optimizer(rate: float) -> optax.GradientTransformation:
    return optax.adamw(rate, b1=0.9, b2=0.999, weight_decay=0.0)


def see(kind: str, u: jax.Array, head: Head | None = None) -> jax.Array:
    """The motion in a clip, through a head of a kind.

    Args:
        kind: one of `HEADS`.
        u: clip (T, H, W, C).
        head: weights, for "learned" only.

    Returns:
        (T, H, W, C), one frame less for "difference" and "dct".

    >>> still = jnp.ones((3, 1, 1, 1))
    >>> float(jnp.abs(see("difference", still)).max()), bool(jnp.abs(see("dct", still)).max() < 1e-6)
    (0.0, True)
    """
    if kind == "identity":
        return u
    if kind == "difference":
        return u[1:] - u[:-1]
    if kind == "dct":
        T = len(u)
        rows = np.cos(np.pi / T * np.arange(1, T)[:, None] * (np.arange(T) + 0.5)) * (2.0 / T) ** 0.5
        return jnp.einsum("kt,thwc->khwc", jnp.asarray(rows, u.dtype), u)
    if kind == "learned":
        if head is None:
            raise ValueError("see: a learned head needs its weights (Heads.init)")
        return head(u)
    raise ValueError(f"see: a head is one of {HEADS}, got {kind!r}")


def frozen(head: Head | None) -> Head | None:
    """The same head, to which no gradient flows."""
    return None if head is None else jax.lax.stop_gradient(head)


def with_student(heads: Heads, student: Head) -> Heads:
    """Heads with another student: what a gradient with respect to the student differentiates."""
    return dataclasses.replace(heads, student=student)
