"""From what a file holds to the motion of our skeleton: copied rotations, or inverse kinematics of positions.

SMPL's joints are ours, so its rotations are copied. Positions of joints or markers go through damped least squares: per
frame, the joint rotations R_j and the root position p that minimise

    sum_k w_k^2 |x_k(R, p) - t_k|^2 + sum_j |c_j log R_j|^2 + b^2 sum_j |beyond range|^2
        + sum_feet a^2 (z . R_foot e_x)^2 + s^2 sum_j |log(Q_j^T R_j)|^2

with the recorded positions t_k, the points x_k of the skeleton that stand for them, and small terms for what positions
do not tell: the rest pose (with knees and elbows as near hinges, so that a bend is no twist), the ranges of `limits`,
and soles that are level across where a foot is near the ground. A first pass takes every frame by itself (s = 0); the
next ones hold each frame weakly to Q, the mean over its neighbours in time, so that what the positions leave open does
not jump. The solver is Levenberg's and Marquardt's (Nocedal and Wright, Numerical Optimization, 2006, section
10.3) on rotation matrices, all frames at once. Derivatives come from the implicit function theorem at the solution, not
from its iterations.
"""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxphys.body import so3
from jaxphys.body.joint_names import Family
from jaxphys.body.kinematics import forward, points, subtree
from jaxphys.body.limits import joint_ranges, swing_twist
from jaxphys.body.motion import Motion, check_fps
from jaxphys.body.skeleton import NAMES, Skeleton, humanoid
from jaxphys.pytree import pytree, static

ITERATIONS, AGAIN, BLOCK = 30, 12, 64  # of the first pass and of each that follows; frames that are solved together
SMOOTH, SMOOTH_SECONDS, PASSES = 0.02, 0.06, 2  # weight [m/rad] and width of the mean over neighbours; how many times
STEP = 0.5  # longest step of a rotation [rad] or of the root [m]
REST = 0.01  # weight of the rest pose [m/rad]: a radian counts as much as a marker that is one centimetre off
# Weight of single axes of the rest pose, relative to REST: knees bend about x and elbows about y, arms lie along x.
HINGES = {"knee": (1.0, 4.0, 10.0), "elbow": (2.0, 1.0, 10.0)}
LIMIT = 0.1  # weight of an angle beyond a joint's range [m/rad]
LEVEL, LEVEL_HEIGHT = 0.05, 0.06  # weight of a level sole [m], and the height over the ground up to which it counts [m]
BODY_MASS_INDEX = 24.5  # [kg/m^2]; 75 kg at 1.75 m
LEG_FRACTION = 0.491  # thigh and shank over stature, as in `skeleton`
_TRUNK = {"pelvis", "left_hip", "right_hip", "spine1", "spine2", "spine3", "neck", "head", "left_shoulder",
    "right_shoulder", "left_collar", "right_collar"}  # fmt: skip

_BONE = dict(hip="knee", knee="ankle", ankle="foot", spine1="spine2", spine2="spine3", spine3="neck", neck="head",
    collar="shoulder", shoulder="elbow", elbow="wrist", wrist="hand")  # fmt: skip


@pytree
class Sites:
    """Points of a skeleton that stand for recorded joints or markers."""

    body: tuple[int, ...] = static()  # joint number of each
    local: jax.Array  # in the frame of its body [m] (K, 3)
    weight: jax.Array  # (K,)


def copy_smpl(pose, translation, up: np.ndarray | None = None) -> Motion:
    """The motion of SMPL parameters: local rotations are ours as they are.

    Pelvis = translation + the rest position of SMPL's pelvis, which depends on the shape and is known to the user's own
    SMPL file only: without it the body is off by a constant vector of about 0.25 m, so estimate the ground.

    Args:
        pose: (T, 3 n) or (T, n, 3) rotation vectors, root first; n = 22 or 24 or more, of which the first 22 (body) are
            used, and the hands of SMPL where n = 24. SMPL+H and SMPL-X begin with the same 22.
        translation: (T, 3) pelvis in the world [m].
        up: (3, 3) rotation from the file's world to the Z-up world; None: it is Z up.

    Raises:
        ValueError: another number of joints, or lengths that differ.

    >>> copy_smpl(np.zeros((4, 66)), np.zeros((4, 3))).joints
    24
    """
    pose = jnp.asarray(pose)
    pose = pose.reshape(pose.shape[0], -1, 3) if pose.ndim == 2 and pose.shape[1] % 3 == 0 else pose
    if pose.ndim != 3 or pose.shape[-1] != 3 or pose.shape[1] < 22 or pose.shape[1] == 23:
        raise ValueError(
            f"SMPL poses have shape (T, 66), (T, 72) or more for SMPL+H and SMPL-X, got {list(pose.shape)}: these are "
            "not the rotations of SMPL's joints"
        )
    n = 24 if pose.shape[1] == 24 else 22
    pose = jnp.concatenate([pose[:, :n], jnp.zeros((len(pose), 24 - n, 3), pose.dtype)], 1)
    translation = jnp.asarray(translation, pose.dtype)
    if up is not None:
        turn = jnp.asarray(up, pose.dtype)
        root = so3.log(so3.matmul(turn, so3.exp(pose[:, 0])))
        pose, translation = pose.at[:, 0].set(root), translation @ turn.T
    return Motion(pose, translation)


