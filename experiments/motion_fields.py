"""What the methods are compared on: videos, their exact derivatives and outcomes on a grid of candidate values.

Simulated once per held-out scene and stored, so that every method sees the same numbers at no further cost.
"""

from __future__ import annotations

import dataclasses
import functools
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.motion_scenes import HeldOut
from jaxphys import mpm
from jaxphys.files import atomic_path
from jaxphys.language.captions import OUTCOMES
from jaxphys.scenes import clips
from jaxphys.scenes.outcomes import Outcomes, measure


@dataclasses.dataclass(frozen=True)
class Field:
    """Candidates k = 0..K-1 of one scene; the motion of the hidden value, where there is one, comes last."""

    grid: np.ndarray  # coordinates of the candidates (K,)
    outcomes: np.ndarray  # in the order of `captions.OUTCOMES` (K or K + 1, 6)
    codes: np.ndarray  # 0 where the simulation is sound (K or K + 1,)
    seconds: float  # of the simulations, compilation excluded where it was compiled before

    @property
    def sound(self) -> np.ndarray:
        return self.codes[: len(self.grid)] == 0

    def true_outcomes(self) -> Outcomes:
        """Outcomes of the hidden value, leaves ()."""
        return Outcomes(*self.outcomes[-1])


VIEWS = 2  # in which a video model is shown a motion: one alone hides what the body does along it


def turned(view: Any, count: int = VIEWS) -> Any:
    """A camera (azimuth and elevation [degree], distance [m]) (3,) and others, each a quarter turn on: (count, 3)."""
    return view + np.outer(90.0 * np.arange(count), [1.0, 0.0, 0.0]).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class Videos:
    """Maps (see `clips.frame_maps`) of the candidates; the hidden value, if any, comes last, without derivative."""

    maps: np.ndarray  # (V, K or K + 1, T, H, W, 3) uint8, in the views of `turned`
    slopes: np.ndarray  # d maps / d coordinate, maps in 0..1 (V, K, T, H, W, 3) float16
    seconds: float

    def __post_init__(self):
        if self.maps.ndim != 6 or self.slopes.ndim != 6:
            raise ValueError(
                "videos need maps and slopes of six axes (view, candidate, frame, row, column, channel), got shapes "
                f"{self.maps.shape} and {self.slopes.shape}"
            )


@dataclasses.dataclass(frozen=True)
class Drawn:
    """Candidates of any laws in one scene, simulated and drawn."""

    maps: np.ndarray  # (V, M, T, H, W, 3) uint8, in the views of `turned`
    outcomes: np.ndarray  # in the order of `captions.OUTCOMES` (M, 6)
    codes: np.ndarray  # 0 where the clip is sound (M,)
    seconds: float


def coordinates(held: HeldOut, count: int) -> np.ndarray:
    """The grid of candidates, evenly over the range."""
    return np.linspace(*held.ends, count)


@functools.partial(jax.jit, static_argnames=("world", "steps", "first"))
def _outcomes(laws, particles, boundaries, *, world, steps, first):
    moved = mpm.simulate(laws, particles, mpm.Scene(boundaries=boundaries), world.config(steps), save=("x",))
    x = jnp.concatenate([particles.x[None, :first], moved.x[:, :first]])
    return measure(x, world.fps), jnp.where(jnp.isfinite(x).all(), moved.status.code, 9)


def outcomes_at(held: HeldOut, world: clips.World, coordinate: Any, steps: int) -> tuple[Outcomes, jax.Array]:
    """Outcomes and status code of one candidate; differentiable in its coordinate by forward mode."""
    laws = (held.law(coordinate), *held.others)
    boundaries = jax.tree.map(jnp.asarray, held.boundaries(world, held.scene, held.block))
    particles = held.particles(held.scene)
    return _outcomes(laws, particles, boundaries, world=world, steps=steps, first=held.first)


def make_field(held: HeldOut, world: clips.World, grid: np.ndarray, truth: bool = True, finer: int = 1) -> Field:
    """Simulates the candidates and the hidden value without drawing them, each with as few substeps as it is stable.

    Args:
        held: scene.
        world: sizes.
        grid: coordinates.
        truth: whether the hidden value is simulated too.
        finer: factor on the substeps.
    """
    began = time.monotonic()
    particles, rows = held.particles(held.scene), []
    boundaries = jax.tree.map(jnp.asarray, held.boundaries(world, held.scene, held.block))
    pairs = [(u, held.law(u)) for u in grid] + ([(held.truth, held.scene.law)] if truth else [])
    for u, law in pairs:
        laws = (law, *held.others)
        steps = finer * held.substeps(world, np.array([u]))
        rows.append(_outcomes(laws, particles, boundaries, world=world, steps=steps, first=held.first))
    rows = jax.device_get(rows)
    table = np.asarray([[float(getattr(found, name)) for name in OUTCOMES] for found, _ in rows])
    return Field(np.asarray(grid), table, np.asarray([int(code) for _, code in rows]), time.monotonic() - began)


def maps_from(
    views: Any, scene: clips.ClipScene, world: clips.World, name: str, path: Any, **options: Any
) -> jax.Array:
    """Maps of one motion in each view: (V, T, H, W, 3).

    Args:
        views: cameras, see `turned` (V, 3).
        scene: what is drawn.
        world: sizes.
        name: of its law.
        path: positions (T, N, 3), deformation gradients (T, N, 3, 3) and times (T,).
        options: of `clips.frame_maps`.
    """

    def seen(view):
        shown = dataclasses.replace(scene, view=view)
        return jax.lax.map(lambda a: clips.frame_maps(shown, world, name, *a, **options), path)

    return jax.lax.map(seen, views)


