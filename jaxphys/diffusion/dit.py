"""The diffusion transformer of the Wan family, at any size (Wan team, arXiv 2503.20314).

With e(t) the embedding of time, six rows of modulation per block, m = table + W silu(e):

    h = h + g1 SelfAttention(LN(h) (1 + s1) + b1)        queries and keys: RMS norm over all heads, then rotation
    h = h + CrossAttention(LN(h), text) [+ CrossAttention(LN(h), image)]
    h = h + g2 MLP(LN(h) (1 + s2) + b2)

Time, modulation, norms and the head stay in float32; everything else is in the dtype of the parameters. Time may differ
from frame to frame (Wan 2.2 TI2V, video prediction), and a block-causal mask serves autoregressive variants.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

from jaxphys.diffusion import lora, modules, rope
from jaxphys.diffusion.attention import IMPLEMENTATIONS, attention
from jaxphys.diffusion.names import DIALECTS, KeyMap, expand
from jaxphys.diffusion.protocol import Condition, hold
from jaxphys.sharding import constrain_axes


@dataclass(frozen=True)
class WanConfig:
    """Sizes and choices of a Wan transformer: a `Denoiser`.

    >>> config = WanConfig(dim=12, ffn_dim=24, heads=2, layers=2, in_channels=4, out_channels=4, text_dim=8)
    >>> params = jax.eval_shape(config.init, jax.random.key(0))  # the shapes alone: nothing is computed
    >>> clip, cond = jnp.ones((3, 4, 4, 4)), Condition(text=jnp.ones((5, 8)))
    >>> jax.eval_shape(config.velocity, params, clip, jnp.array(0.5), cond).shape
    (3, 4, 4, 4)
    """

    dim: int  # width
    ffn_dim: int  # width of the MLP
    heads: int
    layers: int
    in_channels: int = 16  # channels of the clip and of `Condition.concat`
    out_channels: int = 16  # channels of the clip
    patch: tuple[int, int, int] = (1, 2, 2)  # in time, height, width
    text_dim: int = 4096
    text_tokens: int | None = None  # the text is padded with zero vectors to this length; None: taken as it is
    freq_dim: int = 256  # size of the sinusoid of time
    image_dim: int | None = None  # width of `Condition.clip`; None: no image branch
    eps: float = 1e-6
    causal_frames: int | None = None  # token frames per block of the block-causal mask; None: every token sees all
    prediction: str = "velocity"  # what the network puts out: "velocity" or "sample" (the clean clip)
    min_time: float = 0.05  # prediction "sample": v = (x - sample) / max(t, min_time)
    param_dtype: str = "float32"
    remat: str = "full"  # what the backward pass keeps of a block: see `modules.rematerialized`
    attention: str = "auto"  # see `attention.IMPLEMENTATIONS`

    def __post_init__(self):
        if self.dim % self.heads or (self.dim // self.heads) % 2:
            raise ValueError(f"WanConfig: dim={self.dim} must be heads={self.heads} times an even number")
        if self.prediction not in ("velocity", "sample"):
            raise ValueError(f"WanConfig: prediction must be 'velocity' or 'sample', got {self.prediction!r}")
        if self.remat not in modules.REMAT:
            raise ValueError(f"WanConfig: remat must be one of {modules.REMAT}, got {self.remat!r}")
        if self.attention not in IMPLEMENTATIONS:
            raise ValueError(f"WanConfig: attention must be one of {IMPLEMENTATIONS}, got {self.attention!r}")
        if self.freq_dim % 2 or min(self.patch) < 1 or self.layers < 1:
            raise ValueError(f"WanConfig: freq_dim must be even, patch and layers at least 1, got {self}")

    @property
    def head_dim(self) -> int:
        return self.dim // self.heads

    def init(self, key: jax.Array) -> dict:
        """Random parameters: a nested dict; leaves under "blocks" have a leading axis of layers."""
        outer, blocks = jax.random.split(key)
        return modules.create(Outer, self, outer) | {"blocks": modules.create(Block, self, blocks, self.layers)}

    def velocity(self, params: Any, x: jax.Array, t: jax.Array, cond: Condition, *, taps: tuple[str, ...] = ()) -> Any:
        """The velocity of `Denoiser.velocity`; taps are "block_0" ... : the tokens after that block.

        Args:
            params: from `init`, or a checkpoint; with adapters by `lora.attach`.
            x: noisy clip (T, H, W, C); T, H, W are multiples of the patch.
            t: time in [0, 1], () or (T,); a patch over several frames takes the latest of their times.
            cond: conditions; `concat` and `clip` exactly when the model has channels and a branch for them.
            taps: names of blocks.

        Returns:
            (T, H, W, C) in x's dtype; with `taps` also {name: (T', H', W', dim)}.

        Raises:
            ValueError: a shape, a condition or a tap that the model does not take.
        """
        t = jnp.asarray(t)
        grid = self._check(x, t, cond, taps)
        x, t, free = hold(x, t, cond)
        features = x if cond.concat is None else jnp.concatenate([x, cond.concat.astype(x.dtype)], -1)
        frame_time = t if t.ndim == 0 else t.reshape(grid[0], -1).max(-1)
        out, tapped = self._network(params, features, frame_time, cond, grid, taps)
        out = out.astype(x.dtype)
        if self.prediction == "sample":
            out = (x - out) / jnp.maximum(t, self.min_time).astype(x.dtype).reshape(-1, 1, 1, 1)
        if free is not None:
            out = out * free
        return (out, tapped) if taps else out

    def _network(self, params, x, t, cond, grid, taps):
        single, stacked = lora.split(params.get("lora", ()))
        rest = {name: value for name, value in params.items() if name not in ("blocks", "lora")}
        outer = modules.bind(Outer, self, functools.reduce(lora.merge, single, rest))
        tokens = outer.embed(x, grid)
        time, modulation = outer.embed_time(t)
        text, image = outer.embed_text(cond.text), None if cond.clip is None else outer.img_emb(cond.clip)
        turn = tuple(table[:, None] for table in rope.tables(self.head_dim, grid))
        causal = None if self.causal_frames is None else self.causal_frames * grid[1] * grid[2]
        wanted = {name: int(name.removeprefix("block_")) for name in taps}

        def block(h, layer, adapters):
            layer = functools.reduce(lora.merge, adapters, layer)
            return modules.bind(Block, self, layer)(h, modulation, text, image, turn, causal)

        block = modules.rematerialized(block, self.remat)

        def body(carry, xs):
            h, kept = carry
            layer, adapters, index = xs
            h = constrain_axes(block(constrain_axes(h, "seq", None), layer, adapters), "seq", None)
            kept = {name: jnp.where(index == wanted[name], h, old) for name, old in kept.items()}
            return (h, kept), None

        start = (tokens, {name: jnp.zeros_like(tokens) for name in wanted})
        (tokens, kept), _ = jax.lax.scan(body, start, (params["blocks"], stacked, jnp.arange(self.layers)))
        return outer.unembed(tokens, time, grid), {name: h.reshape(*grid, -1) for name, h in kept.items()}

    def _check(self, x, t, cond, taps) -> tuple[int, int, int]:
        """The grid of tokens (T', H', W')."""
        given = 0 if cond.concat is None else cond.concat.shape[-1]
        if x.ndim != 4 or x.shape[-1] != self.out_channels or x.shape[-1] + given != self.in_channels:
            raise ValueError(
                f"WanConfig: the clip has shape {x.shape} and Condition.concat {given} channels; the model takes "
                f"(T, H, W, {self.out_channels}) and {self.in_channels - self.out_channels} channels"
            )
        if cond.concat is not None and cond.concat.shape[:3] != x.shape[:3]:
            raise ValueError(f"Condition.concat must have the frames of the clip {x.shape}, got {cond.concat.shape}")
        if any(n % p for n, p in zip(x.shape, self.patch)):
            raise ValueError(f"WanConfig: frames, height and width {x.shape[:3]} must be multiples of {self.patch}")
        if t.shape not in ((), x.shape[:1]):
            raise ValueError(f"time must be one number or one per frame, () or {x.shape[:1]}, got {t.shape}")
        if (
            cond.text.ndim != 2
            or cond.text.shape[1] != self.text_dim
            or len(cond.text) > (self.text_tokens or math.inf)
        ):
            limit = "any number of" if self.text_tokens is None else f"at most {self.text_tokens}"
            raise ValueError(f"Condition.text must hold {limit} vectors of {self.text_dim}, got {cond.text.shape}")
        if (cond.clip is None) != (self.image_dim is None):
            raise ValueError("Condition.clip is needed exactly by models with an image branch (image_dim)")
        grid = tuple(n // p for n, p in zip(x.shape, self.patch))
        if self.causal_frames is not None and grid[0] % self.causal_frames:
            raise ValueError(f"{grid[0]} token frames are no multiple of causal_frames={self.causal_frames}")
        unknown = [name for name in taps if name not in {f"block_{i}" for i in range(self.layers)}]
        if unknown:
            raise ValueError(f"taps {unknown} do not exist; the model has block_0 to block_{self.layers - 1}")
        return grid


def _linear(config, n_in, n_out, rngs, dtype=None, **options):
    return nnx.Linear(n_in, n_out, param_dtype=jnp.dtype(dtype or config.param_dtype), rngs=rngs, **options)


class Mlp(nnx.Module):
    """Linear, activation, linear."""

    def __init__(self, config, n_in, hidden, n_out, activation, rngs, dtype=None):
        self.first = _linear(config, n_in, hidden, rngs, dtype)
        self.second = _linear(config, hidden, n_out, rngs, dtype)
        self.activation = activation

    def __call__(self, x):
        return self.second(self.activation(self.first(x)))


def gelu_tanh(x):
    return jax.nn.gelu(x, approximate=True)


def gelu_exact(x):
    return jax.nn.gelu(x, approximate=False)


class ImageEmbedding(nnx.Module):
    """Features of the first image to tokens of the model's width."""

    def __init__(self, config: WanConfig, rngs):
        self.norm_in = modules.LayerNorm(config.image_dim, 1e-5)
        self.mlp = Mlp(config, config.image_dim, config.image_dim, config.dim, gelu_exact, rngs)
        self.norm_out = modules.LayerNorm(config.dim, 1e-5)

    def __call__(self, features):
        return self.norm_out(self.mlp(self.norm_in(features.astype(self.mlp.first.kernel.dtype))))


class Outer(nnx.Module):
    """What stands before and after the blocks."""

    def __init__(self, config: WanConfig, *, rngs):
        self.config = config
        dim, out = config.dim, config.out_channels * math.prod(config.patch)
        dtype = jnp.dtype(config.param_dtype)
        self.patch_embedding = nnx.Conv(
            config.in_channels, dim, config.patch, config.patch, padding="VALID", param_dtype=dtype, rngs=rngs
        )
        self.text_embedding = Mlp(config, config.text_dim, dim, dim, gelu_tanh, rngs)
        self.time_embedding = Mlp(config, config.freq_dim, dim, dim, jax.nn.silu, rngs, "float32")
        self.time_projection = _linear(config, dim, 6 * dim, rngs, "float32")
        if config.image_dim is not None:
            self.img_emb = ImageEmbedding(config, rngs)
        self.head = _linear(config, dim, out, rngs, "float32", kernel_metadata={"std": 0.02})
        self.head_modulation = nnx.Param(jnp.zeros((2, dim), jnp.float32), std=dim**-0.5)

    def embed(self, x, grid):
        """Tokens (T' H' W', dim): a convolution whose stride is its window, written as one product."""
        kernel, bias = self.patch_embedding.kernel[...], self.patch_embedding.bias[...]
        (p, q, r), channels = self.config.patch, x.shape[-1]
        patches = x.reshape(grid[0], p, grid[1], q, grid[2], r, channels).transpose(0, 2, 4, 1, 3, 5, 6)
        flat = patches.reshape(math.prod(grid), -1).astype(kernel.dtype)
        return flat @ kernel.reshape(-1, kernel.shape[-1]) + bias

    def embed_time(self, t):
        """Embeddings (G, dim) and modulations (G, 6, dim), G = 1 or one per token frame, of 1000 t."""
        t = modules.wide(jnp.atleast_1d(t))
        half = self.config.freq_dim // 2
        angle = 1000.0 * t[:, None] * jnp.asarray(10000.0 ** (-np.arange(half) / half), t.dtype)
        time = self.time_embedding(jnp.concatenate([jnp.cos(angle), jnp.sin(angle)], -1))
        return time, self.time_projection(jax.nn.silu(time)).reshape(len(t), 6, -1)

    def embed_text(self, text):
        length = self.config.text_tokens or len(text)
        text = jnp.pad(text, ((0, length - len(text)), (0, 0)))
        return self.text_embedding(text.astype(self.text_embedding.first.kernel.dtype))

    def unembed(self, h, time, grid):
        table = self.head_modulation[...] + time[:, None]
        out = self.head(_modulate(modules.standardize(h, self.config.eps), table[:, 0], table[:, 1]))
        p, q, r = self.config.patch
        out = out.reshape(*grid, p, q, r, -1).transpose(0, 3, 1, 4, 2, 5, 6)
        return out.reshape(grid[0] * p, grid[1] * q, grid[2] * r, -1)


def _modulate(x, shift, scale):
    """x (tokens, dim) times 1 + scale plus shift, both (G, dim), for G equal groups of tokens."""
    groups = x.reshape(len(shift), -1, x.shape[-1])
    return (groups * (1.0 + scale[:, None]) + shift[:, None]).reshape(x.shape)


def _gated(h, update, gate):
    """h + gate update, summed in float32 or wider."""
    groups = modules.wide(update).reshape(len(gate), -1, update.shape[-1]) * gate[:, None]
    return (h + groups.reshape(h.shape)).astype(h.dtype)


class Attention(nnx.Module):
    """Attention of tokens to themselves (with rotation) or to text and image tokens."""

    def __init__(self, config: WanConfig, rngs, image: bool = False):
        self.config = config
        dim = config.dim
        for name in ("q", "k", "v", "o") + (("k_img", "v_img") if image else ()):
            setattr(self, name, _linear(config, dim, dim, rngs))
        for name in ("norm_q", "norm_k") + (("norm_k_img",) if image else ()):
            setattr(self, name, nnx.Param(jnp.ones(dim, jnp.float32)))

    def _project(self, x, linear, norm, rotated=False):
        """Normalised queries or keys (T, H, d); with `rotated`, channels in halves: see `rope.split_pairs`."""
        head = self.config.head_dim
        order = (lambda w: rope.split_pairs(w, head)) if rotated else (lambda w: w)
        y = x @ order(linear.kernel[...]) + order(linear.bias[...])
        return modules.rms_norm(y, order(norm[...]), self.config.eps).reshape(len(x), -1, head)

    def _values(self, x, linear):
        return linear(x).reshape(len(x), -1, self.config.head_dim)

    def to_self(self, x, turn, causal):
        q = rope.rotate(self._project(x, self.q, self.norm_q, True), *turn)
        k = rope.rotate(self._project(x, self.k, self.norm_k, True), *turn)
        out = attention(q, k, self._values(x, self.v), causal_block=causal, impl=self.config.attention)
        return self.o(checkpoint_name(out, "attention").reshape(x.shape))

    def to_context(self, x, text, image):
        q, impl = self._project(x, self.q, self.norm_q), self.config.attention
        out = attention(q, self._project(text, self.k, self.norm_k), self._values(text, self.v), impl=impl)
        if image is not None:
            keys = self._project(image, self.k_img, self.norm_k_img)
            out = out + attention(q, keys, self._values(image, self.v_img), impl=impl)
        return self.o(checkpoint_name(out, "attention").reshape(x.shape))


class Block(nnx.Module):
    """One layer."""

    def __init__(self, config: WanConfig, *, rngs):
        self.config = config
        self.modulation = nnx.Param(jnp.zeros((6, config.dim), jnp.float32), std=config.dim**-0.5)
        self.self_attn = Attention(config, rngs)
        self.norm3 = modules.LayerNorm(config.dim, config.eps)
        self.cross_attn = Attention(config, rngs, image=config.image_dim is not None)
        self.ffn = Mlp(config, config.dim, config.ffn_dim, config.dim, gelu_tanh, rngs)

    def __call__(self, h, modulation, text, image, turn, causal):
        shift1, scale1, gate1, shift2, scale2, gate2 = jnp.moveaxis(self.modulation[...] + modulation, 1, 0)
        eps = self.config.eps
        x = _modulate(modules.standardize(h, eps), shift1, scale1).astype(h.dtype)
        h = _gated(h, self.self_attn.to_self(x, turn, causal), gate1)
        h = h + self.cross_attn.to_context(self.norm3(h), text, image)
        x = _modulate(modules.standardize(h, eps), shift2, scale2).astype(h.dtype)
        return _gated(h, self.ffn(x), gate2)


_PUBLISHED = dict(text_dim=4096, text_tokens=512, param_dtype="bfloat16")
_SIZE_14B = dict(dim=5120, ffn_dim=13824, heads=40, layers=40, **_PUBLISHED)
PRESETS = {
    "wan2.1-t2v-1.3b": WanConfig(dim=1536, ffn_dim=8960, heads=12, layers=30, **_PUBLISHED),
    "wan2.1-t2v-14b": WanConfig(**_SIZE_14B),
    "wan2.1-i2v-14b": WanConfig(in_channels=36, image_dim=1280, **_SIZE_14B),
    "wan2.2-t2v-a14b": WanConfig(**_SIZE_14B),  # each of the two experts
    "wan2.2-i2v-a14b": WanConfig(in_channels=36, **_SIZE_14B),  # each of the two experts
    "wan2.2-ti2v-5b": WanConfig(
        dim=3072, ffn_dim=14336, heads=24, layers=30, in_channels=48, out_channels=48, **_PUBLISHED
    ),
}
"""The published sizes, by name."""

_NAMES = (  # here, diffusers, original, kind
    ("patch_embedding", "patch_embedding", "patch_embedding", "conv"),
    ("text_embedding/first", "condition_embedder.text_embedder.linear_1", "text_embedding.0", "linear"),
    ("text_embedding/second", "condition_embedder.text_embedder.linear_2", "text_embedding.2", "linear"),
    ("time_embedding/first", "condition_embedder.time_embedder.linear_1", "time_embedding.0", "linear"),
    ("time_embedding/second", "condition_embedder.time_embedder.linear_2", "time_embedding.2", "linear"),
    ("time_projection", "condition_embedder.time_proj", "time_projection.1", "linear"),
    ("head", "proj_out", "head.head", "linear"),
    ("head_modulation", "scale_shift_table", "head.modulation", "row"),
    ("blocks/*/modulation", "blocks.{}.scale_shift_table", "blocks.{}.modulation", "row"),
    ("blocks/*/norm3", "blocks.{}.norm2", "blocks.{}.norm3", "norm"),
    ("blocks/*/ffn/first", "blocks.{}.ffn.net.0.proj", "blocks.{}.ffn.0", "linear"),
    ("blocks/*/ffn/second", "blocks.{}.ffn.net.2", "blocks.{}.ffn.2", "linear"),
    *(
        (f"blocks/*/{ours}/{a}", f"blocks.{{}}.{theirs}.{b}", f"blocks.{{}}.{ours}.{a}", kind)
        for ours, theirs in (("self_attn", "attn1"), ("cross_attn", "attn2"))
        for a, b, kind in (
            ("q", "to_q", "linear"),
            ("k", "to_k", "linear"),
            ("v", "to_v", "linear"),
            ("o", "to_out.0", "linear"),
            ("norm_q", "norm_q", "scale"),
            ("norm_k", "norm_k", "scale"),
        )
    ),
)
_IMAGE_NAMES = (
    ("img_emb/norm_in", "condition_embedder.image_embedder.norm1", "img_emb.proj.0", "norm"),
    ("img_emb/mlp/first", "condition_embedder.image_embedder.ff.net.0.proj", "img_emb.proj.1", "linear"),
    ("img_emb/mlp/second", "condition_embedder.image_embedder.ff.net.2", "img_emb.proj.3", "linear"),
    ("img_emb/norm_out", "condition_embedder.image_embedder.norm2", "img_emb.proj.4", "norm"),
    ("blocks/*/cross_attn/k_img", "blocks.{}.attn2.add_k_proj", "blocks.{}.cross_attn.k_img", "linear"),
    ("blocks/*/cross_attn/v_img", "blocks.{}.attn2.add_v_proj", "blocks.{}.cross_attn.v_img", "linear"),
    ("blocks/*/cross_attn/norm_k_img", "blocks.{}.attn2.norm_added_k", "blocks.{}.cross_attn.norm_k_img", "scale"),
)


def keymap(config: WanConfig, dialect: str) -> KeyMap:
    """The names of all parameters in a checkpoint of diffusers, or of the original repository.

    >>> keymap(PRESETS["wan2.1-t2v-1.3b"], "original").leaves[0].names
    ('patch_embedding.weight',)
    """
    if dialect not in DIALECTS:
        raise ValueError(f"dialect must be one of {DIALECTS}, got {dialect!r}")
    column = 1 + DIALECTS.index(dialect)
    rows = _NAMES + (_IMAGE_NAMES if config.image_dim is not None else ())
    return KeyMap(tuple(expand([(row[0], row[column], row[3]) for row in rows], config.layers)))
