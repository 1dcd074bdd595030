"""A Taylor-Green vortex in a slip box decays as exp(-2 nu k^2 t) within 5 %.

Taylor and Green 1937, two-dimensional case: u = U (sin kx cos ky, -cos kx sin ky), k = pi / L, which satisfies slip
walls. U is small
against nu k, so particles stay near their cells. One minute on 4 cores.
"""

from __future__ import annotations

import numpy as np

from experiments.blocks import block
from jaxphys import mpm

NU, U, K, DX = 0.05, 0.05, np.pi, 1 / 32


def mode(x):
    return np.stack([np.sin(K * x[:, 0]) * np.cos(K * x[:, 1]), -np.cos(K * x[:, 0]) * np.sin(K * x[:, 1])], 1)


def velocity(x):
    return U * np.concatenate([mode(x), np.zeros((len(x), 1))], 1)


def gradient(x):
    s, c = np.sin(K * x), np.cos(K * x)
    C = np.zeros((len(x), 3, 3))
    C[:, 0, 0], C[:, 0, 1] = c[:, 0] * c[:, 1], -s[:, 0] * s[:, 1]
    C[:, 1, 0], C[:, 1, 1] = s[:, 0] * s[:, 1], -c[:, 0] * c[:, 1]
    return U * K * C


def run(dx: float = DX, frames: int = 20) -> dict:
    grid = mpm.Grid((0, 0, 0), (1, 1, 3 * dx), dx)
    fluid = mpm.materials.NewtonianFluid(density=1000.0, bulk_modulus=4e3, viscosity=1000.0 * NU)
    body = block(grid.lo, grid.hi, dx / 2, v=velocity, C=gradient)
    scene = mpm.Scene((0.0, 0.0, 0.0), (mpm.Walls(grid.lo, grid.hi, kind="slip"),))
    config = mpm.Config(grid, fps=20.0, frames=frames)
    path = mpm.simulate(fluid, body, scene, config, save=("x", "v"))
    amplitude = []
    for x, v in zip(np.asarray(path.x), np.asarray(path.v)):
        m = mode(x)
        amplitude.append(np.sum(m * v[:, :2]) / np.sum(m**2) / U)
    rate = -np.polyfit(np.asarray(path.times), np.log(amplitude), 1)[0]
    theory = 2 * NU * K**2
    return dict(decay_rate_per_s=float(rate), theory_per_s=float(theory), relative_error=float(abs(rate / theory - 1)))


CHECKS = {"relative_error": ("<=", 0.05)}
