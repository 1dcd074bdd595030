"""Support: how far inside the support polygon a point lies, softly and without a convex hull.

The support function of a polygon is h(d) = max_k d.x_k, and the signed distance of a point c to its edge is
min_d [h(d) - d.c] over all directions d (exact inside; outside it is minus the distance). A foot that is up does not
support: a point that is higher than the lowest one loses reach and enters the maximum as d.x - lost (`lost_reach`).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

GRAVITY = 9.81  # [m/s^2]
UP = 0.03  # [m] above the lowest point: twice the 1 to 1.5 cm (rms) by which the feet of recovered poses err
SLOPE = 50.0  # [m] of reach lost per metre of height above that
WIDTH = 0.003  # [m] of height over which the loss sets in


def lost_reach(clearance: jax.Array) -> jax.Array:
    """What contact points lose of their reach by being up: SLOPE WIDTH softplus((z - z_lowest - UP) / WIDTH).

    Heights are compared with one another, because the ground's own height is the less certain one. A point below the
    ground counts as on it. A foot that is 4 cm up is half a metre out of the polygon.

    Args:
        clearance: (..., K) heights above the ground [m].

    Returns:
        (..., K) [m].

    >>> [round(float(x), 2) for x in lost_reach(jnp.array([-0.01, 0.01, 0.04]))]
    [0.0, 0.0, 0.51]
    """
    z = jnp.maximum(clearance, 0.0)
    return SLOPE * WIDTH * jax.nn.softplus((z - jnp.min(z, -1, keepdims=True) - UP) / WIDTH)


def support_margin(
    points: jax.Array, lost: jax.Array, target: jax.Array, *, directions: int = 64, softness: float | jax.Array = 0.002
) -> jax.Array:
    """Signed distance from `target` to the edge of the convex hull of contact points, positive inside.

    margin = min_d [softness logsumexp_k((d.x_k - lost_k) / softness) - d.c],  d at equal angles. An error of softness
    log K from the soft maximum and of (1 - cos(pi / directions)) of the distance from the directions remain.

    Args:
        points: (..., K, 2) contact points, or more columns, of which the first two are used [m].
        lost: (..., K) of their reach [m]: 0 for a point that supports, metres for one that does not.
        target: (..., 2) or more columns [m].
        directions: number of directions.
        softness: [m].

    Returns:
        (...) [m].

    >>> square = jnp.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    >>> round(float(support_margin(square, jnp.zeros(4), jnp.array([0.5, 0.7]))), 2)
    0.3
    >>> round(float(support_margin(square, jnp.array([0.0, 0.0, 0.5, 0.5]), jnp.array([0.5, 0.7]))), 1)
    -0.2
    """
    angle = np.arange(directions) * (2.0 * np.pi / directions)
    cos, sin = (jnp.asarray(f(angle), points.dtype) for f in (np.cos, np.sin))
    x = points[..., 0] - target[..., 0, None]
    y = points[..., 1] - target[..., 1, None]
    reach = x[..., None, :] * cos[:, None] + y[..., None, :] * sin[:, None] - lost[..., None, :]
    return softness * jnp.min(jax.nn.logsumexp(reach / softness, axis=-1), axis=-1)


def extrapolated_com(com: jax.Array, velocity: jax.Array, height: jax.Array) -> jax.Array:
    """Extrapolated centre of mass x + v / omega, omega = sqrt(g / l): where a pendulum of length l would stop.

    Hof, Gazendam and Sinke, The condition for dynamic stability, J. Biomechanics 38 (2005), equation 5.

    Args:
        com: (..., 3) centre of mass [m].
        velocity: (..., 3) [m/s].
        height: (...) of the centre of mass above the ground [m]; at least 0.1 m is used.

    Returns:
        (..., 2) [m].

    >>> round(float(extrapolated_com(jnp.zeros(3), jnp.array([1.0, 0.0, 0.0]), jnp.array(0.981))[0]), 3)
    0.316
    """
    omega = jnp.sqrt(GRAVITY / jnp.maximum(height, 0.1))
    return com[..., :2] + velocity[..., :2] / omega[..., None]


def zero_moment_point(force: jax.Array, moment: jax.Array, origin: jax.Array, ground_height: jax.Array) -> jax.Array:
    """Point of the ground where a single contact force could give this wrench: the required centre of pressure.

    x = o_x + (-M_y + F_x (h - o_z)) / F_z, y = o_y + (M_x + F_y (h - o_z)) / F_z (Vukobratovic and Borovac 2004), with
    F_z bounded from below by a tenth of its mean size, for flight.

    Args:
        force: (T, 3) [N].
        moment: (T, 3) about `origin` [N m].
        origin: (T, 3) [m].
        ground_height: [m].

    Returns:
        (T, 2) [m].

    >>> F, M = jnp.array([[0.0, 0.0, 10.0]]), jnp.array([[0.0, -2.0, 0.0]])
    >>> round(float(zero_moment_point(F, M, jnp.zeros((1, 3)), 0.0)[0, 0]), 3)
    0.2
    """
    down = ground_height - origin[..., 2]
    least = 0.1 * jnp.mean(jnp.abs(force[..., 2]), -1, keepdims=True) + 1e-6
    vertical = jnp.maximum(force[..., 2], least)
    x = origin[..., 0] + (-moment[..., 1] + force[..., 0] * down) / vertical
    y = origin[..., 1] + (moment[..., 0] + force[..., 1] * down) / vertical
    return jnp.stack([x, y], -1)
