"""Looks of clips: colours, light, floor and sky, put on maps when they are loaded.

Everything here is drawn without regard to the material, so that nothing in a picture tells it but the motion.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxphys.pytree import pytree

COLOURS = {  # one for each colour word of `language.captions`
    "red": (0.85, 0.15, 0.12),
    "green": (0.15, 0.65, 0.2),
    "blue": (0.15, 0.3, 0.85),
    "yellow": (0.95, 0.85, 0.15),
    "purple": (0.55, 0.2, 0.7),
    "orange": (0.95, 0.5, 0.1),
    "turquoise": (0.1, 0.75, 0.75),
    "brown": (0.45, 0.28, 0.15),
}


@pytree
class Look:
    """Colours are RGB in 0..1, (3,)."""

    body: Any  # where the texture is 0
    pattern: Any  # where the texture is 1
    sky: Any
    floor: Any
    tool: Any
    light: Any  # factor on everything, first and last frame (2,)


def draw_look(key: jax.Array, colour: jax.Array) -> Look:
    """A random look.

    Args:
        key: random key.
        colour: number of the body's colour in `COLOURS`, ().
    """
    u = jax.random.uniform(key, (15,))
    body = jnp.asarray(list(COLOURS.values()))[colour] + 0.2 * (u[:3] - 0.5)
    shade = jnp.where(u[3] < 0.5, 0.1, 0.95)
    sky, floor = jnp.clip(0.25 + 0.65 * u[4:6, None] + 0.3 * (u[6:12].reshape(2, 3) - 0.5), 0.0, 1.0)
    start = 0.8 + 0.3 * u[12]
    return Look(
        body=jnp.clip(body, 0.0, 1.0),
        pattern=jnp.clip(body + 0.8 * u[13] * (shade - body), 0.0, 1.0),
        sky=sky,
        floor=floor,
        tool=jnp.full(3, 0.05),
        light=start * jnp.stack([1.0, 0.9 + 0.2 * u[14]]),
    )


def horizon(view: jax.Array, pixels: int, fov_degrees: float = 45.0) -> jax.Array:
    """Share of the ground in each row of the picture, (pixels,), for a camera `view[1]` degrees above it."""
    focal = 0.5 * pixels / np.tan(np.radians(fov_degrees) / 2)
    row = 0.5 * pixels - focal * jnp.tan(jnp.deg2rad(view[1]))
    return jnp.clip(jnp.arange(pixels) + 1.0 - row, 0.0, 1.0)


def paint(maps: jax.Array, view: jax.Array, look: Look) -> jax.Array:
    """A clip in colour.

    Args:
        maps: (T, H, W, 3) of `clips.make_clips`, uint8 or 0..1.
        view: camera of the scene, (3,).
        look: colours.

    Returns:
        (T, H, W, 3) in 0..1.

    >>> look = draw_look(jax.random.key(0), jnp.array(0))
    >>> paint(jnp.zeros((2, 8, 8, 3)), jnp.array([0.0, 10.0, 1.3]), look).shape
    (2, 8, 8, 3)
    """
    m = maps.astype(jnp.float32) / 255.0 if maps.dtype == jnp.uint8 else maps
    body, pattern, tool = m[..., :1], m[..., 1:2], m[..., 2:]
    ground = horizon(view, maps.shape[1])[:, None, None]
    back = ground * look.floor + (1.0 - ground) * look.sky
    picture = (
        (body - pattern) * look.body
        + pattern * look.pattern
        + tool * look.tool
        + jnp.clip(1.0 - body - tool, 0.0, 1.0) * back
    )
    light = jnp.linspace(look.light[0], look.light[1], maps.shape[0])[:, None, None, None]
    return jnp.clip(picture * light, 0.0, 1.0)
