"""Hyperelastic laws. mu and lam are the Lame parameters, F = V R, b = F F^T, J = det F."""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from jaxphys.mpm.materials.base import (
    ElasticLaw,
    HenckyLaw,
    hencky_stress,
    log_strain,
    physical_det,
    times_stretch,
)
from jaxphys.numerics import principal_values, rotate_back
from jaxphys.pytree import pytree, static
from jaxphys.tensor import Tensor3, polar_rotation


@pytree(kw_only=True)
class FixedCorotated(ElasticLaw):
    """Fixed corotated elasticity: Psi = mu |F - R|^2 + lam/2 (J - 1)^2, tau = 2 mu (F - R) F^T + lam J (J - 1) I.

    Stomakhin et al. 2012, "Energetically consistent invertible elasticity". R is the rotation of the polar
    decomposition.

    >>> round(FixedCorotated(density=1000.0, E=1e5, nu=0.3).wave_modulus(), 1)
    134615.4
    """

    def step(self, F: Tensor3, internal: Any, L: Tensor3, dt: Any) -> tuple[Tensor3, Any, Tensor3]:
        mu, lam = self.lame
        J = physical_det(F)
        tau = ((F - polar_rotation(F)) @ F.T * (2.0 * mu)).sym
        return F, internal, tau.add_diagonal(lam * J * (J - 1.0))

    def energy(self, F: Tensor3, internal: Any = None) -> jax.Array:
        mu, lam = self.lame
        J, D = physical_det(F), F - polar_rotation(F)
        return mu * D.inner(D) + 0.5 * lam * (J - 1.0) ** 2


@pytree(kw_only=True)
class NeoHookean(ElasticLaw):
    """Compressible neo-Hookean elasticity: tau = mu (b - I) + lam ln(J) I.

    Psi = mu/2 (tr b - 3) - mu ln J + lam/2 ln(J)^2 (Bonet and Wood 2008, eq. 6.28). Softer than the other laws in
    strong compression along one axis, stiffer in volume: the energy goes to infinity as J -> 0.

    `variant="released"`: mu J^(-2/3) dev(b) + lam/2 (J^2 - 1) I with the smallest principal stretch replaced by the
    middle one in b, times the stretch, as the MotionPhysics code computes it. Its derivative holds the principal
    directions fixed.
    """

    variant: str = static(default="default")
    variants: ClassVar[tuple[str, ...]] = ("default", "released")

    def step(self, F: Tensor3, internal: Any, L: Tensor3, dt: Any) -> tuple[Tensor3, Any, Tensor3]:
        mu, lam = self.lame
        if self.variant == "released":
            return F, internal, self._released_stress(F)
        H = F.add_diagonal(-1.0)
        strain = H + H.T + H @ H.T  # b - I without cancellation
        return F, internal, (strain * mu).add_diagonal(lam * jnp.log(physical_det(F)))

    def _released_stress(self, F: Tensor3) -> Tensor3:
        mu, lam = self.lame
        eps, Q = log_strain(F)
        J, e = physical_det(F), principal_values(eps, Q)
        smallest = jnp.minimum(jnp.minimum(e[0], e[1]), e[2])
        middle = e[0] + e[1] + e[2] - smallest - jnp.maximum(jnp.maximum(e[0], e[1]), e[2])
        b = tuple(jnp.exp(2.0 * jnp.where(x == smallest, middle, x)) for x in e)
        mean = (b[0] + b[1] + b[2]) / 3.0
        shear, pressure = mu * J ** (-2.0 / 3.0), 0.5 * lam * (J * J - 1.0)
        return times_stretch(rotate_back(tuple(shear * (x - mean) + pressure for x in b), Q), eps, Q)

    def energy(self, F: Tensor3, internal: Any = None) -> jax.Array:
        mu, lam = self.lame
        H, log_J = F.add_diagonal(-1.0), jnp.log(physical_det(F))
        return mu * (0.5 * H.inner(H) + H.trace - log_J) + 0.5 * lam * log_J**2


@pytree(kw_only=True)
class Hencky(HenckyLaw):
    """Hencky elasticity: tau = 2 mu eps + lam tr(eps) I with eps = 1/2 log(b); Psi = mu eps : eps + lam/2 tr(eps)^2.

    Hencky 1928; Xiao and Chen 2002. The elastic part of the plastic laws: there a return map is linear in eps.

    `variant="released"`: tau V, too large by the principal stretch, as warp-mpm and its descendants compute it.
    """

    variant: str = static(default="default")
    variants: ClassVar[tuple[str, ...]] = ("default", "released")

    def step(self, F: Tensor3, internal: Any, L: Tensor3, dt: Any) -> tuple[Tensor3, Any, Tensor3]:
        eps, Q = log_strain(F)
        tau = hencky_stress(eps, *self.lame)
        return F, internal, tau if self.variant == "default" else times_stretch(tau, eps, Q)
