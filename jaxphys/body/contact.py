"""Contact forces: what the ground gives to the feet, and what it cannot give.

The root's force F and moment M of the inverse dynamics must come from the ground. Each sole point k may push with a
force f_k in a friction pyramid, more easily the more certain its contact is (weight a_k). Per frame

    min over f_k in cone   |F - sum f_k|^2 / (m g)^2 + |M - sum (x_k - p_0) x f_k|^2 / (m g L)^2
                           + d^2 sum over feet of |horizontal moment of the foot's force about V|^2 / (m g l)^2
                           + e sum over edges of lambda^2 / a_k,          f_k = sum over edges of lambda (m g) (edge)

with leg length l. The wrench that no f explains is the residual: the hand of God. The third term decides what no
equation of motion sees, how two feet share the load: in double support they push against each other, so that each
force points to a virtual pivot V above the centre of mass. Its constants come from the literature, not from a fit:

    V      the forces of walking people meet 5 to 70 cm above the centre of mass (Maus et al. 2010, Nature
           Communications 1:70), those of runners below it; the geometric middle of the former is 0.19 m or 0.21 leg
           lengths
    d, L   a force and moment residual of 5 % of body weight and 1 % of body weight times the height of the centre of
           mass pass as good inverse dynamics (Hicks et al. 2015, J. Biomech. Eng. 137, 020905): L is a fifth of that
           height, which is a quarter of the leg. Directions to V explain more than 97.5 % of the variance of measured
           ones on level ground (Vielemeyer et al. 2019, J. Exp. Biol. 222, jeb204305): 15 % of a standard deviation of
           about 0.15 rad is 0.02 body weights, and about twice that where V is not fitted to the person. So a direction
           is as certain as the wrench: d = 1

Soft constraint forces of a simulator are no substitute on recovered motion: one centimetre of floor changes them
fiftyfold. Here the height of the ground enters through the smooth weights only.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxphys.body import so3
from jaxphys.body.inverse import GRAVITY, Dynamics, differences
from jaxphys.body.kinematics import points, subtree
from jaxphys.body.motion import check_fps
from jaxphys.body.skeleton import Skeleton
from jaxphys.checks import check_number
from jaxphys.pytree import pytree, static

LEAST_WEIGHT = 1e-8
FIRST_BARRIER, BARRIER_DECAY, LAST_BARRIER = 1e-2, 0.3, 1e-7
# Loads differ by 1e4 and more in stiffness, so what they do together is a small difference of great ones: float32 keeps
# two digits in one solution of the derivative's equations, and five or six where the rest is solved for twice more.
REFINEMENTS = 2
TO_BOUNDARY = 0.95  # share of the way to the boundary that one interior point step may take


@pytree
class ContactOptions:
    """Constants of the contact model; numbers, so one may differentiate with respect to them."""

    friction: Any = 0.8  # Coulomb coefficient; rubber on a dry floor 0.5 to 1
    height: Any = 0.04  # [m] above the ground at which contact is as likely as not; depth from video errs by as much
    height_width: Any = 0.008  # [m]
    speed: Any = 0.8  # [m/s] at which a point is as likely fixed as not; a sole rolls at 0.2 to 0.6
    speed_width: Any = 0.12  # [m/s]
    pivot: Any = 0.21  # height of V above the centre of mass, in leg lengths
    direction: Any = 1.0  # d
    arm: Any = 0.25  # L, in leg lengths
    effort: Any = 1e-3  # e
    steps: int = static(default=16)  # of the interior point method


@pytree
class Ground:
    """A horizontal ground, estimated from the feet that stand on it: absolute floating cannot be seen with it."""

    height: Any  # [m]
    spread: Any  # median distance of the lowest resting points from it [m]; centimetres on stairs and rough terrain


@pytree
class Contact:
    """Contact forces and what they leave unexplained, per frame. K sole points, left foot first; then the palms'."""

    point: Any  # [m] (T, K, 3)
    velocity: Any  # [m/s] (T, K, 3)
    clearance: Any  # height above the ground [m] (T, K); 0 without a ground
    weight: Any  # certainty of contact, in (0, 1) (T, K)
    force: Any  # on the body, in the world [N] (T, K, 3)
    torque: Any  # of each joint, in the axes of its body [N m] (T, J, 3); root: the residual moment
    residual_force: Any  # in the world [N] (T, 3)
    residual_moment: Any  # about the root joint, in the world [N m] (T, 3)
    airborne: Any  # 1 where every point is clear of the ground, whatever its speed (T,)


