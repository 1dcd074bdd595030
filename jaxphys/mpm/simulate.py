"""The rollout: explicit symplectic MLS-MPM (Hu et al. 2018) with APIC transfers (Jiang et al. 2015)."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec

from jaxphys.mpm import transfer
from jaxphys.mpm.materials import Law
from jaxphys.mpm.materials import check as check_law
from jaxphys.mpm.stability import resolve_substeps
from jaxphys.mpm.state import Config, Particles, Scene, State, Status, Trajectory, is_concrete
from jaxphys.numerics import materialize
from jaxphys.scan import checkpointed_scan, nearest_divisor
from jaxphys.tensor import Tensor3, components

SAVEABLE = ("x", "v", "F", "F_elastic", "C", "energy")


def simulate(
    materials, particles: Particles, scene: Scene, config: Config, *, save=("x", "F"), state: State | None = None
):
    """Simulates `config.frames` frames and returns the chosen fields at each.

    Per substep, with A = V0 tau 4 dt/dx^2 and weights W of a quadratic B-spline:

        F <- return map((I + dt C) F), tau = law(F)
        m_i = sum_p W m,   (m v)_i = sum_p W [m v + (m C' - A)(x_i - x)]         C' = C, or damped (RPIC)
        v_i <- boundaries(v_i + dt g)
        v = sum_i W v_i,   C = 4/dx^2 sum_i W v_i (x_i - x)^T,   x <- x + dt v

    Args:
        materials: a law, or a tuple of laws indexed by `particles.material`.
        particles: at t = 0.
        scene: gravity, boundaries, forces.
        config: grid, frames, substeps, gradient mode, sharding.
        save: fields to return, of "x", "v", "F" (total deformation), "F_elastic", "C", "energy" (elastic).
        state: a state to go on from (`Trajectory.state`), in place of the particles' positions and velocities.

    Returns:
        A `Trajectory`; frame k is at t = (k + 1) / fps, F belongs to the substep that led there. Called eagerly, a
        failed rollout raises; inside a trace look at `.status`.

    Raises:
        ValueError: inconsistent input, an unstable step (with the number of substeps that works), a particle outside
            the domain.
        SimulationError: eagerly, when the rollout went wrong.

    >>> import jax.numpy as jnp
    >>> from jaxphys import mpm
    >>> grid = mpm.Grid(lo=(0, 0, 0), hi=(1, 1, 1), dx=0.125)
    >>> particles = mpm.Particles.create(jnp.full((1, 3), 0.5), 1e-3)
    >>> rubber = mpm.materials.NeoHookean(density=1000.0, E=1e4, nu=0.3)
    >>> config = mpm.Config(grid, fps=10.0, frames=1, substeps=60)
    >>> path = mpm.simulate(rubber, particles, mpm.Scene(), config, save=("v",))
    >>> bool(abs(path.v[0, 0, 2] + 0.981) < 1e-5)
    True
    """
    materials = tuple(materials) if isinstance(materials, (tuple, list)) else (materials,)
    save = tuple(save)
    _check(materials, particles, scene, config, save)
    if state is None and is_concrete(particles):
        _check_inside(particles, config)
        for force in scene.forces:
            if hasattr(force, "check") and is_concrete(force):
                force.check(np.asarray(particles.x))
    if is_concrete(materials, particles, scene):
        substeps = resolve_substeps(materials, particles, scene, config)
    elif config.substeps == "auto":
        raise ValueError(
            "simulate: substeps='auto' needs concrete values, but a material, particle or scene value is "
            "traced (jit, grad "
            "or vmap): call mpm.resolve_substeps(...) outside on the stiffest values and pass the number in Config"
        )
    else:
        substeps = config.substeps
    result = _rollout(materials, particles, scene, state, config=config, substeps=substeps, save=save)
    if is_concrete(result.status):
        result.check()
    return result


def _check(materials, particles, scene, config, save):
    unknown = [name for name in save if name not in SAVEABLE]
    if unknown or not save:
        raise ValueError(f"simulate: save must name some of {SAVEABLE}, got {save}")
    if not isinstance(particles, Particles) or not isinstance(scene, Scene) or not isinstance(config, Config):
        raise ValueError(
            "simulate: expected (materials, Particles, Scene, Config), got "
            f"({type(materials).__name__}, {type(particles).__name__}, {type(scene).__name__}, {type(config).__name__})"
        )
    for law in materials:
        if isinstance(law, Law):
            check_law(law, type(law).__name__)
        for leaf in jax.tree.leaves(law):
            if jnp.shape(leaf) not in ((), (particles.count,)):
                raise ValueError(
                    f"simulate: a parameter of {type(law).__name__} has shape {jnp.shape(leaf)}; give a "
                    f"scalar or one value "
                    f"per particle ({particles.count},)"
                )
    if is_concrete(particles.material):
        index = np.asarray(particles.material)
        lo, hi = int(index.min()), int(index.max())
        if lo < 0 or hi >= len(materials):
            raise ValueError(f"simulate: particles.material spans {lo}..{hi} but {len(materials)} materials were given")
    if config.mesh is not None and "data" not in config.mesh.axis_names:
        raise ValueError(
            f"simulate: config.mesh needs an axis 'data', got {config.mesh.axis_names}; use sharding.make_mesh"
        )


def _check_inside(particles, config):
    x = np.asarray(particles.x)
    slack = 1e-3 * config.grid.dx  # a particle on a face is inside, whatever its rounding
    outside = np.any((x < np.subtract(config.grid.lo, slack)) | (x > np.add(config.grid.hi, slack)), axis=1)
    if outside.any():
        first = int(np.argmax(outside))
        raise ValueError(
            f"simulate: {int(outside.sum())} of {particles.count} particles lie outside the domain {config.grid.lo} to "
            f"{config.grid.hi}, the first is number {first} at {x[first].tolist()}: enlarge the domain or move them"
        )


def initial_state(materials: tuple, particles: Particles, scene: Scene, save: tuple) -> State:
    """The component-major state at t = 0."""
    x, F = particles.x.T, jnp.moveaxis(particles.F, 0, -1)
    mass = _mass(materials, particles)
    return State(
        x=x,
        v=particles.v.T,
        C=jnp.moveaxis(particles.C, 0, -1),
        F=F,
        deformation=F if "F" in save else None,
        internal=tuple(law.init(x[0]) for law in materials),
        aux=tuple(force.prepare(x, mass) for force in scene.forces),
        substep=jnp.int32(0),
    )


def _mass(materials, particles):
    density = functools.reduce(
        lambda rho, k: jnp.where(particles.material == k, materials[k].density, rho),
        range(1, len(materials)),
        materials[0].density,
    )
    return (density * particles.volume).astype(particles.x.dtype)


def stress(
    materials: tuple, index: jax.Array, F: Tensor3, internal: tuple, L: Tensor3, dt
) -> tuple[Tensor3, tuple, Tensor3]:
    """Return map and Kirchhoff stress of every particle by its own law.

    With several laws each is evaluated everywhere, at the identity where a particle is not its own, so that neither
    values
    nor gradients of the wrong law enter.
    """
    if len(materials) == 1:
        F, new, tau = materials[0].step(F, internal[0], L, dt)
        return F, (new,), tau
    eye = Tensor3.identity(F[0, 0])
    F_new, tau_new, states = F, F * 0.0, []
    for k, law in enumerate(materials):
        mine = index == k
        F_k, state_k, tau_k = law.step(F.where(mine, eye), internal[k], L.where(mine, eye * 0.0), dt)
        F_new, tau_new = F_k.where(mine, F_new), tau_k.where(mine, tau_new)
        states.append(jax.tree.map(lambda a, b, mine=mine: jnp.where(mine, a, b), state_k, internal[k]))
    return F_new, tuple(states), tau_new


def energy_density(materials: tuple, index: jax.Array, F: Tensor3, internal: tuple) -> jax.Array:
    """Elastic energy of every particle per undeformed volume, by its own law and internal state [J/m^3], (N,)."""
    out = jnp.zeros_like(F[0, 0])
    for k, law in enumerate(materials):
        mine = index == k
        out = jnp.where(mine, law.energy(F.where(mine, Tensor3.identity(out)), internal[k]), out)
    return out


def substep(
    materials: tuple, particles: Particles, scene: Scene, config: Config, dt: float, empty, state: State
) -> State:
    """One explicit step of length dt [s]; nodes lighter than `empty` [kg] stay at rest."""
    grid, dtype = config.grid, state.x.dtype
    geometry = transfer.Geometry(grid, config.mesh)
    to_grid: Any
    to_particles: Any
    to_grid, to_particles = (
        (transfer.scatter, transfer.affine) if config.gradient == "forward" else (transfer.p2g, transfer.g2p)
    )
    t = state.substep.astype(dtype) * dt
    mass = _mass(materials, particles)

    v = state.v
    for force, aux in zip(scene.forces, state.aux):
        v = force.accelerate(v, state.x, aux, mass, t, dt)

    C = Tensor3.from_array(state.C)
    growth = (C * dt).add_diagonal(1.0)
    F = materialize(growth @ Tensor3.from_array(state.F))
    F, internal, tau = stress(materials, particles.material, F, state.internal, C, dt)

    r = config.rpic_damping
    affine = C if r == 0.0 else C * (1.0 - r) + (C - C.T) * (0.5 * r)
    A = materialize(affine * (mass * grid.dx) - tau * (particles.volume * (4.0 * dt / grid.dx)))
    _, f = transfer.stencil(grid, state.x)
    q = jnp.stack([mass * a - Af for a, Af in zip(components(v), A.apply(components(f)))])
    *momentum, node_mass = to_grid(geometry, state.x, q, A.to_array(), mass)

    held = node_mass > empty
    nodal = tuple(
        jnp.where(held, a + dt * jnp.asarray(g, dtype), 0.0).reshape(grid.shape)
        for a, g in zip(transfer.grid_velocity(tuple(momentum), node_mass, empty), scene.gravity)
    )
    nodes = grid.nodes(dtype)
    for boundary in scene.boundaries:
        nodal = boundary.apply(nodal, nodes, t, dt)

    v, C_new = to_particles(geometry, state.x, tuple(a.reshape(-1) for a in nodal))
    x = state.x + dt * v
    for force, aux in zip(scene.forces, state.aux):
        x, v, C_new = force.constrain(x, v, C_new, aux, t)
    total = None if state.deformation is None else (growth @ Tensor3.from_array(state.deformation)).to_array()
    return State(x, v, C_new, F.to_array(), total, internal, state.aux, state.substep + 1)


def _watch(status: Status, state: State, config: Config, dt: float) -> Status:
    """Records the first failure."""
    X = transfer.cells(config.grid, lax.stop_gradient(state.x))
    v = jnp.abs(lax.stop_gradient(state.v))
    inside = functools.reduce(jnp.logical_and, ((x >= 0.5) & (x <= n - 1.5) for x, n in zip(X, config.grid.shape)))
    speed = jnp.maximum(jnp.maximum(v[0], v[1]), v[2]) * (dt / config.grid.dx)
    # One reduction tells all: NaN if any particle is lost to NaN, infinity if one is outside, else the greatest speed.
    worst = jnp.max(jnp.where(inside | jnp.isnan(speed), speed, jnp.inf))
    code = jnp.where(jnp.isnan(worst), 1, jnp.where(jnp.isinf(worst), 2, jnp.where(worst > 1.0, 3, 0))).astype(
        jnp.int32
    )
    reach = jnp.where(jnp.isfinite(worst), worst, status.reach)
    first = (status.code == 0) & (code > 0)
    return Status(
        jnp.where(first, code, status.code),
        jnp.where(first, state.substep, status.substep),
        jnp.maximum(status.reach, reach),
    )


def _shard(tree: Any, config: Config, count: int):
    """Places every array whose last or first axis counts particles over the mesh."""

    def place(a):
        if a.ndim and a.shape[-1] == count:
            spec = PartitionSpec(*[None] * (a.ndim - 1), "data")
        elif a.ndim and a.shape[0] == count:
            spec = PartitionSpec("data")
        else:
            return a
        return lax.with_sharding_constraint(a, NamedSharding(config.mesh, spec))

    return jax.tree.map(place, tree)


def _pad(materials, particles: Particles, devices: int):
    """Adds massless copies of the first particle until the count divides by the number of devices."""
    extra = -particles.count % devices
    if not extra:
        return materials, particles

    def repeat_first(a):
        return jnp.concatenate([a, jnp.broadcast_to(a[:1], (extra, *a.shape[1:]))])

    padded = jax.tree.map(repeat_first, particles)
    volume = jnp.concatenate([particles.volume, jnp.zeros(extra, particles.volume.dtype)])
    materials = jax.tree.map(lambda a: repeat_first(a) if jnp.shape(a) == (particles.count,) else a, materials)
    return materials, Particles(padded.x, padded.v, volume, padded.material, padded.F, padded.C)


@functools.partial(jax.jit, static_argnames=("config", "substeps", "save"))
def _rollout(materials, particles, scene, state, *, config: Config, substeps: int, save: tuple) -> Trajectory:
    count, dtype = particles.count, particles.x.dtype
    materials = jax.tree.map(lambda a: jnp.asarray(a, dtype), materials)
    if config.mesh is not None:
        materials, particles = _pad(materials, particles, config.mesh.shape["data"])
        materials, particles = _shard((materials, particles), config, particles.count)
    if state is None:
        state = initial_state(materials, particles, scene, save)
    dt = 1.0 / (config.fps * substeps)
    start = state.substep
    empty = lax.stop_gradient(1e-10 * jnp.max(_mass(materials, particles)))

    def step(materials, scene, carry):
        state, status = carry
        state = substep(materials, particles, scene, config, dt, empty, state)
        if config.mesh is not None:
            state = _shard(state, config, particles.count)
        return state, _watch(status, state, config, dt)

    bytes_per_state = sum(a.size * a.dtype.itemsize for a in jax.tree.leaves(state))
    if config.mesh is not None:
        bytes_per_state //= config.mesh.shape["data"]
    few = config.frames * substeps * bytes_per_state <= config.checkpoint_bytes
    block = (
        1
        if few or (config.frames + substeps) * bytes_per_state <= config.checkpoint_bytes
        else nearest_divisor(substeps)
    )
    exact_step = functools.partial(step, materials, scene)

    def advance(carry, frame):
        if config.gradient == "forward":
            return lax.fori_loop(0, substeps, lambda _, c: exact_step(c), carry)
        if config.gradient == "last_substep":
            frozen = functools.partial(step, *lax.stop_gradient((materials, scene)))
            carry = lax.fori_loop(0, substeps - 1, lambda _, c: frozen(c), lax.stop_gradient(carry))
            return exact_step(lax.stop_gradient(carry))
        if config.window is not None:
            cut = (frame % config.window == 0) & (frame > 0)
            carry = jax.tree.map(lambda a: jnp.where(cut, lax.stop_gradient(a), a), carry)
        return checkpointed_scan(exact_step, carry, substeps, block)

    def frame(carry, k):
        carry = advance(carry, k)
        state = carry[0]
        fields = {"x": state.x, "v": state.v, "F": state.deformation, "F_elastic": state.F, "C": state.C}
        if "energy" in save:
            F = Tensor3.from_array(state.F)
            fields["energy"] = energy_density(materials, particles.material, F, state.internal)
        return carry, {name: fields[name] for name in save}

    if not few and config.gradient == "exact":
        frame = jax.checkpoint(frame, prevent_cse=False)
    (state, status), saved = lax.scan(frame, (state, Status.fine(dtype)), jnp.arange(config.frames))
    saved = {name: jnp.moveaxis(a, -1, 1)[:, :count] for name, a in saved.items()}
    times = (start.astype(dtype) * dt) + (jnp.arange(config.frames, dtype=dtype) + 1) / config.fps
    return Trajectory(times=times, status=status, state=state, **saved)
