"""Floating-point operations of a Wan transformer, counted by formula, and the peak of known devices.

XLA's own count is of no use here: it takes the body of a scan over layers once, and cannot see into fused attention
kernels. Counted are the products of matrices, 2 m k n each; norms, activations and the softmax are not. With N tokens,
L of text, width D and MLP width F, a block takes

    2 N (6 D^2 + 2 D F) + 4 L D^2 + 4 N^2 D + 4 N L D

of which attention, 4 N^2 D, is the most once N exceeds 3 D + F.
"""

from __future__ import annotations

import math
from typing import Any

import jax

from jaxphys.diffusion.dit import WanConfig
from jaxphys.diffusion.schedules import Schedule

BACKWARD = 2.0  # of the forward pass: each product needs one more for each of its two factors

# Dense bfloat16 operations per second by the manufacturers' data sheets; the first name that a device's kind holds.
PEAK = {
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "A10G": 70e12,
    "RTX 4090": 165e12,
    "TPU v6": 918e12,
    "TPU v5 lite": 197e12,
    "TPU v5e": 197e12,
    "TPU v5": 459e12,
    "TPU v4": 275e12,
}


def velocity_flops(config: WanConfig, shape: tuple[int, ...], text_tokens: int, *, frame_times: bool = False) -> float:
    """Operations of one evaluation of the network for one clip.

    Args:
        config: of the network.
        shape: of the clip (T, H, W, C).
        text_tokens: vectors of text; those of `config.text_tokens` where it is given.
        frame_times: whether every frame has its own time.

    >>> from jaxphys.diffusion.dit import PRESETS
    >>> round(velocity_flops(PRESETS["wan2.1-t2v-1.3b"], (21, 60, 104, 16), 512) / 1e12)  # 480p, 81 frames
    283
    """
    c, D = config, config.dim
    grid = [n // p for n, p in zip(shape, c.patch)]
    N, L = math.prod(grid), c.text_tokens or text_tokens
    times = grid[0] if frame_times else 1
    image = 0 if c.image_dim is None else 257  # tokens of the image encoder
    patch = math.prod(c.patch)
    macs = N * patch * c.in_channels * D + N * D * patch * c.out_channels  # first and last
    macs += L * (c.text_dim * D + D * D) + times * (c.freq_dim * D + D * D + 6 * D * D)
    macs += 0 if c.image_dim is None else image * (c.image_dim**2 + c.image_dim * D)
    seen = N  # keys per query
    if c.causal_frames is not None:
        blocks = grid[0] // c.causal_frames
        seen = N * (blocks + 1) / (2 * blocks)
    own = 4 * N * D * D + 2 * N * seen * D
    other = 2 * N * D * D + 2 * (L + image) * D * D + 2 * N * (L + image) * D
    macs += c.layers * (own + other + 2 * N * D * c.ffn_dim)
    return 2.0 * macs


def training_flops(config: WanConfig, shape: tuple[int, ...], text_tokens: int, batch: int, **options) -> float:
    """Operations of one training step, forward and backward; what `remat` computes again is no progress and left out.

    Args:
        config, shape, text_tokens: as for `velocity_flops`.
        batch: clips.
        **options: of `velocity_flops`.
    """
    return (1.0 + BACKWARD) * batch * velocity_flops(config, shape, text_tokens, **options)


def sampling_flops(
    config: WanConfig, shape: tuple[int, ...], text_tokens: int, schedule: Schedule, *, guided: bool, gradient: bool
) -> float:
    """Operations of one clip: every evaluation of the schedule, twice with guidance, and with a gradient through all.

    Args:
        config, shape, text_tokens: as for `velocity_flops`.
        schedule: of the sampler.
        guided: whether there is a negative condition.
        gradient: whether the clip is differentiated.
    """
    evaluations = schedule.evaluations * (2 if guided else 1)
    return (1.0 + BACKWARD * gradient) * evaluations * velocity_flops(config, shape, text_tokens)


def peak_flops(device: Any = None) -> float | None:
    """Peak bfloat16 operations per second of a `jax.Device` (default the first); None for those not in the table."""
    kind = (jax.devices()[0] if device is None else device).device_kind
    return next((peak for name, peak in PEAK.items() if name.lower() in kind.lower()), None)
