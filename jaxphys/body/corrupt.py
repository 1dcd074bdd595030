"""Faults put into a clean motion on purpose, each with a severity in physical units: what a reward must notice.

Every corruption is a pure function (skeleton, motion, fps, severity, key) -> (motion, fps). Only a time warp changes
the frame rate: the same frames, shown faster or slower.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxphys.body import so3
from jaxphys.body.kinematics import forward, points
from jaxphys.body.limits import joint_ranges
from jaxphys.body.motion import Motion
from jaxphys.body.skeleton import Skeleton
from jaxphys.numerics import safe_div, safe_sqrt

GRAVITY = 9.81  # [m/s^2]
LEVELS = 8


@dataclasses.dataclass(frozen=True)
class Corruption:
    """One fault and the range of its severity."""

    apply: Callable[..., tuple[Motion, Any]]  # (skeleton, motion, fps, severity, key) -> motion, fps
    low: float
    high: float
    unit: str

    def severities(self) -> np.ndarray:
        """Eight severities at equal ratios.

        >>> CORRUPTIONS["hover"].severities().round(2).tolist()
        [0.02, 0.03, 0.05, 0.08, 0.13, 0.2, 0.32, 0.5]
        """
        return np.geomspace(self.low, self.high, LEVELS)


def _plateau(frames: int, start: float, end: float, ramp: float) -> jax.Array:
    """0 outside [start, end] of the clip, 1 inside, with raised-cosine ramps; all as fractions of the clip. (T,)"""
    t = jnp.linspace(0.0, 1.0, frames)
    up = jnp.clip((t - start) / ramp + 0.5, 0.0, 1.0)
    down = jnp.clip((end - t) / ramp + 0.5, 0.0, 1.0)
    return 0.25 * (1.0 - jnp.cos(jnp.pi * up)) * (1.0 - jnp.cos(jnp.pi * down))


def _moved(motion: Motion, shift: jax.Array) -> Motion:
    """The motion with (T, 3) added to its translation."""
    return dataclasses.replace(motion, translation=motion.translation + shift)


def _rise(motion: Motion, height: jax.Array) -> Motion:
    return _moved(motion, height[:, None] * jnp.array([0.0, 0.0, 1.0]))


def _blend(motion: Motion, joints: tuple[int, ...], target: jax.Array, weight: jax.Array) -> Motion:
    """Rotations of some joints moved towards (T, n, 3, 3) local targets along the shortest way, by (T,) weights."""
    index = list(joints)
    now = so3.exp(motion.rotation[:, index])
    step = so3.log(so3.matmul(so3.transpose(now), target))
    new = so3.log(so3.matmul(now, so3.exp(weight[:, None, None] * step)))
    return dataclasses.replace(motion, rotation=motion.rotation.at[:, index].set(new))


def _align(a: jax.Array, b: jax.Array) -> jax.Array:
    """Shortest rotation (..., 3, 3) that turns the direction of a to that of b."""
    a, b = (x * safe_div(1.0, safe_sqrt(jnp.sum(x * x, -1, keepdims=True))) for x in (a, b))
    half = a + b
    q = jnp.concatenate([jnp.sum(a * half, -1, keepdims=True), so3.cross(a, half)], -1)
    return so3.from_quat(q + jnp.array([1e-9, 0.0, 0.0, 0.0]))


def reach(skeleton: Skeleton, motion: Motion, chain: tuple[str, str, str], goal: jax.Array) -> jax.Array:
    """Local rotations of a two-bone limb that put its end at a goal, or as near as it reaches.

    The middle joint is a hinge (knee about x, elbow about y) with the angle of the law of cosines; the first joint is
    then turned by the least rotation. The end keeps its orientation in the world.

    Args:
        skeleton: whose limb it is.
        motion: T frames.
        chain: names of first, middle and end joint, as left_hip, left_knee, left_ankle.
        goal: (T, 3) of the end joint in the world [m].

    Returns:
        (T, 3, 3, 3) local rotations of the three joints.
    """
    first, middle, end = (skeleton.index(n) for n in chain)
    R, p = forward(skeleton, motion.matrices(), motion.translation)
    offset = jnp.asarray(skeleton.offset, p.dtype)
    upper, lower = offset[middle], offset[end]
    a, b = (safe_sqrt(jnp.sum(x * x)) for x in (upper, lower))
    to_goal = goal - p[:, first]
    distance = jnp.clip(safe_sqrt(jnp.sum(to_goal**2, -1)), 1.02 * jnp.abs(a - b) + 1e-3, 0.999 * (a + b))
    bend = jnp.pi - jnp.arccos(jnp.clip((a * a + b * b - distance**2) / (2 * a * b), -1.0, 1.0))
    if chain[1].endswith("knee"):
        axis = jnp.array([1.0, 0.0, 0.0])
    else:
        axis = jnp.array([0.0, 1.0 if chain[1].startswith("right") else -1.0, 0.0])
    hinge = so3.exp(bend[:, None] * axis)
    span = upper + so3.matvec(hinge, lower)
    world_first = so3.matmul(_align(so3.matvec(R[:, first], span), to_goal), R[:, first])
    world_middle = so3.matmul(world_first, hinge)
    parent = so3.transpose(R[:, skeleton.parents[first]])
    local_end = so3.matmul(so3.transpose(world_middle), R[:, end])
    return jnp.stack([so3.matmul(parent, world_first), hinge, local_end], 1)


def _float(skeleton, motion, fps, severity, key):
    return _rise(motion, severity * _plateau(motion.frames, 1 / 3, 2 / 3, 0.1)), fps


def _hover(skeleton, motion, fps, severity, key):
    return _rise(motion, jnp.full(motion.frames, severity)), fps


def _levitate(skeleton, motion, fps, severity, key):
    time = jnp.arange(motion.frames) / fps
    return _rise(motion, severity * jnp.maximum(time - 0.5 * time[-1], 0.0)), fps


def _slide(skeleton, motion, fps, severity, key):
    time = jnp.arange(motion.frames) / fps
    return _moved(motion, severity * time[:, None] * jnp.array([1.0, 0.0, 0.0])), fps


def _penetrate(skeleton, motion, fps, severity, key):
    return _rise(motion, -severity * jnp.linspace(0.0, 1.0, motion.frames)), fps


def _jitter(skeleton, motion, fps, severity, key):
    noise = severity * jax.random.normal(key, motion.rotation.shape, motion.rotation.dtype)
    return dataclasses.replace(motion, rotation=so3.log(so3.matmul(motion.matrices(), so3.exp(noise)))), fps


def _root_jitter(skeleton, motion, fps, severity, key):
    return _moved(motion, severity * jax.random.normal(key, motion.translation.shape, motion.translation.dtype)), fps


def _overextend(skeleton, motion, fps, severity, key):
    """Both elbows bend backwards past their range in the middle of the clip."""
    joints = tuple(skeleton.index(f"{side}_elbow") for side in ("left", "right"))
    _, lower, upper = joint_ranges(skeleton.names)
    bound = jnp.asarray([upper[joints[0], 1], lower[joints[1], 1]]) + jnp.deg2rad(severity) * jnp.array([1.0, -1.0])
    rotation = so3.exp(bound[:, None] * jnp.array([0.0, 1.0, 0.0]))
    target = jnp.broadcast_to(rotation, (motion.frames, 2, 3, 3))
    return _blend(motion, joints, target, _plateau(motion.frames, 0.25, 0.75, 0.3)), fps


def _self_penetrate(skeleton, motion, fps, severity, key):
    """The left wrist goes into the front of the trunk, to this depth, in the middle of the clip."""
    chain = ("left_shoulder", "left_elbow", "left_wrist")
    trunk, wrist = skeleton.index("spine2"), skeleton.index("left_wrist")
    R, p = forward(skeleton, motion.matrices(), motion.translation)
    bodies = list(skeleton.capsule_body)
    c, w = bodies.index(trunk), bodies.index(wrist)
    radii = jnp.asarray(skeleton.capsule_radius)[c] + jnp.asarray(skeleton.capsule_radius)[w]
    centre = 0.5 * (jnp.asarray(skeleton.capsule_a) + jnp.asarray(skeleton.capsule_b))[c]
    local = centre + (radii - severity) * jnp.array([0.0, 0.0, 1.0])
    goal = p[:, trunk] + so3.matvec(R[:, trunk], local)
    joints = tuple(skeleton.index(n) for n in chain[:2])
    target = reach(skeleton, motion, chain, goal)[:, :2]
    return _blend(motion, joints, target, _plateau(motion.frames, 0.25, 0.75, 0.3)), fps


def _faster(skeleton, motion, fps, severity, key):
    return motion, fps * severity


def _slower(skeleton, motion, fps, severity, key):
    return motion, fps / severity


def _teleport(skeleton, motion, fps, severity, key):
    after = jnp.arange(motion.frames) >= motion.frames // 2
    return _moved(motion, severity * after[:, None] * jnp.array([1.0, 0.0, 0.0])), fps


def _shake(skeleton, motion, fps, severity, key):
    """The trunk swings sideways by 0.2 rad at this frequency: the amplitude stays, the torque grows with its square."""
    time = jnp.arange(motion.frames) / fps
    angle = 0.2 * jnp.sin(2 * jnp.pi * severity * time) * _plateau(motion.frames, 0.15, 0.85, 0.2)
    j = skeleton.index("spine1")
    local = so3.matmul(so3.exp(motion.rotation[:, j]), so3.exp(angle[:, None] * jnp.array([0.0, 0.0, 1.0])))
    return dataclasses.replace(motion, rotation=motion.rotation.at[:, j].set(so3.log(local))), fps


def quietest_frame(skeleton: Skeleton, motion: Motion) -> jax.Array:
    """The frame, of the middle half of a clip, in which the joints move least."""
    _, p = forward(skeleton, motion.matrices(), motion.translation)
    speed = jnp.sum((p[2:] - p[:-2]) ** 2, (-2, -1))
    quarter = motion.frames // 4
    return quarter + jnp.argmin(speed[quarter - 1 : motion.frames - quarter - 1])


def freeze(motion: Motion, frame: jax.Array | int) -> Motion:
    """One frame, held for the whole clip."""
    hold = lambda a: jnp.broadcast_to(a[frame], a.shape)
    return Motion(hold(motion.rotation), hold(motion.translation))


def _tilt(skeleton, motion, fps, severity, key):
    """The quietest pose, frozen, leans about the ankles by this angle to where it falls first; the feet stay flat."""
    still = freeze(motion, quietest_frame(skeleton, motion))
    R, p = forward(skeleton, still.matrices()[0], still.translation[0])
    ankles = [skeleton.index(f"{side}_ankle") for side in ("left", "right")]
    pivot = 0.5 * (p[ankles[0]] + p[ankles[1]])
    sole = points(skeleton, R, p, skeleton.sole, skeleton.sole_body)
    mass = jnp.asarray(skeleton.mass)
    com = jnp.sum(mass[:, None] * (p + so3.matvec(R, jnp.asarray(skeleton.com))), 0) / jnp.sum(mass)
    angle = jnp.arange(64) * (2 * jnp.pi / 64)
    ways = jnp.stack([jnp.cos(angle), jnp.sin(angle), jnp.zeros(64)], -1)
    standing = jnp.where(sole[:, 2] < jnp.min(sole[:, 2]) + 0.04, 0.0, -jnp.inf)
    way = ways[jnp.argmin(jnp.max((sole - com) @ ways.T + standing[:, None], 0))]
    lean = so3.exp(jnp.deg2rad(severity) * so3.cross(jnp.array([0.0, 0.0, 1.0]), way))
    rotation = still.rotation[0].at[0].set(so3.log(lean @ R[0]))
    for j in ankles:
        parent = lean @ R[skeleton.parents[j]]
        rotation = rotation.at[j].set(so3.log(parent.T @ R[j]))
    translation = pivot + lean @ (still.translation[0] - pivot)
    R, p = forward(skeleton, so3.exp(rotation), translation)
    low = jnp.min(points(skeleton, R, p, skeleton.sole, skeleton.sole_body)[:, 2])
    translation = translation.at[2].add(jnp.min(sole[:, 2]) - low)
    hold = lambda a: jnp.broadcast_to(a, (motion.frames, *a.shape))
    return Motion(hold(rotation), hold(translation)), fps


def _spike(skeleton, motion, fps, severity, key):
    """The pelvis drops and rebounds within 0.1 s at its lowest point, with this peak acceleration; the feet stay."""
    width = 0.06  # [s]
    time = jnp.arange(motion.frames) / fps
    quarter = motion.frames // 4
    low = quarter + jnp.argmin(motion.translation[quarter : motion.frames - quarter, 2])
    depth = severity * GRAVITY * width**2 * jnp.exp(-0.5 * ((time - time[low]) / width) ** 2)
    dropped = _rise(motion, -depth)
    _, p = forward(skeleton, motion.matrices(), motion.translation)
    rotation = dropped.rotation
    for side in ("left", "right"):
        chain = (f"{side}_hip", f"{side}_knee", f"{side}_ankle")
        joints = tuple(skeleton.index(n) for n in chain)
        target = reach(skeleton, dropped, chain, p[:, joints[2]])
        weight = jnp.clip(depth / 0.01, 0.0, 1.0)  # far from the spike the clip stays as it is
        rotation = rotation.at[:, list(joints)].set(_blend(dropped, joints, target, weight).rotation[:, list(joints)])
    return dataclasses.replace(dropped, rotation=rotation), fps


CORRUPTIONS: dict[str, Corruption] = {
    "float": Corruption(_float, 0.02, 0.5, "m"),
    "hover": Corruption(_hover, 0.02, 0.5, "m"),
    "levitate": Corruption(_levitate, 0.05, 1.0, "m/s"),
    "slow": Corruption(_slower, 1.1, 3.0, "times slower"),
    "slide": Corruption(_slide, 0.05, 1.0, "m/s"),
    "penetrate": Corruption(_penetrate, 0.01, 0.2, "m"),
    "jitter": Corruption(_jitter, 0.002, 0.1, "rad"),
    "root_jitter": Corruption(_root_jitter, 0.002, 0.05, "m"),
    "overextend": Corruption(_overextend, 5.0, 60.0, "degrees"),
    "self_penetrate": Corruption(_self_penetrate, 0.02, 0.12, "m"),
    "fast": Corruption(_faster, 1.1, 3.0, "times faster"),
    "teleport": Corruption(_teleport, 0.05, 1.0, "m"),
    "shake": Corruption(_shake, 1.0, 5.0, "Hz"),
    "tilt": Corruption(_tilt, 5.0, 40.0, "degrees"),
    "spike": Corruption(_spike, 0.5, 10.0, "g"),
}


def corrupt(
    name: str, skeleton: Skeleton, motion: Motion, fps, severity, *, key: jax.Array | None = None
) -> tuple[Motion, Any]:
    """A clean motion with one fault.

    Args:
        name: one of `CORRUPTIONS`.
        skeleton: of the motion.
        motion: T frames.
        fps: [frames per second].
        severity: in the unit of the corruption.
        key: for the noise of jitter; default seed 0.

    Returns:
        The faulty motion and its frame rate.

    Raises:
        ValueError: unknown name.

    >>> from jaxphys.body.skeleton import humanoid
    >>> clean = Motion(jnp.zeros((9, 24, 3)), jnp.zeros((9, 3)))
    >>> faulty, _ = corrupt("hover", humanoid(), clean, 30.0, 0.1)
    >>> faulty.translation[:, 2].round(2).max().item() > 0.09
    True
    """
    if name not in CORRUPTIONS:
        raise ValueError(f"no corruption is called {name!r}; there are {', '.join(CORRUPTIONS)}")
    key = jax.random.key(0) if key is None else key
    return CORRUPTIONS[name].apply(skeleton, motion, fps, severity, key)


def mirrored(skeleton: Skeleton, motion: Motion) -> Motion:
    """The motion seen in a mirror: left and right joints change places, and the world's x changes sign.

    A rotation by w seen in the mirror diag(-1, 1, 1) is the rotation by (w_x, -w_y, -w_z); the root's frame is turned
    by the mirror on both sides, as every body's is.

    >>> from jaxphys.body.skeleton import humanoid
    >>> walk = Motion(jnp.ones((3, 24, 3)), jnp.ones((3, 3)))
    >>> twice = mirrored(humanoid(), mirrored(humanoid(), walk))
    >>> bool(jnp.all(twice.rotation == 1.0) & jnp.all(twice.translation == 1.0))
    True
    """
    swap = {"left": "right", "right": "left"}

    def other(name: str) -> str:
        side, _, rest = name.partition("_")
        return f"{swap[side]}_{rest}" if side in swap else name

    index = [skeleton.index(other(n)) for n in skeleton.names]
    sign = jnp.array([1.0, -1.0, -1.0], motion.rotation.dtype)
    return Motion((motion.rotation * sign)[..., index, :], motion.translation * jnp.array([-1.0, 1.0, 1.0]))
