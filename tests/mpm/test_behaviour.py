"""Flow and impact in their smallest form; the long figures are cases of experiments/cases."""

import jax
import jax.numpy as jnp
import numpy as np

from experiments.blocks import block
from experiments.cases import dam_break, hydrostatic, taylor_green
from jaxphys import mpm


def test_taylor_green_vortex_decays_by_its_viscosity():
    assert taylor_green.run(dx=1 / 16, frames=10)["relative_error"] <= 0.05


def test_hydrostatic_pressure():
    assert hydrostatic.run(seconds=1.0)["worst_layer_error_relative"] <= 0.03


def test_dam_break_front():
    assert dam_break.run(cells=8)["rms_relative_99_percent_of_water"] <= 0.08


def test_bounce_rises_with_stiffness():
    grid = mpm.Grid((0, 0, 0), (1, 1, 1), 1 / 12)
    body = block((0.35, 0.35, 0.3), (0.6, 0.6, 0.55), 1 / 24, v=(0.0, 0.0, -2.5))
    scene = mpm.Scene(boundaries=(mpm.Walls(grid.lo, grid.hi),))
    config = mpm.Config(grid, fps=50.0, frames=30, substeps=14)

    @jax.jit
    def rebound(E):
        law = mpm.materials.NeoHookean(density=1000.0, E=E, nu=0.3)
        height = mpm.simulate(law, body, scene, config, save=("x",)).x[:, :, 2].mean(1)
        return jnp.max(jnp.where(jnp.arange(30) > jnp.argmin(height[:15]), height, 0.0))

    heights = [float(rebound(E)) for E in (1e4, 2e4, 6e4, 2e5)]
    assert heights == sorted(heights) and heights[-1] > 1.2 * heights[0]


def test_slump_orders_with_the_yield_stress():
    grid = mpm.Grid((0, 0, 0), (1, 1, 0.5), 1 / 12)
    body = block((0.33, 0.33, 0), (0.67, 0.67, 0.34), 1 / 24)
    scene = mpm.Scene(boundaries=(mpm.Walls(grid.lo, grid.hi, kind="sticky"),))
    config = mpm.Config(grid, fps=2.0, frames=1, substeps=800)

    @jax.jit
    def height(yield_stress):
        law = mpm.materials.NonNewtonianFluid(
            density=1000.0, bulk_modulus=1e5, yield_stress=yield_stress, viscosity=2.0, regularization=0.5
        )
        return jnp.percentile(mpm.simulate(law, body, scene, config, save=("x",)).x[0, :, 2], 99.0)

    heights = np.array([float(height(y)) for y in (20.0, 200.0, 800.0)])
    assert (np.diff(heights) > 0.01).all()
