"""What a simulation is made of: particles, grid, scene, configuration, state, status, trajectory."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxphys.checks import as_array, is_concrete
from jaxphys.pytree import pytree

PAD = 3  # cells outside the domain on every side: room for the kernel and for the nodes that a wall holds


class SimulationError(RuntimeError):
    """A rollout went wrong: says at which substep, why, and what to change."""


@pytree
class Particles:
    """Material points at t = 0, as a user gives them; make one with `Particles.create`."""

    x: jax.Array  # position [m], (N, 3)
    v: jax.Array  # velocity [m/s], (N, 3)
    volume: jax.Array  # volume at rest [m^3], (N,)
    material: jax.Array  # index into the tuple of materials, (N,) int32
    F: jax.Array  # deformation gradient, (N, 3, 3)
    C: jax.Array  # velocity gradient [1/s], (N, 3, 3)

    @property
    def count(self) -> int:
        return self.x.shape[0]

    @classmethod
    def create(cls, x, volume, *, v=0.0, material=0, F=None, C=None) -> Particles:
        """Particles with defaults filled in: at rest, undeformed, all of the first material.

        Args:
            x: positions [m], (N, 3); its dtype (float32 or float64) is the dtype of the simulation.
            volume: [m^3], () or (N,).
            v: velocity [m/s], (), (3,) or (N, 3).
            material: index into the tuple of materials, () or (N,).
            F: initial deformation gradient, (3, 3) or (N, 3, 3); default identity.
            C: initial velocity gradient [1/s], (3, 3) or (N, 3, 3); default zero.

        Returns:
            The particles.

        Raises:
            ValueError: a shape or dtype does not fit, or a value is not finite, or a volume is not positive.

        >>> import jax.numpy as jnp
        >>> Particles.create(jnp.zeros((5, 3)), 1e-6, v=jnp.array([0.0, 0.0, -1.0])).v.shape
        (5, 3)
        """
        x = as_array(x)
        if x.ndim != 2 or x.shape[1] != 3 or x.shape[0] == 0 or not jnp.issubdtype(x.dtype, jnp.floating):
            raise ValueError(
                f"particles: x must be a floating array of shape (N, 3) with N > 0, got {x.dtype}{list(x.shape)}"
            )
        n = x.shape[0]

        def fill(name, value, shape, dtype=x.dtype):
            value = value if isinstance(value, (list, tuple)) else as_array(value, dtype)
            value = jnp.asarray(value, dtype)
            if value.shape == shape:
                return value
            try:  # in numpy, where a new N compiles nothing
                if is_concrete((x, value)):
                    return as_array(np.broadcast_to(np.asarray(value), shape))
                return jnp.broadcast_to(value, shape)
            except ValueError:
                raise ValueError(
                    f"particles: {name} of shape {list(value.shape)} does not broadcast to {list(shape)}; "
                    f"there are N={n} particles"
                ) from None

        eye = np.eye(3, dtype=x.dtype)
        index = as_array(material)
        if not jnp.issubdtype(index.dtype, jnp.integer):
            raise ValueError(f"particles: material must be an integer index per particle, got dtype {index.dtype}")
        new = cls(
            x=x,
            v=fill("v", v, (n, 3)),
            volume=fill("volume", volume, (n,)),
            material=fill("material", index, (n,), jnp.int32),
            F=fill("F", eye if F is None else F, (n, 3, 3)),
            C=fill("C", 0.0 if C is None else C, (n, 3, 3)),
        )
        if is_concrete(new):
            for name in ("x", "v", "volume", "F", "C"):
                bad = int(np.sum(~np.isfinite(np.asarray(getattr(new, name)))))
                if bad:
                    raise ValueError(f"particles: {name} has {bad} non-finite values; remove or repair them first")
            least = float(np.min(np.asarray(new.volume)))
            if least <= 0.0:
                raise ValueError(f"particles: volumes must be positive [m^3], the least is {least}")
        return new


@dataclasses.dataclass(frozen=True)
class Grid:
    """The background grid: an axis-aligned domain and a cell size. Static and hashable.

    Node i of an axis stands at lo + (i - PAD) dx, so a node lies on the lower face and PAD cells lie outside each face.
    """

    lo: tuple[float, float, float]  # lower corner of the domain [m]
    hi: tuple[float, float, float]  # upper corner of the domain [m]
    dx: float  # cell size [m]

    def __post_init__(self):
        object.__setattr__(self, "lo", tuple(float(a) for a in self.lo))
        object.__setattr__(self, "hi", tuple(float(a) for a in self.hi))
        if (
            len(self.lo) != 3
            or len(self.hi) != 3
            or self.dx <= 0
            or any(h - a < self.dx for a, h in zip(self.lo, self.hi))
        ):
            raise ValueError(
                f"grid: needs lo < hi by at least one cell on each axis and dx > 0, got lo={self.lo}, hi={self.hi}, "
                f"dx={self.dx}"
            )

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of nodes along each axis, padding included."""
        cells = (math.ceil((h - a) / self.dx - 1e-6) for a, h in zip(self.lo, self.hi))
        return tuple(c + 1 + 2 * PAD for c in cells)

    def nodes(self, dtype) -> tuple[jax.Array, jax.Array, jax.Array]:
        """World coordinates of the nodes [m], broadcastable: (nx, 1, 1), (1, ny, 1), (1, 1, nz)."""
        axes = []
        for d, (a, n) in enumerate(zip(self.lo, self.shape)):
            shape = [1, 1, 1]
            shape[d] = n
            axes.append(jnp.asarray(a + (np.arange(n) - PAD) * self.dx, dtype).reshape(shape))
        return tuple(axes)


