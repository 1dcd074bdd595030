"""A stiff and a soft half of one block told apart from noisy tracks: one modulus per part, and one per particle.

The elastic scene of experiments/recovery.py; the half with the smaller x has E = 1e4 Pa, the other 4e4 Pa. Per part:
Gauss-Newton from a decade below both, bar 5 %. Per particle (512 unknowns): Adam through exact reverse mode from a
uniform 2.5 times below the stiff half, with a prior that neighbours are alike; the bar is that the median of each half
is within 20 % and that nine particles in ten are on the right side of the geometric mean. 15 minutes on one core.
"""

from __future__ import annotations

import dataclasses
import time

import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from experiments import recovery
from experiments.descent import adam_init, adam_step
from jaxphys import mpm
from jaxphys.scenes import identify, search

SOFT, STIFF = 1e4, 4e4
STEPS = 400
CHECKS = {
    "part_worst_relative_error": ("<=", 0.05),
    "field_worst_median_relative_error": ("<=", 0.2),
    "field_right_side_fraction": (">=", 0.9),
}


def pose(seed: int = 0) -> tuple[identify.Problem, np.ndarray]:
    """The problem with one unknown E, its shape still open, and the part of each particle."""
    excitation = recovery.SCENES["elastic"]
    posed = recovery.pose(excitation, seed)
    x = np.asarray(posed.particles.x)
    part = (x[:, 0] > np.median(x[:, 0])).astype(np.int32)
    law = dataclasses.replace(posed.law, E=jnp.where(part == 1, STIFF, SOFT).astype(jnp.float32))
    tracks = np.asarray(mpm.simulate(law, posed.particles, posed.scene, posed.config, save=("x",)).x)
    tracks = tracks + recovery.TRACK_SIGMA * np.random.default_rng(seed).standard_normal(tracks.shape)
    seen = identify.Tracks(jnp.asarray(tracks, jnp.float32), recovery.TRACK_SIGMA)
    ranges = {"E": excitation.ranges["E"]}
    options = dict(part=part, smoothness=0.3)
    law = recovery.law_of(excitation, excitation.truth)
    return identify.problem(law, posed.particles, posed.scene, posed.config, seen, ranges, **options), part


def run() -> dict:
    problem, part = pose()
    begun = time.perf_counter()
    # one value per part needs no prior, one per particle no parts
    parts = dataclasses.replace(problem, pairs=None, smoothness=None)
    start = identify.encode(parts, {"E": np.array([SOFT / 10, STIFF / 10])})
    stages, fit = search.default_stages(parts), search.begin([start])
    while not search.done(fit, stages):
        fit = search.advance(parts, fit, start, stages, vmapped=False)
    found = np.asarray(identify.decode(parts, {"E": jnp.asarray(fit.searches[0].z, jnp.float32)})["E"])
    part_seconds, begun = time.perf_counter() - begun, time.perf_counter()

    each = dataclasses.replace(problem, part=None)
    template = identify.encode(each, {"E": np.full(len(part), STIFF / 2.5)})
    flat = ravel_pytree(template)[0][None]
    state, cost = adam_init(flat, STEPS, 0.1), jnp.zeros(1)
    for _ in range(STEPS):
        flat, state, cost = adam_step(each, flat, state, template, steps=STEPS, rate=0.1)
    field = np.asarray(identify.decode(each, {"E": flat[0]})["E"])
    medians = [float(np.median(field[part == k])) for k in (0, 1)]
    right = (field > np.sqrt(SOFT * STIFF)) == (part == 1)
    return {
        "part_soft_E_Pa": float(found[0]),
        "part_stiff_E_Pa": float(found[1]),
        "part_worst_relative_error": float(np.max(np.abs(found / [SOFT, STIFF] - 1))),
        "part_evaluations": fit.evaluations,
        "part_seconds": part_seconds,
        "field_unknowns": len(part),
        "field_soft_median_E_Pa": medians[0],
        "field_stiff_median_E_Pa": medians[1],
        "field_worst_median_relative_error": float(np.max(np.abs(np.divide(medians, [SOFT, STIFF]) - 1))),
        "field_right_side_fraction": float(np.mean(right)),
        "field_cost_per_value": 2.0 * float(cost[0]),
        "field_steps": STEPS,
        "field_seconds": time.perf_counter() - begun,
    }
