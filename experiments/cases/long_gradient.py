"""A gradient through 20,000 substeps of 20,000 particles: finite, right, and within 4 GiB.

A neo-Hookean block falls onto the floor, is pressed and rebounds. The loss is the mean height at the end; its reverse
mode derivative by Young's modulus and by gravity is held against forward mode, which stores nothing. The memory is the
peak of the whole process, compiler included, and that of the compiled gradient. About 20 minutes on 4 cores.
"""

from __future__ import annotations

import dataclasses
import resource
import time

import jax
import jax.numpy as jnp

from experiments.blocks import block
from jaxphys import mpm

GRID = mpm.Grid((0, 0, 0), (1, 1, 1), 1 / 32)
RUBBER = mpm.materials.NeoHookean(density=1000.0, E=5e4, nu=0.3)
CONFIG = mpm.Config(GRID, fps=40.0, frames=20, substeps=1000)  # 0.5 s


def height(theta, config):
    """Mean height [m] of the frames for theta = (log E, gravity)."""
    side = 0.5 * (20 / 19.5)
    body = block((0.25, 0.25, 0.02), (0.25 + side, 0.25 + side, 0.02 + side), side / 28)
    scene = mpm.Scene((0.0, 0.0, theta[1]), (mpm.Walls(GRID.lo, GRID.hi, friction=0.3),))
    law = dataclasses.replace(RUBBER, E=jnp.exp(theta[0]))
    return jnp.mean(mpm.simulate(law, body, scene, config, save=("x",)).x[:, :, 2]), body.count


def run() -> dict:
    theta = jnp.array([jnp.log(5e4), -9.81])
    reverse = jax.jit(jax.value_and_grad(height, has_aux=True), static_argnums=1)
    compiled = reverse.lower(theta, CONFIG).compile()
    start = time.perf_counter()
    (value, count), gradient = jax.block_until_ready(compiled(theta))
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    tangents = dataclasses.replace(CONFIG, gradient="forward")
    forward = jnp.stack([jax.jvp(lambda t: height(t, tangents)[0], (theta,), (d,))[1] for d in jnp.eye(2)])
    error = jnp.abs(gradient - forward) / jnp.abs(forward)
    return {
        "particles": int(count),
        "substeps": CONFIG.frames * CONFIG.substeps,
        "mean_height_m": float(value),
        "gradient_log_E_m": float(gradient[0]),
        "gradient_gravity_s2": float(gradient[1]),
        "gradient_seconds": seconds,
        "compiled_temporary_GiB": compiled.memory_analysis().temp_size_in_bytes / 2**30,
        "peak_process_GiB": peak / 2**30,
        "worst_difference_from_forward_mode_relative": float(jnp.max(error)),
    }


CHECKS = {
    "particles": (">=", 20_000),
    "substeps": (">=", 20_000),
    "peak_process_GiB": ("<=", 4.0),
    "worst_difference_from_forward_mode_relative": ("<=", 0.01),
}