def sole_motion(skeleton: Skeleton, dynamics: Dynamics, fps, *, hands: bool = False) -> tuple[jax.Array, jax.Array]:
    """Positions [m] and velocities [m/s] of the sole points, with `hands` followed by the palms': (T, K, 3) each.

    >>> from jaxphys.body import Motion, humanoid, inverse_dynamics
    >>> body, still = humanoid(), Motion(jnp.zeros((5, 24, 3)), jnp.ones((5, 3)))
    >>> sole_motion(body, inverse_dynamics(body, still, 30.0), 30.0)[0].shape
    (5, 12, 3)
    """
    check_fps("sole_motion", fps)
    local, body = skeleton.sole, skeleton.sole_body
    if hands:
        local, body = jnp.concatenate([jnp.asarray(a) for a in (local, skeleton.palm)]), body + skeleton.palm_body
    x = points(skeleton, dynamics.R, dynamics.p, local, body)
    return x, differences(x, fps)[0]


def _median(x: jax.Array, weight: jax.Array) -> jax.Array:
    """Weighted median of (T,) numbers, linear between them."""
    order = jnp.argsort(x)
    x, weight = x[order], weight[order]
    upto = jnp.cumsum(weight) - 0.5 * weight
    return jnp.interp(0.5 * jnp.sum(weight), upto, x)


def estimate_ground(point: jax.Array, velocity: jax.Array) -> Ground:
    """Height of a flat ground: weighted median of each frame's lowest point, weight = how much at rest it is.

    Flight and swing do not count, because no low point rests then, and up to half of the others may be wrong.

    Args:
        point: (T, K, 3) [m].
        velocity: (T, K, 3) [m/s].

    Returns:
        Ground, differentiable.

    >>> x = jnp.zeros((9, 2, 3)).at[:, 1, 2].set(0.5).at[:3, 0, 2].set(0.2)
    >>> round(float(estimate_ground(x, jnp.zeros_like(x)).height), 6)
    0.0
    """
    lowest = jnp.argmin(point[..., 2], -1)[:, None]
    z = jnp.take_along_axis(point[..., 2], lowest, -1)[:, 0]
    speed2 = jnp.take_along_axis(jnp.sum(velocity**2, -1), lowest, -1)[:, 0]
    weight = 1e-3 + jax.nn.sigmoid((0.4 - jnp.sqrt(speed2 + 1e-6)) / 0.1)
    height = _median(z, weight)
    return Ground(height, _median(jnp.abs(z - height), weight))


# The interior point method works on components: a vector is a list of three arrays (feet, points, T), frames last, so
# that every operation is elementwise over frames. A wrench (force, moment / L) is a list of six arrays (feet, T). Both
# hands together count as a third foot, whose row about V is 0.


def _sum(x: jax.Array) -> jax.Array:
    """Sum over the points of a foot."""
    return jnp.sum(x, -2)


def _cross(a: list, b: list) -> list:
    return [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]


def _forces(lam, friction) -> list:
    """Forces of edge loads (4, feet, points, T)."""
    return [friction * (lam[0] - lam[1]), friction * (lam[2] - lam[3]), lam[0] + lam[1] + lam[2] + lam[3]]


def _wrench(lam, r: list, friction) -> list:
    """J lambda: each foot's wrench."""
    f = _forces(lam, friction)
    return [_sum(x) for x in f + _cross(r, f)]


def _transposed(z, r: list, friction) -> jax.Array:
    """J^T z (4, feet, points, T) of six arrays (feet, T)."""
    z = [x[..., None, :] for x in z]
    h = [a + b for a, b in zip(z[:3], _cross(z[3:], r))]
    return jnp.stack([h[2] + friction * h[0], h[2] - friction * h[0], h[2] + friction * h[1], h[2] - friction * h[1]])


