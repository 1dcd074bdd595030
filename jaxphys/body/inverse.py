"""Inverse dynamics: the forces and moments that a motion needs.

Newton and Euler for every body b, in world axes, with c_b its centre of mass:

    F_b = m_b (a_b + g z)          N_b = I_b alpha_b + w_b x (I_b w_b)
    force on the root       F   = sum_b F_b
    moment about joint j    M_j = sum over the bodies b that hang on j of N_b + (c_b - p_j) x F_b

Contact forces are no part of it: the root's force and moment are what the ground must deliver (`contact.py`), and in
free flight they vanish.

Engines, with the same result:

    trajectory  a, w, alpha of each body by central differences of its world position and rotation; then the sums above
    mjx         coordinates, velocities and accelerations of the joints by central differences; then `mjx.inverse`

They agree to round-off on the same coordinates (`from_state` is the first one's form for them); on a trajectory their
difference is that of the two ways to take differences, O(dt^2).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxphys.body import so3
from jaxphys.body.filter import lowpass
from jaxphys.body.kinematics import forward, subtree
from jaxphys.body.motion import Motion, check_fps, check_motion
from jaxphys.body.skeleton import Skeleton, mjcf
from jaxphys.pytree import pytree

GRAVITY = 9.81  # [m/s^2]
ENGINES = ("trajectory", "mjx")


@pytree
class Dynamics:
    """What a motion does and needs, per frame. The first and the last frame repeat their neighbour's accelerations."""

    R: Any  # world rotations of the bodies, after filtering (T, J, 3, 3)
    p: Any  # world joint positions [m] (T, J, 3)
    com: Any  # centre of mass [m] (T, 3)
    com_velocity: Any  # [m/s] (T, 3)
    com_acceleration: Any  # [m/s^2] (T, 3)
    angular_velocity: Any  # of each body relative to its parent, in its own axes [rad/s] (T, J, 3); root: in the world
    root_force: Any  # from outside, in the world [N] (T, 3)
    root_moment: Any  # from outside, about the root joint, in the world [N m] (T, 3)
    torque: Any  # of each joint without contact forces, in the axes of its body [N m] (T, J, 3); root: root_moment


@pytree
class State:
    """Joint coordinates, velocities and accelerations as MuJoCo defines them for a free root and ball joints."""

    R: Any  # rotation of each joint in its parent (..., J, 3, 3)
    translation: Any  # root [m] (..., 3)
    velocity: Any  # of the root in the world [m/s] (..., 3)
    rates: Any  # angular velocity of each joint in the axes of its body [rad/s] (..., J, 3)
    acceleration: Any  # of the root in the world [m/s^2] (..., 3)
    rate_derivatives: Any  # time derivative of the components in `rates` [rad/s^2] (..., J, 3)


def differences(x: jax.Array, fps) -> tuple[jax.Array, jax.Array]:
    """Velocity and acceleration by central differences; the ends continue with their neighbour's acceleration.

    Args:
        x: (T, ...), T >= 3.
        fps: frames per second.

    Returns:
        Two arrays of the shape of x, per second and per second^2; exact for parabolas.

    >>> v, a = differences(jnp.array([0.0, 1.0, 4.0, 9.0]), 1.0)
    >>> v.tolist(), a.tolist()
    ([0.0, 2.0, 4.0, 6.0], [2.0, 2.0, 2.0, 2.0])
    """
    return _central(x[1:] - x[:-1], fps)


def _central(step: jax.Array, fps) -> tuple[jax.Array, jax.Array]:
    """Velocity and acceleration (T, ...) from the T - 1 steps between frames."""
    acceleration = (step[1:] - step[:-1]) * fps**2
    velocity = 0.5 * (step[1:] + step[:-1]) * fps
    dv = acceleration / fps
    velocity = jnp.concatenate([velocity[:1] - dv[:1], velocity, velocity[-1:] + dv[-1:]], 0)
    return velocity, jnp.concatenate([acceleration[:1], acceleration, acceleration[-1:]], 0)


