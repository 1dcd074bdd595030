"""The causal video autoencoders of Wan 2.1 and 2.2 as pure functions (Wan team, arXiv 2503.20314).

Convolutions look back in time only, so a clip can be coded whole, or in chunks that hand on the last frames which each
layer saw; both give the same numbers. Frame 0 is special: it is a latent frame of its own (clips have 1 + 4 k frames),
each temporal downsampling passes it through, and each temporal upsampling does not double it and begins after it with
an empty past.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from jaxphys.diffusion import modules
from jaxphys.diffusion import vae_layers as layers
from jaxphys.diffusion.names import DIALECTS, KeyMap, expand


@dataclass(frozen=True)
class VaeConfig:
    """Sizes of a video autoencoder.

    >>> config = VaeConfig(2, base=4, mean=(0.0, 0.0), std=(1.0, 1.0), multipliers=(1, 1), temporal=(True,))
    >>> params = jax.eval_shape(config.init, jax.random.key(0))  # the shapes alone: nothing is computed
    >>> z = jax.eval_shape(config.encode, params, jnp.ones((3, 4, 4, 3)))
    >>> z.shape, jax.eval_shape(config.decode, params, z).shape
    ((2, 2, 2, 2), (3, 4, 4, 3))
    """

    latent_channels: int
    base: int  # channels at full resolution
    mean: tuple[float, ...]  # of each latent channel over the training set: latents are used as (z - mean) / std
    std: tuple[float, ...]
    decoder_base: int | None = None  # None: as `base`
    multipliers: tuple[int, ...] = (1, 2, 4, 4)  # channels of each stage over `base`
    temporal: tuple[bool, ...] = (False, True, True)  # whether the step after each encoder stage halves time too
    blocks: int = 2  # residual blocks per encoder stage; the decoder has one more
    shortcuts: bool = False  # parameter-free shortcuts around stages (Wan 2.2)
    patch: int = 1  # pixels that are folded into channels, in height and width (Wan 2.2: 2)
    param_dtype: str = "float32"

    def __post_init__(self):
        if len(self.mean) != self.latent_channels or len(self.std) != self.latent_channels:
            raise ValueError(f"VaeConfig: mean and std need {self.latent_channels} numbers each")
        if len(self.temporal) != len(self.multipliers) - 1:
            raise ValueError("VaeConfig: temporal needs one entry less than multipliers, one per step between stages")
        widths = [self.base * m for m in (1, *self.multipliers)]
        for (n_in, n_out), temporal in zip(itertools.pairwise(widths), (*self.temporal, None)):
            factor = 1 if temporal is None else 8 if temporal else 4
            if self.shortcuts and n_in * factor % n_out:
                raise ValueError(
                    f"VaeConfig: shortcuts cannot spread {n_in} channels over {n_out} by windows of {factor}"
                )

    @property
    def time_factor(self) -> int:
        return 2 ** sum(self.temporal)

    @property
    def space_factor(self) -> int:
        return self.patch * 2 ** len(self.temporal)

    def init(self, key: jax.Array) -> dict:
        """Random parameters: a nested dict of arrays."""
        encoder, decoder = jax.random.split(key)
        return {
            "encoder": modules.create(layers.Encoder, self, encoder),
            "decoder": modules.create(layers.Decoder, self, decoder),
        }

    def posterior(self, params: Any, video: jax.Array, *, chunk: int | None = None) -> tuple[jax.Array, jax.Array]:
        """Mean and logarithm of the variance of the latents, not normalised, each (1 + k, H', W', C).

        Args:
            params: from `init`, or a checkpoint.
            video: (T, H, W, 3) in [0, 1]; T is one more than a multiple of `time_factor`, H and W are multiples of
                `space_factor`.
            chunk: latent frames that are coded at a time. The memory of the layers is then that of one chunk, also in a
                gradient; with the clip grow only the clip itself and, in a gradient, what chunks hand on. None: the
                whole clip at once.

        Raises:
            ValueError: a video of another shape, or a chunk below 1.
        """
        _check(video, 3, self.space_factor, "video")
        frames, rest = divmod(len(video) - 1, self.time_factor)
        if rest:
            raise ValueError(
                f"the video has {len(video)} frames; it must have one more than a multiple of {self.time_factor}: "
                f"cut it to {len(video) - rest}"
            )
        encoder = modules.bind(layers.Encoder, self, params["encoder"])
        x = layers.fold(2.0 * video - 1.0, self.patch).astype(encoder.conv_in.kernel.dtype)
        out = layers.in_chunks(encoder, x, _first(frames, chunk), chunk, self.time_factor)
        mean, log_variance = jnp.split(layers.convolve(out, encoder.quant), 2, -1)
        return mean, jnp.clip(log_variance, -30.0, 20.0)

    def encode(
        self, params: Any, video: jax.Array, *, chunk: int | None = None, key: jax.Array | None = None
    ) -> jax.Array:
        """Normalised latents (1 + k, H', W', C) of a video: the mean of the posterior, or with a key a sample of it.

        Args:
            params, video, chunk: see `posterior`.
            key: for a sample.

        Raises:
            ValueError: see `posterior`.
        """
        z, log_variance = self.posterior(params, video, chunk=chunk)
        if key is not None:
            z = z + jnp.exp(0.5 * log_variance) * jax.random.normal(key, z.shape, z.dtype)
        return (z - jnp.asarray(self.mean, z.dtype)) / jnp.asarray(self.std, z.dtype)

    def decode(self, params: Any, latents: jax.Array, *, chunk: int | None = None) -> jax.Array:
        """The video (T, H, W, 3), clipped to [0, 1], of normalised latents; T = 1 + time_factor (T' - 1).

        Args:
            params: from `init`, or a checkpoint.
            latents: (T', H', W', C).
            chunk: see `posterior`.

        Raises:
            ValueError: latents of another shape, or a chunk below 1.
        """
        _check(latents, self.latent_channels, 1, "latents")
        decoder = modules.bind(layers.Decoder, self, params["decoder"])
        z = latents * jnp.asarray(self.std, latents.dtype) + jnp.asarray(self.mean, latents.dtype)
        x = layers.convolve(z.astype(decoder.conv_in.kernel.dtype), decoder.post_quant)
        out = layers.unfold(layers.in_chunks(decoder, x, _first(len(latents) - 1, chunk), chunk, 1), self.patch)
        return jnp.clip(0.5 + 0.5 * out, 0.0, 1.0)


def _check(x, channels, factor, name):
    fits = x.ndim == 4 and x.shape[-1] == channels and not (x.shape[1] % factor or x.shape[2] % factor) and x.size
    if not fits or not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(
            f"{name} must be floats of shape (T, H, W, {channels}) with H and W multiples of {factor}, got {x.dtype} "
            f"{x.shape}"
        )


def _first(frames: int, chunk: int | None) -> int:
    """Latent frames of the first piece, when `frames` follow frame 0: the later pieces hold `chunk` each."""
    if chunk is not None and chunk < 1:
        raise ValueError(f"chunk must be at least 1 latent frame, got {chunk}")
    return 1 + (frames if chunk is None else frames % chunk)


_MEAN_21 = """
-.7571 -.7089 -.9113 .1075 -.1745 .9653 -.1517 1.5508 .4134 -.0715 .5517 -.3632 -.1922 -.9497 .2503 -.2921"""
_STD_21 = """
2.8184 1.4541 2.3275 2.6558 1.2196 1.7708 2.6052 2.0743 3.2687 2.1526 2.8652 1.5579 1.6382 1.1253 2.8251 1.9160"""
_MEAN_22 = """
-.2289 -.0052 -.1323 -.2339 -.2799 .0174 .1838 .1557 -.1382 .0542 .2813 .0891 .1570 -.0098 .0375 -.1825
-.2246 -.1207 -.0698 .5109 .2665 -.2108 -.2158 .2502 -.2055 -.0322 .1109 .1567 -.0729 .0899 -.2799 -.1230
-.0313 -.1649 .0117 .0723 -.2839 -.2083 -.0520 .3748 .0152 .1957 .1433 -.2944 .3573 -.0548 -.1681 -.0667"""
_STD_22 = """
.4765 1.0364 .4514 1.1677 .5313 .4990 .4818 .5013 .8158 1.0344 .5894 1.0901 .6885 .6165 .8454 .4978
.5759 .3523 .7135 .6804 .5833 1.4146 .8986 .5659 .7069 .5338 .4889 .4917 .4069 .4999 .6866 .4093
.5709 .6065 .6415 .4944 .5726 1.2042 .5458 1.6887 .3971 1.0600 .3943 .5537 .5444 .4089 .7468 .7744"""
_numbers = lambda text: tuple(float(n) for n in text.split())

PRESETS = {
    "wan2.1-vae": VaeConfig(latent_channels=16, base=96, mean=_numbers(_MEAN_21), std=_numbers(_STD_21)),
    "wan2.2-vae": VaeConfig(
        latent_channels=48,
        base=160,
        decoder_base=256,
        mean=_numbers(_MEAN_22),
        std=_numbers(_STD_22),
        shortcuts=True,
        patch=2,
    ),
}
"""The published autoencoders: 2.1 serves all models of 16 channels, 2.2 the TI2V-5B."""

_RESIDUAL = (  # here, diffusers, original, kind
    ("norm1", "norm1.gamma", "residual.0.gamma", "gamma3"),
    ("conv1", "conv1", "residual.2", "conv"),
    ("norm2", "norm2.gamma", "residual.3.gamma", "gamma3"),
    ("conv2", "conv2", "residual.6", "conv"),
    ("shortcut", "conv_shortcut", "shortcut", "conv"),
)
_ATTENTION = (
    ("norm", "norm.gamma", "norm.gamma", "gamma2"),
    ("to_qkv", "to_qkv", "to_qkv", "plane"),
    ("proj", "proj", "proj", "plane"),
)
_RESAMPLE = (("conv", "resample.1", "resample.1", "conv"), ("time_conv", "time_conv", "time_conv", "conv"))


def keymap(config: VaeConfig, dialect: str) -> KeyMap:
    """The names of all parameters in a checkpoint of diffusers, or of the original repository.

    >>> keymap(PRESETS["wan2.1-vae"], "original").leaves[0].names
    ('encoder.conv1.weight',)
    """
    if dialect not in DIALECTS:
        raise ValueError(f"dialect must be one of {DIALECTS}, got {dialect!r}")
    rows = [row for part in ("encoder", "decoder") for row in _rows(config, part)]
    column = 1 + DIALECTS.index(dialect)
    tree = jax.eval_shape(config.init, jax.random.key(0))
    return KeyMap(tuple(expand([(row[0], row[column], row[3]) for row in rows if _has(tree, row[0])])))


def _has(tree, path):
    for step in path.split("/"):
        if not isinstance(tree, dict) or step not in tree:
            return False
        tree = tree[step]
    return True


def _rows(config, part):
    """Names of one half; some are of layers that this configuration has not."""
    up, last = part == "decoder", len(config.multipliers) - 1
    join = lambda here, diffusers, original, table: [
        (f"{part}/{here}/{a}", f"{part}.{diffusers}.{b}", f"{part}.{original}.{c}", kind) for a, b, c, kind in table
    ]
    yield (f"{part}/conv_in", f"{part}.conv_in", f"{part}.conv1", "conv")
    yield from join("middle/block_0", "mid_block.resnets.0", "middle.0", _RESIDUAL)
    yield from join("middle/attention", "mid_block.attentions.0", "middle.1", _ATTENTION)
    yield from join("middle/block_1", "mid_block.resnets.1", "middle.2", _RESIDUAL)
    direction, flat = ("up", 0) if up else ("down", 0)
    blocks = config.blocks + up
    for i in range(last + 1):
        theirs, ours = f"{direction}_blocks.{i}", f"{direction}samples.{i}.{direction}samples"
        for j in range(blocks + (i < last)):
            step = j == blocks
            if config.shortcuts:
                diffusers = f"{theirs}.{direction}sampler" if step else f"{theirs}.resnets.{j}"
                original = f"{ours}.{j}"
            else:
                nested = f"{theirs}.upsamplers.0" if step else f"{theirs}.resnets.{j}"
                diffusers = nested if up else f"down_blocks.{flat}"
                original = f"{direction}samples.{flat}"
            here = f"stage_{i}/resample" if step else f"stage_{i}/block_{j}"
            yield from join(here, diffusers, original, _RESAMPLE if step else _RESIDUAL)
            flat += 1
    yield (f"{part}/norm_out", f"{part}.norm_out.gamma", f"{part}.head.0.gamma", "gamma3")
    yield (f"{part}/conv_out", f"{part}.conv_out", f"{part}.head.2", "conv")
    yield ("decoder/post_quant", "post_quant_conv", "conv2", "conv") if up else (
        "encoder/quant", "quant_conv", "conv1", "conv"
    )  # fmt: skip
