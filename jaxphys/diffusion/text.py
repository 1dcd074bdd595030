"""The umT5 text encoder (Chung et al., UniMax, 2023; Raffel et al., T5, 2020), whose last states condition the models.

Per layer, with RMS norm N, a bias b by relative position that every layer has for itself, and no scale on the scores:

    h = h + softmax(q k^T + b) v W,    h = h + (gelu(N(h) A) * (N(h) B)) C

Embeddings are the input of everything above; they can be computed once and stored.
"""

from __future__ import annotations

import html
import math
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxphys.diffusion import modules
from jaxphys.diffusion.attention import dot_attention
from jaxphys.diffusion.names import DIALECTS, KeyMap, expand

LENGTH = 512  # tokens that the published models were trained with


@dataclass(frozen=True)
class TextConfig:
    """Sizes of a umT5 encoder.

    >>> config = TextConfig(vocabulary=10, dim=8, heads=2, head_dim=4, ffn_dim=16, layers=1)
    >>> params = jax.eval_shape(config.init, jax.random.key(0))  # the shapes alone: nothing is computed
    >>> jax.eval_shape(config.encode, params, jnp.array([3, 4, 1, 0]), jnp.array([1, 1, 1, 0])).shape
    (4, 8)
    """

    vocabulary: int
    dim: int
    heads: int
    head_dim: int
    ffn_dim: int
    layers: int
    buckets: int = 32  # of relative positions
    max_distance: int = 128  # from here on all positions share the last bucket
    eps: float = 1e-6
    param_dtype: str = "float32"

    def init(self, key: jax.Array) -> dict:
        """Random parameters: a nested dict; leaves under "blocks" have a leading axis of layers."""
        outer, blocks = jax.random.split(key)
        return modules.create(Outer, self, outer) | {"blocks": modules.create(Block, self, blocks, self.layers)}

    def encode(self, params: Any, tokens: jax.Array, mask: jax.Array) -> jax.Array:
        """Embeddings (L, dim) of a text; zero vectors where the mask is 0.

        Args:
            params: from `init`, or a checkpoint.
            tokens: numbers of tokens (L,), below `vocabulary`.
            mask: (L,) 1 for the text and its end, 0 for padding.

        Raises:
            ValueError: tokens that are no integers, or shapes that differ.
        """
        if tokens.ndim != 1 or not jnp.issubdtype(tokens.dtype, jnp.integer) or mask.shape != tokens.shape:
            raise ValueError(
                f"tokens and mask must be integers of one shape (L,), got {tokens.dtype}{tokens.shape} and {mask.shape}"
            )
        length = len(tokens)
        distance = np.arange(length)[None] - np.arange(length)[:, None]
        bucket = buckets(distance, self.buckets, self.max_distance)
        hidden = jnp.where(mask > 0, 0.0, -jnp.inf)
        x = params["embedding"][tokens]

        def body(x, layer):
            return modules.bind(Block, self, layer)(x, bucket, hidden), None

        x, _ = jax.lax.scan(jax.checkpoint(body, prevent_cse=False), x, params["blocks"])
        return jnp.where(mask[:, None] > 0, modules.rms_norm(x, params["norm"], self.eps), 0)


def buckets(distance: np.ndarray, count: int, max_distance: int) -> np.ndarray:
    """Which bias serves a distance from query to key: exact when small, then in logarithmic steps, both directions.

    >>> buckets(np.array([-200, -1, 0, 1, 7, 8, 200]), 32, 128).tolist()
    [15, 1, 0, 17, 23, 24, 31]
    """
    count //= 2
    exact = count // 2
    size = np.abs(distance)
    far = np.log(np.maximum(size, 1).astype(np.float32) / np.float32(exact))
    far = far / np.float32(math.log(max_distance / exact)) * np.float32(count - exact)
    far = np.minimum(exact + far.astype(np.int32), count - 1)
    return np.where(distance > 0, count, 0) + np.where(size < exact, size, far)


class Outer(nnx.Module):
    """What stands before and after the layers."""

    def __init__(self, config: TextConfig, *, rngs):
        dtype = jnp.dtype(config.param_dtype)
        self.embedding = nnx.Param(jnp.zeros((config.vocabulary, config.dim), dtype), std=1.0)
        self.norm = nnx.Param(jnp.ones(config.dim, dtype))


