"""Granular columns of aspect ratio 0.5 to 10 run out as the published power laws say.

Run-out (d_end - d) / d of a column of base d (against a wall) and height a d, in a slot: proportional to a below about
2 and to a^(2/3) above (Lube et al. 2005: 1.2 a and 1.9 a^(2/3); Staron and Hinch 2005, simulated discs: 2.5 a and
3.25 a^0.7; Lajeunesse et al. 2005 find the same exponents). Exponents are fitted on a <= 1.5 and a >= 4 and must lie
within 0.15 of 1 and 2/3; every run-out must lie between the laws of Lube and of Staron and Hinch. Negative control:
friction of 3 degrees must leave the band. Ten minutes on 4 cores.
"""

from __future__ import annotations

import jax
import numpy as np

from experiments.blocks import block
from jaxphys import mpm, shapes

BASE, G = 0.1, 9.81
ASPECTS = (0.5, 0.8, 1.2, 1.5, 4.0, 6.0, 10.0)


def run_out(aspect: float, friction_angle: float = 30.0) -> float:
    """(d_end - d) / d; the deposit ends at its last column, one cell wide, that is half a cell (one particle) deep.

    A column is at least 24 cells high and 12 wide: at 6 to 10 cells the front of a shallow one is a cell or two.

    The slot is plane: without dilatancy the cone |s| = slope p acts there as a friction angle phi with slope =
    sqrt(2) sin(phi).
    """
    sine = np.sin(np.radians(friction_angle))
    cone = 3 * np.sqrt(3) * sine / (6 + np.sqrt(3) * sine)  # sin of the triaxial angle with that slope
    dx, height = BASE / max(12, round(24 / aspect)), aspect * BASE
    reach = BASE * (1.5 + (3.3 * aspect if aspect < 2 else 3.6 * aspect**0.7))
    grid = mpm.Grid((0, 0, 0), (reach, 2 * dx, height + 2 * dx), dx)
    sand = mpm.materials.Sand(density=1600.0, E=5e5, nu=0.3, friction_angle=np.degrees(np.arcsin(cone)))
    body = block((0, 0, 0), (BASE, 2 * dx, height), dx / 2)
    sides = mpm.Walls((0.0, 0.0, -1.0), grid.hi, kind="slip")
    rough = np.tan(np.radians(friction_angle))
    ground = mpm.Collider(shapes.HalfSpace((0.0, 0.0, 0.0), (0.0, 0.0, 1.0)), friction=rough)
    seconds = 2.5 * np.sqrt(2 * height / G) + 0.3
    config = mpm.Config(grid, fps=1 / seconds, frames=1, max_substeps=100_000)
    path = mpm.simulate(sand, body, mpm.Scene((0.0, 0.0, -G), (sides, ground)), config, save=("x",))
    jax.clear_caches()
    columns = np.bincount((np.asarray(path.x[0, :, 0]) / dx).astype(int))
    return float((np.flatnonzero(columns >= 2 * 4)[-1] + 1) * dx / BASE - 1)


def band(aspect: float) -> tuple[float, float]:
    """Run-out by Lube et al. and by Staron and Hinch."""
    return (1.2 * aspect, 2.5 * aspect) if aspect < 2 else (1.9 * aspect ** (2 / 3), 3.25 * aspect**0.7)


def run() -> dict:
    out = {a: run_out(a) for a in ASPECTS}
    figures = {f"run_out_at_{a}": r for a, r in out.items()}
    for name, chosen in (("low", [a for a in ASPECTS if a <= 1.5]), ("high", [a for a in ASPECTS if a >= 4])):
        figures[f"exponent_{name}"] = float(np.polyfit(np.log(chosen), np.log([out[a] for a in chosen]), 1)[0])
    figures["exponent_low_error"] = abs(figures["exponent_low"] - 1)
    figures["exponent_high_error"] = abs(figures["exponent_high"] - 2 / 3)
    figures["outside_band_count"] = sum(not band(a)[0] <= r <= band(a)[1] for a, r in out.items())
    control = run_out(1.2, friction_angle=3.0)
    figures["control_run_out"] = control
    figures["control_outside_band"] = int(not band(1.2)[0] <= control <= band(1.2)[1])
    return figures


CHECKS = {
    "exponent_low_error": ("<=", 0.15),
    "exponent_high_error": ("<=", 0.15),
    "outside_band_count": ("<=", 0),
    "control_outside_band": (">=", 1),
}