def _about_pivot(w, c: list) -> list:
    """Q w: horizontal moment about V, scaled, of a wrench; c (feet, T): the scaled p_0 - V, the scale of the moment."""
    return [c[3] * w[3] + c[1] * w[2] - c[2] * w[1], c[3] * w[4] + c[2] * w[0] - c[0] * w[2]]


def _about_pivot_transposed(y: list, c: list) -> list:
    """Q^T y."""
    return [c[2] * y[1], -c[2] * y[0], c[1] * y[0] - c[0] * y[1], c[3] * y[0], c[3] * y[1], jnp.zeros_like(y[0])]


def _gram(inverse, r: list, friction) -> jax.Array:
    """S = J diag(inverse) J^T of each foot (6, 6, feet, T)."""
    x, y = friction * (inverse[0] - inverse[1]), friction * (inverse[2] - inverse[3])
    xx, yy = (friction * friction * (inverse[k] + inverse[k + 1]) for k in (0, 2))
    o, zz = jnp.zeros_like(x), inverse[0] + inverse[1] + inverse[2] + inverse[3]
    A = [[xx, o, x], [o, yy, y], [x, y, zz]]  # one point's forces; symmetric, so rows are columns
    rA = [_cross(r, column) for column in A]  # rA[j][i] = (r x column j)_i
    rAr = [_cross(r, [rA[j][i] for j in range(3)]) for i in range(3)]
    ff = [[_sum(A[i][j]) for j in range(3)] for i in range(3)]
    mf = [[_sum(rA[j][i]) for j in range(3)] for i in range(3)]
    mm = [[_sum(rAr[i][j]) if i <= j else None for j in range(3)] for i in range(3)]
    rows = [ff[i] + [mf[j][i] for j in range(3)] for i in range(3)]
    rows += [mf[i] + [mm[min(i, j)][max(i, j)] for j in range(3)] for i in range(3)]
    return jnp.stack([jnp.stack(row) for row in rows])


def _linear_solve(A, b):
    """x (n, T) of A x = b, A (n, n, T) symmetric positive definite: elimination without pivots, frames side by side."""
    M, rows = jnp.concatenate([A, b[:, None]], 1), []
    while len(M):
        rows.append(M[0])
        M = M[1:, 1:] - (M[1:, 0] / M[0, 0])[:, None] * M[0, 1:]
    x = rows[-1][1:] / rows[-1][0]
    for row in reversed(rows[:-1]):
        x = jnp.concatenate([((row[-1] - jnp.sum(row[1:-1] * x, 0)) / row[0])[None], x])
    return x


def _newton(inverse, rhs, r, c, friction):
    """(diag(1 / inverse) + G^T G)^-1 rhs, G the rows of the least squares problem.

    Woodbury with the rows about V of each foot eliminated first (2 by 2), which leaves one 6 by 6 system per frame.
    """
    S = _gram(inverse, r, friction)
    u, v = _about_pivot(S, c)  # rows of Q S, (6, feet, T) each
    (uu, uv), (_, vv) = _about_pivot(u, c), _about_pivot(v, c)
    a, d = 1.0 + uu, 1.0 + vv
    determinant = a * d - uv * uv

    def small(y, z):  # (I + Q S Q^T)^-1 (y, z)
        return (d * y - uv * z) / determinant, (a * z - uv * y) / determinant

    Bu, Bv = small(u, v)
    feet = lambda x: jnp.sum(x, -2)
    A = feet(S - u[:, None] * Bu - v[:, None] * Bv) + jnp.eye(6, dtype=S.dtype)[..., None]
    t = jnp.stack(_wrench(inverse * rhs, r, friction))
    y, z = small(*_about_pivot(t, c))
    x = _linear_solve(A, feet(t - u * y - v * z))[:, None]  # (6, 1, T)
    y, z = small(*_about_pivot(t - jnp.sum(S * x, 1), c))
    return inverse * (rhs - _transposed(x + jnp.stack(_about_pivot_transposed([y, z], c)), r, friction))


def _gradient(lam, problem):
    """Derivative of half the objective with respect to the edge loads."""
    r, c, b, damping, friction = problem
    w = _wrench(lam, r, friction)
    error = [jnp.sum(u, -2, keepdims=True) - v[..., None, :] for u, v in zip(w, b)]
    pivot = _about_pivot_transposed(_about_pivot(w, c), c)
    return _transposed([u + v for u, v in zip(error, pivot)], r, friction) + damping * lam


