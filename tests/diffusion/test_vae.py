"""The video autoencoder beyond parity: causality, chunks, memory, gradients."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxphys.diffusion.vae import PRESETS, VaeConfig
from jaxphys.diffusion.vae_layers import _norm

PLAIN = VaeConfig(2, base=4, mean=(0.1, -0.2), std=(2.0, 0.5), multipliers=(2, 2), temporal=(True,), blocks=1)
CONFIGS = {"2.1": PLAIN, "2.2": dataclasses.replace(PLAIN, shortcuts=True, patch=2, decoder_base=6)}


@functools.partial(jax.jit, static_argnums=(0, 3))
def encode(config, params, video, chunk=None):
    return config.encode(params, video, chunk=chunk)


@functools.partial(jax.jit, static_argnums=(0, 3))
def decode(config, params, latents, chunk=None):
    return config.decode(params, latents, chunk=chunk)


def start(config, frames=9, size=8, dtype=jnp.float32):
    params = jax.tree.map(lambda a: a.astype(dtype), jax.jit(config.init)(jax.random.key(0)))
    video = jnp.asarray(np.random.default_rng(0).uniform(size=(frames, size, size, 3)), dtype)
    return params, video


@pytest.mark.parametrize("name", list(CONFIGS))
def test_chunks_give_the_numbers_of_the_whole(name):
    """Nine frames are five latent frames: the first piece takes what does not fill a chunk."""
    config = CONFIGS[name]
    params, video = start(config)
    latents = encode(config, params, video)
    assert latents.shape == (5, 8 // config.space_factor, 8 // config.space_factor, 2)
    decoded = decode(config, params, latents)
    assert decoded.shape == video.shape and 0.0 <= decoded.min() and decoded.max() <= 1.0
    for chunk in (2, 3):
        np.testing.assert_allclose(encode(config, params, video, chunk), latents, atol=3e-6)
        np.testing.assert_allclose(decode(config, params, latents, chunk), decoded, atol=3e-6)


@pytest.mark.parametrize("name", list(CONFIGS))
def test_nothing_depends_on_what_comes_later(name):
    config = CONFIGS[name]
    params, video = start(config)
    latents = encode(config, params, video)
    np.testing.assert_allclose(encode(config, params, video[:1]), latents[:1], atol=1e-6)  # a still image
    changed = encode(config, params, video.at[5:].set(0.0))
    np.testing.assert_array_equal(changed[:3], latents[:3])
    assert (jnp.abs(changed[3:] - latents[3:]).max((1, 2, 3)) > 1e-4).all()
    video = decode(config, params, latents)
    np.testing.assert_array_equal(decode(config, params, latents.at[3:].set(0.0))[:5], video[:5])


def test_memory_of_a_gradient_in_chunks_does_not_grow_with_the_clip():
    config = CONFIGS["2.2"]
    params, _ = start(config)

    def memory(frames, chunk):
        video = jax.ShapeDtypeStruct((frames, 16, 16, 3), jnp.float32)
        loss = lambda params, video: config.encode(params, video, chunk=chunk).sum()
        compiled = jax.jit(jax.grad(loss)).lower(params, video).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    small, large, whole = memory(17, 1), memory(65, 1), memory(65, None)
    handed_on = 32 * 60_000  # what layers remember between chunks, which is kept for each of them
    assert large < 0.5 * whole and large - small < handed_on


def test_latents_are_normalised_and_samples_follow_the_posterior():
    params, video = start(PLAIN)
    mean, log_variance = jax.jit(PLAIN.posterior)(params, video)
    np.testing.assert_allclose(
        encode(PLAIN, params, video), (mean - jnp.array([0.1, -0.2])) / jnp.array([2.0, 0.5]), atol=1e-6
    )
    keys = jax.random.split(jax.random.key(3), 400)
    drawn = jax.jit(jax.vmap(lambda key: PLAIN.encode(params, video, key=key)))(keys)
    deviation = jnp.exp(0.5 * log_variance) / jnp.array([2.0, 0.5])
    np.testing.assert_allclose((drawn.std(0) / deviation).mean(), 1.0, atol=0.02)
    assert jnp.abs((drawn.mean(0) - encode(PLAIN, params, video)) / deviation).max() < 5.0 / 400**0.5


def test_gradient_through_chunks_equals_finite_differences(float64):
    config = dataclasses.replace(CONFIGS["2.2"], param_dtype="float64")
    params, video = start(config, frames=5, size=4, dtype=jnp.float64)
    rng = np.random.default_rng(5)
    direction = jax.tree.map(lambda a: rng.normal(size=a.shape), (params, video))

    @jax.jit
    @jax.value_and_grad
    def along(h, point):  # the value and its slope in one program; the slope is that of reverse mode to every array
        params, video = jax.tree.map(lambda a, d: a + h * d, point, direction)
        return jnp.sin(config.decode(params, 0.3 * config.encode(params, video, chunk=1), chunk=1)).sum()

    at = lambda h: along(h, (params, video))[0]
    exact = along(0.0, (params, video))[1]
    errors = [abs((at(h) - at(-h)) / (2 * h) - exact) for h in (1e-4, 1e-5, 1e-6, 1e-7)]
    assert min(errors) < 1e-6 * abs(exact)


def test_norm_of_a_black_frame_has_a_finite_derivative():
    gamma = jnp.ones(3)
    value, grad = jax.value_and_grad(lambda x: _norm(x, gamma).sum())(jnp.zeros((2, 3)))
    assert value == 0.0 and np.isfinite(grad).all()


def test_bad_input_says_what_is_wrong():
    params, video = start(PLAIN)
    with pytest.raises(ValueError, match="one more than a multiple of 2: cut it to 7"):
        PLAIN.encode(params, video[:8])
    with pytest.raises(ValueError, match="H and W multiples of 2"):
        PLAIN.encode(params, video[:, :7])
    with pytest.raises(ValueError, match="must be floats"):
        PLAIN.encode(params, (255 * video).astype(jnp.uint8))
    with pytest.raises(ValueError, match="at least 1 latent frame"):
        PLAIN.encode(params, video, chunk=0)
    with pytest.raises(ValueError, match=r"latents must be floats of shape \(T, H, W, 2\)"):
        PLAIN.decode(params, video)
    with pytest.raises(ValueError, match="need 2 numbers each"):
        dataclasses.replace(PLAIN, mean=(0.0,))
    with pytest.raises(ValueError, match="one per step between stages"):
        dataclasses.replace(PLAIN, temporal=(True, False))
    with pytest.raises(ValueError, match="shortcuts cannot spread 4 channels over 12"):
        dataclasses.replace(PLAIN, multipliers=(1, 3), shortcuts=True)


def test_published_factors():
    assert {name: (c.time_factor, c.space_factor) for name, c in PRESETS.items()} == {
        "wan2.1-vae": (4, 8),
        "wan2.2-vae": (4, 16),
    }
