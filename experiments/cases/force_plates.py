"""Forces and joint moments from motion alone agree with force plates and with OpenSim on a measured walk.

One overground walk of one person (OpenSim's Gait2354 pipeline, subject 1: 1.80 m, 72.6 kg; Delp et al. 1990, 2007):
joint angles at 60 Hz over 1.2 s, two force plates, and OpenSim's own inverse dynamics, which was given the plates. Our
skeleton, sized by stature and mass only, is driven by the angles and is not told about the plates. Bars: vertical
force 0.06 body weights rms, flexion moments of hip, knee and ankle r >= 0.9 (knee 0.85) and 0.30 N m / kg rms (hip
0.25); each figure is the worse leg. The weights of the direction prior are those of the library, from the literature;
`surface` shows every figure over both weights. The trial is still in-sample for the choice of the model's form: other
people and tasks have yet to be tried. Half a minute on one core.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.interpolate import CubicSpline

from experiments.report import ROOT
from jaxphys.body import Motion, Skeleton, humanoid, inverse_dynamics, so3
from jaxphys.body.contact import ContactOptions, contact_forces, estimate_ground, sole_motion
from jaxphys.body.inverse import GRAVITY, differences
from jaxphys.body.kinematics import subtree

DATA = ROOT / "tests/data/body/gait2354_walk.npz"
HEIGHT, MASS, FPS, CUTOFF = 1.8034, 72.6, 60.0, 6.0
# OpenSim's axes are x forward, y up, z right
TO_BODY = np.array([[0, 0, -1.0], [0, 1, 0], [1, 0, 0]])  # to x left, y up, z front
TO_WORLD = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])  # to Z up
# of the Gait2354 model: middle of the hips in the pelvis [m], axes of ankle and subtalar joint of the right side
HIPS = np.array([-0.0707, -0.0661, 0.0])
ANKLE = np.array([-0.10501355, -0.17402245, 0.97912632])
SUBTALAR = np.array([0.78717961, 0.60474746, -0.12094949])
# Where its knee turns: the shank's origin in the thigh [m] over the knee angle [rad], before scaling to the person
KNEE_X = (
    (
        -2.0944,
        -1.74533,
        -1.39626,
        -1.0472,
        -0.698132,
        -0.349066,
        -0.174533,
        0.197344,
        0.337395,
        0.490178,
        1.52146,
        2.0944,
    ),
    (-0.0032, 0.00179, 0.00411, 0.0041, 0.00212, -0.001, -0.0031, -0.005227, -0.005435, -0.005574, -0.005435, -0.00525),
)
KNEE_Y = (
    (-2.0944, -1.22173, -0.523599, -0.349066, -0.174533, 0.159149, 2.0944),
    (-0.4226, -0.4082, -0.399, -0.3976, -0.3966, -0.395264, -0.396),
)
JOINTS = (("hip", "hip_flexion"), ("knee", "knee_angle"), ("ankle", "ankle_angle"))
SURFACE_DIRECTION = (0.0, 0.1, 0.3, 0.5, 1.0, 2.0, 3.0)
SURFACE_PIVOT_M = (-0.3, -0.1, 0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7)


class Trial(NamedTuple):
    """T frames. Plates and moments by side, left first."""

    skeleton: Skeleton
    motion: Motion
    force: np.ndarray  # of each plate [N] (2, T, 3)
    center: np.ndarray  # of pressure [m] (2, T, 3)
    free_moment: np.ndarray  # about the vertical [N m] (2, T)
    moment: np.ndarray  # flexion of hip, knee, ankle by OpenSim [N m] (2, 3, T)
    ankle_axis: np.ndarray  # in the frame of the shank (2, 3)
    knee_axis: np.ndarray  # from our knee to the centre about which the model's turns, in the thigh [m] (2, T, 3)


def _turn(axis, angle) -> np.ndarray:
    return np.asarray(so3.exp(jnp.asarray(np.asarray(axis) * np.asarray(angle)[:, None])))


def load() -> Trial:
    """The trial in this library's axes and joints."""
    with np.load(DATA) as file:
        data = dict(file)
    names = list(data["coordinate_names"])
    q = lambda name: np.deg2rad(data["coordinates"][:, names.index(name)].astype(np.float64))
    x, y, z = np.eye(3)
    frames = len(data["time"])
    skeleton = humanoid(HEIGHT, MASS)
    pelvis = _turn(z, q("pelvis_tilt")) @ _turn(x, q("pelvis_list")) @ _turn(y, q("pelvis_rotation"))
    local: dict[str, np.ndarray] = {}
    for side, sign in (("right", 1.0), ("left", -1.0)):
        of = lambda name, side=side: q(f"{name}_{side[0]}")
        mirror = np.array([sign, sign, 1.0])
        hip = _turn(z, of("hip_flexion")) @ _turn(sign * x, of("hip_adduction")) @ _turn(sign * y, of("hip_rotation"))
        local[f"{side}_hip"] = hip
        local[f"{side}_knee"] = _turn(z, of("knee_angle"))
        local[f"{side}_ankle"] = _turn(ANKLE * mirror, of("ankle_angle")) @ _turn(
            SUBTALAR * mirror, of("subtalar_angle")
        )
    back = _turn(z, q("lumbar_extension")) @ _turn(x, q("lumbar_bending")) @ _turn(y, q("lumbar_rotation"))
    local["spine1"] = back
    R = np.tile(np.eye(3), (frames, 24, 1, 1))
    for name, rotation in local.items():
        R[:, skeleton.index(name)] = TO_BODY @ rotation @ TO_BODY.T
    R[:, 0] = TO_WORLD @ pelvis @ TO_BODY.T
    for side, sign in (("right", 1.0), ("left", -1.0)):  # the model has no arms: they hang
        R[:, skeleton.index(f"{side}_shoulder")] = _turn(z, np.full(frames, sign * 1.35))
    origin = data["coordinates"][:, [names.index(f"pelvis_t{k}") for k in "xyz"]] @ TO_WORLD.T
    offset = np.asarray(skeleton.offset)
    hips = 0.5 * (offset[skeleton.index("left_hip")] + offset[skeleton.index("right_hip")])
    translation = origin + np.einsum("tij,j->ti", R[:, 0], TO_BODY @ HIPS - hips)

    plates = dict(zip(data["plate_names"], data["plates"].T.astype(np.float64)))
    force, center, free = [], [], []
    for prefix in ("", "1_"):
        force.append(np.stack([plates[f"{prefix}ground_force_v{k}"] for k in "xyz"], -1) @ TO_WORLD.T)
        center.append(np.stack([plates[f"{prefix}ground_force_p{k}"] for k in "xyz"], -1) @ TO_WORLD.T)
        free.append(plates[f"{prefix}ground_torque_y"])
    middle = [np.sum(c[:, 1] * f[:, 2]) / np.sum(f[:, 2]) for c, f in zip(center, force)]
    order = np.argsort(middle)[::-1]  # y points left
    moments = dict(zip(data["moment_names"], data["moments"].T.astype(np.float64)))
    return Trial(
        skeleton,
        Motion(so3.log(jnp.asarray(R)), jnp.asarray(translation)),
        np.stack(force)[order],
        np.stack(center)[order],
        np.stack(free)[order],
        np.stack([[moments[f"{name}_{side}_moment"] for _, name in JOINTS] for side in "lr"]),
        np.stack([TO_BODY @ (ANKLE * np.array([s, s, 1.0])) for s in (-1.0, 1.0)]),
        np.stack([knee_axis(q(f"knee_angle_{side}"), skeleton) for side in "lr"]),
    )


