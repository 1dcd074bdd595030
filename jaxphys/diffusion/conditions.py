"""What the image-to-video models of the Wan family are told of the first frame.

Wan 2.1 I2V and 2.2 I2V-A14B read it as further input channels: a mask of the frames that are given, and the latents of
the clip in which all other frames are grey. Wan 2.2 TI2V holds the first latent frame in place (`Condition.known`).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxphys.diffusion.vae import VaeConfig


def image_channels(
    config: VaeConfig, params: Any, image: jax.Array, frames: int, *, chunk: int | None = None
) -> jax.Array:
    """`Condition.concat` for an image: (T', H', W', time_factor + C), the mask and then the latents.

    The mask has a channel per frame of a latent frame: 1 where that frame is given. Latent frame 0 stands for frame 0
    alone and repeats its mask.

    Args:
        config: of the autoencoder, with `params`.
        params: parameters of the autoencoder.
        image: (H, W, 3) in [0, 1].
        frames: frames of the clip, one more than a multiple of `config.time_factor`.
        chunk: see `VaeConfig.encode`.

    Raises:
        ValueError: an image or a number of frames that the autoencoder does not take.

    >>> config = VaeConfig(2, base=4, mean=(0.0, 0.0), std=(1.0, 1.0), multipliers=(1, 1), temporal=(True,))
    >>> params = jax.eval_shape(config.init, jax.random.key(0))
    >>> jax.eval_shape(lambda p, x: image_channels(config, p, x, 5), params, jnp.ones((4, 6, 3))).shape
    (3, 2, 3, 4)
    """
    _check(image, frames)
    clip = jnp.full((frames, *image.shape), 0.5, image.dtype).at[0].set(image)
    latents = config.encode(params, clip, chunk=chunk)
    mask = jnp.zeros((*latents.shape[:3], config.time_factor), latents.dtype).at[0].set(1.0)
    return jnp.concatenate([mask, latents], -1)


def known_first(config: VaeConfig, params: Any, image: jax.Array, frames: int) -> tuple[jax.Array, jax.Array]:
    """`Condition.known` (T', H', W', C) and `Condition.mask` (T',) for an image in place of the first latent frame.

    Args:
        config, params, image, frames: see `image_channels`.

    Raises:
        ValueError: see `image_channels`.
    """
    _check(image, frames)
    if (frames - 1) % config.time_factor:
        raise ValueError(f"frames must be one more than a multiple of {config.time_factor}, got {frames}")
    latent = config.encode(params, image[None])
    count = 1 + (frames - 1) // config.time_factor
    known = jnp.zeros((count, *latent.shape[1:]), latent.dtype).at[0].set(latent[0])
    return known, jnp.zeros(count, latent.dtype).at[0].set(1.0)


def _check(image, frames):
    if image.ndim != 3 or image.shape[-1] != 3 or frames < 1:
        raise ValueError(f"an image (H, W, 3) and at least one frame are needed, got {image.shape} and {frames} frames")
