"""Text and image encoders beyond parity: padding, the tokenizer's door, gradients to the picture."""

import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxphys.diffusion import text
from jaxphys.diffusion.image import ImageConfig
from jaxphys.diffusion.text import TextConfig

TEXT = TextConfig(vocabulary=20, dim=8, heads=2, head_dim=4, ffn_dim=16, layers=2)
IMAGE = ImageConfig(dim=8, ffn_dim=16, heads=2, layers=2, size=8, patch=4)


def start(config, dtype=jnp.float32):
    rng = np.random.default_rng(0)
    abstract = jax.eval_shape(config.init, jax.random.key(0))
    return jax.tree.map(lambda a: jnp.asarray(0.4 * rng.normal(size=a.shape), dtype), abstract)


def test_padding_is_not_seen_and_comes_back_as_zero():
    params = start(TEXT)
    tokens = np.array([5, 7, 3, 1])
    plain = TEXT.encode(params, jnp.asarray(tokens), jnp.ones(4, jnp.int32))
    padded, mask = jnp.asarray([*tokens, 9, 11, 13]), jnp.asarray([1, 1, 1, 1, 0, 0, 0])
    out = TEXT.encode(params, padded, mask)
    np.testing.assert_allclose(out[:4], plain, atol=1e-6)
    np.testing.assert_array_equal(out[4:], np.zeros((3, 8)))
    assert np.abs(TEXT.encode(params, padded, jnp.ones(7, jnp.int32))[:4] - plain).max() > 1e-3


def test_gradient_to_the_embeddings_is_finite_where_the_text_is_padding():
    tokens, mask = jnp.asarray([5, 7, 0, 0]), jnp.asarray([1, 1, 0, 0])
    grad = jax.grad(lambda p: TEXT.encode(p, tokens, mask).sum())(start(TEXT))
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(grad)) and np.abs(grad["embedding"][5]).max() > 0


def test_gradient_to_the_picture_equals_finite_differences(float64):
    params = start(IMAGE, jnp.float64)
    rng = np.random.default_rng(1)
    picture, direction = jnp.asarray(rng.uniform(0.3, 0.7, (11, 14, 3))), jnp.asarray(rng.normal(size=(11, 14, 3)))
    value = jax.jit(lambda x: jnp.sin(IMAGE.encode(params, x)).sum())
    exact = jnp.vdot(jax.grad(value)(picture), direction)
    errors = [
        abs((value(picture + h * direction) - value(picture - h * direction)) / (2 * h) - exact)
        for h in (1e-4, 1e-5, 1e-6)
    ]
    assert min(errors) < 1e-6 * abs(exact)


def test_the_middle_of_the_picture_is_taken():
    wide = jnp.zeros((8, 16, 3)).at[:, 4:12].set(1.0)
    pixels = IMAGE.prepare(wide)
    np.testing.assert_allclose(pixels, IMAGE.prepare(jnp.ones((8, 8, 3))), atol=1e-6)
    np.testing.assert_allclose(pixels[0, 0], [(1 - 0.48145466) / 0.26862954, 2.0749, 2.1459], rtol=1e-4)


def test_bad_input_says_what_is_wrong():
    with pytest.raises(ValueError, match="integers of one shape"):
        TEXT.encode(start(TEXT), jnp.ones(3), jnp.ones(3))
    with pytest.raises(ValueError, match="integers of one shape"):
        TEXT.encode(start(TEXT), jnp.ones(3, jnp.int32), jnp.ones(4))
    with pytest.raises(ValueError, match=r"shape \(H, W, 3\)"):
        IMAGE.encode(start(IMAGE), jnp.ones((4, 4)))
    with pytest.raises(ValueError, match=r"pixels must have the shape \(8, 8, 3\)"):
        IMAGE.features(start(IMAGE), jnp.ones((4, 4, 3)))
    with pytest.raises(ValueError, match="heads must divide dim"):
        ImageConfig(dim=8, ffn_dim=16, heads=3, layers=1)


def test_tokenizer(tmp_path, monkeypatch):
    """The calls that are made of the package `tokenizers`, which is an extra, and what is said where it is missing."""
    with pytest.raises(FileNotFoundError, match="hf download Wan-AI"):
        text.tokenize("a ball", tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ImportError, match=r"pip install 'jaxphys\[convert\]'"):
        text.tokenize("a ball", tmp_path)
    seen = {}

    class Tokenizer:
        def from_file(path):
            seen["path"] = path
            return Tokenizer()

        def enable_truncation(self, length):
            seen["cut"] = length

        def enable_padding(self, length, pad_id):
            seen["pad"] = (length, pad_id)

        def encode(self, words):
            seen["words"] = words
            return types.SimpleNamespace(ids=[4, 5, 1, 0], attention_mask=[1, 1, 1, 0])

    monkeypatch.setitem(sys.modules, "tokenizers", types.SimpleNamespace(Tokenizer=Tokenizer))
    tokens, mask = text.tokenize(" a \n ball &lt;3 ", tmp_path, length=4)
    assert tokens.tolist() == [4, 5, 1, 0] and mask.tolist() == [1, 1, 1, 0] and tokens.dtype == np.int32
    path = str(tmp_path / "tokenizer.json")
    assert seen == {"path": path, "cut": 4, "pad": (4, 0), "words": "a ball <3"}