def newton_euler(skeleton: Skeleton, R, p, w, alpha, a):
    """Joint moments and root force from the motion of each body (the equations at the top).

    Args:
        skeleton: J bodies.
        R: (..., J, 3, 3) world rotations.
        p: (..., J, 3) joint positions [m] from any origin, best one near the body.
        w: (..., J, 3) angular velocities in the world [rad/s].
        alpha: (..., J, 3) angular accelerations in the world [rad/s^2].
        a: (..., J, 3) accelerations of the centres of mass in the world [m/s^2].

    Returns:
        M (..., J, 3) moment about each joint on all that hangs on it [N m], F (..., J, 3) force [N]; in world axes.
    """
    mass, com, inertia = (jnp.asarray(v, R.dtype) for v in (skeleton.mass, skeleton.com, skeleton.inertia))
    c = p + so3.matvec(R, com)
    up = jnp.asarray([0.0, 0.0, GRAVITY], R.dtype)
    F = mass[:, None] * (a + up)
    # in the body's axes the inertia is constant: I alpha + w x I w with w, alpha turned into them
    w_body, alpha_body = so3.matvec_t(R, w), so3.matvec_t(R, alpha)
    N = so3.matvec(R, so3.matvec(inertia, alpha_body) + so3.cross(w_body, so3.matvec(inertia, w_body)))
    S = jnp.asarray(subtree(skeleton.parents), R.dtype)
    both = jnp.concatenate([N + so3.cross(c, F), F], -1)
    total = jnp.einsum("jb,...bk->...jk", S, both)
    M, F = total[..., :3], total[..., 3:]
    return M - so3.cross(p, F), F


def _assemble(skeleton: Skeleton, R, relative, translation, velocity, acceleration, w, alpha, v, a) -> Dynamics:
    """The result from the motion of each body: w, alpha, and v, a of its centre of mass relative to the root's."""
    M, F = newton_euler(skeleton, R, relative, w, alpha, a + acceleration[..., None, :])
    mass = jnp.asarray(skeleton.mass, R.dtype)
    share = mass / jnp.sum(mass)
    c = relative + so3.matvec(R, jnp.asarray(skeleton.com, R.dtype))
    parents = [max(k, 0) for k in skeleton.parents]
    own = jnp.asarray([k >= 0 for k in skeleton.parents], R.dtype)[:, None]
    mean = lambda x: jnp.einsum("b,...bk->...k", share, x)
    return Dynamics(
        R=R,
        p=relative + translation[..., None, :],
        com=mean(c) + translation,
        com_velocity=mean(v) + velocity,
        com_acceleration=mean(a) + acceleration,
        angular_velocity=so3.matvec_t(R, w - own * w[..., parents, :]),
        root_force=F[..., 0, :],
        root_moment=M[..., 0, :],
        torque=so3.matvec_t(R, M),
    )


def from_trajectory(skeleton: Skeleton, R: jax.Array, translation: jax.Array, fps) -> Dynamics:
    """The `trajectory` engine: (T, J, 3, 3) rotations of the joints in their parents and (T, 3) root positions [m]."""
    R, relative = forward(skeleton, R, jnp.zeros_like(translation))
    c = relative + so3.matvec(R, jnp.asarray(skeleton.com, R.dtype))
    v, a = differences(c, fps)
    velocity, acceleration = differences(translation, fps)
    w, alpha = _central(so3.log_step(so3.matmul(R[1:], so3.transpose(R[:-1]))), fps)
    return _assemble(skeleton, R, relative, translation, velocity, acceleration, w, alpha, v, a)


def to_state(R: jax.Array, translation: jax.Array, fps) -> State:
    """Joint velocities and accelerations by central differences of the coordinates, as `mj_differentiatePos` does."""
    velocity, acceleration = differences(translation, fps)
    rates, derivatives = _central(so3.log_step(so3.matmul(so3.transpose(R[:-1]), R[1:])), fps)
    return State(R, translation, velocity, rates, acceleration, derivatives)


def from_state(skeleton: Skeleton, state: State) -> Dynamics:
    """Newton-Euler on joint coordinates, velocities and accelerations; sums along the tree instead of a recursion.

    With u_j = R_j rates_j the bodies move with

        w_b     = sum of u_j over the joints j from the root to b
        alpha_b = sum of R_j rate_derivatives_j + w_parent(j) x u_j
        a_b     = a_root + sum of alpha_k x r + w_k x (w_k x r) with r = p_j - p_k, k = parent(j), and r = c_b - p_b

    Args:
        skeleton: J joints.
        state: arrays with any leading axes.
    """
    R, p = forward(skeleton, state.R, jnp.zeros_like(state.translation))
    chain = jnp.asarray(subtree(skeleton.parents).T, R.dtype)
    along = lambda x: jnp.einsum("bj,...jk->...bk", chain, x)
    parents = [max(k, 0) for k in skeleton.parents]
    own = jnp.asarray([k >= 0 for k in skeleton.parents], R.dtype)[:, None]
    u = so3.matvec(R, state.rates)
    w = along(u)
    w_parent = own * w[..., parents, :]
    alpha = along(so3.matvec(R, state.rate_derivatives) + so3.cross(w_parent, u))
    alpha_parent = own * alpha[..., parents, :]

    def rigid(w, alpha, r):
        return so3.cross(w, r), so3.cross(alpha, r) + so3.cross(w, so3.cross(w, r))

    v_joint, a_joint = rigid(w_parent, alpha_parent, p - p[..., parents, :])
    v_com, a_com = rigid(w, alpha, so3.matvec(R, jnp.asarray(skeleton.com, R.dtype)))
    v, a = along(v_joint) + v_com, along(a_joint) + a_com
    return _assemble(skeleton, R, p, state.translation, state.velocity, state.acceleration, w, alpha, v, a)


