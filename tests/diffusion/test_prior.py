"""The prior: what is not said has no effect, what is given is kept, files round-trip."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from jaxphys.diffusion.prior import PriorConfig, Text, caption_loss, drop, first_frames, prior_loss
from jaxphys.diffusion.prior_files import load_prior, save_prior

TINY = PriorConfig(frames=8, pixels=8, slots=(3, 2), scalars=2, width=12, layers=1, heads=2, patch=(4, 4, 4))


@pytest.fixture(scope="module")
def params():
    return TINY.init(jax.random.key(0))


def test_a_scalar_moves_the_condition_smoothly_and_only_where_it_is_given(params, float64):
    params = jax.tree.map(lambda a: a.astype(jnp.float64), params)
    tokens = jnp.array([1, 0])

    def total(s):
        return TINY.condition(params, Text(tokens, jnp.stack([s, jnp.nan]))).text.sum()

    slope = jax.grad(total)(jnp.array(0.3))
    np.testing.assert_allclose(slope, (total(0.3 + 1e-6) - total(0.3 - 1e-6)) / 2e-6, rtol=1e-6)
    silent = jax.grad(lambda p: TINY.condition(p, TINY.nothing()).text.sum())(params)
    assert not np.any(silent["scalars"]) and np.all(silent["absent"] == 1.0)


def test_loss_and_its_gradient_are_finite_and_known_frames_do_not_count(params):
    clip = jax.random.uniform(jax.random.key(1), TINY.shape)
    text = Text(jnp.array([2, 1]), jnp.array([0.5, jnp.nan]))
    loss = jax.jit(jax.value_and_grad(lambda p, k: prior_loss(p, clip, text, TINY, key=k)))
    for seed in range(4):
        value, gradient = loss(params, jax.random.key(seed))
        assert np.isfinite(value) and value > 0
        assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradient))
    masks = np.stack([first_frames(8, k) for k in jax.random.split(jax.random.key(0), 200)])
    assert set(masks.sum(1).tolist()) == {0.0, 1.0, 4.0} and (np.diff(masks) <= 0).all()


def test_captions_that_compete_share_one_probability_and_its_gradient_is_exact(params, float64):
    params = jax.tree.map(lambda a: a.astype(jnp.float64), params)
    clip = jax.random.uniform(jax.random.key(1), TINY.shape, jnp.float64)
    words = jnp.array([[2, 1], [1, 1], [3, 1]])
    text = lambda order: Text(words[jnp.array(order)], jnp.full((3, 2), 0.5))
    loss = jax.jit(lambda p, order: caption_loss(p, clip, text(order), TINY, key=jax.random.key(2)))
    first = [loss(params, order) for order in ((0, 1, 2), (1, 2, 0), (2, 0, 1))]
    np.testing.assert_allclose(np.exp(-np.array(first)).sum(), 1.0, rtol=1e-9)
    assert len({round(float(value), 6) for value in first}) == 3
    np.testing.assert_allclose(loss(params, (1, 1, 1)), np.log(3.0), rtol=1e-9)
    slope = jax.grad(loss)(params, (0, 1, 2))["words"][2]
    nudged = lambda h: params | {"words": params["words"].at[2, 3].add(h)}
    by_hand = (loss(nudged(1e-5), (0, 1, 2)) - loss(nudged(-1e-5), (0, 1, 2))) / 2e-5
    assert abs(by_hand) > 1e-8
    np.testing.assert_allclose(slope[3], by_hand, rtol=1e-5)


def test_dropping_leaves_every_subset_possible():
    text = Text(jnp.array([2, 1]), jnp.array([0.5, -0.5]))
    kept = jax.vmap(lambda k: drop(text, k))(jax.random.split(jax.random.key(0), 3000))
    seen = {(*(t > 0), *(~np.isnan(s))) for t, s in zip(np.asarray(kept.tokens), np.asarray(kept.scalars))}
    assert len(seen) == 16
    assert set(np.unique(kept.tokens[:, 0])) == {0, 2}


def test_files_round_trip_in_bfloat16_and_refuse_what_does_not_fit(params, tmp_path):
    path = tmp_path / "prior.safetensors"
    save_prior(path, params, TINY, [1.0, 2.0], [0.5, 1.0])
    prior = load_prior(path)
    assert prior.config == TINY
    for a, b in zip(jax.tree.leaves(prior.params), jax.tree.leaves(params)):
        np.testing.assert_array_equal(a, b.astype(jnp.bfloat16).astype(jnp.float32))
    np.testing.assert_allclose(prior.text([1, 2], [2.0, 2.0]).scalars, [2.0, 0.0])
    save_file({"w": np.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="holds no prior"):
        load_prior(tmp_path / "other.safetensors")
    save_prior(path, params, dataclasses.replace(TINY, layers=2), [1.0, 2.0], [0.5, 1.0])
    with pytest.raises(ValueError, match=r"does not fit its own sizes: .*blocks"):
        load_prior(path)
    with pytest.raises(ValueError, match="tokens"):
        TINY.condition(params, Text(jnp.zeros(3, int), jnp.zeros(2)))
