"""Anatomical joint ranges, in swing-twist form.

A rotation is split into a twist about the bone and a swing across it: R = swing twist. The rotation vector of the swing
has two components across the bone, so a joint has three ranges, and none of them depends on the order of Euler angles.
The frames are SMPL's: x left, y up, z front, arms held out sideways in the zero pose.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

SOFTNESS = 0.05  # [rad] over which a limit sets in

# Degrees about x, y and z of the left side; the right side is its mirror image (y and z change sign). The axis in the
# first column is the bone: its range is the twist, the other two are the swing. Sources: A = American Academy of
# Orthopaedic Surgeons, The Clinical Measurement of Joint Motion (1994); N = Norkin and White, Measurement of Joint
# Motion, 5th ed. (2016), appendix; P = Panjabi and White, Clinical Biomechanics of the Spine, 2nd ed. (1990), table
# 2-3, sums over the vertebrae of a segment. Where the skeleton spreads one anatomical joint over several (spine over
# three, neck over two, shoulder over collar and shoulder, forearm rotation over elbow and wrist) the range is divided
# among them, and each gets half as much again, since none is bound to take an equal share.
RANGES: dict[str, tuple[str, tuple[float, float], tuple[float, float], tuple[float, float]]] = {
    # flexion 120 = -x, extension 30 (N); rotation 45 (A), abduction 45 and adduction 30 about z (A)
    "hip": ("y", (-125, 30), (-45, 45), (-30, 50)),
    # flexion 140 (A: 135, N: 140 to 150) = +x, hyperextension 5; rotation of the flexed knee 30; varus and valgus 8
    "knee": ("y", (-5, 150), (-30, 30), (-10, 10)),
    # dorsiflexion 20 (30 with the knee bent, under load) = -x, plantar flexion 50 (A), inversion 35, eversion 20 (A)
    "ankle": ("y", (-35, 50), (-25, 25), (-35, 35)),
    # extension of the toes 70 = -x, flexion 45 (A)
    "foot": ("z", (-80, 45), (-15, 15), (-20, 20)),
    # lumbar and thoracic spine: flexion 85, extension 30 (A), lateral bending 35, rotation 45 (A, P), over three joints
    "spine": ("y", (-20, 45), (-25, 25), (-20, 20)),
    # neck: flexion 50, extension 60, lateral bending 45, rotation 80 (A), over two joints
    "neck": ("y", (-45, 45), (-60, 60), (-35, 35)),
    "head": ("y", (-45, 45), (-60, 60), (-35, 35)),
    # shoulder girdle: elevation and protraction up to 30 (Inman 1944)
    "collar": ("x", (-30, 30), (-35, 35), (-25, 45)),
    # from the arm held out: rotation 90 both ways (A), forward 135 and back 45 (A: horizontal flexion and extension),
    # up 90 (the girdle gives the rest), down 90 and across the body 45 (A: adduction)
    "shoulder": ("x", (-100, 100), (-140, 50), (-110, 100)),
    # flexion 150 = -y (A), hyperextension 5; forearm rotation 80 both ways (A); the carrying angle 15
    "elbow": ("x", (-90, 90), (-155, 10), (-20, 20)),
    # flexion 80 and extension 70 about z (palm down), radial 20 and ulnar 30 about y (A); rest of the forearm rotation
    "wrist": ("x", (-60, 60), (-35, 35), (-85, 85)),
}
_AXES = "xyz"


def joint_ranges(names: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Twist axis and ranges of named joints; the root and joints without an entry of `RANGES` are free.

    Args:
        names: as `left_knee`, `spine2`, `head`.

    Returns:
        axis (J, 3) unit vectors along the bone, lower and upper (J, 3) bounds [rad] about x, y and z.

    >>> axis, lower, upper = joint_ranges(("pelvis", "left_knee"))
    >>> np.rad2deg(upper[1]).round().tolist()
    [150.0, 30.0, 10.0]
    """
    axis = np.tile(np.eye(3)[1], (len(names), 1))
    lower, upper = np.full((len(names), 3), -2 * np.pi), np.full((len(names), 3), 2 * np.pi)
    for j, name in enumerate(names):
        kind = name.removeprefix("left_").removeprefix("right_").rstrip("0123456789")
        if kind not in RANGES:
            continue
        bone, *ranges = RANGES[kind]
        axis[j] = np.eye(3)[_AXES.index(bone)]
        low, high = np.deg2rad(np.asarray(ranges, float)).T
        if name.startswith("right_"):
            low, high = np.where([True, False, False], low, -high), np.where([True, False, False], high, -low)
        lower[j], upper[j] = low, high
    return axis, lower, upper