def resize(skeleton: Skeleton, scale) -> Skeleton:
    """The skeleton with every body stretched along the axes of its frame; masses stay.

    A stretch by s = diag(scale_b) moves whatever is fixed to body b, the joints of its children among them, and takes
    the second moments E = tr(I) / 2 - I to s E s. The radii of capsules stay.

    Args:
        skeleton: J joints.
        scale: (J, 3).

    >>> body = resize(humanoid(), np.full((24, 3), 1.1))
    >>> bool(jnp.allclose(body.inertia, humanoid(1.1 * 1.75).inertia, rtol=1e-5))
    True
    """
    s = jnp.asarray(scale, jnp.result_type(float))
    parent, sole, palm, capsule = (
        np.array(bodies) for bodies in (skeleton.parents, skeleton.sole_body, skeleton.palm_body, skeleton.capsule_body)
    )
    inertia = jnp.asarray(skeleton.inertia)
    eye = jnp.eye(3, dtype=inertia.dtype)

    def trace(A):
        return jnp.trace(A, axis1=-2, axis2=-1)[..., None, None] * eye

    moments = (0.5 * trace(inertia) - inertia) * s[:, :, None] * s[:, None, :]
    return dataclasses.replace(
        skeleton,
        offset=jnp.asarray(skeleton.offset) * s[np.maximum(parent, 0)],
        com=jnp.asarray(skeleton.com) * s,
        inertia=trace(moments) - moments,
        sole=jnp.asarray(skeleton.sole) * s[sole],
        palm=jnp.asarray(skeleton.palm) * s[palm],
        capsule_a=jnp.asarray(skeleton.capsule_a) * s[capsule],
        capsule_b=jnp.asarray(skeleton.capsule_b) * s[capsule],
    )


def measured_skeleton(
    names: tuple[str, ...],
    position: np.ndarray,
    family: Family,
    *,
    height: float | None = None,
    mass: float | None = None,
) -> tuple[Skeleton, np.ndarray, float, float]:
    """A body with the proportions of a recording: medians over the frames, both sides alike.

    Thighs, shanks, upper arms, forearms, the breadths of hips and shoulders and the length of the trunk are measured
    where the recording has both ends; all else follows from stature, which follows from the legs.

    Args:
        names: the J recorded joints.
        position: (T, J, 3) [m].
        family: which of them are which.
        height: stature [m]; None: leg length / 0.491.
        mass: [kg]; None: by a body mass index of 24.5 kg/m^2.

    Returns:
        The skeleton, its scale relative to `humanoid(height, mass)` for `resize` (24, 3), height and mass.

    Raises:
        ValueError: a measured length is less than a third or more than three times a person's.
    """
    where = {site.joint: names.index(name) for name, site in family.sites.items() if not any(site.offset)}

    def length(a: str, b: str) -> float:
        return float(np.median(np.linalg.norm(position[:, where[a]] - position[:, where[b]], axis=-1)))

    def both(a: str, b: str) -> float:
        return 0.5 * sum(length(f"{side}_{a}", f"{side}_{b}") for side in ("left", "right"))

    leg = both("hip", "knee") + both("knee", "ankle")
    height = leg / LEG_FRACTION if height is None else float(height)
    mass = BODY_MASS_INDEX * height**2 if mass is None else float(mass)
    skeleton = humanoid(height, mass)
    scale, offset = np.ones((24, 3)), np.asarray(skeleton.offset, np.float64)

    def stretch(joints, axis, factor):
        if not 0.3 < factor < 3.0:
            raise ValueError(
                f"{family.name}: {joints[0]} would be {factor:.2g} times as long as a person's of {height:.2f} m: the "
                "unit or the names of the joints are wrong"
            )
        for joint in joints:
            scale[NAMES.index(joint), axis] *= factor

    for a, b in (("hip", "knee"), ("knee", "ankle"), ("shoulder", "elbow"), ("elbow", "wrist")):
        if {f"left_{a}", f"left_{b}", f"right_{a}", f"right_{b}"} <= set(where):
            factor = both(a, b) / np.linalg.norm(offset[NAMES.index(f"left_{b}")])
            stretch([f"left_{a}", f"right_{a}"], slice(None), factor)
    rest = np.asarray(forward(skeleton, jnp.broadcast_to(jnp.eye(3), (24, 3, 3)), jnp.zeros(3))[1], np.float64)

    def at(part: str) -> np.ndarray:
        return rest[[NAMES.index(f"left_{part}"), NAMES.index(f"right_{part}")]]

    if {"left_hip", "right_hip"} <= set(where):
        stretch(["pelvis"], 0, length("left_hip", "right_hip") / np.ptp(at("hip")[:, 0]))
    if {"left_shoulder", "right_shoulder"} <= set(where):
        breadth = length("left_shoulder", "right_shoulder") / np.ptp(at("shoulder")[:, 0])
        stretch(["spine3", "left_collar", "right_collar"], 0, breadth)
        hips, shoulders = (
            0.5 * (position[:, where[f"left_{p}"]] + position[:, where[f"right_{p}"]]) for p in ("hip", "shoulder")
        )
        trunk = float(np.percentile(np.linalg.norm(shoulders - hips, axis=-1), 75))  # bent, it is shorter
        trunk /= np.linalg.norm(at("shoulder").mean(0) - at("hip").mean(0))
        stretch(["pelvis", "spine1", "spine2", "spine3", "left_collar", "right_collar"], 1, trunk)
    return resize(skeleton, scale), scale, height, mass


