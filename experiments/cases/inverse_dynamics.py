"""Inverse dynamics agrees with MuJoCo's mj_inverse to round-off, and its gradients with finite differences.

Random smooth motion of all joints, torques up to a kilonewton metre. On the same coordinates, velocities and
accelerations our Newton-Euler and `mjx.inverse` are compared with C MuJoCo (no code of ours); relative to the greatest
generalised force of its kind. On a trajectory the two engines differ by how they take differences: the order of that in
the time step is measured. Gradients (of a sum of squares, to poses and translation of the measured walk) against
central differences over a swept step, the best of which counts. Two minutes on one core.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from experiments.cases.force_plates import CUTOFF, FPS, load
from jaxphys.body import Motion, Skeleton, contact_forces, humanoid, inverse_dynamics, mjcf
from jaxphys.body.inverse import ENGINES, Dynamics, State, from_state, mjx_inverse, to_mujoco

STEPS = (1e-4, 3e-5, 1e-5, 3e-6, 1e-6, 3e-7, 1e-7, 3e-8)
RATES = (30.0, 60.0, 120.0, 240.0)


def smooth_motion(seconds: float, fps: float, seed: int = 0) -> Motion:
    """Sums of three sines per joint and axis, the same motion at every frame rate."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * fps) + 1) / fps
    frequency = rng.uniform(0.3, 1.5, (3, 1, 25, 3))
    waves = np.sin(2 * np.pi * frequency * t[:, None, None] + rng.uniform(0, 6.3, frequency.shape))
    x = np.sum(rng.normal(0, 0.2, frequency.shape) * waves, 0)
    return Motion(jnp.asarray(x[:, :24]), jnp.asarray(x[:, 24]))


def states(motion: Motion, seed: int = 1) -> State:
    """The motion's coordinates with velocities and accelerations of their own: what is compared holds for any."""
    rng = np.random.default_rng(seed)
    draw = lambda like, size: jnp.asarray(rng.normal(0, size, like.shape), like.dtype)
    x, w = motion.translation, motion.rotation
    return State(motion.matrices(), x, draw(x, 2.0), draw(w, 3.0), draw(x, 10.0), draw(w, 30.0))


def mj_inverse(skeleton: Skeleton, state: State) -> np.ndarray:
    """Generalised forces (T, 3 + 3 J) by C MuJoCo."""
    model = mujoco.MjModel.from_xml_string(mjcf(skeleton))
    data = mujoco.MjData(model)
    out = []
    for qpos, qvel, qacc in zip(*(np.asarray(x, np.float64) for x in to_mujoco(skeleton, state))):
        data.qpos[:], data.qvel[:], data.qacc[:] = qpos, qvel, qacc
        mujoco.mj_inverse(model, data)
        out.append(data.qfrc_inverse.copy())
    return np.stack(out)


def generalised(skeleton: Skeleton, dynamics: Dynamics) -> np.ndarray:
    """The same vector from our result."""
    model = mujoco.MjModel.from_xml_string(mjcf(skeleton))
    order = np.argsort([model.body(name).id for name in skeleton.names])
    torque = np.asarray(dynamics.torque, np.float64)[:, order].reshape(len(dynamics.torque), -1)
    return np.concatenate([np.asarray(dynamics.root_force, np.float64), torque], -1)


