"""How many substeps a scene needs, and which of its limits asks for them."""

from __future__ import annotations

import math

import numpy as np

from jaxphys.mpm.state import Config, Particles, Scene

ACOUSTIC = 0.4  # dt <= 0.4 dx / c: nu = 0.45 is unstable at 1.0, every law tried is stable at 0.8
ADVECTIVE = 0.5  # dt <= 0.5 dx / |v|
VISCOUS = 0.125  # dt <= 0.125 dx^2 rho / eta (explicit diffusion in three dimensions allows 1/6)


def time_step_limits(materials: tuple, particles: Particles, scene: Scene, config: Config) -> dict[str, float]:
    """The greatest stable time step [s] by each limit; needs concrete values.

    Acoustic: 0.4 dx / sqrt(M / rho), M the law's own P-wave modulus. Viscous: dx^2 rho / (8 eta). Speed: half a cell
    per
    substep at the fastest of the particles (after falling the height of the domain) and the colliders.

    Args:
        materials: tuple of laws.
        particles: at t = 0.
        scene: gravity, boundaries, forces.
        config: grid and fps.

    Returns:
        {"acoustic (law)": dt, "viscous (law)": dt, "speed": dt}.
    """
    dx = config.grid.dx
    limits = {}
    index = np.asarray(particles.material)
    for k, law in enumerate(materials):
        if not np.any(index == k):
            continue
        name = f"{type(law).__name__} (material {k})"
        rho = np.asarray(law.density, np.float64)
        modulus = np.asarray(law.wave_modulus(), np.float64)
        limits[f"acoustic limit of {name}"] = ACOUSTIC * dx / math.sqrt(np.max(modulus / rho))
        eta = float(np.max(np.asarray(law.dynamic_viscosity(), np.float64) / rho))
        if eta > 0:
            limits[f"viscous limit of {name}"] = VISCOUS * dx**2 / eta
    g = float(np.linalg.norm(np.asarray(scene.gravity, np.float64)))
    height = float(np.linalg.norm(np.subtract(config.grid.hi, config.grid.lo)))
    fall = min(2 * g * height, (g * config.frames / config.fps) ** 2)
    speed = math.sqrt(float(np.max(np.sum(np.asarray(particles.v, np.float64) ** 2, 1))) + fall)
    for thing in (*scene.boundaries, *scene.forces):
        if hasattr(thing, "max_speed"):
            speed = max(speed, float(np.max(np.asarray(thing.max_speed()))))
    if speed > 0:
        limits["speed of particles and colliders"] = ADVECTIVE * dx / speed
    return limits


def resolve_substeps(materials: tuple, particles: Particles, scene: Scene, config: Config) -> int:
    """The number of substeps per frame: what "auto" means, or the given number if it is stable.

    Raises:
        ValueError: the given number is too small (with the number that works), or more than `config.max_substeps` are
            needed (with the cause).
    """
    cause, dt = min(time_step_limits(materials, particles, scene, config).items(), key=lambda item: item[1])
    frame = 1.0 / config.fps
    needed = max(1, math.ceil(frame / dt - 1e-9))
    if needed > config.max_substeps:
        raise ValueError(
            f"simulate: {needed} substeps per frame are needed (dt <= {dt:.3g} s by the {cause}), more than "
            f"max_substeps={config.max_substeps}: soften the material, enlarge dx, or raise max_substeps"
        )
    if config.substeps == "auto":
        block = max(1, round(math.sqrt(needed)))
        return -(-needed // block) * block  # a number that splits evenly, for two-level checkpoints
    if config.substeps < needed:
        raise ValueError(
            f"simulate: substeps={config.substeps} gives dt = {frame / config.substeps:.3g} s, above the {cause} "
            f"({dt:.3g} s): use substeps={needed} or 'auto'"
        )
    return config.substeps