class Block(nnx.Module):
    """One layer."""

    def __init__(self, config: TextConfig, *, rngs):
        self.config = config
        dtype, inner = jnp.dtype(config.param_dtype), config.heads * config.head_dim
        linear = lambda a, b: nnx.Linear(a, b, use_bias=False, param_dtype=dtype, rngs=rngs)
        self.norm_attn, self.norm_ffn = (nnx.Param(jnp.ones(config.dim, dtype)) for _ in range(2))
        self.q, self.k, self.v = (linear(config.dim, inner) for _ in range(3))
        self.o = linear(inner, config.dim)
        self.bias = nnx.Param(jnp.zeros((config.buckets, config.heads), dtype), std=0.1)
        self.gate, self.up = (linear(config.dim, config.ffn_dim) for _ in range(2))
        self.down = linear(config.ffn_dim, config.dim)

    def __call__(self, x, bucket, hidden):
        eps, heads = self.config.eps, self.config.heads
        y = modules.rms_norm(x, self.norm_attn[...], eps)
        q, k, v = (f(y).reshape(len(y), heads, -1) for f in (self.q, self.k, self.v))
        bias = modules.wide(self.bias[...])[bucket].transpose(2, 0, 1) + hidden
        x = x + self.o(dot_attention(q, k, v, 1.0, bias).reshape(len(x), -1))
        y = modules.rms_norm(x, self.norm_ffn[...], eps)
        return x + self.down(jax.nn.gelu(self.gate(y), approximate=True) * self.up(y))


PRESETS = {
    "umt5-xxl": TextConfig(256384, dim=4096, heads=64, head_dim=64, ffn_dim=10240, layers=24, param_dtype="bfloat16")
}
"""The published encoder, which serves all Wan models."""

_NAMES = (  # here, transformers, original, kind
    ("embedding", "shared.weight", "token_embedding.weight", "same"),
    ("norm", "encoder.final_layer_norm", "norm", "scale"),
    ("blocks/*/norm_attn", "encoder.block.{}.layer.0.layer_norm", "blocks.{}.norm1", "scale"),
    ("blocks/*/norm_ffn", "encoder.block.{}.layer.1.layer_norm", "blocks.{}.norm2", "scale"),
    *(
        (f"blocks/*/{n}", f"encoder.block.{{}}.layer.0.SelfAttention.{n}", f"blocks.{{}}.attn.{n}", "product")
        for n in "qkvo"
    ),
    (
        "blocks/*/bias",
        "encoder.block.{}.layer.0.SelfAttention.relative_attention_bias.weight",
        "blocks.{}.pos_embedding.embedding.weight",
        "same",
    ),
    ("blocks/*/gate", "encoder.block.{}.layer.1.DenseReluDense.wi_0", "blocks.{}.ffn.gate.0", "product"),
    ("blocks/*/up", "encoder.block.{}.layer.1.DenseReluDense.wi_1", "blocks.{}.ffn.fc1", "product"),
    ("blocks/*/down", "encoder.block.{}.layer.1.DenseReluDense.wo", "blocks.{}.ffn.fc2", "product"),
)


def keymap(config: TextConfig, dialect: str) -> KeyMap:
    """The names of all parameters in a checkpoint of transformers ("diffusers"), or of the original repository.

    >>> keymap(PRESETS["umt5-xxl"], "original").leaves[0].names
    ('token_embedding.weight',)
    """
    if dialect not in DIALECTS:
        raise ValueError(f"dialect must be one of {DIALECTS}, got {dialect!r}")
    column = 1 + DIALECTS.index(dialect)
    aliases = (("encoder.embed_tokens.weight", "shared.weight"),) if dialect == "diffusers" else ()
    return KeyMap(tuple(expand([(row[0], row[column], row[3]) for row in _NAMES], config.layers)), aliases)


def clean(text: str) -> str:
    """HTML entities resolved, runs of white space joined, as the published models were prompted.

    >>> clean("a  ball &amp;amp; a box")
    'a ball & a box'
    """
    return re.sub(r"\s+", " ", html.unescape(html.unescape(text))).strip()


def tokenize(text: str, path: str | os.PathLike, length: int = LENGTH) -> tuple[np.ndarray, np.ndarray]:
    """Token numbers (length,) and mask (length,) of a text, by a `tokenizer.json`; needs the extra `convert`.

    Args:
        text: any; see `clean`.
        path: `tokenizer.json`, or a folder that holds it.
        length: the text is cut or padded with token 0 to it; its end token is kept.

    Raises:
        FileNotFoundError: no such file.
        ImportError: the package `tokenizers` is not installed.
    """
    path = Path(path)
    path = path / "tokenizer.json" if path.is_dir() else path
    if not path.is_file():
        raise FileNotFoundError(
            f"no such file: {path}. It is in every repository of Wan models in the layout of diffusers, for example: "
            'hf download Wan-AI/Wan2.1-T2V-1.3B-Diffusers --include "tokenizer/*" --local-dir models'
        )
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise ImportError("the tokenizer needs the package tokenizers: pip install 'jaxphys[convert]'") from error
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.enable_truncation(length)
    tokenizer.enable_padding(length=length, pad_id=0)
    found = tokenizer.encode(clean(text))
    return np.asarray(found.ids, np.int32), np.asarray(found.attention_mask, np.int32)