def relative_error(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Greatest difference over greatest value, forces and moments apart."""
    parts = ((ours[:, a:b], theirs[:, a:b]) for a, b in ((0, 3), (3, None)))
    return max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in parts)


def difference_order(skeleton: Skeleton, seconds: float = 1.0) -> tuple[float, dict[str, float]]:
    """Exponent p of dt in the difference of the engines on a trajectory, and that difference at each rate."""
    figures = {}
    for fps in RATES:
        motion = smooth_motion(seconds, fps)
        solve = jax.jit(
            lambda m, e, fps=fps: inverse_dynamics(skeleton, m, fps, engine=e, cutoff=None), static_argnums=1
        )
        a, b = (generalised(skeleton, solve(motion, engine))[1:-1] for engine in ENGINES)
        figures[f"engine_difference_{round(fps)}_fps"] = relative_error(a, b)
    return float(-np.polyfit(np.log(RATES), np.log(list(figures.values())), 1)[0]), figures


def gradient_error(loss, x, seed: int = 2, directions: int = 3, steps=STEPS, compiler: dict | None = None) -> float:
    """Greatest over random directions of the least relative error over the steps of central differences."""
    both = jax.jit(jax.value_and_grad(loss), compiler_options=compiler)
    gradient = both(x)[1]
    rng = np.random.default_rng(seed)
    worst = 0.0
    for _ in range(directions):
        d = jax.tree.map(lambda a: jnp.asarray(rng.normal(size=a.shape), a.dtype), x)
        exact = sum(float(jnp.vdot(a, b)) for a, b in zip(jax.tree.leaves(gradient), jax.tree.leaves(d)))
        errors = []
        for h in steps:
            high, low = (float(both(jax.tree.map(lambda a, b, s=s: a + s * b, x, d))[0]) for s in (h, -h))
            errors.append(abs((high - low) / (2 * h) - exact) / abs(exact))
        worst = max(worst, min(errors))
    return worst


def dynamics_loss(skeleton: Skeleton, engine: str, cutoff: float | None = CUTOFF):
    def loss(motion):
        d = inverse_dynamics(skeleton, motion, FPS, engine=engine, cutoff=cutoff)
        return 1e-4 * jnp.sum(d.torque**2) + 1e-6 * jnp.sum(d.root_force**2) + jnp.sum(d.com_velocity**2)

    return loss


def contact_loss(skeleton: Skeleton, ground_height: float, hands: bool = False):
    def loss(motion):
        dynamics = inverse_dynamics(skeleton, motion, FPS, cutoff=CUTOFF)
        c = contact_forces(skeleton, dynamics, ground_height, FPS, hands=hands)
        squares = (1e-4 * jnp.sum(c.torque**2), 1e-5 * jnp.sum(c.force**2), 1e-2 * jnp.sum(c.residual_force**2))
        return sum(squares) + jnp.sum(c.weight) + jnp.sum(c.airborne)

    return loss


def run(frames: int = 120) -> dict:
    out: dict[str, float] = {}
    for bits, dtype in ((64, jnp.float64), (32, jnp.float32)):
        with jax.enable_x64(bits == 64):
            skeleton = humanoid(1.8, 72.0)
            motion = jax.tree.map(lambda a, dtype=dtype: a.astype(dtype), smooth_motion(frames / 30 - 1e-6, 30.0))
            state = states(motion)
            theirs = mj_inverse(skeleton, state)
            out[f"greatest_torque_nm_f{bits}"] = float(np.abs(theirs[:, 6:]).max())
            for name, ours in (("newton_euler", from_state), ("mjx", mjx_inverse)):
                result = jax.jit(functools.partial(ours, skeleton))(state)
                out[f"{name}_error_relative_f{bits}"] = relative_error(generalised(skeleton, result), theirs)
    with jax.enable_x64(True):
        skeleton = humanoid(1.8, 72.0)
        out["engine_difference_order"], more = difference_order(skeleton)
        out |= more
        trial = load()
        for engine in ENGINES:
            loss = dynamics_loss(trial.skeleton, engine)
            out[f"gradient_error_{engine}"] = gradient_error(loss, trial.motion)
        for name, hands in (("contact", False), ("contact_hands", True)):
            loss = contact_loss(trial.skeleton, 0.0115, hands)
            out[f"gradient_error_{name}"] = gradient_error(loss, trial.motion)
    return out


CHECKS = {
    "newton_euler_error_relative_f64": ("<=", 1e-12),
    "mjx_error_relative_f64": ("<=", 1e-12),
    "newton_euler_error_relative_f32": ("<=", 1e-5),
    "mjx_error_relative_f32": ("<=", 1e-5),
    "engine_difference_order": (">=", 1.9),
    "gradient_error_trajectory": ("<=", 1e-7),
    "gradient_error_mjx": ("<=", 1e-7),
    "gradient_error_contact": ("<=", 1e-6),
    "gradient_error_contact_hands": ("<=", 1e-6),
}
