"""A small prior over clips of moving bodies: a Wan transformer on pixels with a closed vocabulary.

The network puts out the clean clip (patches of pixels are wider than it is, and noise does not fit through). A caption
is one number per slot, 0 where it does not say; scalars of the scene (log stiffness, density, size ...) can be given
too, each or none. Both become tokens of the text that the transformer attends to, and the gradient with respect to a
scalar is defined.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxphys.diffusion.dit import WanConfig
from jaxphys.diffusion.flow import TimeLaw, clean, flow_loss, interpolate
from jaxphys.diffusion.protocol import Condition, impose
from jaxphys.pytree import pytree

FREQUENCIES = 8  # of the embedding of a scalar


@pytree
class Text:
    """What is said of a clip."""

    tokens: Any  # number of the value in each slot, 0: unspecified (S,) int32
    scalars: Any  # normalised numbers, NaN: not given (K,)


@dataclasses.dataclass(frozen=True)
class PriorConfig:
    """Sizes of a prior.

    >>> config = PriorConfig(frames=4, pixels=8, slots=(2, 3), scalars=1, width=12, layers=1, heads=2, patch=(2, 4, 4))
    >>> params = config.init(jax.random.key(0))
    >>> cond = config.condition(params, Text(jnp.array([1, 0]), jnp.array([jnp.nan])))
    >>> config.dit.velocity(params["dit"], jnp.ones((4, 8, 8, 3)), jnp.array(0.5), cond).shape
    (4, 8, 8, 3)
    """

    slots: tuple[int, ...]  # number of values of each slot, "unspecified" not counted
    scalars: int
    frames: int = 16
    pixels: int = 32
    patch: tuple[int, int, int] = (4, 8, 8)
    width: int = 160
    layers: int = 5
    heads: int = 4
    min_time: float = 0.1  # v = (x - clean) / max(t, min_time)
    remat: str = "dots"  # on CPU the fastest: what is kept costs memory traffic

    @property
    def dit(self) -> WanConfig:
        """The transformer."""
        return WanConfig(
            dim=self.width,
            ffn_dim=4 * self.width,
            heads=self.heads,
            layers=self.layers,
            in_channels=3,
            out_channels=3,
            patch=self.patch,
            text_dim=self.width,
            prediction="sample",
            min_time=self.min_time,
            remat=self.remat,
        )

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Of a clip."""
        return (self.frames, self.pixels, self.pixels, 3)

    def init(self, key: jax.Array) -> dict:
        """Random parameters."""
        k = jax.random.split(key, 4)
        width, values = self.width, sum(self.slots) + len(self.slots)
        return {
            "dit": self.dit.init(k[0]),
            "words": jax.random.normal(k[1], (values, width)),
            "scalars": jax.random.normal(k[2], (self.scalars, 2 * FREQUENCIES + 1, width)) / (2 * FREQUENCIES) ** 0.5,
            "absent": jax.random.normal(k[3], (self.scalars, width)),
        }

    def condition(
        self, params: Any, text: Text, known: jax.Array | None = None, mask: jax.Array | None = None
    ) -> Condition:
        """The tokens that a text becomes, one per slot and one per scalar, with known frames (see `Condition`)."""
        if text.tokens.shape != (len(self.slots),) or text.scalars.shape != (self.scalars,):
            raise ValueError(
                f"prior: the text needs tokens ({len(self.slots)},) and scalars ({self.scalars},), got "
                f"{text.tokens.shape} and {text.scalars.shape}"
            )
        first = np.concatenate([[0], np.cumsum(np.asarray(self.slots) + 1)[:-1]])
        words = params["words"][jnp.asarray(first) + text.tokens]
        given = ~jnp.isnan(text.scalars)
        value = jnp.where(given, text.scalars, 0.0)
        angle = value[:, None] * (0.25 * np.pi * 2.0 ** (0.5 * np.arange(FREQUENCIES)))
        basis = jnp.concatenate([value[:, None], jnp.sin(angle), jnp.cos(angle)], -1)
        numbers = jnp.einsum("kf,kfw->kw", basis.astype(words.dtype), params["scalars"])
        numbers = jnp.where(given[:, None], numbers, params["absent"])
        return Condition(jnp.concatenate([words, numbers]), known=known, mask=mask)

    def nothing(self) -> Text:
        """The text that says nothing, for guidance."""
        return Text(jnp.zeros(len(self.slots), jnp.int32), jnp.full(self.scalars, jnp.nan))


