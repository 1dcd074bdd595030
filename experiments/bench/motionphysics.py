"""One iteration of motion distillation at the published scale: 17 frames of 256x256, a grid of 96^3, Wan 1.3B.

    taskset -c 0 .venv/bin/python -m experiments.bench.motionphysics --out experiments/results/bench_motionphysics.json

Published: 16 frames of 2,304 substeps of which the last alone is differentiated, learnable motion distillation with the
denoiser at weight 101, 40 iterations, 18.39 minutes a scene. Here 100,000 particles, each drawn as a Gaussian, and
networks of Wan's sizes on random weights, which cost what trained ones do. On a GPU the whole iteration runs (bfloat16
networks), and only there a ratio to the published time is taken. On a CPU the parts of an iteration are timed, in
core-seconds, and the sum is extrapolated: substeps and one of 30 blocks by differences of two runs, frames from one,
the encoder from five frames of 64x64 by its pixels. One core-minute.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.report import bench_row, write_bench
from jaxphys import mpm, splats
from jaxphys.camera import Camera
from jaxphys.diffusion import dit, vae
from jaxphys.diffusion.protocol import Condition
from jaxphys.methods.motion_heads import Heads
from jaxphys.methods.motionphysics import Guide, Prompt, guidance, recipe

PEERS = ()
PUBLISHED_MINUTES, ITERATIONS = 18.39, 40
DT = 1.3e-4  # s, of a substep


@dataclasses.dataclass(frozen=True)
class Scale:
    """Sizes of an iteration."""

    particles: int = 100_000
    cells: int = 96
    frames: int = 16  # after the first
    substeps: int = 2304  # per frame
    pixels: int = 256
    net: Any = dit.PRESETS["wan2.1-t2v-1.3b"]
    coder: Any = vae.PRESETS["wan2.1-vae"]
    tokens: int = 512  # of the text

    def cut(self, **changes: Any) -> Scale:
        return dataclasses.replace(self, **changes)

    @property
    def latents(self) -> tuple[int, int, int, int]:
        side = self.pixels // self.coder.space_factor
        return 1 + self.frames // self.coder.time_factor, side, side, self.coder.latent_channels


def body(scale: Scale) -> tuple[mpm.Particles, splats.Gaussians]:
    """Random particles, eight per cell, in a cube over the ground, and their Gaussians."""
    dx = 1.0 / scale.cells
    side = (scale.particles / 8) ** (1 / 3) * dx
    x = np.random.default_rng(0).random((scale.particles, 3)) * side + [0.5 - side / 2, 0.5 - side / 2, 4 * dx]
    particles = mpm.Particles.create(jnp.asarray(x, jnp.float32), dx**3 / 8)
    return particles, splats.Gaussians.create(jnp.asarray(x, jnp.float32), scale=0.4 * dx, color=(0.8, 0.3, 0.2))


def motion(scale: Scale, particles: mpm.Particles, log_E: jax.Array) -> jax.Array:
    """Positions of all frames (1 + T, N, 3) of a body whose particles have a modulus each."""
    dx = 1.0 / scale.cells
    grid = mpm.Grid((3 * dx,) * 3, (1.0 - 4 * dx,) * 3, dx)
    scene = mpm.Scene(boundaries=(mpm.Walls(grid.lo, grid.hi),))
    law = mpm.materials.create("neo_hookean", density=200.0, E=10.0**log_E, nu=0.4)
    fps, chosen = 1.0 / (DT * scale.substeps), "last_substep"
    config = mpm.Config(grid, fps=fps, frames=scale.frames, substeps=scale.substeps, gradient=chosen)
    moved = mpm.simulate((law,), particles, scene, config, save=("x",))
    return jnp.concatenate([particles.x[None], moved.x])


def drawer(scale: Scale, gaussians: splats.Gaussians) -> Callable[[jax.Array], jax.Array]:
    """Draws the Gaussians in their first shape at positions (N, 3)."""
    camera = Camera.look_at((0.5, -1.2, 0.5), (0.5, 0.5, 0.3), width=scale.pixels, height=scale.pixels)
    capacity, count = splats.plan_capacity(gaussians, camera, margin=2.0), len(gaussians)
    eye = jnp.broadcast_to(jnp.eye(3), (count, 3, 3))
    return lambda x: splats.render(splats.deform(gaussians, x, eye), camera, capacity=capacity).image


def guide_of(scale: Scale, key: jax.Array) -> tuple[Guide, Prompt, Any]:
    """Random weights and texts, and the guidance as published."""
    weights = {"denoiser": jax.jit(scale.net.init)(key), "encoder": jax.jit(scale.coder.init)(key)}
    heads = Heads.init(scale.latents[0], key)
    texts = jax.random.normal(key, (2, scale.tokens, scale.net.text_dim))
    return (
        Guide(**weights, heads=heads),
        Prompt(Condition(texts[0]), texts[1]),
        recipe("lmd", scale.net, encode=scale.coder.encode),
    )


def iteration(scale: Scale) -> tuple[Callable, tuple]:
    """Loss and its gradient with respect to every particle's modulus, and arguments to call it with."""
    particles, gaussians = body(scale)
    draw, (guide, prompt, config) = drawer(scale, gaussians), guide_of(scale, jax.random.key(0))

    def loss(log_E, guide, key):
        video = jax.lax.map(jax.checkpoint(draw), motion(scale, particles, log_E))
        return guidance(guide, video, prompt, config, key=key)[0]

    return jax.jit(jax.value_and_grad(loss)), (jnp.full(scale.particles, 4.0), guide, jax.random.key(1))


