"""Derivatives of a step of every law with respect to everything it takes, against central differences in float64."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxphys.mpm.materials import LAWS, Foam, Metal, Sand
from jaxphys.tensor import Tensor3

DT = 1e-3
ALL = sorted(LAWS)


def outputs(law, F, internal, L):
    """One number per particle that mixes every component of stress (scaled by a modulus), F and internal state."""
    F, internal, tau = law.step(Tensor3.from_array(F), internal, Tensor3.from_array(L), DT)
    leaves = [*jax.tree.leaves(tau * 1e-5), *jax.tree.leaves(F), *jax.tree.leaves(internal)]
    return sum(np.cos(1.0 + 2.0 * k) * leaf for k, leaf in enumerate(leaves))


@jax.jit
def value_and_reverse(arguments):
    """In one program: values alone would be one more to compile."""
    result, pull = jax.vjp(lambda a: outputs(*a), arguments)
    return result, pull(jnp.ones_like(result))[0]


def value(arguments):
    return value_and_reverse(arguments)[0]


def reverse(arguments):
    return value_and_reverse(arguments)[1]


@jax.jit
def forward(arguments, direction):
    return jax.jvp(lambda a: outputs(*a), (arguments,), (direction,))[1]


def per_particle(law, n):
    return jax.tree.map(lambda a: jnp.full(n, a, float), law)


def prepare(laws, deformations, name):
    """Arguments with one parameter per particle, and an internal state that is not at rest."""
    F, L = (jnp.asarray(a) for a in deformations)
    law, n = per_particle(laws[name], F.shape[-1]), F.shape[-1]
    internal = law.init(F[0, 0])
    if name == "non_newtonian":  # yields at the rates of `deformations`, where the regularization still acts
        law = dataclasses.replace(law, regularization=jnp.full(n, 0.3))
    if name == "viscoelastic":
        internal = Tensor3.from_array(0.9 * F + 0.1 * jnp.eye(3)[:, :, None])
    elif isinstance(internal, jax.Array):
        internal = jnp.full(n, 0.01, float)
    return law, F, internal, L


def central(arguments, leaf, step):
    """d outputs / d leaf, all particles at once: a particle depends on its own values alone."""
    leaves, tree = jax.tree.flatten(arguments)
    h = step * max(float(jnp.abs(leaves[leaf]).max()), 1.0 if leaves[leaf].ndim == 3 else 0.0)
    shift = lambda s, index: tree.unflatten([a.at[index].add(s) if k == leaf else a for k, a in enumerate(leaves)])
    at = [(i, j) for i in range(3) for j in range(3)] if leaves[leaf].ndim == 3 else [...]
    columns = [(value(shift(h, index)) - value(shift(-h, index))) / (2 * h) for index in at]
    return np.stack(columns).reshape(leaves[leaf].shape)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", ALL)
def test_gradient(laws, deformations, name):
    arguments = prepare(laws, deformations, name)
    law, F, *_ = arguments
    if name in ("metal", "plasticine", "foam", "sand", "snow"):
        kept = law.step(Tensor3.from_array(F), law.init(F[0, 0]), Tensor3.from_array(arguments[3]), DT)[0].to_array()
        assert 0.2 < (np.abs(kept - F).max((0, 1)) > 0).mean() < 0.9  # it yields, but not everywhere
    exact, tree = jax.tree.flatten(reverse(arguments))
    names = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_flatten_with_path(arguments)[0]]
    for leaf, gradient in enumerate(exact):
        gradient = np.asarray(gradient)
        assert np.isfinite(gradient).all(), names[leaf]
        if names[leaf] == "[0].density":
            assert not gradient.any()  # the law gives stress per volume; density acts through the mass
            continue
        scale = np.abs(gradient).max()
        errors = [
            np.abs(central(arguments, leaf, h) - gradient).max() / max(scale, 1e-12) for h in (1e-3, 1e-4, 1e-5, 1e-6)
        ]
        assert min(errors) < 1e-6, (names[leaf], errors)
        # a velocity gradient acts only through viscosity or through the branch, max_hardening only at the cap
        acts = "max_hardening" not in names[leaf] and "[3]" not in names[leaf]
        assert scale > 0 or not acts, names[leaf]


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", ["foam", "metal", "sand", "snow", "viscoelastic"])
def test_forward_mode_is_the_transpose_of_reverse_mode(laws, deformations, name):
    arguments = prepare(laws, deformations, name)
    keys = jax.random.split(jax.random.key(0), len(jax.tree.leaves(arguments)))
    direction = jax.tree.unflatten(
        jax.tree.structure(arguments),
        [a * jax.random.normal(k, a.shape) for k, a in zip(keys, jax.tree.leaves(arguments))],
    )
    swept = sum(jnp.vdot(a, b) for a, b in zip(jax.tree.leaves(reverse(arguments)), jax.tree.leaves(direction)))
    np.testing.assert_allclose(jnp.sum(forward(arguments, direction)), swept, rtol=1e-9)


@pytest.mark.parametrize("name", ALL)
def test_float32_is_finite_at_rest(laws, name):
    """Value and gradient at F = I, at repeated stretches and at a rotation, in float32."""
    n = 4
    spin = np.array([[0.6, -0.8, 0], [0.8, 0.6, 0], [0, 0, 1]])
    F = np.stack([np.eye(3), 1.05 * np.eye(3), np.diag([0.8, 0.8, 1.3]), spin], -1).astype(np.float32)
    law = jax.tree.map(lambda a: jnp.full(n, a, jnp.float32), laws[name])
    if name == "sand":  # at the tip of the cone
        law = dataclasses.replace(law, cohesion=jnp.zeros(n, jnp.float32))
    arguments = (law, jnp.asarray(F), law.init(jnp.ones(n, jnp.float32)), jnp.zeros((3, 3, n), jnp.float32))
    result, gradient = value_and_reverse(arguments)
    assert result.dtype == jnp.float32
    for leaf in jax.tree.leaves((result, gradient)):
        assert leaf.dtype == jnp.float32 and np.isfinite(leaf).all()


@pytest.mark.usefixtures("float64")
def test_finite_at_the_yield_point():
    """The trial state exactly on the yield surface, from both sides of the kink."""
    solid = dict(density=1e3, E=1e5, nu=0.3)
    F = np.repeat(np.diag(np.exp([0.05, -0.05, 0.0]))[:, :, None], 96, -1)  # the shape that is compiled already
    strain, mu = 0.05 * np.sqrt(2), 1e5 / 2.6
    F[:, :, 1], F[:, :, 2] = np.eye(3), 0.9 * np.eye(3)
    for law in (
        Metal(**solid, yield_stress=2 * mu * strain * np.sqrt(1.5)),
        Metal(**solid, yield_stress=0.0),
        Foam(**solid, yield_stress=2 * mu * strain * np.sqrt(1.5), viscosity=1.0, exponent=0.4),
        Foam(**solid, yield_stress=2 * mu * strain * np.sqrt(1.5), viscosity=1.0, exponent=1.8),
        Foam(**solid, yield_stress=0.0, viscosity=1.0),
        Sand(**solid, friction_angle=30.0),
    ):
        law = per_particle(law, 96)
        arguments = (law, jnp.asarray(F), law.init(jnp.ones(96)), jnp.zeros((3, 3, 96)))
        for leaf in jax.tree.leaves(value_and_reverse(arguments)):
            assert np.isfinite(leaf).all(), type(law).__name__
