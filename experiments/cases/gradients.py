"""Reverse-mode gradients of a rollout against central differences in float64, every law and parameter, 500 substeps.

A block hits a frictional floor at 2 m/s, yields and spreads. The difference step is swept over decades and the best
agreement counts (too large: curvature; too small: round-off). Bar: relative error <= 1e-4 with more than 20 % of the
particles yielding or touching. About 10 minutes on 4 cores.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from jaxphys import mpm

SOLID = dict(density=1000.0, E=4e4, nu=0.3)
LAWS = {
    "fixed_corotated": SOLID,
    "neo_hookean": SOLID,
    "hencky": SOLID,
    "viscoelastic": SOLID | dict(mu_N=1e4, lam_N=1e4, viscosity=200.0),
    "metal": SOLID | dict(yield_stress=1e3, hardening=2e3),
    "plasticine": SOLID | dict(yield_stress=1e3, softening=2.0, damage=1.0),
    "foam": SOLID | dict(yield_stress=500.0, viscosity=20.0, exponent=0.8),
    "sand": SOLID | dict(friction_angle=30.0, cohesion=50.0),
    "snow": SOLID | dict(E=1e4, hardening=5.0, critical_compression=0.02, critical_stretch=0.006, max_hardening=5.0),
    "newtonian": dict(density=1000.0, bulk_modulus=4e4, viscosity=5.0),
    "non_newtonian": dict(
        density=1000.0, bulk_modulus=4e4, yield_stress=50.0, viscosity=5.0, exponent=0.7, regularization=0.5
    ),
    "water": dict(density=1000.0, bulk_modulus=4e4, gamma=7.0),
}
GRID = mpm.Grid((0, 0, 0), (1, 1, 1), 1 / 8)
WALLS = mpm.Walls(GRID.lo, GRID.hi, friction=0.3)


def rollout(law, velocity, gravity, substeps: int):
    """A 4 x 4 x 4 block of particles meets the floor; returns the trajectory of one frame of 0.06 s."""
    side = np.arange(4) / 8 * 0.5
    x = np.stack(np.meshgrid(side + 0.4, side + 0.37, side + 0.02, indexing="ij"), -1).reshape(-1, 3)
    F = jnp.eye(3) + 0.02 * jnp.asarray(np.random.default_rng(0).normal(size=(64, 3, 3)))
    body = mpm.Particles.create(jnp.asarray(x), 0.0625**3, v=velocity, F=F)
    config = mpm.Config(GRID, fps=1 / 0.06, frames=1, substeps=substeps)
    return mpm.simulate(law, body, mpm.Scene(gravity, (WALLS,)), config, save=("x", "v", "F", "F_elastic"))


def check(name: str, substeps: int) -> dict[str, float]:
    """{parameter: least relative error over the swept steps}, and the busy fraction under "busy"; needs float64."""
    law = mpm.materials.create(name, **LAWS[name])
    law = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), law)
    theta = {field: getattr(law, field) for field in mpm.materials.LAWS[name].bounds}
    theta |= {"velocity": jnp.array([0.7, 0.2, -2.0]), "gravity": jnp.array([0.1, 0.0, -9.81])}

    def path(theta):
        fields = {k: v for k, v in theta.items() if k not in ("velocity", "gravity")}
        return rollout(dataclasses.replace(law, **fields), theta["velocity"], theta["gravity"], substeps)

    def loss(theta):
        end = path(theta)
        weight = 1.0 + jnp.cos(jnp.arange(64.0))[:, None]
        return jnp.sum(weight * end.x[0] ** 2) + 0.1 * jnp.sum(weight * end.v[0] * end.x[0]), end

    gradient, end = jax.jit(jax.grad(loss, has_aux=True))(theta)
    value = jax.jit(lambda theta: loss(theta)[0])
    yielded = jnp.max(jnp.abs(end.F[0] - end.F_elastic[0]), axis=(1, 2)) > 1e-6
    touched = end.x[0, :, 2] < 1.5 * GRID.dx
    out = {"busy": float(jnp.mean(yielded | touched))}
    for key, x in theta.items():
        direction = jnp.where(jnp.abs(x) > 0, jnp.abs(x), 1.0)
        exact = float(jnp.sum(gradient[key] * direction))
        errors = []
        for h in (1e-4, 1e-5, 1e-6, 1e-7):
            up, down = (value(theta | {key: x + s * h * direction}) for s in (1.0, -1.0))
            difference = float(up - down) / (2 * h)
            errors.append(abs(difference - exact) / max(abs(difference), abs(exact), 1e-12))
        out[key] = min(errors)
    return out


def run() -> dict:
    figures = {}
    with jax.enable_x64(True):
        for name in LAWS:
            errors = check(name, 500)
            figures[f"{name}_busy_fraction"] = errors.pop("busy")
            for key, error in errors.items():
                figures[f"{name}_{key}_relative_error"] = error
    figures["worst_relative_error"] = max(v for k, v in figures.items() if k.endswith("relative_error"))
    figures["least_busy_fraction"] = min(v for k, v in figures.items() if k.endswith("busy_fraction"))
    return figures


CHECKS = {"worst_relative_error": ("<=", 1e-4), "least_busy_fraction": (">=", 0.2)}