def _longest(x, dx):
    """Greatest step in (0, 1] that keeps x positive, per frame."""
    ratio = jnp.where(dx < 0, -x / jnp.where(dx < 0, dx, -1.0), jnp.inf)
    return jnp.minimum(1.0, TO_BOUNDARY * jnp.min(ratio, axis=(-4, -3, -2)))


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _solve(problem, steps: int):
    """Edge loads (4, feet, points, T) [body weights] at the last barrier of a fixed schedule.

    Primal-dual interior point without a stopping rule, so that the result is a smooth function of the problem. Its
    derivative is that of one Newton step at the solution with the matrix held fixed (implicit function theorem), solved
    with iterative refinement: the iterations are not differentiated.
    """
    return _interior_point(problem, steps)[0]


def _interior_point(problem, steps: int):
    """Edge loads and their multipliers."""
    r, c, _, damping, friction = problem
    n = damping.shape[0] * damping.shape[1] * damping.shape[2]

    def step(state, barrier):
        lam, s = state
        pull = barrier / lam
        d_lam = _newton(1.0 / (damping + s / lam), pull - _gradient(lam, problem), r, c, friction)
        d_s = pull - s - s / lam * d_lam
        return (lam + _longest(lam, d_lam) * d_lam, s + _longest(s, d_s) * d_s), None

    barriers = np.maximum(FIRST_BARRIER * BARRIER_DECAY ** np.arange(steps), LAST_BARRIER)
    start = (jnp.full_like(damping, 1.0 / n), jnp.full_like(damping, 0.1))
    return jax.lax.scan(step, start, jnp.asarray(barriers, damping.dtype))[0]


def _solve_forward(problem, steps: int):
    lam, s = _interior_point(problem, steps)
    return lam, (problem, lam, s)


def _solve_backward(steps: int, kept, cotangent):
    problem, lam, s = kept
    r, c, b, damping, friction = problem
    diagonal = damping + s / lam
    solve = functools.partial(_newton, 1.0 / diagonal, r=r, c=c, friction=friction)  # symmetric: its own transpose
    u = solve(cotangent)
    for _ in range(REFINEMENTS):
        u = u + solve(cotangent - _gradient(u, (r, c, [jnp.zeros_like(x) for x in b], diagonal, friction)))
    return jax.vjp(lambda problem: _gradient(lam, problem), problem)[1](-u)


_solve.defvjp(_solve_forward, _solve_backward)


def _check(skeleton: Skeleton, ground_height, fps, options: ContactOptions, hands: bool) -> None:
    check_fps("contact_forces", fps)
    if ground_height is not None:
        check_number("contact_forces", "ground_height", ground_height)
    for name in ("friction", "height_width", "speed_width", "arm", "effort"):
        check_number("contact_forces", name, getattr(options, name), above=0.0)
    if options.steps < 1:
        raise ValueError(f"contact_forces: steps must be at least 1, got {options.steps}")
    sole, palm = len(skeleton.sole_body), len(skeleton.palm_body)
    if sole % 2 or (hands and 2 * palm != sole):
        raise ValueError(
            f"contact_forces: both feet need as many sole points and both hands together as many palm points as one "
            f"foot, got {sole} and {palm} in all"
        )


