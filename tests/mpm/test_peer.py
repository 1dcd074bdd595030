"""The same elastic scene by Taichi's published example (tests/golden/README.md), which shares nothing with ours."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np

from jaxphys import mpm

GOLDEN = Path(__file__).resolve().parents[1] / "data" / "taichi_elastic_drop.npz"


def test_positions_agree_within_one_percent_of_the_object():
    golden = np.load(GOLDEN)
    dx, start = float(golden["dx"]), golden["start"]
    # The last held nodes are 2 and cells - 2: there stand our walls.
    low, high = (int(golden["first_free_node"]) - 1) * dx, (int(golden["last_free_node"]) + 1) * dx
    grid = mpm.Grid((low,) * 3, (high,) * 3, dx)
    law = mpm.materials.FixedCorotated(density=float(golden["density"]), E=float(golden["E"]), nu=float(golden["nu"]))
    body = mpm.Particles.create(jnp.asarray(start), (dx / 2) ** 3)
    scene = mpm.Scene(tuple(golden["gravity"].tolist()), (mpm.Walls(grid.lo, grid.hi),))
    config = mpm.Config(grid, fps=10.0, frames=5, substeps=round(0.1 / float(golden["dt"])))
    path = mpm.simulate(law, body, scene, config, save=("x",))
    size = np.ptp(start, axis=0).max()
    distance = np.linalg.norm(np.asarray(path.x) - golden["positions"], axis=-1)
    height = golden["positions"][:, :, 1].mean(1)
    assert height.min() < start[:, 1].mean() - 0.3 * size and np.diff(height).max() > 0.2 * size  # it falls and bounces
    assert distance.max() <= 0.01 * size, distance.max(1) / size