@functools.partial(jax.jit, static_argnames=("world", "steps", "name"))
def _video(law, tangent, others, particles, boundaries, scene, views, *, world, steps, name):
    times = jnp.arange(world.frames) / world.fps

    def maps_of(law):
        acting = mpm.Scene(boundaries=boundaries)
        moved = mpm.simulate((law, *others), particles, acting, world.config(steps), save=("x", "F"))
        eye = jnp.broadcast_to(jnp.eye(3), (1, len(particles.x), 3, 3))
        path = (jnp.concatenate([particles.x[None], moved.x]), jnp.concatenate([eye, moved.F]), times)
        return maps_from(views, scene, world, name, path, gradient="forward")

    return jax.jvp(maps_of, (law,), (tangent,))


def make_videos(
    held: HeldOut, world: clips.World, grid: np.ndarray, truth: bool = True, finer: int = 1, views: int = VIEWS
) -> Videos:
    """Simulates and draws the candidates with exact derivatives by forward mode, and the hidden value.

    The arguments are those of `make_field`, and how many views are drawn.
    """
    began = time.monotonic()
    boundaries = jax.tree.map(jnp.asarray, held.boundaries(world, held.scene, held.block))
    given = (held.others, held.particles(held.scene), boundaries, held.scene, turned(held.scene.view, views))
    maps, slopes = [], []
    for u in [*grid, *([held.truth] if truth else [])]:
        law = lambda u: jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), held.law(u))
        pair = jax.jvp(law, (jnp.float32(u),), (jnp.float32(1.0),))
        steps = finer * held.substeps(world, np.array([u]))
        drawn, slope = jax.device_get(_video(*pair, *given, world=world, steps=steps, name=held.law_name))
        maps.append(np.round(np.clip(drawn, 0.0, 1.0) * 255.0).astype(np.uint8))
        slopes.append(slope.astype(np.float16))
    return Videos(np.stack(maps, 1), np.stack(slopes[: len(grid)], 1), time.monotonic() - began)


@functools.partial(jax.jit, static_argnames=("world", "action", "name", "steps"))
def _drawn(scene, views, *, world, action, name, steps):
    moved = clips.simulate_scene(scene, world, action, steps)
    x = jnp.concatenate([scene.x[None], moved.x])
    F = jnp.concatenate([jnp.broadcast_to(jnp.eye(3), (1, *moved.F.shape[1:])), moved.F])
    maps = maps_from(views, scene, world, name, (x, F, jnp.arange(world.frames) / world.fps))
    code = jnp.where(jnp.isfinite(maps).all(), moved.status.code, 9)
    return jnp.round(jnp.clip(maps, 0.0, 1.0) * 255.0).astype(jnp.uint8), measure(x, world.fps), code


def draw_laws(held: HeldOut, world: clips.World, laws: Sequence[tuple[str, Any]]) -> Drawn:
    """Simulates and draws the body of a scene with other laws.

    Args:
        held: scene of one body.
        world: sizes.
        laws: name (a key of `mpm.materials.LAWS`) and law of each candidate.
    """
    began, rows, views = time.monotonic(), [], turned(held.scene.view)
    # actions that put nothing into the scene share a program
    action = held.action if held.action in clips.ARRANGEMENT else "dropped"
    for name, law in laws:
        scene = dataclasses.replace(held.scene, law=law)
        steps = clips.substeps(scene, world, action)
        rows.append(jax.device_get(_drawn(scene, views, world=world, action=action, name=name, steps=steps)))
    table = np.asarray([[float(getattr(found, slot)) for slot in OUTCOMES] for _, found, _ in rows])
    codes = np.asarray([int(code) for _, _, code in rows])
    return Drawn(np.stack([maps for maps, _, _ in rows], 1), table, codes, time.monotonic() - began)


def store(path: Path, value: Any) -> None:
    """Writes a `Field`, `Videos` or `Drawn`, whole or not at all."""
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **{f.name: getattr(value, f.name) for f in dataclasses.fields(value)})


def restore(path: Path, kind: type) -> Any:
    """Reads a file of `store`.

    Raises:
        ValueError: the file is damaged or of something else.
    """
    try:
        with np.load(path) as data:
            return kind(
                **{f.name: data[f.name] if data[f.name].ndim else data[f.name].item() for f in dataclasses.fields(kind)}
            )
    except (KeyError, OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} holds no {kind.__name__} ({error}); delete it to make it again") from error


def field_of(folder: Path, held: HeldOut, world: clips.World, count: int) -> Field:
    """The stored field of a scene, made where it is missing."""
    path = folder / f"{held.name}.npz"
    if not path.exists():
        store(path, make_field(held, world, coordinates(held, count)))
    return restore(path, Field)


def videos_of(folder: Path, held: HeldOut, world: clips.World, count: int) -> Videos:
    """The stored videos of a scene, made where they are missing."""
    path = folder / f"{held.name}.videos.npz"
    if not path.exists():
        store(path, make_videos(held, world, coordinates(held, count)))
    return restore(path, Videos)