def seconds(call: Callable, *given: Any, repeats: int = 3) -> float:
    """The least time of a call, compiled before: elapsed on a GPU, of the processor on a CPU, which may be shared."""
    clock = time.process_time if jax.default_backend() == "cpu" else time.perf_counter
    jax.block_until_ready(call(*given))
    times = []
    for _ in range(repeats):
        began = clock()
        jax.block_until_ready(call(*given))
        times.append(clock() - began)
    return min(times)


def parts(scale: Scale) -> dict[str, float]:
    """Seconds of the parts of an iteration."""
    particles, gaussians = body(scale)
    log_E, out = jnp.full(scale.particles, 4.0), {}
    few, many = (scale.cut(frames=1, substeps=n) for n in (4, 12))
    a, b = (seconds(jax.jit(lambda u, s=s: motion(s, particles, u)), log_E) for s in (few, many))
    out["substep"] = (b - a) / (many.substeps - few.substeps)
    draw = drawer(scale, gaussians)
    out["frame drawn, forward + backward"] = seconds(jax.jit(jax.grad(lambda x: draw(x).sum())), particles.x)
    noisy, text = jnp.zeros(scale.latents), jnp.zeros((scale.tokens, scale.net.text_dim))
    times = []
    for layers in (1, 2):
        net = dataclasses.replace(scale.net, layers=layers, param_dtype="float32")
        params = jax.jit(net.init)(jax.random.key(0))
        run = jax.jit(lambda p, x, net=net: net.velocity(p, x, jnp.array(0.5), Condition(text)))
        times.append(seconds(run, params, noisy))
    out["block of the denoiser"] = times[1] - times[0]
    out["denoiser"] = times[0] + (scale.net.layers - 1) * (times[1] - times[0])
    # five frames are two latent frames
    small = scale.cut(pixels=max(scale.pixels // 4, scale.coder.space_factor), frames=scale.coder.time_factor)
    encoder = jax.jit(scale.coder.init)(jax.random.key(0))
    video = jnp.zeros((1 + small.frames, small.pixels, small.pixels, 3))
    spent = seconds(jax.jit(jax.grad(lambda v, p: scale.coder.encode(p, v).sum())), video, encoder, repeats=1)
    larger = (scale.pixels / small.pixels) ** 2 * scale.latents[0] / small.latents[0]
    out["encoder, forward + backward"] = spent * larger
    return out


def extrapolated(scale: Scale, found: dict[str, float]) -> float:
    """Seconds of an iteration from those of its parts; two calls of the denoiser, none differentiated."""
    return (
        scale.frames * scale.substeps * found["substep"]
        + (1 + scale.frames) * found["frame drawn, forward + backward"]
        + 2.0 * found["denoiser"]
        + found["encoder, forward + backward"]
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="experiments/results/bench_motionphysics.json")
    options = parser.parse_args()
    scale, on_cpu = Scale(), jax.default_backend() == "cpu"
    size = f"{scale.particles // 1000}k particles, {scale.cells}^3, {1 + scale.frames} frames of {scale.pixels}^2, 1.3B"
    rows = []
    if on_cpu:
        found = parts(scale)
        rows += [bench_row(f"motion distillation, {name}, {size}", "s", value) for name, value in found.items()]
        spent, how = extrapolated(scale, found), ", extrapolated from its parts"
        peer: dict[str, Any] = {}
    else:
        wide = {"net": "param_dtype", "coder": "param_dtype"}
        half = {name: dataclasses.replace(getattr(scale, name), **{field: "bfloat16"}) for name, field in wide.items()}
        call, given = iteration(scale.cut(**half))
        spent, how = seconds(call, *given, repeats=2), ""
        peer = {"peer": 60.0 * PUBLISHED_MINUTES / ITERATIONS, "peer_name": "published, a 40th of 18.39 minutes"}
    rows.append(bench_row(f"motion distillation, one iteration{how}, {size}", "s", spent, **peer))
    write_bench(options.out, rows, iteration_minutes_of_a_scene=spent * ITERATIONS / 60.0, extrapolated=on_cpu)
    for row in rows:
        print(f"{row['what']:>120} {row['ours']:10.4g} {row['unit']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