@pytree
class Scene:
    """What acts on the particles from outside. Every number is a leaf, so gradients reach it."""

    gravity: Any = (0.0, 0.0, -9.81)  # [m/s^2], (3,)
    boundaries: tuple = ()  # objects of `boundary.py`, applied in order to the grid velocity
    forces: tuple = ()  # objects of `forces.py`, applied in order to the particles


GRADIENTS = ("exact", "forward", "last_substep")


@dataclasses.dataclass(frozen=True)
class Config:
    """How to integrate. Static and hashable: a new value compiles anew."""

    grid: Grid
    fps: float = 24.0  # saved frames per second
    frames: int = 24  # number of saved frames, at t = 1/fps, 2/fps, ...
    substeps: int | str = "auto"  # integration steps per frame, or "auto" for the least stable number
    max_substeps: int = 5000  # per frame; a demand above it is refused with its cause
    rpic_damping: float = 0.0  # 0: APIC, 1: RPIC; fraction of the symmetric part of C that is dropped
    gradient: str = "exact"  # "exact" reverse mode | "forward" mode | "last_substep" (the released codes' heuristic)
    window: int | None = None  # frames after which reverse mode is cut (truncated back-propagation); None: never
    checkpoint_bytes: int = 2**30  # budget for stored states in reverse mode, per device
    mesh: Mesh | None = None  # shards the particles over its "data" axis

    def __post_init__(self):
        if self.gradient not in GRADIENTS:
            raise ValueError(f"config: gradient must be one of {GRADIENTS}, got {self.gradient!r}")
        if self.frames < 1 or self.fps <= 0:
            raise ValueError(f"config: needs frames >= 1 and fps > 0, got frames={self.frames}, fps={self.fps}")
        if not (self.substeps == "auto" or (isinstance(self.substeps, int) and self.substeps >= 1)):
            raise ValueError(f"config: substeps must be a positive int or 'auto', got {self.substeps!r}")
        if not 0.0 <= self.rpic_damping <= 1.0:
            raise ValueError(f"config: rpic_damping must lie in [0, 1], got {self.rpic_damping}")
        if self.window is not None and self.window < 1:
            raise ValueError(f"config: window must be a positive number of frames or None, got {self.window}")


@pytree
class Status:
    """The first thing that went wrong in a rollout, if any."""

    code: jax.Array  # 0 fine, 1 non-finite, 2 particle outside the grid, 3 faster than one cell per substep
    substep: jax.Array  # substep at which it happened (-1: never), counted from the first
    reach: jax.Array  # greatest |v| dt / dx so far

    REASONS = (
        "fine",
        "a particle became non-finite: the step is too large for the stiffness, or a volume was inverted",
        "a particle left the grid: enlarge the domain or add Walls to scene.boundaries",
        "a particle moved more than one cell in one substep: use more substeps",
    )

    @classmethod
    def fine(cls, dtype) -> Status:
        return cls(jnp.int32(0), jnp.int32(-1), jnp.zeros((), dtype))

    def check(self) -> None:
        """Raises `SimulationError` when something went wrong."""
        code = int(np.max(np.asarray(self.code)))
        if code:
            step, reach = np.asarray(self.substep).max(), float(np.max(np.asarray(self.reach)))
            raise SimulationError(
                f"simulation failed at substep {step}: {self.REASONS[code]} (greatest speed so far: {reach:.3g} cells "
                "per substep)"
            )


@pytree
class State:
    """Everything that moves, component-major. A rollout resumes exactly from it."""

    x: jax.Array  # position [m], (3, N)
    v: jax.Array  # velocity [m/s], (3, N)
    C: jax.Array  # velocity gradient [1/s], (3, 3, N)
    F: jax.Array  # elastic deformation gradient, (3, 3, N)
    deformation: jax.Array | None  # total deformation gradient, (3, 3, N); None when not saved
    internal: tuple  # per law: hardening, damage, Jp, viscous strain
    aux: tuple  # per force: what it remembers of t = 0
    substep: jax.Array  # substeps done, () int32


@pytree
class Trajectory:
    """The saved frames of a rollout. Fields that were not asked for are None."""

    times: jax.Array  # [s], (T,)
    status: Status
    state: State  # the last state; `simulate(..., state=...)` goes on from it
    x: jax.Array | None = None  # [m], (T, N, 3)
    v: jax.Array | None = None  # [m/s], (T, N, 3)
    F: jax.Array | None = None  # total deformation gradient, (T, N, 3, 3)
    F_elastic: jax.Array | None = None  # (T, N, 3, 3)
    C: jax.Array | None = None  # velocity gradient [1/s], (T, N, 3, 3)
    energy: jax.Array | None = None  # elastic, per undeformed volume [J/m^3], (T, N)

    def check(self) -> Trajectory:
        """Raises `SimulationError` when the rollout went wrong, else returns itself."""
        self.status.check()
        return self
