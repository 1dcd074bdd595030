"""Distances of segments and capsules, and what they do at the points where a formula could fail."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

from jaxphys.body import forward, humanoid, so3
from jaxphys.body.self_contact import candidates, clearance, penetration, segment_distance, tree_distance

FEW = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}  # compiles sooner, runs slower


def random_segments(n, seed=0):
    return np.random.default_rng(seed).normal(size=(4, n, 3))


def test_distance_agrees_with_minimisation_over_both_segments(float64):
    p1, q1, p2, q2 = random_segments(40)
    distance = segment_distance(*map(jnp.asarray, (p1, q1, p2, q2)))
    for k in range(40):

        def squared(x, k=k):
            return np.sum((p1[k] + x[0] * (q1 - p1)[k] - p2[k] - x[1] * (q2 - p2)[k]) ** 2)

        best = min(minimize(squared, start, bounds=[(0, 1)] * 2, tol=1e-14).fun for start in ((0, 0), (1, 1), (0, 1)))
        assert float(distance[k]) == pytest.approx(np.sqrt(best), abs=1e-6)


def test_points_parallels_and_swaps(float64):
    p1, q1, p2, q2 = map(jnp.asarray, random_segments(20, seed=1))
    np.testing.assert_allclose(segment_distance(p1, p1, p2, p2), jnp.linalg.norm(p1 - p2, axis=-1), atol=1e-6)
    away = jnp.array([0.0, 0.0, 0.7])
    np.testing.assert_allclose(segment_distance(p1, q1, p1 + away, q1 + away)[:1] <= 0.7 + 1e-9, True)
    flat = jnp.array([1.0, 1.0, 0.0])
    np.testing.assert_allclose(
        segment_distance(p1 * flat, q1 * flat, p1 * flat + away, q1 * flat + away), 0.7, atol=1e-9
    )
    one = segment_distance(p1, q1, p2, q2)
    np.testing.assert_allclose(segment_distance(q2, p2, q1, p1), one, atol=1e-9)


def test_gradient_is_finite_where_it_does_not_exist(float64):
    o, x, y = jnp.zeros(3), jnp.array([1.0, 0.0, 0.0]), jnp.array([0.0, 1.0, 0.0])
    for ends in ((-x, x, -y, y), (o, x, o, x), (o, o, o, o), (o, x, y, x + y)):
        for g in jax.grad(lambda *e: segment_distance(*e), argnums=(0, 1, 2, 3))(*ends):
            assert np.all(np.isfinite(g))


def test_pairs_of_neighbours_do_not_count():
    body = humanoid()
    mask = candidates(body)
    far = tree_distance(body.parents)
    for i, j in np.argwhere(mask):
        assert far[body.capsule_body[i], body.capsule_body[j]] >= 3 and i < j
    knee, foot = body.index("left_knee"), body.index("left_foot")
    assert not mask[knee, foot] and mask[foot, body.index("right_foot")]
    assert mask.sum() == 227


def test_depth_grows_with_overlap_and_its_gradient_is_that_of_differences(float64):
    body = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), humanoid())
    mask = candidates(body)
    shoulder = body.index("left_shoulder")

    def depth(angle):  # the left arm is lowered from the side into the hip
        w = jnp.zeros((24, 3)).at[shoulder, 2].set(-angle)
        return penetration(clearance(body, *forward(body, so3.exp(w), jnp.zeros(3))), jnp.zeros((24, 24)), mask)

    both = jax.jit(jax.value_and_grad(depth), compiler_options=FEW)
    value = lambda angle: float(both(angle)[0])
    angles = np.deg2rad([0.0, 95.0, 105.0, 115.0])
    depths = [value(a) for a in angles]
    assert depths[0] < 1e-3 and np.all(np.diff(depths) > 1e-3)
    for a in angles[1:]:
        slope = float(both(a)[1])
        errors = [abs((value(a + h) - value(a - h)) / (2 * h) - slope) for h in (1e-4, 1e-5, 1e-6)]
        assert min(errors) < 1e-6 * abs(slope)
    # what clean motion is allowed takes exactly that much away
    d = jnp.full((24, 24), -0.02)
    assert float(penetration(d, jnp.full((24, 24), 0.02), mask)) == pytest.approx(
        float(penetration(d * 0, jnp.zeros((24, 24)), mask)), abs=1e-12
    )