def contact_forces(
    skeleton: Skeleton,
    dynamics: Dynamics,
    ground_height,
    fps,
    *,
    options: ContactOptions | None = None,
    hands: bool = False,
) -> Contact:
    """Contact forces that explain a motion as far as the ground can (the problem at the top of the file).

    a_k = sigmoid((height - z_k) / height_width) sigmoid((speed - |v_k|) / speed_width), z_k above the ground.

    Args:
        skeleton: the body.
        dynamics: from `inverse_dynamics`, T frames.
        ground_height: of a level ground [m]; None: no ground is known, and every slow sole point may carry load.
        fps: frames per second.
        options: constants of the model.
        hands: whether the palms may carry load too, as in a cartwheel; half as much more work.

    Returns:
        Contact, differentiable (in reverse mode) with respect to skeleton, dynamics, ground height and options.

    Raises:
        ValueError: fps or an option is not a positive number, or the ground height no number.

    >>> from jaxphys.body import Motion, humanoid, inverse_dynamics
    >>> body = humanoid(height=1.8, mass=70.0)
    >>> upright = jnp.zeros((5, 24, 3)).at[:, 0, 0].set(jnp.pi / 2)
    >>> stand = Motion(upright, jnp.zeros((5, 3)).at[:, 2].set(1.8 * 0.578))  # the pelvis 0.578 of stature high
    >>> solve = lambda motion: contact_forces(body, inverse_dynamics(body, motion, 30.0), 0.0, 30.0)
    >>> contact = jax.eval_shape(solve, stand)
    >>> contact.force.shape, contact.torque.shape  # of 12 sole points and 24 joints
    ((5, 12, 3), (5, 24, 3))
    """
    options = ContactOptions() if options is None else options
    _check(skeleton, ground_height, fps, options, hands)
    return _contact(skeleton, dynamics, ground_height, fps, options, hands)


@functools.partial(jax.jit, static_argnums=5)  # one program also where the caller is not compiled
def _contact(
    skeleton: Skeleton, dynamics: Dynamics, ground_height, fps, options: ContactOptions, hands: bool
) -> Contact:
    x, v = sole_motion(skeleton, dynamics, fps, hands=hands)
    slow = jax.nn.sigmoid((options.speed - jnp.sqrt(jnp.sum(v * v, -1) + 1e-8)) / options.speed_width)
    if ground_height is None:
        clearance, near = jnp.zeros_like(slow), jnp.ones_like(slow)
    else:
        clearance = x[..., 2] - ground_height
        near = jax.nn.sigmoid((options.height - clearance) / options.height_width)
    weight = near * slow

    frames, count = slow.shape
    weight_n = skeleton.total_mass * GRAVITY
    leg = skeleton.leg_length
    arm = options.arm * leg
    root = dynamics.p[:, 0]
    pivot = dynamics.com + jnp.zeros(3, x.dtype).at[2].set(options.pivot * leg)
    by_foot = lambda a: jnp.moveaxis(a, 0, -1).reshape(2 + hands, -1, frames)
    r = [by_foot((x[..., k] - root[:, None, k]) / arm) for k in range(3)]
    scale = options.direction / leg * jnp.asarray([1.0, 1.0, 0.0][: 2 + hands], x.dtype)[:, None]
    c = [scale * (root[:, k] - pivot[:, k]) for k in range(3)] + [jnp.broadcast_to(scale * arm, (2 + hands, frames))]
    b = [dynamics.root_force[:, k] / weight_n for k in range(3)]
    b += [dynamics.root_moment[:, k] / (weight_n * arm) for k in range(3)]
    damping = options.effort / (by_foot(weight) + LEAST_WEIGHT)
    problem = (r, c, b, jnp.broadcast_to(damping, (4, *damping.shape)), jnp.asarray(options.friction, x.dtype))
    lam = _solve(problem, options.steps)
    f = weight_n * jnp.stack(_forces(lam, problem[-1]), -1)  # (feet, points, T, 3)
    f = jnp.moveaxis(f.reshape(count, frames, 3), 0, 1)

    # moment about each joint of the contact forces on all that hangs on it, about the root first for the digits
    body = skeleton.sole_body + (skeleton.palm_body if hands else ())
    S = jnp.asarray(subtree(skeleton.parents)[:, list(body)], x.dtype)
    total = jnp.einsum("jk,tkc->tjc", S, jnp.concatenate([so3.cross(x - root[:, None], f), f], -1))
    moment = total[..., :3] - so3.cross(dynamics.p - root[:, None], total[..., 3:])
    return Contact(
        point=x,
        velocity=v,
        clearance=clearance,
        weight=weight,
        force=f,
        torque=dynamics.torque - so3.matvec_t(dynamics.R, moment),
        residual_force=dynamics.root_force - total[:, 0, 3:],
        residual_moment=dynamics.root_moment - moment[:, 0],
        airborne=jnp.prod(1.0 - near, -1),
    )
