"""A clip from a caption, by the small prior."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from jaxphys.diffusion.prior import Text
from jaxphys.diffusion.prior_files import Prior, load_prior
from jaxphys.diffusion.sample import sample
from jaxphys.diffusion.schedules import Schedule
from jaxphys.language import captions

GUIDANCE_BY_WORDS, GUIDANCE_WITH_FRAMES = 4.0, 1.5
"""Default weights of guidance: for words alone, and where first frames are given. Of held-out clips drawn from words
the material is heard most often at 4; with first frames falls are truest at 1.5."""


@functools.partial(jax.jit, static_argnames=("steps", "guidance"))
def generate(
    prior: Prior,
    text: Text,
    frames: jax.Array | None = None,
    *,
    steps: int = 16,
    guidance: float | None = None,
    key: jax.Array,
) -> jax.Array:
    """Samples a clip for a text, with its first frames given or not.

    Args:
        prior: weights and sizes.
        text: see `Prior.text`.
        frames: clean first frames (k, H, W, 3) in 0..1; the prior was trained with none, one or four.
        steps: of Euler's method, from noise to the clip.
        guidance: weight of classifier-free guidance; 1 needs half of the evaluations. None: `GUIDANCE_BY_WORDS` or,
            with first frames, `GUIDANCE_WITH_FRAMES`.
        key: of the noise.

    Returns:
        (T, H, W, 3) in 0..1.
    """
    config = prior.config
    noise = jax.random.normal(key, config.shape)
    known, mask = jnp.zeros(config.shape), jnp.zeros(config.frames)
    if frames is not None:
        if frames.shape[1:] != config.shape[1:] or len(frames) > config.frames:
            raise ValueError(f"first frames: expected (k <= {config.frames}, {config.shape[1:]}), got {frames.shape}")
        known = known.at[: len(frames)].set(2.0 * frames - 1.0)
        mask = mask.at[: len(frames)].set(1.0)
    cond = config.condition(prior.params, text, known, mask)
    options = {}
    if guidance is None:
        guidance = GUIDANCE_WITH_FRAMES if frames is not None and len(frames) else GUIDANCE_BY_WORDS
    if guidance != 1.0:
        options = dict(negative=config.condition(prior.params, config.nothing()).text, guidance=guidance)
    schedule = Schedule.create(steps, "euler", shift=3.0)
    clip = sample(prior.params["dit"], noise, cond, config.dit, schedule, grad="none", **options)
    return jnp.clip(0.5 * (clip + 1.0), 0.0, 1.0)


def imagine(
    caption: str | Mapping[str, str],
    prior: Prior | None = None,
    frames: jax.Array | None = None,
    *,
    steps: int = 16,
    guidance: float | None = None,
    key: jax.Array,
) -> jax.Array:
    """Samples a clip of what a sentence says.

    Args:
        caption: a sentence of the vocabulary, or its value per slot (`language.captions`).
        prior: weights; None: those that come with the package.
        frames, steps, guidance, key: as for `generate`.

    Returns:
        (T, H, W, 3) in 0..1, at the frame rate of the clips (`scenes.clips.World.fps`).

    Raises:
        ValueError: words that are not in the vocabulary, or two values for one slot.

    >>> imagine("a blue rubber ball is dropped, it bounces high", steps=2, key=jax.random.key(0)).shape
    (16, 32, 32, 3)
    """
    said, unknown = captions.parse(caption) if isinstance(caption, str) else (caption, [])
    if unknown:
        raise ValueError(f"caption: {', '.join(unknown)} not in the vocabulary; for its words see captions.SLOTS")
    prior = load_prior() if prior is None else prior
    return generate(prior, prior.text(captions.tokens(said)), frames, steps=steps, guidance=guidance, key=key)