def stretched_to(skeleton: Skeleton, offset) -> tuple[Skeleton, np.ndarray]:
    """The skeleton with these joint offsets, each body as much longer as its own bone, and the scale of the bodies.

    Args:
        skeleton: 24 joints.
        offset: (24, 3) each joint in its parent's frame [m].
    """
    old, offset = np.asarray(skeleton.offset, np.float64), np.asarray(offset, np.float64)
    scale = np.ones((24, 3))
    for name, child in _BONE.items():
        for side in ("left_", "right_") if f"left_{child}" in NAMES else ("",):
            j, k = NAMES.index((side if f"left_{name}" in NAMES else "") + name), NAMES.index(side + child)
            scale[j] = np.linalg.norm(offset[k]) / np.linalg.norm(old[k])
    return dataclasses.replace(resize(skeleton, scale), offset=jnp.asarray(offset, jnp.result_type(float))), scale


def find_sites(names: tuple[str, ...], family: Family, stature: float) -> tuple[Sites, list[int]]:
    """The points of our skeleton for the recorded joints that a family knows, and the numbers of these joints."""
    known = [(names.index(name), site) for name, site in family.sites.items()]
    local = jnp.asarray([[stature * c for c in site.offset] for _, site in known])
    weight = jnp.asarray([site.weight for _, site in known])
    return Sites(tuple(NAMES.index(site.joint) for _, site in known), local, weight), [k for k, _ in known]


def fit(skeleton: Skeleton, target, sites: Sites, fps: float, level=None) -> tuple[Motion, jax.Array]:
    """Inverse kinematics of all frames at once, differentiable with respect to all arguments but the frame rate.

    Args:
        skeleton: 24 joints.
        target: (T, K, 3) recorded positions in the Z-up world [m].
        sites: the K points of the skeleton that stand for them.
        fps: frames per second.
        level: (T, 2) in [0, 1], how near the left and right foot are to the ground; None: soles are not levelled.

    Returns:
        The motion, and the distances between sites and targets [m] (T, K).

    Raises:
        ValueError: shapes that disagree, or fewer than three sites on the trunk, which leave its orientation open.
    """
    target = jnp.asarray(target)
    K = len(sites.body)
    if target.ndim != 3 or target.shape[1:] != (K, 3):
        raise ValueError(f"fit: target must have shape (T, {K}, 3), one point per site, got {list(target.shape)}")
    if sum(NAMES[b] in _TRUNK for b in sites.body) < 3:
        raise ValueError("fit: at least three sites must lie on the trunk (pelvis, hips, spine, shoulders, neck, head)")
    level = jnp.zeros((len(target), 2), target.dtype) if level is None else jnp.asarray(level, target.dtype)
    check_fps("fit", fps)
    R, p = _start_all(*jax.lax.stop_gradient((skeleton, target, sites)))
    R, p = _solve(ITERATIONS, 3e-2, (R, p), (skeleton, target, sites, level, R, jnp.zeros((), target.dtype)))
    mean = jnp.asarray(_neighbours(len(target), float(fps)), target.dtype)
    for _ in range(PASSES):
        Q = jnp.einsum("st,tjab->sjab", mean, R)
        apart = (jnp.linalg.det(Q) < 0.01)[..., None, None]  # neighbours half a turn apart have no mean
        Q = so3.project(jnp.where(apart, R, Q), steps=10)
        R, p = _solve(AGAIN, 1e-5, (Q, p), (skeleton, target, sites, level, Q, jnp.asarray(SMOOTH, target.dtype)))
    world, joints = forward(skeleton, R, p)
    reached = points(skeleton, world, joints, sites.local, sites.body)
    d = reached - target
    return Motion(so3.log(R), p), jnp.sqrt(jnp.sum(d * d, -1) + 1e-12)