TIMES = TimeLaw("logit_normal", mean=2.0, std=1.5)
"""Where on the path the motion is decided: at high noise. At low noise what is left to do is texture."""


def drop(text: Text, key: jax.Array, *, all_of_it: float = 0.1, words: float = 0.3, numbers: float = 0.3) -> Text:
    """A text with parts left out, so that the prior knows every subset.

    Args:
        text: complete.
        key: random key.
        all_of_it: probability that nothing is said.
        words: probability that the slots are thinned out, to a random share.
        numbers: probability that no scalar is given; else each stays with probability 0.8.
    """
    S, K = text.tokens.shape[0], text.scalars.shape[0]
    u = jax.random.uniform(key, (4 + S + K,))  # one draw: each call of a generator costs seconds of compilation
    silent, mute = u[0] < all_of_it, u[1] < numbers
    share = jnp.where(u[2] < words, u[3], 0.0)
    gone = (u[4 : 4 + S] < share) | silent
    absent = (u[4 + S :] < 0.2) | mute | silent
    return Text(jnp.where(gone, 0, text.tokens), jnp.where(absent, jnp.nan, text.scalars))


def first_frames(frames: int, key: jax.Array) -> jax.Array:
    """Mask (T,) of known frames: none (a third of the time), the first, or (half of the time) the first four."""
    u = jax.random.uniform(key)
    count = jnp.where(u < 0.35, 0, jnp.where(u < 0.5, 1, 4))
    return (jnp.arange(frames) < count).astype(jnp.float32)


def prior_loss(params: Any, clip: jax.Array, text: Text, config: PriorConfig, *, key: jax.Array) -> jax.Array:
    """Flow-matching loss of one clip under a random part of its text and a random number of known frames.

    Args:
        params: of the prior.
        clip: (T, H, W, 3) in 0..1.
        text: all that is known of the clip.
        config: sizes.
        key: random key.
    """
    k = jax.random.split(key, 3)
    x = 2.0 * clip - 1.0
    cond = config.condition(params, drop(text, k[0]), known=x, mask=first_frames(config.frames, k[1]))
    return flow_loss(params["dit"], x, cond, config.dit, time=TIMES, floor=config.min_time, key=k[2])


def caption_loss(
    params: Any,
    clip: jax.Array,
    texts: Text,
    config: PriorConfig,
    *,
    window: tuple[float, float] = (0.6, 0.98),
    key: jax.Array,
) -> jax.Array:
    """How surely the prior takes another text for the first of C: cross-entropy under one draw of time and noise.

        l_c = -1/2 integral |x - x_c(x_t)|^2 d SNR,    SNR = ((1 - t) / t)^2,    loss = -log softmax(l)_1

    with x_c the clean clip under text c: the posterior of `methods.motion_posterior`, whose integral over the window is
    estimated at one SNR, drawn evenly. A prior that is trained on clips alone hardly hears words that change a clip by
    less than its own error; here nothing else counts.

    Args:
        params: of the prior.
        clip: (T, H, W, 3) in 0..1.
        texts: the true one first, leaves (C, ...).
        config: sizes.
        window: times between which the integral runs.
        key: of the number of known frames, time and noise.
    """
    k = jax.random.split(key, 2)
    x, mask = 2.0 * clip - 1.0, first_frames(config.frames, k[0])
    draws = jax.random.normal(k[1], (1 + x.size,))
    most, least = (((1.0 - t) / t) ** 2 for t in window)
    t = 1.0 / (1.0 + jnp.sqrt(least + (most - least) * jax.scipy.special.ndtr(draws[0])))
    noisy = interpolate(x, draws[1:].reshape(x.shape), t)

    def log_likelihood(text):
        cond = config.condition(params, text, known=x, mask=mask)
        z = impose(noisy, cond)
        apart = x - clean(z, config.dit.velocity(params["dit"], z, t, cond), t, config.min_time)
        return -0.5 * (most - least) * jnp.sum((1.0 - mask)[:, None, None, None] * apart**2)

    return -jax.nn.log_softmax(jax.vmap(log_likelihood)(texts))[0]
