"""Every model against diffusers and transformers, at tiny sizes with weights that both sides draw for themselves.

As goldens, and live where the `parity` extra is installed (with other weights).
"""

import dataclasses
import importlib.util
import runpy
import sys
from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxphys.diffusion import conditions, dit, image, names, text, vae, weights
from jaxphys.diffusion.protocol import Condition

FOLDER = Path(__file__).parents[1] / "golden"
tensor = runpy.run_path(str(FOLDER / "seeded.py"))["tensor"]
SOURCES = ["golden", "live"]
TOLERANCE = 1e-5  # maximum of the absolute error
WAN = dict(dim=32, ffn_dim=64, heads=2, layers=2, out_channels=4, text_dim=24, freq_dim=32, text_tokens=512)
PLAIN, IMAGE = dit.WanConfig(in_channels=4, **WAN), dit.WanConfig(in_channels=12, image_dim=20, **WAN)
VAES = {
    "vae21": vae.VaeConfig(4, 4, (0.0,) * 4, (1.0,) * 4, blocks=1),
    "vae22": vae.VaeConfig(6, 4, (0.0,) * 6, (1.0,) * 6, decoder_base=6, shortcuts=True, patch=2),
}


@cache
def reference(source):
    """(seed, arrays)"""
    if source == "golden":
        return 0, dict(np.load(FOLDER / "models.npz"))
    for package in ("torch", "diffusers", "transformers"):
        if importlib.util.find_spec(package) is None:
            pytest.skip("the parity extra is not installed")
    sys.path.insert(0, str(FOLDER))
    try:
        return 1, runpy.run_path(str(FOLDER / "make_models.py"))["compute"](1)
    finally:
        sys.path.remove(str(FOLDER))


def parameters(config, keymap, seed, rename=lambda name: name):
    """A tree from seeded tensors under the names of diffusers: each of them used, none more."""
    abstract = jax.eval_shape(config.init, jax.random.key(0))
    wanted = names.shapes(keymap(config, "diffusers"), abstract)
    return weights.from_tensors(config, {n: tensor(rename(n), shape, seed) for n, shape in wanted.items()})


def given(seed, name, *shape):
    return jnp.asarray(tensor(f"input {name}", shape, seed))


def clip(seed, name, *shape):
    return given(seed, name, 1, *shape)[0].transpose(1, 2, 3, 0)


def close(actual, expected, tolerance=TOLERANCE):
    assert actual.shape == expected.shape
    np.testing.assert_allclose(np.asarray(actual), expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("source", SOURCES)
def test_transformer(source):
    """Text to video, one time and one per frame; nine tokens of text are padded to 512 as the models expect."""
    seed, arrays = reference(source)
    params, x = parameters(PLAIN, dit.keymap, seed), clip(seed, "clip", 4, 3, 8, 12)
    cond = Condition(given(seed, "text", 1, 9, 24)[0])
    close(jax.jit(PLAIN.velocity)(params, x, jnp.float32(0.937), cond), arrays["dit"])
    close(jax.jit(PLAIN.velocity)(params, x, jnp.array([0.0, 0.125, 0.937]), cond), arrays["dit_times"])


@pytest.mark.parametrize("source", SOURCES)
def test_transformer_with_image_branch(source):
    seed, arrays = reference(source)
    params, x = parameters(IMAGE, dit.keymap, seed), clip(seed, "clip with image", 12, 3, 8, 8)
    features = given(seed, "image features", 1, 257, 20)[0]
    cond = Condition(given(seed, "text", 1, 9, 24)[0], concat=x[..., 4:], clip=features)
    close(jax.jit(IMAGE.velocity)(params, x[..., :4], jnp.float32(0.5), cond), arrays["dit_image"])


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("name", list(VAES))
def test_autoencoder(name, source):
    """One pass over the clip equals the reference, which codes it in chunks with a cache per layer."""
    seed, arrays = reference(source)
    config = VAES[name]
    params, size = parameters(config, vae.keymap, seed), 2 * config.space_factor
    video = 0.5 + 0.25 * clip(seed, "video", 3, 9, size, size)  # the reference takes [-1, 1]
    mean, log_variance = jax.jit(config.posterior)(params, video)
    close(mean, arrays[f"{name}_mean"])
    close(log_variance, arrays[f"{name}_log_variance"])
    latents = 0.5 * clip(seed, "latents", config.latent_channels, 3, 2, 2)
    close(2.0 * jax.jit(config.decode)(params, latents) - 1.0, arrays[f"{name}_video"])
    assert np.mean(np.abs(arrays[f"{name}_video"]) < 1.0) > 0.75  # and so the comparison is of numbers not clipped


@pytest.mark.parametrize("source", SOURCES)
def test_channels_of_a_first_image(source):
    """What the pipeline of diffusers gives the image-to-video models beside the noise."""
    seed, arrays = reference(source)
    config = dataclasses.replace(VAES["vae21"], mean=(0.1, 0.2, 0.3, 0.4), std=(2.0,) * 4)
    params = parameters(config, vae.keymap, seed)
    picture = 0.5 + 0.25 * given(seed, "image", 1, 3, 16, 16)[0].transpose(1, 2, 0)
    channels = jax.jit(lambda p, x: conditions.image_channels(config, p, x, 9))(params, picture)
    close(channels, arrays["image_channels"])
    known, mask = conditions.known_first(config, params, picture, 9)
    np.testing.assert_allclose(known[0], channels[0, ..., 4:], atol=1e-5)  # frame 0 is coded alone
    assert known.shape == (3, 2, 2, 4) and mask.tolist() == [1.0, 0.0, 0.0] and not known[1:].any()
    for bad, frames in ((picture[None], 9), (picture, 8), (picture, 0)):
        with pytest.raises(ValueError, match=r"one more than a multiple of 4|an image"):
            conditions.image_channels(config, params, bad, frames)
        with pytest.raises(ValueError, match=r"one more than a multiple of 4|an image"):
            conditions.known_first(config, params, bad, frames)


@pytest.mark.parametrize("source", SOURCES)
def test_text_encoder(source):
    seed, arrays = reference(source)
    config = text.TextConfig(vocabulary=100, dim=32, heads=4, head_dim=8, ffn_dim=64, layers=2)
    mask = (jnp.arange(200) < 150).astype(jnp.int32)
    out = config.encode(parameters(config, text.keymap, seed), jnp.asarray(arrays["text_ids"]), mask)
    close(out, arrays["text"])
    assert (text.buckets(np.arange(-511, 512), 32, 128) == arrays["text_buckets"]).all()


@pytest.mark.parametrize("source", SOURCES)
def test_image_encoder(source):
    seed, arrays = reference(source)
    config = image.ImageConfig(dim=32, ffn_dim=64, heads=4, layers=2, size=28)
    params = parameters(config, image.keymap, seed, lambda name: name.removeprefix("vision_model."))
    close(config.features(params, given(seed, "pixels", 1, 3, 28, 28)[0].transpose(1, 2, 0)), arrays["image"])
    # The reference resizes with Pillow, which rounds to whole grey values, once in each direction.
    pixels = config.prepare(jnp.asarray(arrays["image_picture"], jnp.float32) / 255.0)
    close(pixels, arrays["image_pixels"], 1.0 / 255.0 / 0.26)