def near_ground(target, sites: Sites) -> np.ndarray:
    """How near each foot is to the ground (T, 2): exp(-(h / 6 cm)^2), h over the lowest 5 % of the foot's own clip."""
    target = np.asarray(target)
    level = np.zeros((len(target), 2))
    for side, name in enumerate(("left", "right")):
        own = [k for k, b in enumerate(sites.body) if NAMES[b] in (f"{name}_ankle", f"{name}_foot")]
        if own:
            h = target[:, own, 2]
            h = np.max(h - np.percentile(h, 5, axis=0), axis=1)
            level[:, side] = np.exp(-((np.maximum(h, 0.0) / LEVEL_HEIGHT) ** 2))
    return level


def _neighbours(frames: int, fps: float) -> np.ndarray:
    """Mean over the neighbours in time with a Gaussian of SMOOTH_SECONDS (T, T)."""
    t = np.arange(frames) / fps / SMOOTH_SECONDS
    weight = np.exp(-0.5 * (t[:, None] - t) ** 2)
    return weight / weight.sum(1, keepdims=True)


@functools.cache
def _rest_weights() -> np.ndarray:
    weights = np.full((24, 3), REST)
    for j, name in enumerate(NAMES):
        for part, factors in HINGES.items():
            if name.endswith(part):
                weights[j] *= factors
    weights[0] = 0.0
    return weights


_FEET = (NAMES.index("left_ankle"), NAMES.index("right_ankle"))


def _rest_residual(turn, R, Q, smooth, weight, axis, lower, upper):
    """Of one joint at R exp(turn): how far it is from the rest pose, beyond its range, and from its neighbours (9,)."""
    R = so3.matmul(R, so3.exp(turn))
    v = so3.log(R)
    x = swing_twist(v, axis)
    beyond = jnp.maximum(x - upper, 0.0) - jnp.maximum(lower - x, 0.0)
    return jnp.concatenate([weight * v, LIMIT * beyond, smooth * so3.log(so3.matmul(so3.transpose(Q), R))])


def _rest_tables(dtype):
    return tuple(jnp.asarray(a, dtype) for a in (_rest_weights(), *joint_ranges(tuple(NAMES))))


def _gradient(R, p, params):
    """Gradient of the cost of one frame (75,), as in `_normal_equations`, without their matrices: fewer operations."""
    skeleton, target, sites, level, Q, smooth = params
    world, joints = forward(skeleton, R, p)
    x = points(skeleton, world, joints, sites.local, sites.body)
    S = jnp.asarray(subtree(skeleton.parents)[:, [*sites.body, *_FEET]], p.dtype)
    pull = (jnp.asarray(sites.weight) ** 2)[:, None] * (x - target)
    side = world[_FEET, :, 0]
    lift = ((LEVEL * level) ** 2 * side[:, 2])[:, None] * jnp.array([0.0, 0.0, 1.0], p.dtype)
    K = len(sites.body)
    moment = so3.cross(jnp.concatenate([x, side]), jnp.concatenate([pull, lift]))  # about the origin
    turning = S @ moment - so3.cross(joints, S[:, :K] @ pull)

    def rest(R, Q, *tables):
        r, pullback = jax.vjp(lambda turn: _rest_residual(turn, R, Q, smooth, *tables), jnp.zeros(3, p.dtype))
        return pullback(r)[0]

    turning = so3.matvec_t(world, turning) + jax.vmap(rest)(R, Q, *_rest_tables(p.dtype))
    return jnp.concatenate([jnp.sum(pull, 0), turning.reshape(-1)])


