"""Candidates in colour: what a video model is shown of the motions of a scene.

Everything that makes a look follows from the number of the scene, and says nothing of the material.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.motion_fields import VIEWS, Videos, turned
from experiments.motion_scenes import HeldOut
from jaxphys.scenes.looks import COLOURS, Look, draw_look, paint


@dataclasses.dataclass(frozen=True)
class Shown:
    """Candidates as a video model sees them, in one appearance."""

    video: jax.Array  # (K, T, H, W, 3)
    slope: jax.Array  # its derivative with respect to the coordinate
    true: jax.Array | None  # of the hidden value (T, H, W, 3)
    grid: np.ndarray  # (K,)
    colour: int  # number of the colour word, from 1


def paint_look(held: HeldOut) -> Look:
    """The colours of a scene, which follow from its number."""
    return draw_look(jax.random.fold_in(jax.random.key(7), held.number), jnp.array(held.number % len(COLOURS)))


class Appearance(NamedTuple):
    """How the motions of a scene look; says nothing of the material."""

    look: Look
    colour: int  # number of the colour word, from 1
    mirrored: bool
    view: int  # number of the view in which it was drawn

    def of(self, clip: jax.Array) -> jax.Array:
        """A painted clip (..., W, 3) the way round that it appears."""
        return clip[..., ::-1, :] if self.mirrored else clip


def appearances(held: HeldOut, count: int, look: Look | None = None) -> list[Appearance]:
    """Looks of a scene: its own, and others that follow from its number, every second of them mirrored.

    What a video model says of the same motion differs between looks, and more between views: each draw of its noise is
    taken in another.
    The light is that of `look`, the scene's own look, which is `paint_look` if none is given.
    """
    first, out = paint_look(held) if look is None else look, []
    for n in range(count):
        colour = (held.number + 3 * n) % len(COLOURS)
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(7), held.number), n)
        other = first if n == 0 else dataclasses.replace(draw_look(key, jnp.array(colour)), light=first.light)
        out.append(Appearance(other, 1 + colour, n % 2 == 1, n % VIEWS))
    return out


def in_colour(held: HeldOut, grid: np.ndarray, videos: Videos, count: int = 1, look: Look | None = None) -> list[Shown]:
    """The candidates in `appearances`."""
    views, shown = jnp.asarray(turned(held.scene.view)), []
    for appearance in appearances(held, count, look):
        view, slopes = views[appearance.view], videos.slopes[appearance.view]
        maps = jnp.asarray(videos.maps[appearance.view], jnp.float32) / 255.0
        pairs = [painted(m, jnp.asarray(dm, jnp.float32), view, appearance.look) for m, dm in zip(maps, slopes)]
        video, slope = (appearance.of(jnp.stack(a)) for a in zip(*pairs))
        true = appearance.of(paint(maps[-1], view, appearance.look)) if len(maps) > len(grid) else None
        shown.append(Shown(video, slope, true, grid, appearance.colour))
    return shown


def in_colour_alone(held: HeldOut, maps: np.ndarray, count: int) -> list[Shown]:
    """Candidates (V, M, T, H, W, 3) without derivatives in `appearances`."""
    views, shown = jnp.asarray(turned(held.scene.view)), []
    for appearance in appearances(held, count):
        seen = [paint(m, views[appearance.view], appearance.look) for m in maps[appearance.view]]
        video = appearance.of(jnp.stack(seen))
        shown.append(Shown(video, video[:0], None, np.arange(len(seen)), appearance.colour))
    return shown


@jax.jit
def painted(maps: jax.Array, slope: jax.Array, view: jax.Array, look: Look) -> tuple[jax.Array, jax.Array]:
    """A clip in colour, and its derivative from that of the maps."""
    return jax.jvp(lambda m: paint(m, view, look), (maps,), (slope,))
