"""The CLIP ViT-H/14 image encoder (Radford et al., 2021; Dosovitskiy et al., 2021) of Wan 2.1 image to video.

The models are conditioned on the states before the last layer, so that layer and the projection are not even loaded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxphys.diffusion import modules
from jaxphys.diffusion.attention import attention
from jaxphys.diffusion.names import DIALECTS, KeyMap, expand

_MEAN = (0.48145466, 0.4578275, 0.40821073)  # of the images that CLIP was trained on
_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class ImageConfig:
    """Sizes of a CLIP image encoder.

    >>> config = ImageConfig(dim=8, ffn_dim=16, heads=2, layers=1, size=4, patch=2)
    >>> params = jax.eval_shape(config.init, jax.random.key(0))  # the shapes alone: nothing is computed
    >>> jax.eval_shape(config.encode, params, jnp.ones((5, 7, 3))).shape
    (5, 8)
    """

    dim: int
    ffn_dim: int
    heads: int
    layers: int  # all but the last of the published model
    size: int = 224  # pixels
    patch: int = 14  # pixels
    eps: float = 1e-5
    param_dtype: str = "float32"

    def __post_init__(self):
        if self.dim % self.heads or self.size % self.patch:
            raise ValueError(f"ImageConfig: heads must divide dim, and patch must divide size, got {self}")

    @property
    def tokens(self) -> int:
        return 1 + (self.size // self.patch) ** 2

    def init(self, key: jax.Array) -> dict:
        """Random parameters: a nested dict; leaves under "blocks" have a leading axis of layers."""
        outer, blocks = jax.random.split(key)
        return modules.create(Outer, self, outer) | {"blocks": modules.create(Block, self, blocks, self.layers)}

    def encode(self, params: Any, image: jax.Array) -> jax.Array:
        """Features (tokens, dim) of an image: a class token, then patches, row by row.

        Args:
            params: from `init`, or a checkpoint.
            image: (H, W, 3) in [0, 1], of any size; see `prepare`.

        Raises:
            ValueError: an image of another shape.
        """
        return self.features(params, self.prepare(image))

    def prepare(self, image: jax.Array) -> jax.Array:
        """The image at the encoder's size, (size, size, 3), standardised.

        The shorter side is resized (cubic, antialiased), and the middle is taken. Values are not rounded to 8 bits.
        """
        if image.ndim != 3 or image.shape[-1] != 3 or not image.size:
            raise ValueError(f"an image must have the shape (H, W, 3), got {image.shape}")
        height, width = image.shape[:2]
        scale = self.size / min(height, width)
        shape = tuple(self.size if n == min(height, width) else int(n * scale) for n in (height, width))
        image = jnp.clip(jax.image.resize(image, (*shape, 3), "cubic", antialias=True), 0.0, 1.0)
        top, left = ((n - self.size) // 2 for n in shape)
        image = image[top : top + self.size, left : left + self.size]
        return (image - jnp.asarray(_MEAN, image.dtype)) / jnp.asarray(_STD, image.dtype)

    def features(self, params: Any, pixels: jax.Array) -> jax.Array:
        """Features (tokens, dim) of standardised pixels (size, size, 3)."""
        if pixels.shape != (self.size, self.size, 3):
            raise ValueError(f"pixels must have the shape ({self.size}, {self.size}, 3), got {pixels.shape}")
        n, kernel = self.size // self.patch, params["patch_embedding"]["kernel"]
        patches = pixels.reshape(n, self.patch, n, self.patch, 3).swapaxes(1, 2).reshape(n * n, -1)
        x = patches.astype(kernel.dtype) @ kernel.reshape(-1, self.dim)
        x = jnp.concatenate([params["class_embedding"][None], x]) + params["positions"]
        outer = modules.bind(Outer, self, {name: value for name, value in params.items() if name != "blocks"})

        def body(x, layer):
            return modules.bind(Block, self, layer)(x), None

        return jax.lax.scan(jax.checkpoint(body, prevent_cse=False), outer.norm_in(x), params["blocks"])[0]


class Outer(nnx.Module):
    """What stands before the layers."""

    def __init__(self, config: ImageConfig, *, rngs):
        dtype, window = jnp.dtype(config.param_dtype), (config.patch, config.patch)
        random = lambda *shape: nnx.Param(jnp.zeros(shape, dtype), std=config.dim**-0.5)
        self.patch_embedding = nnx.Conv(3, config.dim, window, use_bias=False, param_dtype=dtype, rngs=rngs)
        self.class_embedding = random(config.dim)
        self.positions = random(config.tokens, config.dim)
        self.norm_in = modules.LayerNorm(config.dim, config.eps)


class Block(nnx.Module):
    """One layer."""

    def __init__(self, config: ImageConfig, *, rngs):
        self.config = config
        linear = lambda a, b: nnx.Linear(a, b, param_dtype=jnp.dtype(config.param_dtype), rngs=rngs)
        self.norm1, self.norm2 = (modules.LayerNorm(config.dim, config.eps) for _ in range(2))
        self.q, self.k, self.v, self.o = (linear(config.dim, config.dim) for _ in range(4))
        self.first, self.second = linear(config.dim, config.ffn_dim), linear(config.ffn_dim, config.dim)

    def __call__(self, x):
        y = self.norm1(x)
        q, k, v = (f(y).reshape(len(y), self.config.heads, -1) for f in (self.q, self.k, self.v))
        x = x + self.o(attention(q, k, v).reshape(x.shape))
        return x + self.second(jax.nn.gelu(self.first(self.norm2(x)), approximate=False))


PRESETS = {"clip-vit-h-14": ImageConfig(dim=1280, ffn_dim=5120, heads=16, layers=31, param_dtype="bfloat16")}
"""The published encoder, which serves the image-to-video models of Wan 2.1."""

_NAMES = (  # here, transformers, original, kind
    ("patch_embedding", "vision_model.embeddings.patch_embedding", "visual.patch_embedding", "window"),
    ("blocks/*/norm1", "vision_model.encoder.layers.{}.layer_norm1", "visual.transformer.{}.norm1", "norm"),
    ("blocks/*/norm2", "vision_model.encoder.layers.{}.layer_norm2", "visual.transformer.{}.norm2", "norm"),
    *(
        (
            f"blocks/*/{n}",
            f"vision_model.encoder.layers.{{}}.self_attn.{n}_proj",
            "visual.transformer.{}.attn.to_qkv",
            ("linear", f"linear {i}/3"),
        )
        for i, n in enumerate("qkv")
    ),
    ("blocks/*/o", "vision_model.encoder.layers.{}.self_attn.out_proj", "visual.transformer.{}.attn.proj", "linear"),
    ("blocks/*/first", "vision_model.encoder.layers.{}.mlp.fc1", "visual.transformer.{}.mlp.0", "linear"),
    ("blocks/*/second", "vision_model.encoder.layers.{}.mlp.fc2", "visual.transformer.{}.mlp.2", "linear"),
    ("norm_in", "vision_model.pre_layrnorm", "visual.pre_norm", "norm"),
    ("class_embedding", "vision_model.embeddings.class_embedding", "visual.cls_embedding", ("same", "token")),
    ("positions", "vision_model.embeddings.position_embedding.weight", "visual.pos_embedding", ("same", "row")),
)


def keymap(config: ImageConfig, dialect: str) -> KeyMap:
    """The names of all parameters in a checkpoint of transformers ("diffusers"), or of the original repository.

    The last layer, the projection and, in the original file, the text encoder are left out.

    >>> keymap(PRESETS["clip-vit-h-14"], "original").leaves[0].names
    ('visual.patch_embedding.weight',)
    """
    if dialect not in DIALECTS:
        raise ValueError(f"dialect must be one of {DIALECTS}, got {dialect!r}")
    column = DIALECTS.index(dialect)
    rows = [(r[0], r[1 + column], r[3] if isinstance(r[3], str) else r[3][column]) for r in _NAMES]
    last = config.layers
    ignored = (
        (
            rf"vision_model\.encoder\.layers\.{last}\..*",
            r"vision_model\.post_layernorm\..*",
            r"vision_model\.embeddings\.position_ids",
            r"visual_projection\.weight",
        ),
        (rf"visual\.transformer\.{last}\..*", r"visual\.(post_norm\..*|head)", r"textual\..*", "log_scale"),
    )[column]
    return KeyMap(tuple(expand(rows, config.layers)), ignored=ignored)
