"""Clips from captions: given frames come back, words matter, unknown words are named; what the shipped weights draw."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxphys.diffusion.prior import PriorConfig
from jaxphys.diffusion.prior_files import Prior, load_prior, shipped_prior
from jaxphys.language import captions
from jaxphys.scenes.imagine import GUIDANCE_BY_WORDS, GUIDANCE_WITH_FRAMES, generate, imagine

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


def tiny_prior() -> Prior:
    params = jax.tree.map(lambda a: a + 0.02, TINY.init(jax.random.key(0)))  # the gates of a new network are closed
    return Prior(params, jnp.zeros(1), jnp.ones(1), TINY)


def test_a_caption_becomes_a_clip_and_given_frames_are_kept():
    prior = tiny_prior()
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


def test_words_alone_are_followed_more_closely_than_words_with_frames():
    prior = tiny_prior()
    text, frames = prior.text(captions.tokens({"colour": "red"})), jnp.full((1, 8, 8, 3), 0.5)
    draw = lambda frames, **how: np.asarray(generate(prior, text, frames, steps=1, key=jax.random.key(2), **how))
    for given, own, other in (
        (frames[:0], GUIDANCE_BY_WORDS, GUIDANCE_WITH_FRAMES),
        (frames, GUIDANCE_WITH_FRAMES, GUIDANCE_BY_WORDS),
    ):
        clip = draw(given)
        np.testing.assert_array_equal(clip, draw(given, guidance=own))
        assert np.abs(clip - draw(given, guidance=other)).max() > 1e-6


def test_the_shipped_prior_draws_the_colour_and_the_fall():
    ball = lambda colour: np.asarray(imagine(f"a {colour} rubber ball is dropped", key=jax.random.key(3)))
    red, blue = ball("red"), ball("blue")
    body = np.abs(red - blue).sum(-1)  # the same noise: what differs most is the body
    weight = np.where(body > 0.5 * body.max((1, 2), keepdims=True), body, 0.0)
    shade = lambda clip: (weight[..., None] * clip).sum((0, 1, 2)) / weight.sum()
    assert shade(red)[0] > shade(red)[2] + 0.3 and shade(blue)[2] > shade(blue)[0] + 0.2
    row = (weight * np.arange(32.0)[:, None]).sum((1, 2)) / weight.sum((1, 2))
    assert row[4] > row[0] + 1.0 and row[8] > row[0] + 3.0  # rows count downwards


def test_the_weights_that_read_fit_those_that_draw():
    draws, reads = load_prior(), load_prior(shipped_prior(reads=True))
    assert reads.config == draws.config
    np.testing.assert_allclose(reads.mean, draws.mean, rtol=1e-6)
    distance = lambda a, b: float(np.linalg.norm(np.concatenate([np.ravel(x - y) for x, y in zip(a, b)])))
    a, b = jax.tree.leaves(draws.params), jax.tree.leaves(reads.params)
    # trained further, not anew: 0.27 of their size after four trainings; unrelated weights are 1.4 apart
    assert 0.0 < distance(a, b) < 0.3 * distance(a, [0.0 * x for x in a])