def _normal_equations(R, p, params):
    """Of one frame: cost, gradient, Gauss and Newton's matrix, and the Hessian, which is exact where the gradient is 0.

    The unknowns are the root's shift and the turns of all joints.
    """
    skeleton, target, sites, level, Q, smooth = params
    dtype = p.dtype
    world, joints = forward(skeleton, R, p)
    x = points(skeleton, world, joints, sites.local, sites.body)
    S = subtree(skeleton.parents)

    def turned(moved, body):  # (n, 3, 24, 3): a turn about axis i of joint j moves a point by R_j e_i x (point - p_j)
        axes = jnp.swapaxes(world, -1, -2)[None]  # (1, 24, 3 axes, 3)
        move = so3.cross(axes, moved[:, :, None, :])
        return jnp.einsum("njac,nj->ncja", move, jnp.asarray(S[:, list(body)].T, dtype))

    w = jnp.asarray(sites.weight, dtype)[:, None]
    r1 = w * (x - target)
    J1 = w[..., None, None] * turned(x[:, None, :] - joints[None], sites.body)
    side = world[_FEET, :, 0]
    r2 = LEVEL * level * side[:, 2]
    J2 = (LEVEL * level)[:, None, None] * turned(jnp.broadcast_to(side[:, None], (2, 24, 3)), _FEET)[:, 2]
    tables = _rest_tables(dtype)
    of_joint = (jnp.zeros((24, 3), dtype), R, Q, jnp.broadcast_to(smooth, 24), *tables)
    r3, J3 = jax.vmap(_rest_residual)(*of_joint), jax.vmap(jax.jacfwd(_rest_residual))(*of_joint)
    curve = jax.vmap(jax.jacfwd(jax.jacfwd(_rest_residual)))(*of_joint)
    K = len(sites.body)
    shift = jnp.broadcast_to(w[..., None] * jnp.eye(3, dtype=dtype), (K, 3, 3)).reshape(3 * K, 3)
    J = jnp.concatenate([shift, J1.reshape(3 * K, 72)], 1)
    J = jnp.concatenate([J, jnp.concatenate([jnp.zeros((2, 3), dtype), J2.reshape(2, 72)], 1)], 0)
    r = jnp.concatenate([r1.reshape(-1), r2])
    H, g = J.T @ J, J.T @ r
    j = 3 + 3 * np.arange(24)[:, None] + np.arange(3)
    own = j[:, :, None], j[:, None, :]
    H = H.at[own].add(jnp.einsum("jab,jac->jbc", J3, J3))
    g = g.at[j].add(jnp.einsum("jab,ja->jb", J3, r3))
    # second derivative of a vector u under turns a of joint i and b of j, i above j: R_i e_a x (R_j e_b x u); u goes
    # from p_j to a site, or is the side of a foot
    axes = jnp.swapaxes(world, -1, -2)
    u = jnp.concatenate([x[:, None, :] - joints, jnp.broadcast_to(side[:, None], (2, 24, 3))])
    pull = jnp.concatenate([w * r1, (LEVEL * level * r2)[:, None] * jnp.array([0.0, 0.0, 1.0], dtype)])
    moment = so3.cross(so3.cross(axes, u[:, :, None, :]), pull[:, None, None, :])
    moment = jnp.einsum("kjbc,jk->jbc", moment, jnp.asarray(S[:, [*sites.body, *_FEET]], dtype))
    bend = jnp.einsum("iac,jbc->iajb", axes, moment) * jnp.asarray(S - 0.5 * np.eye(24), dtype)[:, None, :, None]
    bend = bend.reshape(72, 72)
    full = H.at[3:, 3:].add(bend + bend.T).at[own].add(jnp.einsum("jr,jrab->jab", r3, curve))
    return 0.5 * (r @ r + jnp.sum(r3 * r3)), g, H, full


@functools.cache
def _bent() -> np.ndarray:
    """Rotation vectors with slightly bent knees and elbows, off the straight pose where either way seems as good."""
    pose = np.zeros((24, 3))
    for name, bend in (("knee", (0.4, 0, 0)), ("elbow", (0, -0.6, 0))):
        for side, sign in (("left", 1.0), ("right", -1.0)):
            pose[NAMES.index(f"{side}_{name}")] = np.multiply(bend, (1.0, sign, sign))
    return pose


