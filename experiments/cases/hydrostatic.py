"""The pressure of a settled water column is rho g depth within 3 % of the pressure at its foot.

The column starts at uniform density and settles by itself; the pressure is averaged over the second half of 2 s and
over layers of
one cell, the layer at the floor and the one at the surface excepted. One minute on 4 cores.
"""

from __future__ import annotations

import numpy as np

from experiments.blocks import block
from jaxphys import mpm

DX, DEPTH, RHO, G = 1 / 32, 0.5, 1000.0, 9.81


def run(seconds: float = 2.0) -> dict:
    grid = mpm.Grid((0, 0, 0), (8 * DX, 4 * DX, 0.7), DX)
    fluid = mpm.materials.NewtonianFluid(density=RHO, bulk_modulus=4e5, viscosity=20.0)
    body = block((0, 0, 0), (8 * DX, 4 * DX, DEPTH), DX / 2)
    scene = mpm.Scene((0.0, 0.0, -G), (mpm.Walls(grid.lo, grid.hi, kind="slip"),))
    config = mpm.Config(grid, fps=20.0, frames=round(20 * seconds))
    path = mpm.simulate(fluid, body, scene, config, save=("x", "F_elastic"))
    late = slice(len(path.times) // 2, None)
    z = np.asarray(path.x[late, :, 2], np.float64)
    J = np.linalg.det(np.asarray(path.F_elastic[late], np.float64))
    p = 4e5 / 7 * (J**-7.0 - 1)
    layer = np.floor(z / DX).astype(int)
    layers = range(1, round(DEPTH / DX) - 1)
    errors = [p[layer == k].mean() - RHO * G * (DEPTH - z[layer == k].mean()) for k in layers]
    foot = RHO * G * DEPTH
    return dict(
        worst_layer_error_relative=float(np.max(np.abs(errors)) / foot),
        rms_error_relative=float(np.sqrt(np.mean(np.square(errors))) / foot),
    )


CHECKS = {"worst_layer_error_relative": ("<=", 0.03)}
