"""What every constitutive law has in common: the interface, parameter ranges, Hencky elasticity."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxphys.numerics import expm1_sym, log1p_sym, materialize
from jaxphys.pytree import pytree
from jaxphys.tensor import Tensor3


class Bound(NamedTuple):
    """Physical range of a parameter: what `check` accepts and what an optimiser searches."""

    lo: float
    hi: float
    unit: str
    scale: str = "log"  # "log" | "linear": how the range is searched
    zero: bool = False  # 0 is accepted too: it switches the effect off


DENSITY = Bound(1e-3, 1e5, "kg/m^3")
MODULUS = Bound(1e-1, 1e13, "Pa")
POISSON = Bound(0.0, 0.499, "1", "linear")
YIELD_STRESS = Bound(1e-3, 1e11, "Pa", zero=True)
VISCOSITY = Bound(1e-6, 1e10, "Pa s", zero=True)


def lame(E: jax.Array, nu: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Lame parameters mu = E / (2 (1 + nu)), lam = E nu / ((1 + nu) (1 - 2 nu)) [Pa].

    >>> lame(2.6, 0.3)
    (1.0, 1.5)
    """
    return E / (2.0 * (1.0 + nu)), E * nu / ((1.0 + nu) * (1.0 - 2.0 * nu))


@pytree(kw_only=True)
class Law:
    """Interface of a constitutive law. Every parameter is an array: a scalar, or one value per particle (N,).

    A law maps the trial elastic deformation gradient (I + dt L) F to the elastic deformation gradient it keeps and the
    Kirchhoff stress tau = J sigma. What it remembers beside F (hardening, damage, volume) is its internal state; its
    parameters never change. A state with det F <= 0 is not physical and gives a stress of NaN, never a plausible
    number.
    """

    density: jax.Array | float  # kg/m^3, at F = I

    bounds: ClassVar[dict[str, Bound]] = {"density": DENSITY}
    variants: ClassVar[tuple[str, ...]] = ("default",)

    def init(self, like: jax.Array) -> Any:
        """Internal state at t = 0, leaves of the shape and dtype of `like` (N,)."""
        return ()

    def step(self, F: Tensor3, internal: Any, L: Tensor3, dt: Any) -> tuple[Tensor3, Any, Tensor3]:
        """One step.

        Args:
            F: trial elastic deformation gradient (I + dt L) F.
            internal: state of the previous step.
            L: velocity gradient [1/s].
            dt: step [s].

        Returns:
            Elastic deformation gradient, internal state, Kirchhoff stress tau [Pa].
        """
        raise NotImplementedError

    def wave_modulus(self) -> jax.Array:
        """Greatest modulus M of a pressure wave near F = I [Pa]: the acoustic step limit is dx / sqrt(M / density).

        At a stretch s along the wave the front moves through the grid up to s times faster.
        """
        raise NotImplementedError

    def dynamic_viscosity(self) -> jax.Array:
        """Greatest dynamic viscosity that acts in parallel with the elasticity [Pa s]; 0 where there is none."""
        return jnp.zeros_like(jnp.asarray(self.density, float))

    def energy(self, F: Tensor3, internal: Any = None) -> jax.Array:
        """Elastic energy per undeformed volume Psi(F) [J/m^3], tau = dPsi/dF F^T; `internal=None`: as new."""
        raise NotImplementedError


@pytree(kw_only=True)
class ElasticLaw(Law):
    """A law with an isotropic elastic part given by Young's modulus and Poisson's ratio."""

    E: jax.Array | float  # Pa
    nu: jax.Array | float  # 1

    bounds: ClassVar[dict[str, Bound]] = {"density": DENSITY, "E": MODULUS, "nu": POISSON}

    @property
    def lame(self) -> tuple[jax.Array, jax.Array]:
        return lame(self.E, self.nu)

    def wave_modulus(self) -> jax.Array:
        mu, lam = self.lame
        return lam + 2.0 * mu


@pytree(kw_only=True)
class HenckyLaw(ElasticLaw):
    """A law whose elastic part is Hencky's: Psi = mu eps : eps + lam/2 tr(eps)^2 of the logarithmic strain eps."""

    def energy(self, F: Tensor3, internal: Any = None) -> jax.Array:
        eps, _ = log_strain(F)
        mu, lam = self.lame
        return mu * eps.inner(eps) + 0.5 * lam * eps.trace**2


def physical_det(F: Tensor3) -> jax.Array:
    """J = det F where it is positive, else NaN: an inverted particle must show."""
    J = F.det
    return jnp.where(J > 0, J, jnp.nan)


def log_strain(F: Tensor3) -> tuple[Tensor3, Tensor3]:
    """Spatial logarithmic strain eps = 1/2 log(F F^T), and its eigenvectors; NaN where det F <= 0.

    F F^T - I is formed from H = F - I, so a small strain keeps its relative precision in float32.
    """
    H = F.add_diagonal(-1.0)
    logarithm, Q = log1p_sym(materialize(H + H.T + H @ H.T))
    return (logarithm * 0.5).add_diagonal(jnp.where(F.det > 0, 0.0, jnp.nan)), Q


def restretch(F: Tensor3, change: Tensor3, Q: Tensor3) -> Tensor3:
    """exp(change) F: the gradient whose logarithmic strain is that of F plus a `change` coaxial with it.

    The rotation is kept, and F is kept to the last bit where `change` is 0, so that elastic particles do not drift.
    """
    return materialize(F + expm1_sym(materialize(change), Q) @ F)


def hencky_stress(eps: Tensor3, mu: jax.Array, lam: jax.Array) -> Tensor3:
    """Kirchhoff stress tau = 2 mu eps + lam tr(eps) I."""
    return (eps * (2.0 * mu)).add_diagonal(lam * eps.trace)


def times_stretch(tau: Tensor3, eps: Tensor3, Q: Tensor3) -> Tensor3:
    """tau V with V = exp(eps), as released codes return it (they compute U tau V^T F^T): too large by the stretch."""
    return (tau + tau @ expm1_sym(eps, Q)).sym


def check(material: Law, name: str = "material") -> None:
    """Raises ValueError for a parameter outside its range; values inside a trace are not looked at.

    >>> from jaxphys.mpm.materials import Hencky
    >>> check(Hencky(density=1000.0, E=-1.0, nu=0.3))
    Traceback (most recent call last):
    ValueError: material.E = -1 is outside [0.1, 1e+13] Pa
    """
    if material_variant := getattr(material, "variant", None):
        if material_variant not in material.variants:
            raise ValueError(f"{name}.variant = {material_variant!r} is unknown, choose one of {material.variants}")
    for field, bound in material.bounds.items():
        value = getattr(material, field)
        if isinstance(value, jax.core.Tracer):
            continue
        value = np.asarray(value)
        if value.dtype.kind not in "fiu":
            raise ValueError(f"{name}.{field} must be a real number or an array of them, got {value.dtype}")
        bad = ~((value >= bound.lo) & (value <= bound.hi) | (bound.zero & (value == 0)))
        if bad.any():
            worst = float(value[bad].flat[0]) if value.ndim else float(value)
            also = " (or 0)" if bound.zero and bound.lo > 0 else ""
            where = f" ({int(bad.sum())} of {value.size} particles)" if value.ndim else ""
            raise ValueError(
                f"{name}.{field} = {worst:g}{where} is outside [{bound.lo:g}, {bound.hi:g}]{also} {bound.unit}"
            )
