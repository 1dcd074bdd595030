"""Gauss-Newton by forward mode against reverse mode and differences, what a scene can show, and stored searches."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from experiments.blocks import block
from jaxphys import mpm
from jaxphys.mpm.materials import Bound
from jaxphys.scenes import identify, search

RUBBER = mpm.materials.NeoHookean(density=1000.0, E=2e4, nu=0.3)
RANGES = {"E": Bound(2e3, 1e5, "Pa"), "nu": Bound(0.0, 0.45, "1", "linear")}
GRID = mpm.Grid((0, 0, 0), (0.6, 0.6, 0.6), 0.1)


def pose(ranges=RANGES, height=0.01, dtype=jnp.float32, frames=3, noise=0.0, **options):
    """A block of 27 particles that hits the floor, seen without or with noise."""
    body = block((0.2, 0.2, height), (0.35, 0.35, height + 0.15), 0.05, v=jnp.array([0.3, 0.0, -2.0]))
    body = jax.tree.map(lambda a: a.astype(dtype) if jnp.issubdtype(a.dtype, jnp.floating) else a, body)
    scene = mpm.Scene(boundaries=(mpm.Walls(GRID.lo, GRID.hi, friction=0.3),))
    config = mpm.Config(GRID, fps=frames / 0.08, frames=frames, substeps=48 // frames)
    blank = identify.Tracks(jnp.zeros((frames, 27, 3), dtype), 1e-3)
    posed = identify.problem(RUBBER, body, scene, config, blank, ranges, **options)
    x = mpm.simulate(RUBBER, body, scene, posed.config, save=("x",)).x
    x = x + noise * np.random.default_rng(0).standard_normal(x.shape)
    return dataclasses.replace(posed, seen=identify.Tracks(jnp.asarray(x, dtype), 1e-3))


def normal_equations(problem, z):
    """Of all frames, by the program that the fits run too, so that it is compiled once."""
    return search.evaluate(problem, [np.asarray(ravel_pytree(z)[0])], z, search.Stage(3), vmapped=False)[0]


def test_forward_mode_agrees_with_reverse_mode_and_with_differences(float64):
    problem = pose(dtype=jnp.float64)
    z = identify.encode(problem, {"E": 1e4, "nu": 0.2})
    normal = identify.normal_equations(problem, z, 3)
    value, slope = jax.jit(jax.value_and_grad(lambda z: identify.loss(problem, z, 3)))(z)
    count = problem.seen.x.size
    np.testing.assert_allclose(normal.cost, value * count, rtol=1e-9)
    np.testing.assert_allclose(normal.gradient, ravel_pytree(slope)[0] * count, rtol=1e-7)
    flat, unravel = ravel_pytree(z)
    residuals = jax.jit(lambda q: identify.residuals(problem, unravel(q), 3)[0])
    best = []
    for h in (1e-3, 1e-4, 1e-5, 1e-6):
        J = np.stack([np.asarray(residuals(flat + h * e) - residuals(flat - h * e)) / (2 * h) for e in np.eye(2)])
        best.append(np.max(np.abs(J @ J.T / normal.fisher - 1)))
    assert min(best) < 1e-6, best


def test_more_unknowns_than_go_at_once(monkeypatch):
    """Twenty unknowns, sixteen at a time, on residuals whose derivative is known."""
    rng = np.random.default_rng(0)
    A, z = rng.standard_normal((30, 20)), rng.standard_normal(20)
    monkeypatch.setattr(identify, "residuals", lambda problem, z, horizon, blur: (A @ jnp.sin(z), jnp.asarray(False)))
    normal = jax.jit(identify.normal_equations.__wrapped__, static_argnums=0)(None, jnp.asarray(z, jnp.float32), 3)
    r, J = A @ np.sin(z), A * np.cos(z)
    np.testing.assert_allclose(normal.cost, 0.5 * r @ r, rtol=1e-5)
    np.testing.assert_allclose(normal.gradient, J.T @ r, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(normal.fisher, J.T @ J, rtol=1e-4, atol=1e-4)


@pytest.mark.long
def test_tangents_in_groups_give_the_same(monkeypatch):
    problem = pose()
    z = identify.encode(problem, {"E": 1e4, "nu": 0.2})
    whole = normal_equations(problem, z)
    monkeypatch.setattr(identify, "TANGENTS", 1)
    grouped = jax.jit(identify.normal_equations.__wrapped__)(problem, z, 3)
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(grouped)):
        np.testing.assert_allclose(a, b, rtol=1e-4)


def test_what_never_deforms_shows_no_stiffness():
    problem = pose(height=0.42)
    z = identify.encode(problem, {"E": 1e4, "nu": 0.2})
    normal = normal_equations(problem, z)
    hidden = identify.unidentifiable(problem, [z], [normal.fisher], bar=0.05)
    assert set(hidden) == {"E", "nu"} and all(s > 1 for s in hidden.values())
    falls = pose()
    normal = normal_equations(falls, z)
    assert identify.unidentifiable(falls, [z], [normal.fisher], bar=0.05) == {}


def test_sigma_of_a_known_matrix():
    problem = pose()
    z = identify.encode(problem, {"E": np.sqrt(2e3 * 1e5), "nu": 0.225})  # z = 0: slopes are a quarter of the range
    sigma = identify.relative_sigma(problem, z, np.array([[4.0, 1.2], [1.2, 1.0]]))
    covariance = np.linalg.inv([[4.0, 1.2], [1.2, 1.0]])
    expected = np.sqrt(np.diag(covariance)) * [np.log(50) / 4, 0.45 / 4 / 0.225]
    np.testing.assert_allclose(sigma, expected, rtol=1e-5)
    assert np.isinf(identify.relative_sigma(problem, z, np.diag([1.0, 0.0]))[1])


@pytest.mark.parametrize("fits, least, most", [(50, 0.7, 1.35), pytest.param(400, 0.9, 1.1, marks=pytest.mark.long)])
def test_scatter_of_fits_is_what_the_fisher_matrix_predicts(fits, least, most):
    """Fits of one true scene with other noise: the mean squared error in units of its prediction is 1."""
    problem = pose()
    truth = identify.encode(problem, {"E": 2e4, "nu": 0.3})
    flat = np.asarray(ravel_pytree(truth)[0], np.float64)
    rng = np.random.default_rng(1)
    squares = []
    for _ in range(fits):
        x = problem.seen.x + 1e-3 * rng.standard_normal(problem.seen.x.shape).astype(np.float32)
        noisy = dataclasses.replace(problem, seen=identify.Tracks(x, 1e-3))
        start = search.Search.at(flat, normal_equations(noisy, truth))
        error = start.propose() - flat  # the search starts at the truth: one step leads to the answer
        squares.append(error @ start.fisher @ error / 2)
    assert least < np.mean(squares) < most  # chi-square with two degrees of freedom per fit, over these


def test_a_fit_from_noise_finds_the_truth_and_resumes_to_the_last_bit(tmp_path):
    problem = pose(noise=1e-3)
    starts = [identify.encode(problem, v) for v in ({"E": 2.5e3, "nu": 0.1}, {"E": 8e4, "nu": 0.1})]
    stages = (search.Stage(1, steps=0, keep=2), search.Stage(2, steps=5, keep=1), search.Stage(3))
    fit, stored = search.begin(starts), None
    while not search.done(fit, stages):
        fit = search.advance(problem, fit, starts[0], stages, vmapped=False)
        if stored is None and fit.stage == 1:
            search.store(tmp_path / "fit.npz", fit, note=np.arange(3))
            stored = fit
    resumed, extra = search.restore(tmp_path / "fit.npz")
    assert resumed.stage == 1 and extra["note"].tolist() == [0, 1, 2]
    while not search.done(resumed, stages):
        resumed = search.advance(problem, resumed, starts[0], stages, vmapped=False)
    np.testing.assert_array_equal(resumed.history, fit.history)
    np.testing.assert_array_equal(resumed.searches[resumed.best].z, fit.searches[fit.best].z)
    assert fit.evaluations == resumed.evaluations and list(fit.taken).count(search.GIVEN_UP) == 1
    best = fit.searches[fit.best]
    z = {name: jnp.float32(v) for name, v in zip(("E", "nu"), best.z)}
    values, sigma = identify.decode(problem, z), identify.relative_sigma(problem, z, best.fisher)
    for name, true, s in zip(("E", "nu"), (2e4, 0.3), sigma):
        assert abs(float(values[name]) / true - 1) < max(4 * s, 1e-3), (name, values[name], s)
    (tmp_path / "broken.npz").write_bytes(b"PK")
    with pytest.raises(ValueError, match="does not hold a stored fit"):
        search.restore(tmp_path / "broken.npz")


def test_starts_together_are_the_starts_alone():
    problem = pose()
    starts = [identify.encode(problem, v) for v in ({"E": 5e3, "nu": 0.1}, {"E": 5e4, "nu": 0.2})]
    flats = [np.asarray(ravel_pytree(z)[0]) for z in starts]
    together = search.evaluate(problem, flats, starts[0], search.Stage(3))
    alone = search.evaluate(problem, flats, starts[0], search.Stage(3), vmapped=False)
    for a, b in zip(together, alone):
        np.testing.assert_allclose(a.fisher, b.fisher, rtol=1e-3)


def test_velocity_gravity_and_parts():
    ranges = RANGES | {
        "velocity": Bound(-4.0, 4.0, "m/s", "linear"),
        "gravity": Bound(-12.0, 12.0, "m/s^2", "linear"),
    }
    problem = pose(ranges, part=np.arange(27) % 2)
    z = identify.encode(problem, {"E": [2e4, 2e4], "nu": 0.3, "velocity": [0.3, 0, -2.0], "gravity": [0, 0, -9.81]})
    r, failed = jax.jit(identify.residuals)(problem, z, 3)
    assert not failed and float(jnp.max(jnp.abs(r))) < 0.05  # the truth, in units of 1 mm
    assert identify.labels(problem, z)[:3] == ["E[0]", "E[1]", "gravity[0]"]
    other = identify.encode(problem, {"E": [1e4, 4e4], "nu": 0.3, "velocity": [0.3, 0, -2.0], "gravity": [0, 0, -9.81]})
    law, particles, scene = identify.substitute(problem, other)
    np.testing.assert_allclose(law.E[:4], [1e4, 4e4, 1e4, 4e4], rtol=1e-4)
    np.testing.assert_allclose(particles.v[5], [0.3, 0, -2.0], atol=1e-5)
    np.testing.assert_allclose(scene.gravity, [0, 0, -9.81], atol=1e-4)


def test_a_prior_joins_neighbours():
    problem = pose(smoothness=0.5, neighbours=3)
    z = {"E": jnp.zeros(27).at[4].set(1.0), "nu": jnp.float32(0.0)}
    r, _ = jax.jit(identify.residuals)(problem, z, 3)
    prior = np.asarray(r[problem.seen.x.size :])
    touching = np.sum(np.asarray(problem.pairs) == 4)
    assert len(prior) == len(problem.pairs) and touching >= 3
    assert np.sum(prior**2) == pytest.approx(touching / 0.5**2)


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(ranges={}), "no unknowns"),
        (dict(ranges={"yield_stress": Bound(1, 2, "Pa")}), "no parameter 'yield_stress'"),
        (dict(ranges={"E": Bound(1e3, np.inf, "Pa")}), "finite"),
        (dict(ranges={"E": Bound(0.0, 1e4, "Pa")}), "positive"),
        (dict(ranges={"gravity": Bound(1.0, 2.0, "m/s^2")}), "linear"),
        (dict(part=np.zeros(5, int)), "one index per particle"),
        (dict(ranges={"E": Bound(1e3, 1e9, "Pa")}), "substeps"),
    ],
)
def test_nonsense_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        pose(**change)


def test_values_on_the_end_of_a_range_are_refused():
    problem = pose()
    with pytest.raises(ValueError, match="strictly inside"):
        identify.encode(problem, {"E": 1e5, "nu": 0.3})
    with pytest.raises(ValueError, match="expected values of"):
        identify.encode(problem, {"E": 1e4})


def test_search_centres_what_has_no_effect_and_shortens_refused_steps():
    normal = identify.Normal(10.0, np.array([2.0, 0.0]), np.diag([1.0, 0.0]))
    start = search.Search.at(np.array([0.0, 2.5]), normal)
    z = start.propose()
    assert -1.0 <= z[0] < -0.7 and z[1] == pytest.approx(1.5)
    refused = start.advance(z, identify.Normal(np.inf, np.zeros(2), np.eye(2)))
    assert refused.cost == 10.0 and refused.damping > start.damping
    taken = start.advance(z, identify.Normal(8.5, np.array([1.0, 0.0]), np.diag([1.0, 0.0])))
    assert taken.cost == 8.5 and taken.damping < start.damping
    np.testing.assert_array_equal(taken.z, z)
