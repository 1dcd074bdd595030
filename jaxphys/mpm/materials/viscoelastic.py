"""Finite viscoelasticity."""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from jaxphys.mpm.materials.base import (
    MODULUS,
    Bound,
    ElasticLaw,
    hencky_stress,
    log_strain,
    restretch,
)
from jaxphys.mpm.materials.elastic import NeoHookean
from jaxphys.pytree import pytree
from jaxphys.tensor import Tensor3


@pytree(kw_only=True)
class Viscoelastic(ElasticLaw):
    """Neo-Hookean equilibrium with one Maxwell branch in parallel: tau = tau_eq(F) + tau_N(F_N).

    Govindjee and Reese 1998, "A theory of finite viscoelasticity". The branch is a Hencky spring, tau_N = 2 mu_N eps_N
    + lam_N tr(eps_N) I, in series with a dashpot of the given viscosity, and it relaxes at the rates

        d dev(eps_N)/dt = -(mu_N / viscosity) dev(eps_N),   d tr(eps_N)/dt = -(K_N / viscosity) tr(eps_N),

    K_N = lam_N + 2/3 mu_N, which the step integrates exactly: any viscosity is stable, and a held shear stress falls as
    exp(-t mu_N / viscosity). (Physics3D's constant `v` is twice this viscosity.) Internal state: F_N, the elastic
    deformation gradient of the branch, I at t = 0.
    """

    mu_N: jax.Array | float  # Pa, shear modulus of the branch
    lam_N: jax.Array | float  # Pa, first Lame parameter of the branch
    viscosity: jax.Array | float  # Pa s, of the dashpot

    bounds: ClassVar[dict[str, Bound]] = ElasticLaw.bounds | {
        "mu_N": MODULUS,
        "lam_N": MODULUS._replace(zero=True),
        "viscosity": Bound(1e-6, 1e12, "Pa s"),
    }

    @property
    def equilibrium(self) -> NeoHookean:
        return NeoHookean(density=self.density, E=self.E, nu=self.nu)

    def init(self, like: jax.Array) -> Tensor3:
        return Tensor3.identity(like)

    def step(self, F: Tensor3, internal: Tensor3, L: Tensor3, dt: Any) -> tuple[Tensor3, Tensor3, Tensor3]:
        F_N = internal + (L @ internal) * dt
        eps, Q = log_strain(F_N)
        shear = jnp.expm1(-dt * self.mu_N / self.viscosity)
        volume = jnp.expm1(-dt * (self.lam_N + self.mu_N * (2.0 / 3.0)) / self.viscosity)
        change = (eps.dev * shear).add_diagonal(eps.trace * volume / 3.0)
        _, _, tau = self.equilibrium.step(F, (), L, dt)
        return F, restretch(F_N, change, Q), tau + hencky_stress(eps + change, self.mu_N, self.lam_N)

    def wave_modulus(self) -> jax.Array:
        return super().wave_modulus() + self.lam_N + 2.0 * self.mu_N

    def energy(self, F: Tensor3, internal: Any = None) -> jax.Array:
        psi = self.equilibrium.energy(F)
        if internal is None:
            return psi
        eps, _ = log_strain(internal)
        return psi + self.mu_N * eps.inner(eps) + 0.5 * self.lam_N * eps.trace**2
