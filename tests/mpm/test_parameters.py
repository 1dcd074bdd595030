"""Unconstrained parameters: round trip, range, derivative, and what optax does with them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxphys.mpm.materials import Bound, Metal, NeoHookean, check
from jaxphys.mpm.parameters import constrain, evaluate_field, init_field, to_constrained, unconstrain
from jaxphys.tensor import Tensor3

RANGES = {"E": Bound(1e4, 1e7, "Pa")}


@pytest.mark.parametrize("ranges", [None, RANGES, {"E": Bound(1.0, np.inf, "Pa")}])
def test_round_trip(float64, laws, ranges):
    for name, law in laws.items():
        names = [n for n in law.bounds if np.all(np.asarray(getattr(law, n)) > law.bounds[n].lo)]
        names = [n for n in names if np.all(np.asarray(getattr(law, n)) < law.bounds[n].hi)]
        assert "density" in names, name
        used = ranges if "E" in law.bounds else None
        back = constrain(unconstrain(law, names, ranges=used), law, ranges=used)
        for n in names:
            np.testing.assert_allclose(getattr(back, n), getattr(law, n), rtol=1e-9)


def test_any_number_stays_physical(float64):
    law = Metal(density=1e3, E=1e5, nu=0.3, yield_stress=1e3)
    for z in (-30.0, -1.0, 0.0, 30.0):
        check(constrain({"E": jnp.array(z), "nu": jnp.array(z), "yield_stress": jnp.array(z)}, law))
    h, bound = 1e-6, RANGES["E"]
    slope = jax.grad(to_constrained)(0.3, bound)
    np.testing.assert_allclose(
        slope, (to_constrained(0.3 + h, bound) - to_constrained(0.3 - h, bound)) / (2 * h), rtol=1e-7
    )


def test_door():
    law = NeoHookean(density=1e3, E=1e5, nu=0.0)
    with pytest.raises(ValueError, match="NeoHookean has no parameter viscosity; it has density, E, nu"):
        unconstrain(law, ["viscosity"])
    with pytest.raises(ValueError, match=r"nu = 0 is not strictly inside \(0, 0.499\)"):
        unconstrain(law, ["nu"])
    with pytest.raises(ValueError, match="needs lo < hi"):
        constrain({"E": jnp.array(0.0)}, law, ranges={"E": Bound(0.0, 1.0, "Pa")})


def stress(law, F):
    return law.step(F, (), F * 0.0, 1e-3)[2][0, 0]


@pytest.mark.parametrize("kind", ["scalar", "part", "particle", "field"])
def test_optax_recovers_a_stiffness(kind):
    """Stresses of 40 stretched particles: E is 4e5 Pa on one side of the body and 1e6 Pa on the other."""
    x0 = jnp.asarray(np.random.default_rng(0).uniform(size=(40, 3)), jnp.float32)
    part = (x0[:, 0] > 0.5).astype(jnp.int32)
    F = Tensor3.diagonal((jnp.full(40, 1.05), jnp.ones(40), jnp.ones(40)))
    true = jnp.array([4e5, 4e5] if kind == "scalar" else [4e5, 1e6])[part]
    target = stress(NeoHookean(density=1e3, E=true, nu=0.3), F)
    law = NeoHookean(density=1e3, E=1e5, nu=0.3)
    start = unconstrain(law, ["E"], ranges=RANGES)["E"]
    field = init_field(["E"], length=0.3, key=jax.random.key(0))
    trained = {
        "scalar": start,
        "part": jnp.full(2, start),
        "particle": jnp.full(40, start),
        "field": field["weights"],
    }[kind]

    def model(trained):
        if kind == "field":
            z = start + evaluate_field({"fixed": field["fixed"], "weights": trained}, x0)["E"]
            return constrain({"E": z}, law, ranges=RANGES)
        return constrain({"E": trained}, law, ranges=RANGES, part=part if kind == "part" else None)

    np.testing.assert_allclose(jnp.broadcast_to(model(trained).E, 40), 1e5, rtol=1e-4)
    optimizer = optax.adam(0.03)

    @jax.jit
    def update(carry, _):
        trained, state = carry
        loss, g = jax.value_and_grad(lambda t: jnp.mean((stress(model(t), F) / target - 1) ** 2))(trained)
        change, state = optimizer.update(g, state)
        return (optax.apply_updates(trained, change), state), loss

    (trained, _), loss = jax.lax.scan(update, (trained, optimizer.init(trained)), length=300)
    assert loss[-1] < 1e-3 * loss[0]
    np.testing.assert_allclose(jnp.broadcast_to(model(trained).E, 40), true, rtol=0.1)
