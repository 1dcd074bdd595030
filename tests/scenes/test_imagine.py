"""Clips from captions: frames that are given come back, guidance and words matter, unknown words are named."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxphys.diffusion.prior import PriorConfig
from jaxphys.diffusion.prior_files import Prior
from jaxphys.language import captions
from jaxphys.scenes.imagine import imagine

TINY = PriorConfig(
    frames=4,
    pixels=8,
    slots=tuple(len(values) for values in captions.SLOTS.values()),
    scalars=1,
    width=12,
    layers=1,
    heads=2,
    patch=(2, 4, 4),
)


def test_a_caption_becomes_a_clip_and_given_frames_are_kept():
    params = jax.tree.map(lambda a: a + 0.02, TINY.init(jax.random.key(0)))  # the gates of a new network are closed
    prior = Prior(params, jnp.zeros(1), jnp.ones(1), TINY)
    frames = jax.random.uniform(jax.random.key(1), (1, 8, 8, 3))
    say = lambda caption: imagine(caption, prior, frames, steps=2, key=jax.random.key(2))
    clip = say("a red rubber ball is dropped")
    assert clip.shape == TINY.shape and bool((clip >= 0).all() and (clip <= 1).all())
    np.testing.assert_allclose(clip[0], frames[0], atol=1e-6)
    np.testing.assert_array_equal(
        clip, say({"colour": "red", "material": "elastic", "shape": "ball", "action": "dropped"})
    )
    assert float(jnp.abs(clip - say("a blue rubber ball is dropped")).max()) > 1e-6
    with pytest.raises(ValueError, match="robot"):
        say("a red robot is dropped")
    with pytest.raises(ValueError, match="first frames"):
        imagine("a ball", prior, frames[:, :4], key=jax.random.key(0))