def knee_axis(angle: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """Centre of rotation of the model's knee, from our knee, in the axes of our thigh [m] (T, 3).

    The model's shank slides as it turns, so that the moment which OpenSim reports, the generalised force of the knee
    angle, is the moment about the instantaneous centre c = o + (-do_y, do_x) / d angle, o the shank's origin.
    """
    x, y = (CubicSpline(*table) for table in (KNEE_X, KNEE_Y))
    length = -float(skeleton.offset[skeleton.index("left_knee"), 1])
    scale = length / -float(y(0.0))
    forward, up = x(angle) - y(angle, 1), y(angle) - float(y(0.0)) + x(angle, 1)
    return scale * np.stack([forward, up, np.zeros_like(up)], -1) @ TO_BODY.T


def flexion(trial: Trial, dynamics, moment: np.ndarray, force: np.ndarray) -> np.ndarray:
    """Flexion of hip, knee and ankle (2, 3, T) about OpenSim's axes.

    Args:
        trial: the trial.
        dynamics: of our skeleton.
        moment: (T, J, 3) of our joints, in the world [N m].
        force: (2, T, 3) of the ground on each foot [N].
    """
    R, skeleton = np.asarray(dynamics.R), trial.skeleton
    c = np.asarray(dynamics.p) + np.einsum("tjik,jk->tji", R, np.asarray(skeleton.com))
    inertial = np.asarray(skeleton.mass)[:, None] * (np.asarray(differences(c, FPS)[1]) + [0, 0, GRAVITY])
    out = []
    for s, side in enumerate(("left", "right")):
        for joint, _ in JOINTS:
            j = skeleton.index(f"{side}_{joint}")
            axis = trial.ankle_axis[s] if joint == "ankle" else np.array([-1.0, 0, 0])
            thigh, M = R[:, skeleton.parents[j]], moment[:, j]
            if joint == "knee":  # what the thigh gives to shank and foot, moved to the model's axis
                needed = inertial[:, subtree(skeleton.parents)[j] > 0].sum(1) - force[s]
                M = M - np.cross(np.einsum("tik,tk->ti", thigh, trial.knee_axis[s]), needed)
            out.append(np.sum(M * (thigh @ axis), -1))
    return np.stack(out).reshape(2, 3, -1)


def agreement(ours: np.ndarray, theirs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Root mean square of the difference and correlation over the last axis."""
    rms = np.sqrt(np.mean((ours - theirs) ** 2, -1))
    a, b = (x - x.mean(-1, keepdims=True) for x in (ours, theirs))
    return rms, np.sum(a * b, -1) / np.sqrt(np.sum(a * a, -1) * np.sum(b * b, -1))


def compare(trial: Trial, dynamics, contact) -> dict[str, Any]:
    """The figures of one run; each is the worse leg's."""
    weight = MASS * GRAVITY
    total = np.asarray(dynamics.root_force) - trial.force.sum(0)
    force = np.asarray(contact.force).reshape(len(total), 2, -1, 3).sum(2).swapaxes(0, 1)
    foot = force - trial.force
    moment = np.einsum("tjik,tjk->tji", np.asarray(dynamics.R), np.asarray(contact.torque))
    ours = flexion(trial, dynamics, moment, force)
    rms, r = agreement(ours, trial.moment)
    out: dict[str, Any] = dict(
        vertical_rms_bw=float(np.sqrt(np.mean(total[:, 2] ** 2)) / weight),
        horizontal_rms_bw=float(np.sqrt(np.mean(np.sum(total[:, :2] ** 2, -1))) / weight),
        foot_vertical_rms_bw=float(np.sqrt(np.mean(foot[..., 2] ** 2, -1)).max() / weight),
        residual_force_p95_bw=float(
            np.percentile(np.linalg.norm(np.asarray(contact.residual_force), axis=-1), 95) / weight
        ),
    )
    for k, (joint, _) in enumerate(JOINTS):
        out[f"{joint}_rms_nm_per_kg"] = float(rms[:, k].max() / MASS)
        out[f"{joint}_r"] = float(r[:, k].min())
        out[f"{joint}_peak_nm_per_kg"] = float(np.abs(ours[:, k]).max() / MASS)
        out[f"{joint}_peak_reference_nm_per_kg"] = float(np.abs(trial.moment[:, k]).max() / MASS)
    return out


def with_plates(trial: Trial, dynamics) -> dict[str, float]:
    """Joint moments with the measured forces instead of ours: the part of the error that is not the contact model's."""
    R, p = np.asarray(dynamics.R), np.asarray(dynamics.p)
    moment = np.einsum("tjik,tjk->tji", R, np.asarray(dynamics.torque))
    for s, side in enumerate(("left", "right")):
        for joint, _ in JOINTS:
            j = trial.skeleton.index(f"{side}_{joint}")
            moment[:, j] -= np.cross(trial.center[s] - p[:, j], trial.force[s])
            moment[:, j, 2] -= trial.free_moment[s]
    rms, r = agreement(flexion(trial, dynamics, moment, trial.force), trial.moment)
    out = {f"with_plates_{joint}_rms_nm_per_kg": float(rms[:, k].max() / MASS) for k, (joint, _) in enumerate(JOINTS)}
    return out | {f"with_plates_{joint}_r": float(r[:, k].min()) for k, (joint, _) in enumerate(JOINTS)}


def run() -> dict:
    with jax.enable_x64(True):
        trial = load()
        skeleton = trial.skeleton
        dynamics = inverse_dynamics(skeleton, trial.motion, FPS, cutoff=CUTOFF)
        ground = estimate_ground(*sole_motion(skeleton, dynamics, FPS))
        solve = jax.jit(lambda options: contact_forces(skeleton, dynamics, ground.height, FPS, options=options))
        base = ContactOptions()
        figures = compare(trial, dynamics, solve(base)) | with_plates(trial, dynamics)
        figures |= dict(ground_height_m=float(ground.height), ground_spread_m=float(ground.spread))
        leg = float(skeleton.leg_length)
        surface = []
        for direction in SURFACE_DIRECTION:
            for pivot in SURFACE_PIVOT_M:
                options = dataclasses.replace(base, direction=direction, pivot=pivot / leg)
                row = compare(trial, dynamics, solve(options))
                keep = {k: round(v, 4) for k, v in row.items() if not k.startswith(("vertical", "horizontal"))}
                surface.append(dict(direction=direction, pivot_m=pivot) | keep)
    return figures | dict(direction=base.direction, pivot_m=base.pivot * leg, surface=surface)


CHECKS = {
    "vertical_rms_bw": ("<=", 0.06),
    "hip_r": (">=", 0.9),
    "knee_r": (">=", 0.85),
    "ankle_r": (">=", 0.9),
    "hip_rms_nm_per_kg": ("<=", 0.25),
    "knee_rms_nm_per_kg": ("<=", 0.30),
    "ankle_rms_nm_per_kg": ("<=", 0.30),
}
