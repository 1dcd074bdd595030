"""The PhyMotion reward as its released code computes contact and dynamics: numpy and C MuJoCo, on the user's MJCF.

The code differs from the paper, and its measures differ from what their names say: feet are the origins of four bodies,
the lowest of which is put at z = 0 (so nothing ever penetrates), sliding counts only below 5 cm/s,
floating compares foot and root speeds, flight counts as the worst balance, and the root's angular velocity is left out.
Its kinematic axis needs the triangles of a licensed body mesh; it is not computed here, and `flags` says so.

    F_con = 1 - (v_slip + v_pen + v_float + v_bal) / 4        F_dyn = (s_tau + s_grf + s_met + s_bal) / 4
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import numpy as np
from scipy.spatial import ConvexHull, QhullError
from scipy.spatial.transform import Rotation

from jaxphys.body.motion import Motion, check_fps, check_motion
from jaxphys.body.skeleton import NAMES, Skeleton, mjcf

# Our joints (SMPL's order without root and hands) by the names of the bodies in the MJCF of Luo et al. (PHC, 2023).
_PART = dict(spine1="Torso", spine2="Spine", spine3="Chest", collar="Thorax", foot="Toe")
FEET = ("L_Ankle", "R_Ankle", "L_Toe", "R_Toe")
LIMITS = dict(  # [N m] per hinge, by the part of the body
    Hip=400.0, Knee=300.0, Ankle=200.0, Torso=200.0, Spine=200.0, Chest=200.0, Thorax=150.0, Shoulder=150.0, Toe=100.0,
    Neck=100.0, Head=100.0, Elbow=100.0, Wrist=50.0, Hand=30.0,
)  # fmt: skip
NEAR, SLOW = 0.02, 0.05  # [m], [m/s]: a foot that is both is in contact
SLIP, DEPTH = 0.05, 0.05  # [m] that count as 1
RATIO = (0.6, 1.75)  # of foot speed relative to the root over root speed: outside, a foot floats
FAR = 0.5  # [m] outside of the support that counts as 1
WORK = 10_000.0  # [J] that counts as 1


@dataclasses.dataclass(frozen=True)
class ReleasedScore:
    """Axes and terms of the released code."""

    contact: float
    dynamic: float
    terms: dict[str, float]  # v_slip, v_pen, v_float, v_bal, s_tau, s_grf, s_met
    flags: tuple[str, ...] = ("kinematic axis not computed: it needs the triangles of SMPL-X",)


def body_name(joint: str) -> str:
    """Name in the MJCF of one of our joints.

    >>> body_name("left_collar"), body_name("spine1")
    ('L_Thorax', 'Torso')
    """
    side, _, part = joint.partition("_")
    if side in ("left", "right"):
        return f"{side[0].upper()}_{_PART.get(part, part.capitalize())}"
    return _PART.get(joint, joint.capitalize())


def hinged_mjcf(skeleton: Skeleton) -> str:
    """Our body with the names, and the three hinges per joint, that the released code expects of its licensed MJCF.

    >>> from jaxphys.body import humanoid
    >>> hinged_mjcf(humanoid()).count("L_Knee_")
    3
    """
    text = mjcf(skeleton)
    for name in skeleton.names:
        text = text.replace(f'"{name}"', f'"{body_name(name)}"')
    axes = {"x": "1 0 0", "y": "0 1 0", "z": "0 0 1"}
    hinges = "".join(rf'<joint name="\g<1>_{a}" type="hinge" axis="{v}"/>' for a, v in axes.items())
    return re.sub(r'<joint name="(\w+)" type="ball"/>', hinges, text)


def coordinates(model: Any, motion: Motion) -> np.ndarray:
    """qpos (T, nq): free root, then three hinges x, y, z per body with intrinsic Euler angles; hands stay at 0.

    Raises:
        ValueError: the model has no free root or lacks a hinge of a joint.
    """
    rotation, translation = np.asarray(motion.rotation, np.float64), np.asarray(motion.translation, np.float64)
    if model.nq < 7 or model.jnt_type[0] != 0:
        raise ValueError("released: the first joint of the model must be a free joint")
    qpos = np.zeros((len(rotation), model.nq))
    qpos[:, :3] = translation
    qpos[:, 3:7] = Rotation.from_rotvec(rotation[:, 0]).as_quat()[:, [3, 0, 1, 2]]
    address = {model.joint(j).name: int(model.jnt_qposadr[j]) for j in range(model.njnt)}
    for j, joint in enumerate(NAMES[1:22], 1):
        hinges = [f"{body_name(joint)}_{axis}" for axis in "xyz"]
        missing = [h for h in hinges if h not in address]
        if missing:
            raise ValueError(
                f"released: the model lacks the hinges {missing}; it needs PHC's smpl_humanoid.xml or alike"
            )
        qpos[:, [address[h] for h in hinges]] = Rotation.from_rotvec(rotation[:, j]).as_euler("XYZ")
    return qpos


def outside(point: np.ndarray, corners: np.ndarray) -> float:
    """Distance of a point from the convex hull of points in the plane, 0 inside.

    >>> outside(np.array([2.0, 0.5]), np.array([[0, 0], [1, 0], [1, 1], [0, 1.0]]))
    1.0
    """
    if len(corners) > 2:
        try:
            corners = corners[ConvexHull(corners).vertices]
        except QhullError:  # all in one line: its edges are tried as they come
            pass
        ends = np.roll(corners, -1, 0)
        edge, rest = ends - corners, point - corners
        turn = np.sign(edge[:, 0] * rest[:, 1] - edge[:, 1] * rest[:, 0])
        if len({t for t in turn if t}) <= 1:
            return 0.0
    else:
        ends = corners[::-1]
        edge, rest = ends - corners, point - corners
    along = np.clip(np.sum(edge * rest, -1) / np.maximum(np.sum(edge * edge, -1), 1e-9), 0.0, 1.0)
    return float(np.linalg.norm(rest - along[:, None] * edge, axis=-1).min())


def released(model: Any, motion: Motion, fps: float = 30.0) -> ReleasedScore:
    """Contact and dynamics of the released code.

    Args:
        model: `mujoco.MjModel` of an SMPL humanoid with free root and hinges named as PHC's, such as L_Hip_x.
        motion: T >= 3 frames in the Z-up world.
        fps: frames per second; the released code takes 30 whatever the video's.

    Returns:
        ReleasedScore.

    Raises:
        ValueError: another model, another number of joints, too few frames.
    """
    import mujoco

    check_fps("released", fps)
    check_motion("released", motion, len(NAMES))
    qpos = coordinates(model, motion)
    feet = [mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_BODY, name) for name in FEET]
    if min(feet) < 0:
        raise ValueError(f"released: the model needs the bodies {FEET}")
    data = mujoco.MjData(model)
    T = len(qpos)
    hinge = np.flatnonzero(model.jnt_type == mujoco.mjtJoint.mjJNT_HINGE)
    dof, place = model.jnt_dofadr[hinge], model.jnt_qposadr[hinge]
    limit = np.array([LIMITS.get(model.joint(j).name.split("_")[-2], 100.0) for j in hinge])

    lowest = np.inf
    for q in qpos:
        data.qpos[:] = q
        mujoco.mj_kinematics(model, data)
        lowest = min(lowest, data.xpos[feet, 2].min())
    qpos[:, 2] -= lowest

    qvel, qacc = np.zeros((T, model.nv)), np.zeros((T, model.nv))
    qvel[1:, :3] = np.diff(qpos[:, :3], axis=0) * fps
    qvel[1:, dof] = np.diff(qpos[:, place], axis=0) * fps
    qacc[1:-1] = (qvel[2:] - qvel[:-2]) * fps / 2
    qacc[0], qacc[-1] = qacc[1], qacc[-2]

    force, com, foot = np.zeros((T, model.nv)), np.zeros((T, 3)), np.zeros((T, 4, 3))
    for t in range(T):
        data.qpos[:], data.qvel[:] = qpos[t], qvel[t]
        mujoco.mj_forward(model, data)
        mujoco.mj_mulM(model, data, force[t], qacc[t])
        force[t] += data.qfrc_bias
        com[t], foot[t] = data.subtree_com[0], data.xpos[feet]

    weight = model.body_mass.sum() * np.linalg.norm(model.opt.gravity)
    step = np.zeros_like(foot)
    step[1:] = np.diff(foot, axis=0) * fps
    speed = np.linalg.norm(step, axis=-1)
    contact = (foot[..., 2] < NEAR) & (speed < SLOW)
    root = np.zeros((T, 3))
    root[1:] = np.diff(qpos[:, :3], axis=0) * fps
    ratio = np.linalg.norm(step - root[:, None], axis=-1) / (np.linalg.norm(root, axis=-1) + 1e-6)[:, None]
    distance = np.array([outside(c[:2], f[on, :2]) if on.any() else 1.0 for c, f, on in zip(com, foot, contact)])
    torque = np.abs(force[:, dof])
    work = float((torque * np.abs(qvel[:, dof])).sum() / fps)
    terms = dict(
        v_slip=min(float((speed * contact).sum() / fps / (2 * T)) / SLIP, 1.0),
        v_pen=min(float(np.maximum(0.0, -foot[..., 2]).sum() / (2 * T)) / DEPTH, 1.0),
        v_float=float(((ratio < RATIO[0]) | (ratio > RATIO[1])).mean()),
        v_bal=float(np.mean(np.clip(distance, 0.0, FAR) / FAR)),
        s_tau=1.0 - float((torque > limit).mean()),
        s_grf=1.0
        - 0.5
        * float((force[:, 2] > 3 * weight).mean() + (np.linalg.norm(force[:, :2], axis=-1) > 0.5 * weight).mean()),
        s_met=max(0.0, 1.0 - work / WORK),
    )
    v = [terms[k] for k in ("v_slip", "v_pen", "v_float", "v_bal")]
    s = [terms["s_tau"], terms["s_grf"], terms["s_met"], 1.0 - terms["v_bal"]]
    return ReleasedScore(float(np.clip(1 - np.mean(v), 0, 1)), float(np.clip(np.mean(s), 0, 1)), terms)
