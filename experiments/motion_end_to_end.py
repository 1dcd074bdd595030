"""The same searches with the simulator in the loop, and the released heuristic beside the exact gradient.

`exact` follows one number by forward mode through the whole simulation and the pictures. `released` moves one value per
particle as the released code does: the response of the last substep in place of the gradient, and a step that only
knows the order of the particles (`methods.motion_released`).
"""

from __future__ import annotations

import dataclasses
import resource
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.motion_fields import make_videos
from experiments.motion_guided import Adam
from experiments.motion_looks import paint_look, painted
from experiments.motion_scenes import HeldOut
from jaxphys import mpm
from jaxphys.methods.motion_released import released_update
from jaxphys.methods.motionphysics import GuidanceConfig, Guide, Prompt, guidance
from jaxphys.scenes import clips
from jaxphys.scenes.looks import paint


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a search with the simulator in the loop came to."""

    path: list[float]  # coordinates
    answer: float
    seconds: float  # of one step, compilation excluded
    peak_bytes: int  # of the process so far

    @classmethod
    def of(cls, path: list[float], times: list[float]) -> Outcome:
        steady = float(np.median(times[1:])) if len(times) > 1 else float("nan")
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        return cls(path, float(np.mean(path[-8:])), steady, memory)


def exact(
    held: HeldOut,
    world: clips.World,
    guide: Guide,
    prompt: Prompt | None,
    settings: GuidanceConfig,
    start: float,
    *,
    iterations: int,
    seed: int,
) -> Outcome:
    """Adam along the exact gradient: every step simulates and draws anew."""
    look, view = paint_look(held), jnp.asarray(held.scene.view)
    key = jax.random.key(seed)

    @jax.jit
    def pull_of(maps, slope, guide, prompt, key):
        video, dvideo = painted(maps, slope, view, look)
        pull = jax.grad(lambda v: guidance(guide, v, prompt, settings, key=key)[0])(video)
        return jnp.sum(pull * dvideo)

    adam, u, path, times = Adam(held.ends, iterations), start, [], []
    for i in range(iterations):
        began = time.monotonic()
        videos = make_videos(held, world, np.array([u]), truth=False, views=1)
        maps, slope = jnp.asarray(videos.maps[0, 0], jnp.float32) / 255.0, jnp.asarray(videos.slopes[0, 0], jnp.float32)
        u = adam.step(u, float(pull_of(maps, slope, guide, prompt, jax.random.fold_in(key, i))))
        path.append(u)
        times.append(time.monotonic() - began)
    return Outcome.of(path, times)


def released(
    held: HeldOut,
    world: clips.World,
    guide: Guide,
    prompt: Prompt | None,
    settings: GuidanceConfig,
    start: float,
    *,
    iterations: int,
    seed: int,
) -> Outcome:
    """The released code's direction and update on one value per particle; the answer is their mean."""
    look, key = paint_look(held), jax.random.key(seed)
    steps = held.substeps(world, np.array(held.ends))
    config = dataclasses.replace(world.config(steps), gradient="last_substep")
    boundaries = held.boundaries(world, held.scene, held.block)
    particles, scene, n = held.particles(held.scene), held.scene, held.first
    name, times = held.law_name, jnp.arange(world.frames) / world.fps

    @jax.jit
    def gradient(values, guide, prompt, key):
        def loss(values):
            law = held.law(values if n == particles.count else jnp.pad(values, (0, particles.count - n), "edge"))
            laws = (law, *held.others)
            moved = mpm.simulate(laws, particles, mpm.Scene(boundaries=boundaries), config, save=("x",))
            # the released code draws the Gaussians in their first shape while it trains
            eye = jnp.broadcast_to(jnp.eye(3), (particles.count, 3, 3))
            path = (jnp.concatenate([particles.x[None], moved.x]), times)
            maps = jax.lax.map(lambda a: clips.frame_maps(scene, world, name, a[0], eye, a[1]), path)
            video = paint(maps, jnp.asarray(scene.view), look)
            # a sum, as published: the update has a threshold below which nothing moves
            return guidance(guide, video, prompt, settings, key=key)[0] * video.size

        return jax.grad(loss)(values)

    values, path, seconds = jnp.full(n, start, jnp.float32), [start], []
    for i in range(iterations):
        began = time.monotonic()
        rate = 0.1 + 0.45 * (1.0 + np.cos(np.pi * min(i, 100) / 100))
        g = gradient(values, guide, prompt, jax.random.fold_in(key, i))
        if not bool(jnp.isfinite(g).all()):  # nothing to follow: the search ends where it is
            break
        values = released_update(values, g, rate, *held.ends)
        path.append(float(values.mean()))
        seconds.append(time.monotonic() - began)
    return Outcome.of(path, seconds)


def invariants(held: HeldOut, world: clips.World, coordinate: float) -> dict[str, float]:
    """Energy left at the end over that at the start, horizontal momentum gained, and the mean change of volume."""
    laws: tuple[Any, ...] = (held.law(coordinate), *held.others)
    particles = held.particles(held.scene)
    acting = mpm.Scene(boundaries=held.boundaries(world, held.scene, held.block))
    config = world.config(held.substeps(world, np.array([coordinate])))
    moved = mpm.simulate(laws, particles, acting, config, save=("x", "v", "F", "energy"))
    volume, index = np.asarray(particles.volume, np.float64), np.asarray(particles.material)
    mass = volume * np.array([float(law.density) for law in laws])[index]
    x, v = (
        np.concatenate([np.asarray(a)[None], np.asarray(b)])
        for a, b in ((particles.x, moved.x), (particles.v, moved.v))
    )
    elastic = np.append(0.0, np.asarray(moved.energy, np.float64) @ volume)
    total = 0.5 * (v**2).sum(-1) @ mass + elastic + 9.81 * x[..., 2] @ mass
    momentum = np.einsum("tni,n->ti", v, mass)
    return {
        "energy_left": float(total[-1] / total[0]),
        "energy_greatest": float(total.max() / total[0]),
        "momentum_across_N_s": float(np.abs(momentum[-1, :2] - momentum[0, :2]).max()),
        "volume_change": float(np.linalg.det(np.asarray(moved.F[-1], np.float64)).mean() - 1.0),
    }
