"""The soft support polygon against scipy's hull; points of balance against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial import ConvexHull

from jaxphys.body.balance import extrapolated_com, lost_reach, support_margin, zero_moment_point


def hull_margin(points, target):
    """Signed distance to the edge of the hull, positive inside."""
    corners = points[ConvexHull(points).vertices]
    ends = np.roll(corners, -1, 0)
    edge = ends - corners
    t = np.clip(np.sum((target - corners) * edge, -1) / np.sum(edge * edge, -1), 0, 1)
    distance = np.linalg.norm(corners + t[:, None] * edge - target, axis=-1).min()
    cross = edge[:, 0] * (target - corners)[:, 1] - edge[:, 1] * (target - corners)[:, 0]
    return distance if np.all(cross > 0) else -distance


def feet(rng):
    """Two soles of a person, at random places."""
    sole = np.array([[-0.03, -0.07], [0.03, -0.07], [-0.04, 0.12], [0.05, 0.12], [-0.04, 0.18], [0.04, 0.18]])
    return np.concatenate([sole + rng.normal(size=2) * 0.2 for _ in range(2)])


def test_margin_is_that_of_the_convex_hull():
    rng = np.random.default_rng(0)
    cases = [(feet(rng), rng.normal(size=2) * 0.25) for _ in range(300)]
    points, targets = (jnp.asarray(np.stack(a), jnp.float32) for a in zip(*cases))
    soft = np.asarray(support_margin(points, jnp.zeros(points.shape[:2]), targets))
    exact = np.array([hull_margin(p, t) for p, t in cases])
    error = np.abs(soft - exact)
    assert error.mean() < 0.004 and error.max() < 0.02
    clear = np.abs(exact) > 0.015
    assert clear.sum() > 200 and np.all(np.sign(soft[clear]) == np.sign(exact[clear]))


@pytest.mark.parametrize(("height", "supports"), [(0.0, 1.0), (0.02, 0.9), (0.032, 0.5), (0.05, 0.0), (0.3, 0.0)])
def test_a_raised_foot_does_not_support(height, supports):
    sole = feet(np.random.default_rng(1))
    sole[6:] += sole[:6].mean(0) + np.array([0.3, 0.0]) - sole[6:].mean(0)  # a step of 30 cm
    one, both = (hull_margin(sole[:k], sole[6:].mean(0)) for k in (6, 12))
    up = jnp.zeros(12).at[6:].set(height)
    margin = float(support_margin(jnp.asarray(sole), lost_reach(up), jnp.asarray(sole[6:].mean(0))))
    if supports > 0.8:
        assert margin == pytest.approx(both, abs=0.02)
    elif supports > 0.0:  # on the threshold: neither
        assert one + 0.05 < margin < both - 0.05
    else:
        assert margin == pytest.approx(one, abs=0.01) and margin < -0.1


def test_only_differences_of_height_count_and_depth_does_not():
    z = jnp.array([0.0, 0.025, 0.035, 0.2])
    np.testing.assert_allclose(lost_reach(z + 0.1), lost_reach(z), atol=1e-4)
    np.testing.assert_allclose(lost_reach(jnp.array([-0.03, 0.0])), lost_reach(jnp.zeros(2)), atol=1e-6)


def test_margin_does_not_depend_on_place_and_turns_by_little():
    rng = np.random.default_rng(2)
    points, target = feet(rng), np.array([0.1, 0.05])
    value = float(support_margin(jnp.asarray(points), jnp.zeros(12), jnp.asarray(target)))
    for angle in (0.3, 1.1, 2.9):
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        moved = support_margin(jnp.asarray(points @ turn.T + 3.0), jnp.zeros(12), jnp.asarray(turn @ target + 3.0))
        assert float(moved) == pytest.approx(value, abs=2e-3)


def test_margin_gradient_is_that_of_differences_also_for_coincident_points(float64):
    points = jnp.asarray(feet(np.random.default_rng(3)))
    heights = jnp.linspace(0.002, 0.05, 12)
    target = jnp.array([0.3, 0.1])
    value = lambda points, heights, target: support_margin(points, lost_reach(heights), target)
    gradient = jax.grad(value, argnums=(0, 1, 2))(points, heights, target)
    direction = jax.tree.map(lambda a: jnp.cos(jnp.arange(a.size, dtype=a.dtype)).reshape(a.shape), gradient)
    exact = sum(jnp.sum(g * d) for g, d in zip(gradient, direction))

    def along(h):
        return value(*(a + h * d for a, d in zip((points, heights, target), direction)))

    errors = [abs(float((along(h) - along(-h)) / (2 * h) - exact)) for h in (1e-5, 1e-6, 1e-7)]
    assert min(errors) < 1e-6 * max(1.0, abs(float(exact)))
    same = jax.grad(value, argnums=(0, 1, 2))(points * 0, heights * 0, target * 0)
    assert all(np.all(np.isfinite(g)) for g in same)


def test_point_of_balance_of_a_standing_and_of_a_walking_pendulum(float64):
    # a rod of length l that falls about the origin: the extrapolated centre of mass moves away as exp(omega t)
    l, g = 0.9, 9.81
    omega = np.sqrt(g / l)
    x, v = 0.02, 0.05
    t = np.linspace(0, 0.3, 4)
    com = np.stack([x * np.cosh(omega * t) + v / omega * np.sinh(omega * t), 0 * t, l + 0 * t], -1)
    velocity = np.stack([x * omega * np.sinh(omega * t) + v * np.cosh(omega * t), 0 * t, 0 * t], -1)
    moved = extrapolated_com(jnp.asarray(com), jnp.asarray(velocity), jnp.full(4, l))
    np.testing.assert_allclose(moved[:, 0], (x + v / omega) * np.exp(omega * t), rtol=1e-12)


def test_zero_moment_point_is_where_the_forces_act(float64):
    rng = np.random.default_rng(4)
    where = np.concatenate([rng.normal(size=(6, 2)), np.full((6, 1), 0.3)], -1)
    force = np.stack([*rng.normal(size=(2, 6)) * 50, rng.uniform(300, 900, 6)], -1)
    origin = rng.normal(size=(6, 3)) + [0, 0, 1]
    moment = np.cross(where - origin, force)
    found = zero_moment_point(*map(jnp.asarray, (force, moment, origin)), 0.3)
    np.testing.assert_allclose(found, where[:, :2], atol=1e-9)
