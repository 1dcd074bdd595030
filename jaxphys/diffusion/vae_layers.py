"""Layers of the causal video autoencoders: each hands on the frames that the next chunk of a clip needs.

Configurations are `vae.VaeConfig`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

from jaxphys.diffusion import modules
from jaxphys.diffusion.attention import attention


class Memory:
    """The frames that causal layers hand on from one chunk to the next, in the order in which the layers run.

    Lives only while a chunk is traced; between chunks its content is a list of arrays.
    """

    def __init__(self, past: list[jax.Array] | None = None):
        self.first = past is None  # the clip begins with this chunk
        self.past = iter(past or ())
        self.kept: list[jax.Array] = []

    def extend(self, x: jax.Array, frames: int) -> jax.Array:
        """x with the `frames` frames before it, zeros before the clip."""
        past = jnp.zeros((frames, *x.shape[1:]), x.dtype) if self.first else next(self.past)
        x = jnp.concatenate([past, x])
        self.kept.append(x[len(x) - frames :])
        return x


def in_chunks(run: Callable, x: jax.Array, first: int, chunk: int | None, factor: int) -> jax.Array:
    """run(x, memory), whole, or over pieces of `chunk` latent frames, each `factor` frames of x."""
    if chunk is None:
        return run(x, Memory())

    def step(past, piece):
        memory = Memory(past)
        out = run(piece, memory)
        return memory.kept, out

    step = jax.checkpoint(step, prevent_cse=False)
    start = 1 + factor * (first - 1)
    kept, head = step(None, x[:start])
    pieces = x[start:].reshape(-1, factor * chunk, *x.shape[1:])
    if not len(pieces):
        return head
    _, tail = jax.lax.scan(step, kept, pieces)
    return jnp.concatenate([head, tail.reshape(-1, *tail.shape[2:])])


def fold(x, patch):
    """(T, H, W, C) -> (T, H / patch, W / patch, C patch^2); in the folded axis C is slowest, height quickest."""
    t, h, w, c = x.shape
    x = x.reshape(t, h // patch, patch, w // patch, patch, c).transpose(0, 1, 3, 5, 4, 2)
    return x.reshape(t, h // patch, w // patch, -1)


def unfold(x, patch):
    t, h, w, _ = x.shape
    x = x.reshape(t, h, w, -1, patch, patch).transpose(0, 1, 5, 2, 4, 3)
    return x.reshape(t, h * patch, w * patch, -1)


def convolve(x, conv, stride=1, padding="SAME"):
    """A convolution of each frame (2D window), or of the clip (3D window) without padding in time.

    Args:
        x: (T, H, W, C).
        conv: with kernel and bias.
        stride: in height and width of a 2D window, in time of a 3D window.
        padding: of a 2D window.
    """
    kernel, bias = conv.kernel[...], conv.bias[...]
    run = jax.lax.conv_general_dilated
    if kernel.ndim == 4:
        return run(x, kernel, (stride, stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")) + bias
    around = [(0, 0), *((n // 2, n // 2) for n in kernel.shape[1:3])]
    return run(x[None], kernel, (stride, 1, 1), around, dimension_numbers=("NDHWC", "DHWIO", "NDHWC"))[0] + bias


def _conv(config, n_in, n_out, window, rngs):
    dtype = jnp.dtype(config.param_dtype)
    return nnx.Conv(n_in, n_out, window, param_dtype=dtype, rngs=rngs)


def _causal(x, conv, memory):
    """A convolution with a window of three frames, the last of which is the present."""
    return convolve(memory.extend(x, 2), conv)


def _norm(x, gamma):
    """sqrt(C) x / |x| gamma over the channels; zero at x = 0, with a finite derivative."""
    y = modules.wide(x)
    size = jax.lax.rsqrt(jnp.maximum(jnp.sum(y * y, -1, keepdims=True), 1e-24))
    return (y * size * (math.sqrt(x.shape[-1]) * gamma[...])).astype(x.dtype)


class Residual(nnx.Module):
    """Norm, SiLU, convolution, twice, around a shortcut."""

    def __init__(self, config, n_in, n_out, rngs):
        self.norm1, self.norm2 = nnx.Param(jnp.ones(n_in, jnp.float32)), nnx.Param(jnp.ones(n_out, jnp.float32))
        self.conv1 = _conv(config, n_in, n_out, (3, 3, 3), rngs)
        self.conv2 = _conv(config, n_out, n_out, (3, 3, 3), rngs)
        if n_in != n_out:
            self.shortcut = _conv(config, n_in, n_out, (1, 1, 1), rngs)

    def __call__(self, x, memory):
        y = _causal(jax.nn.silu(_norm(x, self.norm1)), self.conv1, memory)
        y = _causal(jax.nn.silu(_norm(y, self.norm2)), self.conv2, memory)
        return y + (convolve(x, self.shortcut) if hasattr(self, "shortcut") else x)


class FrameAttention(nnx.Module):
    """Attention with one head among the pixels of each frame."""

    def __init__(self, config, width, rngs):
        dtype = jnp.dtype(config.param_dtype)
        self.norm = nnx.Param(jnp.ones(width, jnp.float32))
        self.to_qkv = nnx.Linear(width, 3 * width, param_dtype=dtype, rngs=rngs)
        self.proj = nnx.Linear(width, width, param_dtype=dtype, rngs=rngs)

    def __call__(self, x):
        @jax.checkpoint
        def one_frame(frame):
            q, k, v = jnp.split(self.to_qkv(_norm(frame, self.norm)).reshape(-1, 1, 3 * frame.shape[-1]), 3, -1)
            return frame + self.proj(attention(q, k, v).reshape(frame.shape))

        return jax.lax.map(one_frame, x)  # frame by frame: the scores of one frame are many already


class Middle(nnx.Module):
    """The lowest resolution."""

    def __init__(self, config, width, rngs):
        self.block_0 = Residual(config, width, width, rngs)
        self.attention = FrameAttention(config, width, rngs)
        self.block_1 = Residual(config, width, width, rngs)

    def __call__(self, x, memory):
        return self.block_1(self.attention(self.block_0(x, memory)), memory)


class Resample(nnx.Module):
    """Half or double height and width, and time where `temporal`."""

    def __init__(self, config, n_in, n_out, temporal, up, rngs):
        self.up = up
        self.conv = _conv(config, n_in, n_out, (3, 3), rngs)
        if temporal:
            self.time_conv = _conv(config, n_in if up else n_out, 2 * n_in if up else n_out, (3, 1, 1), rngs)

    def __call__(self, x, memory):
        temporal = hasattr(self, "time_conv")
        if not self.up:
            x = convolve(x, self.conv, 2, ((0, 1), (0, 1)))
            return self._halve(x, memory) if temporal else x
        x = self._double(x, memory) if temporal else x
        return convolve(x.repeat(2, 1).repeat(2, 2), self.conv)

    def _halve(self, x, memory):
        """Frame 0 as it is; then one frame per two, from them and the frame before."""
        if not memory.first:
            return convolve(memory.extend(x, 1), self.time_conv, 2)
        memory.kept.append(x[-1:])
        return x if len(x) == 1 else jnp.concatenate([x[:1], convolve(x, self.time_conv, 2)])

    def _double(self, x, memory):
        """Two frames per frame, from it and the two before, among which frame 0 counts as zero; frame 0 stays one."""
        rest = x[1:] if memory.first else x
        extended = memory.extend(rest, 2)
        if not len(rest):
            return x
        pairs = convolve(extended, self.time_conv)
        t, h, w, _ = pairs.shape
        doubled = pairs.reshape(t, h, w, 2, -1).transpose(0, 3, 1, 2, 4).reshape(2 * t, h, w, -1)
        return jnp.concatenate([x[:1], doubled]) if memory.first else doubled


def _pooled(x, channels, time, space):
    """Means over windows of `time` frames and `space`^2 pixels and groups of channels; zeros stand before frame 0."""
    x = jnp.pad(x, ((-len(x) % time, 0), (0, 0), (0, 0), (0, 0)))
    t, h, w, c = x.shape
    x = x.reshape(t // time, time, h // space, space, w // space, space, c).transpose(0, 2, 4, 6, 1, 3, 5)
    return x.reshape(t // time, h // space, w // space, channels, -1).mean(-1)


def _spread(x, channels, time, space, first):
    """The reverse of `_pooled`: copies; frame 0 of a clip is not doubled."""
    t, h, w, c = x.shape
    x = x.repeat(channels * time * space**2 // c, -1).reshape(t, h, w, channels, time, space, space)
    x = x.transpose(0, 4, 1, 5, 2, 6, 3).reshape(t * time, h * space, w * space, channels)
    return x[time - 1 :] if first else x


class Stage(nnx.Module):
    """Residual blocks at one resolution and the step to the next."""

    def __init__(self, config, n_in, n_out, blocks, step, up, rngs):
        """`step`: (channels after it, whether time changes too), or None for the last stage."""
        self.config, self.blocks, self.step, self.up = config, blocks, step, up
        self.width = n_out
        for i in range(blocks):
            setattr(self, f"block_{i}", Residual(config, n_in if i == 0 else n_out, n_out, rngs))
        if step is not None:
            self.resample = Resample(config, n_out, *step, up, rngs)

    def __call__(self, x, memory):
        start = x
        for i in range(self.blocks):
            x = getattr(self, f"block_{i}")(x, memory)
        if self.step is not None:
            x = self.resample(x, memory)
        if not self.config.shortcuts or (self.up and self.step is None):
            return x
        space, time = (1, 1) if self.step is None else (2, 2 if self.step[1] else 1)
        if self.up:
            return x + _spread(start, self.width, time, space, memory.first)
        return x + _pooled(start, self.width, time, space)


class Encoder(nnx.Module):
    """Pixels to the parameters of the posterior."""

    def __init__(self, config, *, rngs):
        self.config = config
        widths = [config.base * m for m in (1, *config.multipliers)]
        self.conv_in = _conv(config, 3 * config.patch**2, widths[0], (3, 3, 3), rngs)
        for i, (n_in, n_out) in enumerate(itertools.pairwise(widths)):
            step = (n_out, config.temporal[i]) if i < len(config.temporal) else None
            setattr(self, f"stage_{i}", Stage(config, n_in, n_out, config.blocks, step, False, rngs))
        self.middle = Middle(config, widths[-1], rngs)
        self.norm_out = nnx.Param(jnp.ones(widths[-1], jnp.float32))
        self.conv_out = _conv(config, widths[-1], 2 * config.latent_channels, (3, 3, 3), rngs)
        self.quant = _conv(config, 2 * config.latent_channels, 2 * config.latent_channels, (1, 1, 1), rngs)

    def __call__(self, x, memory):
        x = _causal(x, self.conv_in, memory)
        for i in range(len(self.config.multipliers)):
            x = getattr(self, f"stage_{i}")(x, memory)
        x = self.middle(x, memory)
        return _causal(jax.nn.silu(_norm(x, self.norm_out)), self.conv_out, memory)


class Decoder(nnx.Module):
    """Latents to pixels in [-1, 1], not yet clipped."""

    def __init__(self, config, *, rngs):
        self.config = config
        base = config.base if config.decoder_base is None else config.decoder_base
        multipliers, temporal = config.multipliers[::-1], config.temporal[::-1]
        widths = [base * m for m in (multipliers[0], *multipliers)]
        self.post_quant = _conv(config, config.latent_channels, config.latent_channels, (1, 1, 1), rngs)
        self.conv_in = _conv(config, config.latent_channels, widths[0], (3, 3, 3), rngs)
        self.middle = Middle(config, widths[0], rngs)
        n_in = widths[0]
        for i, n_out in enumerate(widths[1:]):
            after = n_out if config.shortcuts else n_out // 2  # the step of 2.1 halves the channels
            step = (after, temporal[i]) if i < len(temporal) else None
            setattr(self, f"stage_{i}", Stage(config, n_in, n_out, config.blocks + 1, step, True, rngs))
            n_in = after
        self.norm_out = nnx.Param(jnp.ones(widths[-1], jnp.float32))
        self.conv_out = _conv(config, widths[-1], 3 * config.patch**2, (3, 3, 3), rngs)

    def __call__(self, x, memory):
        x = self.middle(_causal(x, self.conv_in, memory), memory)
        for i in range(len(self.config.multipliers)):
            x = getattr(self, f"stage_{i}")(x, memory)
        return _causal(jax.nn.silu(_norm(x, self.norm_out)), self.conv_out, memory)
