"""Peak ground forces and joint moments of a walk, a run and a jump without force plates lie in published ranges.

CMU motion capture 02_01, 02_03 and 02_04 (mocap.cs.cmu.edu), fitted to our skeleton; mass by a body mass index of 24.5;
cut-off 6 Hz for the walk, as in the gait laboratory (Winter), and 10 Hz for run and jump, whose impacts 6 Hz flattens;
the ground as estimated. No force was measured with these clips, so ranges are all there is. Vertical force in body
weights: walking 1.0 to 1.5, running 2.0 to 2.9 (Nilsson and Thorstensson 1989, Acta Physiol. Scand. 136, 217), landing
from a jump 2 to 7 (McNair and Prapavessis 1999, J. Sci. Med. Sport 2, 86: 4.5 with standard deviation 1.7). Flexion
moments of one leg in N m / kg: walking ankle 1.2 to 2.0, knee 0.3 to 1.3, hip 0.4 to 1.6 (Winter, The Biomechanics and
Motor Control of Human Gait, 1991); running ankle 1.5 to 3.5, knee 1.5 to 3.8, hip 1.0 to 4.0 (Novacheck 1998, Gait and
Posture 7, 77; Schache et al. 2011, Med. Sci. Sports Exerc. 43, 1260); jumping ankle 1.0 to 3.5, knee 1.0 to 4.0, hip
1.0 to 4.5 (Vanezis and Lees 2005, Ergonomics 48, 1594). One minute on one core.
"""

from __future__ import annotations

import functools

import jax
import numpy as np

from experiments.report import ROOT
from jaxphys.body import contact_forces, estimate_ground, inverse_dynamics, sole_motion
from jaxphys.body.inverse import GRAVITY
from jaxphys.body.motion_files import read

FOLDER = ROOT / "tests/data/body/motions"
TRIM = 5  # frames left out at either end, where accelerations are extrapolated
# clip, cut-off [Hz], figure -> range
RANGES = {
    "walk": ("02_01", 6.0, dict(force_bw=(1.0, 1.5), ankle=(1.2, 2.0), knee=(0.3, 1.3), hip=(0.4, 1.6))),
    "run": ("02_03", 10.0, dict(force_bw=(2.0, 2.9), ankle=(1.5, 3.5), knee=(1.5, 3.8), hip=(1.0, 4.0))),
    "jump": ("02_04", 10.0, dict(force_bw=(2.0, 7.0), ankle=(1.0, 3.5), knee=(1.0, 4.0), hip=(1.0, 4.5))),
}


@functools.partial(jax.jit, static_argnums=(2, 3))
def solve(skeleton, motion, fps, cutoff):
    dynamics = inverse_dynamics(skeleton, motion, fps, cutoff=cutoff)
    ground = estimate_ground(*sole_motion(skeleton, dynamics, fps))
    return ground, dynamics, contact_forces(skeleton, dynamics, ground.height, fps)


def run() -> dict:
    figures, outside = {}, dict(force=0, moment=0)
    for name, (clip, cutoff, ranges) in RANGES.items():
        data = read(FOLDER / f"{clip}.npz")
        ground, dynamics, contact = solve(data.skeleton, data.motion, float(data.fps), cutoff)
        mass = float(data.skeleton.total_mass)
        middle = slice(TRIM, -TRIM)
        total = np.asarray(contact.force)[middle].sum(1)
        moment = np.abs(np.asarray(contact.torque)[middle, :, 0]) / mass  # about x: flexion
        values = dict(force_bw=float(total[:, 2].max() / (mass * GRAVITY)))
        for joint in ("hip", "knee", "ankle"):
            values[joint] = float(
                max(moment[:, data.skeleton.index(f"{side}_{joint}")].max() for side in ("left", "right"))
            )
        # why: how far the knee is bent, and how far ahead of the ankle the ground pushes, where their moments peak
        R, point, force = (np.asarray(a)[middle] for a in (dynamics.R, contact.point, contact.force))
        for joint in ("knee", "ankle"):
            index = [data.skeleton.index(f"{side}_{joint}") for side in ("left", "right")]
            t, s = np.unravel_index(moment[:, index].argmax(), (len(moment), 2))
            above, below = R[t, data.skeleton.parents[index[s]]], R[t, index[s]]
            if joint == "knee":
                figures[f"{name}_knee_angle_at_peak_deg"] = float(np.degrees(np.arccos(above[:, 1] @ below[:, 1])))
            else:
                foot = slice(s * point.shape[1] // 2, (s + 1) * point.shape[1] // 2)
                load = np.maximum(force[t, foot, 2], 0.0)
                ahead = load @ point[t, foot, :2] / load.sum() - np.asarray(dynamics.p)[middle][t, index[s], :2]
                figures[f"{name}_pressure_from_ankle_at_peak_m"] = float(np.linalg.norm(ahead))
        residual = np.linalg.norm(np.asarray(contact.residual_force)[middle], axis=-1) / (mass * GRAVITY)
        needed = np.asarray(dynamics.root_force)[middle, 2].max() / (mass * GRAVITY)
        figures[f"{name}_peak_needed_force_bw"] = float(needed)
        figures[f"{name}_residual_force_p95_bw"] = float(np.percentile(residual, 95))
        figures[f"{name}_ground_spread_m"] = float(ground.spread)
        for key, (low, high) in ranges.items():
            label = "peak_force_bw" if key == "force_bw" else f"peak_{key}_nm_per_kg"
            figures[f"{name}_{label}"] = values[key]
            outside["force" if key == "force_bw" else "moment"] += not low <= values[key] <= high
    return figures | {f"{kind}s_outside_published_range_count": count for kind, count in outside.items()}


CHECKS = {
    "forces_outside_published_range_count": ("<=", 0),
    "moments_outside_published_range_count": ("<=", 0),
    "walk_residual_force_p95_bw": ("<=", 0.15),
}
