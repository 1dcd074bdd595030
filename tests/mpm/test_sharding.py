"""Eight virtual devices give the values and gradients of one.

In float64, so that the order of a sum cannot hide or fake a difference; the bar asked for is 1e-5.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from jaxphys import mpm
from jaxphys.sharding import make_mesh

GRID = mpm.Grid((0, 0, 0), (1, 1, 1), 1 / 8)
CONFIG = mpm.Config(GRID, fps=4.0, frames=2, substeps=25)


def cloud(n):
    """Particles that cross the whole domain and each other, in an order unrelated to where they are."""
    rng = np.random.default_rng(0)
    x = rng.uniform(0.3, 0.7, (n, 3))
    v = np.stack([1.0 * np.sign(0.5 - x[:, 0]), 0 * x[:, 0], 0 * x[:, 0]], 1)
    return mpm.Particles.create(jnp.asarray(x), 0.4**3 / n, v=v)


def loss(log_E, v, config, body):
    law = mpm.materials.NeoHookean(density=1000.0, E=1e4 * jnp.exp(log_E), nu=0.3)
    path = mpm.simulate(law, dataclasses.replace(body, v=body.v + v), mpm.Scene((0.0, 0.0, 0.0)), config, save=("x",))
    return jnp.mean(path.x[-1] ** 2), path.x


@pytest.mark.skipif(jax.device_count() < 8, reason="needs eight (virtual) devices, which conftest asks for")
@pytest.mark.parametrize("n", [203])
def test_particles_sharded_unevenly(float64, n):
    body = cloud(n)
    grad = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True), static_argnums=2)
    v = jnp.array([0.1, 0.0, 0.0])
    (one, x_one), (dE_one, dv_one) = grad(jnp.zeros(n), v, CONFIG, body)
    many = dataclasses.replace(CONFIG, mesh=make_mesh(data=8, devices=jax.devices()[:8]))
    (eight, x_eight), (dE_eight, dv_eight) = grad(jnp.zeros(n), v, many, body)
    np.testing.assert_allclose(eight, one, rtol=1e-10)
    np.testing.assert_allclose(x_eight, x_one, atol=1e-10)
    assert np.linalg.norm(dE_eight - dE_one) <= 1e-8 * np.linalg.norm(dE_one)
    assert np.linalg.norm(dv_eight - dv_one) <= 1e-8 * np.linalg.norm(dv_one)


def test_candidates_sharded_and_under_pmap(float64):
    body, n = cloud(64), 8
    value_and_grad = jax.value_and_grad(lambda E, v: loss(E, v, CONFIG, body)[0])
    E = jnp.linspace(-1.0, 1.0, n)
    v = jnp.zeros((n, 3))
    single = jax.jit(value_and_grad)
    pairs = [single(e, u) for e, u in zip(E, v)]
    want = [np.array(column) for column in zip(*pairs)]
    mesh = make_mesh(data=8, devices=jax.devices()[:8])
    place = NamedSharding(mesh, PartitionSpec("data"))
    sharded = jax.jit(jax.vmap(value_and_grad))(*jax.device_put((E, v), place))
    mapped = jax.pmap(value_and_grad)(E, v)
    for got in (sharded, mapped):
        for a, b in zip(got, want):
            assert np.linalg.norm(a - b) <= 1e-8 * np.linalg.norm(b)