def _start(skeleton, target, sites):
    """Rest pose, moved and turned onto the sites of the trunk of one frame (Kabsch 1976)."""
    eye = jnp.broadcast_to(jnp.eye(3, dtype=target.dtype), (24, 3, 3))
    world, joints = forward(skeleton, eye, jnp.zeros(3, target.dtype))
    trunk = np.array([k for k, b in enumerate(sites.body) if NAMES[b] in _TRUNK])
    x = points(skeleton, world, joints, sites.local, sites.body)[trunk]
    t = target[trunk]
    a, b = x - x.mean(0), t - t.mean(0)
    U, _, Vt = jnp.linalg.svd(b.T @ a)
    sign = jnp.sign(jnp.linalg.det(U @ Vt))
    root = (U * jnp.stack([jnp.ones_like(sign), jnp.ones_like(sign), sign])) @ Vt
    bent = so3.exp(jnp.asarray(_bent(), target.dtype))
    return bent.at[0].set(root), t.mean(0) - root @ x.mean(0)


def _solve_frame(iterations, damping, start, params):
    """Levenberg-Marquardt: a step that does not lower the cost is taken back and tried again with more damping.

    Where the residuals are centimetres, Gauss and Newton's matrix is far off in directions that the positions hardly
    see, so the Hessian is taken wherever it is positive definite.
    """
    dtype = start[1].dtype

    def step(_, state):
        tried, best, damping = state
        new = (*tried, *_normal_equations(*tried, params))
        better = new[2] < best[2]
        best = jax.tree.map(lambda a, b: jnp.where(better, a, b), new, best)
        damping = jnp.clip(jnp.where(better, 0.2 * damping, 8.0 * damping), 1e-9, 10.0)
        R, p, _, g, *matrices = best
        plain, full = (
            -jax.scipy.linalg.cho_solve(jax.scipy.linalg.cho_factor(H + damping * jnp.eye(75, dtype=dtype)), g)
            for H in matrices
        )
        d = jnp.where(jnp.all(jnp.isfinite(full)), full, plain)
        d = d * jnp.minimum(1.0, STEP / jnp.maximum(jnp.max(jnp.abs(d)), 1e-12))
        return (so3.matmul(R, so3.exp(d[3:].reshape(24, 3))), p + d[:3]), best, damping

    nothing = (*start, jnp.asarray(jnp.inf, dtype), jnp.zeros(75, dtype), *[jnp.zeros((75, 75), dtype)] * 2)
    _, (R, p, *_), _ = jax.lax.fori_loop(0, iterations, step, (start, nothing, jnp.asarray(damping, dtype)))
    return so3.project(R, steps=2), p


_start_all = jax.jit(jax.vmap(_start, (None, 0, None)))
_AXES = (None, 0, None, 0, 0, None)  # of the parameters over the frames


@jax.jit
def _solve_block(iterations, damping, start, params):
    return jax.vmap(_solve_frame, (None, None, 0, _AXES))(iterations, damping, start, params)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _solve(iterations: int, damping: float, start, params):
    """Blocks of equal length, so that clips of any length share one compiled program and a bounded memory."""
    skeleton, target, sites, level, Q, smooth = params
    frames = len(target)
    rows = np.minimum(np.arange(-(-frames // BLOCK) * BLOCK), frames - 1).reshape(-1, BLOCK)
    R, p = start
    blocks = [
        _solve_block(iterations, damping, (R[k], p[k]), (skeleton, target[k], sites, level[k], Q[k], smooth))
        for k in rows
    ]
    return tuple(jnp.concatenate(parts)[:frames] for parts in zip(*blocks))


@_solve.defjvp
def _solve_jvp(iterations, damping, primals, tangents):
    """d(turn, shift) = - H^-1 dg, g the gradient of the cost and H its Hessian, both exact, at the solution."""
    params, dparams = primals[1], tangents[1]  # where the iterations start does not matter
    R, p = _solve(iterations, damping, *primals)

    return (R, p), _tangents(R, p, params, dparams)


@jax.jit
def _tangents(R, p, params, dparams):
    def frame(R, p, here, change):
        _, dg = jax.jvp(lambda params: _gradient(R, p, params), (here,), (change,))
        d = -jnp.linalg.solve(_normal_equations(R, p, here)[3], dg)
        return so3.matmul(R, so3.hat(d[3:].reshape(24, 3))), d[:3]

    return jax.vmap(frame, (0, 0, _AXES, _AXES))(R, p, params, dparams)
