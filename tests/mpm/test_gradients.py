"""Gradients of a rollout against central differences, in the smallest form of experiments/cases/gradients.py."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from experiments.cases import gradients
from jaxphys import mpm


@pytest.mark.parametrize("name", gradients.LAWS)
def test_gradient_of_every_parameter_through_yield_and_contact(float64, name):
    errors = gradients.check(name, substeps=25)
    assert errors.pop("busy") > 0.2
    assert max(errors.values()) <= 1e-4, errors


def test_gradients_are_finite_at_the_identity():
    law = mpm.materials.FixedCorotated(density=1000.0, E=1e5, nu=0.3)
    body = mpm.Particles.create(jnp.full((8, 3), 0.5) + 0.01 * jnp.eye(8, 3), 1e-4)
    config = mpm.Config(gradients.GRID, fps=100.0, frames=1, substeps=5)

    def loss(E, F):
        start = dataclasses.replace(body, F=F)
        return jnp.sum(mpm.simulate(dataclasses.replace(law, E=E), start, mpm.Scene(), config).F ** 2)

    grads = jax.jit(jax.grad(loss, argnums=(0, 1)))(1e5, body.F)
    assert all(bool(jnp.isfinite(g).all()) for g in jax.tree.leaves(grads))


def test_modes_of_differentiation(float64):
    """Forward mode and two-level checkpoints equal reverse mode; truncation and the last-substep heuristic do not."""
    law = mpm.materials.create("neo_hookean", **gradients.LAWS["neo_hookean"])  # compiles in a third of metal's time
    side = jnp.arange(4) / 16
    x = jnp.stack(jnp.meshgrid(side + 0.4, side + 0.4, side + 0.02, indexing="ij"), -1).reshape(-1, 3)
    body = mpm.Particles.create(x, 0.0625**3, v=jnp.array([0.5, 0.0, -2.0]))
    scene = mpm.Scene(boundaries=(gradients.WALLS,))

    def loss(log_E, **options):
        config = mpm.Config(gradients.GRID, fps=50.0, frames=2, substeps=9, **options)
        E = 4e4 * jnp.exp(log_E)
        path = mpm.simulate(dataclasses.replace(law, E=E), body, scene, config, save=("x",))
        return jnp.mean(path.x[-1] ** 2)

    def reverse(**options):
        return float(jax.jit(jax.grad(lambda e: loss(e, **options)))(0.0))

    exact, two_level, window, last = (
        reverse(),
        reverse(checkpoint_bytes=1),
        reverse(window=1),
        reverse(gradient="last_substep"),
    )
    forward = float(jax.jit(lambda e: jax.jvp(lambda e: loss(e, gradient="forward"), (e,), (1.0,))[1])(0.0))
    assert abs(forward / exact - 1) < 1e-9
    assert abs(two_level / exact - 1) < 1e-12
    assert abs(window / exact - 1) > 1e-3
    assert abs(last / exact - 1) > 1e-3
