"""One instance of every law, and deformations that exercise it."""

import numpy as np
import pytest

from jaxphys.mpm.materials import create

SOLID = dict(density=1000.0, E=1e5, nu=0.3)
LIQUID = dict(density=1000.0, bulk_modulus=2e5)
CASES = {
    "fixed_corotated": SOLID,
    "neo_hookean": SOLID,
    "hencky": SOLID,
    "viscoelastic": SOLID | dict(mu_N=3e4, lam_N=4e4, viscosity=1e3),
    "metal": SOLID | dict(yield_stress=8e3, hardening=2e4),
    "plasticine": SOLID | dict(yield_stress=8e3, softening=3.0, damage=2.0),
    "foam": SOLID | dict(yield_stress=8e3, viscosity=100.0, exponent=0.7),
    "sand": SOLID | dict(friction_angle=30.0, cohesion=3e3),
    "snow": SOLID | dict(hardening=5.0, critical_compression=0.05, critical_stretch=0.03),
    "newtonian": LIQUID | dict(viscosity=5.0),
    "non_newtonian": LIQUID | dict(yield_stress=20.0, viscosity=3.0, exponent=0.6),
    "water": LIQUID,
}
COUNT = 96


def rotations(rng: np.random.Generator, n: int) -> np.ndarray:
    """(3, 3, n) random rotations."""
    Q, R = np.linalg.qr(rng.standard_normal((n, 3, 3)))
    Q = Q * np.sign(np.einsum("nii->ni", R))[:, None, :]
    Q[:, :, 0] *= np.linalg.det(Q)[:, None]
    return np.moveaxis(Q, 0, -1)


@pytest.fixture(scope="session")
def laws() -> dict:
    return {name: create(name, **parameters) for name, parameters in CASES.items()}


@pytest.fixture(scope="session")
def deformations() -> tuple[np.ndarray, np.ndarray]:
    """F (3, 3, 96): identity, a rotation, repeated stretches, small, moderate and large strains; and L [1/s]."""
    rng = np.random.default_rng(0)
    strain = rng.standard_normal((COUNT, 3)) * np.repeat([1e-3, 0.04, 0.15], COUNT // 3)[:, None]
    strain[[0, 1]] = 0.0
    strain[2:6] = [[0.02, 0.02, 0.02], [0.03, 0.03, -0.02], [-0.3, -0.3, 0.2], [0.1, -0.2, -0.2]]
    R, Q = rotations(rng, COUNT), rotations(rng, COUNT)
    R[:, :, 0], Q[:, :, 0] = np.eye(3), np.eye(3)
    F = np.einsum("ijn,nj,kjn,kln->iln", Q, np.exp(strain), Q, R)
    return F, rng.standard_normal((3, 3, COUNT)) * 3.0