def swing_twist(rotation: jax.Array, axis: jax.Array) -> jax.Array:
    """Components of swing and twist: q = q_swing q_twist, twist about `axis`, swing across it.

    The twist is the projection of the quaternion on the axis, q_twist ~ (w, (v.a) a) (Dobrowolski, Swing-twist
    decomposition in Clifford algebra, 2015). At a swing of 180 degrees the twist does not exist; 0 is returned there.

    Args:
        rotation: (..., 3) rotation vectors [rad].
        axis: (..., 3) unit vectors.

    Returns:
        (..., 3) [rad]: the rotation vector of the swing plus the twist angle times the axis.

    >>> swing_twist(jnp.array([0.0, 0.4, 0.0]), jnp.array([0.0, 1.0, 0.0])).round(6).tolist()
    [0.0, 0.4000000059604645, 0.0]
    """
    t2 = jnp.sum(rotation * rotation, -1)
    small = t2 < 1e-8
    t = jnp.sqrt(jnp.where(small, 1.0, t2))
    half = jnp.where(small, 0.5 - t2 / 48.0, jnp.sin(0.5 * t) / t)
    w = jnp.where(small, 1.0 - t2 / 8.0, jnp.cos(0.5 * t))
    sign = jnp.where(w < 0, -1.0, 1.0)
    w, v = sign * w, (sign * half)[..., None] * rotation
    along = jnp.sum(v * axis, -1)
    norm2 = w * w + along * along
    exists = norm2 > 1e-12
    inverse = jnp.where(exists, jax.lax.rsqrt(jnp.where(exists, norm2, 1.0)), 0.0)
    cos, sin = jnp.where(exists, w * inverse, 1.0), along * inverse
    twist = 2.0 * jnp.arctan2(sin, cos)
    # swing = q conj(twist): vector part across the axis, scalar part sqrt(norm2)
    across = v - along[..., None] * axis
    turned = jnp.stack(
        [
            across[..., 1] * axis[..., 2] - across[..., 2] * axis[..., 1],
            across[..., 2] * axis[..., 0] - across[..., 0] * axis[..., 2],
            across[..., 0] * axis[..., 1] - across[..., 1] * axis[..., 0],
        ],
        -1,
    )
    vector = cos[..., None] * across - sin[..., None] * turned
    s2 = jnp.sum(vector * vector, -1)
    near = s2 < 1e-8
    s = jnp.sqrt(jnp.where(near, 1.0, s2))
    scalar = jnp.sqrt(jnp.where(exists, norm2, 1e-12))
    angle_ratio = jnp.where(near, 2.0 / jnp.maximum(scalar, 0.5), 2.0 * jnp.arctan2(s, scalar) / s)
    return angle_ratio[..., None] * vector + twist[..., None] * axis


def excess(rotation: jax.Array, names: tuple[str, ...], allowance: jax.Array | float = 0.0) -> jax.Array:
    """Angle by which each joint leaves its range.

    sqrt(sum_i e_i^2), e_i = softness [softplus((x_i - upper_i) / softness) + softplus((lower_i - x_i) / softness)].

    Args:
        rotation: (..., J, 3) rotation vectors of the joints in their parents [rad].
        names: the J joints.
        allowance: (J, 3) or one number: widening of each range [rad], not less than 0.

    Returns:
        (..., J) [rad].

    >>> straight = jnp.zeros((2, 3))
    >>> names = ("left_knee", "left_elbow")
    >>> bent_back = straight.at[0, 0].set(np.deg2rad(-25.0))
    >>> np.rad2deg(excess(bent_back, names)).round(0).tolist()
    [20.0, 0.0]
    """
    axis, lower, upper = (jnp.asarray(a, rotation.dtype) for a in joint_ranges(names))
    x = swing_twist(rotation, axis)
    above = jax.nn.softplus((x - upper - allowance) / SOFTNESS)
    below = jax.nn.softplus((lower - allowance - x) / SOFTNESS)
    return SOFTNESS * jnp.sqrt(jnp.sum((above + below) ** 2, -1) + 1e-12)