def _depth_first(parents: tuple[int, ...]) -> list[int]:
    """Joints in the order in which `mjcf` writes them and MuJoCo numbers them."""

    def visit(j):
        return [j] + [d for k, parent in enumerate(parents) if parent == j for d in visit(k)]

    return visit(0)


def to_mujoco(skeleton: Skeleton, state: State) -> tuple[jax.Array, jax.Array, jax.Array]:
    """qpos (..., 7 + 4 (J - 1)), qvel and qacc (..., 3 + 3 J) of the model that `mjcf` writes."""
    order = _depth_first(skeleton.parents)
    flat = lambda x: x[..., order, :].reshape(*x.shape[:-2], -1)
    qpos = jnp.concatenate([state.translation, flat(so3.to_quat(state.R))], -1)
    qvel = jnp.concatenate([state.velocity, flat(state.rates)], -1)
    return qpos, qvel, jnp.concatenate([state.acceleration, flat(state.rate_derivatives)], -1)


def mjx_inverse(skeleton: Skeleton, state: State) -> Dynamics:
    """The `mjx` engine on joint coordinates: forces by `mjx.inverse` without contacts, the rest as in `from_state`."""
    import mujoco
    from mujoco import mjx

    model = mjx.put_model(mujoco.MjModel.from_xml_string(mjcf(skeleton)), impl="jax")
    empty = mjx.make_data(model, impl="jax")

    @jax.jit
    @jax.vmap
    def forces(qpos, qvel, qacc):
        return mjx.inverse(model, empty.replace(qpos=qpos, qvel=qvel, qacc=qacc)).qfrc_inverse

    coordinates = to_mujoco(skeleton, state)
    leading = coordinates[0].shape[:-1]
    q = forces(*(x.reshape(-1, x.shape[-1]) for x in coordinates))
    q = q.reshape(*leading, q.shape[-1])
    order = _depth_first(skeleton.parents)
    back = [order.index(j) for j in range(skeleton.count)]
    torque = q[..., 3:].reshape(*leading, skeleton.count, 3)[..., back, :]
    plain = from_state(skeleton, state)
    return Dynamics(
        R=plain.R,
        p=plain.p,
        com=plain.com,
        com_velocity=plain.com_velocity,
        com_acceleration=plain.com_acceleration,
        angular_velocity=plain.angular_velocity,
        root_force=q[..., :3],
        root_moment=so3.matvec(plain.R[..., 0, :, :], torque[..., 0, :]),
        torque=torque,
    )


def inverse_dynamics(
    skeleton: Skeleton, motion: Motion, fps, *, engine: str = "trajectory", cutoff: float | None = 6.0
) -> Dynamics:
    """The forces and moments that a motion needs (Newton-Euler, see the top of the file).

    Args:
        skeleton: the body.
        motion: T >= 3 frames; one clip (use `jax.vmap` for more).
        fps: frames per second of the motion.
        engine: "trajectory", the faster one and differentiable also with respect to the skeleton, or "mjx".
        cutoff: of the low-pass filter before differentiation [Hz]; None: no filter.

    Returns:
        Dynamics, one entry per frame.

    Raises:
        ValueError: unknown engine, fps missing or not positive, another number of joints, fewer than 3 frames.

    >>> from jaxphys.body.skeleton import humanoid
    >>> still = Motion(jnp.zeros((5, 24, 3)), jnp.ones((5, 3)))
    >>> round(float(inverse_dynamics(humanoid(mass=70.0), still, 30.0).root_force[2, 2]), 1)  # 70 kg * 9.81 m/s^2
    686.7
    """
    if engine not in ENGINES:
        raise ValueError(f"inverse_dynamics: engine must be one of {ENGINES}, got {engine!r}")
    check_fps("inverse_dynamics", fps)
    check_motion("inverse_dynamics", motion, skeleton.count)
    R, translation = lowpass(motion.matrices(), motion.translation, fps, cutoff)
    if engine == "trajectory":
        return from_trajectory(skeleton, R, translation, fps)
    return mjx_inverse(skeleton, to_state(R, translation, fps))
