"""Ten measures of what is wrong with a motion, each in a physical unit per frame, and the scores made of them.

| axis | score | per frame |
|---|---|---|
| kinematic | angular_velocity | joint rates, and angles above `CUTOFF`, over what each joint does in clean motion |
| | self_penetration | depth by which capsules of the body overlap [m] |
| | joint_limits | angle by which joints leave their anatomical range [rad] |
| contact | sliding | horizontal speed of the point that ought to hold still: the stillest near the ground [m/s] |
| | penetration | depth of the body below the ground [m]; of a foot, the mean over its sole points |
| | floating | force that is needed while nothing touches the ground [body weights]; 0 in free fall |
| | balance | distance of the zero moment point from the support polygon, times load and certainty [m body weights] |
| dynamic | torque | joint moments over what each joint needs in clean motion |
| | ground_force | force that the feet cannot give (pull, beyond friction), its size, and its rate [body weights] |
| | effort | sum of |moment x rate| over joints [W/kg] |

Lengths, and speeds, moments (over m g) and powers (over m g per second) with them, are measured in leg lengths, written
as those of a body whose leg is `LEG`: the same joint angles at the same times are as good at every height. Times are
not scaled, and forces stay forces over body weight, so what gravity decides is judged as it is: a motion that is taken
over by a taller body has to be faster in body heights per second to fly as high.

Where the zero moment point is not under the centre of mass, accelerations decide where it is, and they are less certain
than positions: beyond `SURE` the distance of `balance` comes to count a half.

A sunk body has whole feet in the ground, but in clean recordings it is toes that dip, because few markers show how they
bend: so a foot is as deep as its points are on average. And a force may rise fast where a foot lands or leaves the
ground, but not faster than muscles work (`ACTIVE`) where neither is near.

A clip's value x is a power mean over its frames, of an order (`ORDERS`) by which a short fault counts while the length
of the clip does not. The score is s = 1 / (1 + (x / h)^p), with h, the value that halves it, set by a rule from the
values of clean motion (`assets/phymotion.json` says which clips, which rule, which code). The order of the scores is
`NAMES`.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.resources
import json
import operator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxphys.body import so3
from jaxphys.body.balance import lost_reach, support_margin, zero_moment_point
from jaxphys.body.contact import Contact, ContactOptions, contact_forces, estimate_ground, sole_motion
from jaxphys.body.inverse import GRAVITY, Dynamics, differences, from_trajectory
from jaxphys.body.kinematics import points
from jaxphys.body.limits import excess
from jaxphys.body.motion import Motion, check_fps, check_motion
from jaxphys.body.resample import smoothing
from jaxphys.body.self_contact import candidates, clearance, penetration
from jaxphys.body.skeleton import Skeleton
from jaxphys.checks import check_number, is_concrete
from jaxphys.numerics import safe_sqrt
from jaxphys.pytree import pytree, static

AXES = {
    "kinematic": ("angular_velocity", "self_penetration", "joint_limits"),
    "contact": ("sliding", "penetration", "floating", "balance"),
    "dynamic": ("torque", "ground_force", "effort"),
}
NAMES = tuple(name for names in AXES.values() for name in names)
RATE = 30.0  # [1/s] at which everything is evaluated, whatever the frame rate
CUTOFF = 6.0  # [Hz]; what is faster counts as jitter
# Of the power mean over samples: 1 for what must last to matter (a landing foot slips for an instant), 8 for peaks.
ORDERS = dict.fromkeys(NAMES, 4) | {"sliding": 1, "penetration": 1, "balance": 2, "torque": 2, "ground_force": 8}
TISSUE = 0.03  # [m] by which parts other than feet may sink into the ground: flesh gives way, and capsules are thick
MOVED = tuple(range(22))  # joints whose jitter and depth count: hands are not recovered
FAR = 1.0  # [m] out of the support: farther counts as much
SURE = 0.025  # [m] from the centre of mass to the zero moment point: what an error of 0.25 m/s^2 at 1 m height makes
ENDS = 2  # samples at either end of a clip that do not count
LEG = 0.859  # [m] thigh and shank of `humanoid()`
LEVER = 0.05  # [s] a point at height z ranks behind one on the ground that moves by z / LEVER


@pytree
class Calibration:
    """Constants from clean motion; `calibration()` gives the shipped ones."""

    half: Any  # clip values that halve each score (10,)
    power: Any  # p, steepness of the scores
    rate: Any  # joint rate that is fast for each joint [rad/s] (J,)
    jitter: Any  # angle above `CUTOFF` that is much for each joint, rms over a clip [rad] (J,)
    jitter_all: Any  # geometric mean of that over all joints that is much [rad]
    moment_axes: Any  # moment about each axis that is great for each joint, per body mass [N m/kg] (J, 3)
    range_allowance: Any  # widening of the joint ranges [rad] (J, 3)
    overlap_allowance: Any  # overlap of two capsules that clean motion shows [m] (C, C)
    version: int = static(default=0)

    @property
    def moment(self) -> jax.Array:
        """Length of `moment_axes` [N m/kg] (J,)."""
        return norm(self.moment_axes)


@pytree
class Quantities:
    """What was measured, per sample at `RATE`, in physical units."""

    time: Any  # [s] (n,)
    dynamics: Dynamics
    contact: Contact
    jitter: Any  # rms angle of each joint above `CUTOFF` over the clip [rad] (J,)
    limit_excess: Any  # angle beyond the widened range [rad] (n, J)
    self_depth: Any  # [m] (n,)
    slip: Any  # [m/s] (n,)
    depth: Any  # [m] (n,)
    unsupported: Any  # force needed in the air [body weights] (n,)
    tipping: Any  # out of the support, with load and certainty [m body weights] (n,)
    moment: Any  # of each joint over body mass [N m/kg] (n, J)
    moment_axes: Any  # the same, in the axes of its body (n, J, 3)
    force: Any  # that the ground must give [body weights] (n, 3)
    planted: Any  # 1 where the body is not in the air from `BEFORE` to `AFTER` this sample; 0 without a ground (n,)
    missing: Any  # force that feet on the ground cannot give [body weights] (n,)
    force_rate: Any  # [body weights / s] (n,)
    power: Any  # [W/kg] (n,)
    root_jitter: Any  # rms of the root's position above `CUTOFF` over the clip [m]
    size: Any  # leg length over `LEG`
    other_support: Any  # 1 where hands, knees or trunk are on the ground, whose forces are not modelled (n,)
    ground: Any  # height [m]
    ground_spread: Any  # [m], 0 where the ground is given


def by_joint(table: dict, names: tuple[str, ...], rest) -> np.ndarray:
    """One row per joint from a table by kind of joint (`knee` for both knees); `rest` for kinds that it lacks.

    >>> by_joint({"knee": 2.0}, ("left_knee", "head"), 1.0).tolist()
    [2.0, 1.0]
    """
    kinds = [n.removeprefix("left_").removeprefix("right_") for n in names]
    return np.asarray([table.get(kind, rest) for kind in kinds], np.float64)


@functools.cache
def _stored() -> dict:
    return json.loads((importlib.resources.files("jaxphys.body") / "assets" / "phymotion.json").read_text())


def calibration(skeleton: Skeleton) -> Calibration:
    """The shipped constants, laid out for a skeleton with our joints.

    >>> from jaxphys.body.skeleton import humanoid
    >>> calibration(humanoid()).half.shape
    (10,)
    """
    return from_table(_stored(), skeleton)


def from_table(table: dict, skeleton: Skeleton) -> Calibration:
    """Constants from a dictionary like that of `assets/phymotion.json`."""
    overlap = np.zeros((len(skeleton.capsule_body),) * 2)
    for pair, metres in table["overlap_m"].items():
        first, second = pair.split("|")
        swap = {"left": "right", "right": "left"}
        for flip in (False, True):
            sides = [n.split("_", 1) for n in (first, second)]
            names = ["_".join([swap.get(s[0], s[0]) if flip else s[0], *s[1:]]) for s in sides]
            i, j = (skeleton.capsule_body.index(skeleton.index(n)) for n in names)
            overlap[i, j] = overlap[j, i] = metres
    as_array = functools.partial(jnp.asarray, dtype=jnp.result_type(float))
    return Calibration(
        half=as_array([table["half"][name] for name in NAMES]),
        power=as_array(table["power"]),
        rate=as_array(by_joint(table["rate_rad_s"], skeleton.names, 20.0)),
        jitter=as_array(by_joint(table["jitter_rad"], skeleton.names, 0.1)),
        jitter_all=as_array(table["jitter_all_rad"]),
        moment_axes=as_array(by_joint(table["moment_nm_kg"], skeleton.names, [10.0] * 3)),
        range_allowance=as_array(by_joint(table["range_allowance_rad"], skeleton.names, [0.0, 0.0, 0.0])),
        overlap_allowance=as_array(overlap),
        version=int(table["version"]),
    )


def power_mean(x: jax.Array, order: int = 4, axis=0) -> jax.Array:
    """(mean of x^order)^(1/order), order 1, 2, 4 or 8, of numbers not less than 0, with a finite derivative at 0.

    >>> round(float(power_mean(jnp.array([0.0, 2.0]), 2)), 6)
    1.414214
    """
    mean = jnp.mean(x**order, axis)
    for _ in range({1: 0, 2: 1, 4: 2, 8: 3}[order]):
        mean = safe_sqrt(mean)
    return mean


def norm(x: jax.Array) -> jax.Array:
    """Root of the sum of squares over the last axis, with derivative 0 at 0."""
    return safe_sqrt(jnp.sum(x * x, -1))


def _softplus(x: jax.Array, width: float) -> jax.Array:
    return width * jax.nn.softplus(x / width)


def _all_around(x: jax.Array, before: int, after: int) -> jax.Array:
    """Product of (n,) numbers over each sample's neighbours; beyond the ends they go on as they are."""
    padded = jnp.pad(x, (before, after), mode="edge")
    return functools.reduce(operator.mul, [padded[k : k + x.shape[0]] for k in range(before + after + 1)])


@functools.cache
def _other_ends(skeleton_names: tuple[str, ...], capsule_body: tuple[int, ...]) -> tuple[list[int], list[int]]:
    """Capsules whose end a, and whose end b, count as support other than feet."""
    feet = ("ankle", "foot")
    kinds = [skeleton_names[b].split("_")[-1] for b in capsule_body]
    a = [c for c, kind in enumerate(kinds) if kind not in feet]
    return a, [c for c in a if kinds[c] != "knee"]  # the shank ends at the ankle, which is near the ground anyway


def contact_options(size) -> ContactOptions:
    """The contact model's constants for a body of another size: its lengths and speeds grow with the leg.

    >>> round(contact_options(1.5).height, 3)
    0.06
    """
    one = ContactOptions()
    names = ("height", "height_width", "speed", "speed_width")
    return dataclasses.replace(one, **{n: getattr(one, n) * size for n in names})


def measure(
    skeleton: Skeleton,
    motion: Motion,
    fps,
    calibration: Calibration,
    *,
    ground: Any = "estimate",
    options: ContactOptions | None = None,
) -> Quantities:
    """Everything that the scores are made of.

    Args:
        skeleton: the body, J = 24 joints.
        motion: T frames of one clip.
        fps: frames per second, a number known when tracing.
        calibration: whose allowances are used.
        ground: height [m]; "estimate": from the feet that stand (then a body that hovers all the time cannot be told
            from one on the ground); None: there is none, or it is not level, and all that needs one is 0.
        options: of the contact model; default `contact_options`.

    Returns:
        Quantities.

    Raises:
        ValueError: fps missing or traced, another number of joints, too few frames, an unknown ground.
    """
    check_fps("measure", fps)
    check_motion("measure", motion, skeleton.count)
    if not is_concrete(fps):
        raise ValueError("measure: fps fixes the number of samples when the function is traced: give a number")
    if isinstance(ground, str) and ground != "estimate":
        raise ValueError(f'measure: ground is a height [m], "estimate" or None, got {ground!r}')
    if ground is not None and not isinstance(ground, str):
        check_number("measure", "ground", ground)
    dtype = motion.rotation.dtype
    to_rate, here = (jnp.asarray(W, dtype) for W in smoothing(motion.frames, float(fps), RATE, CUTOFF))
    raw = motion.matrices()
    R = so3.project(jnp.tensordot(to_rate, raw, 1))
    start = motion.translation[:1]
    translation = start + to_rate @ (motion.translation - start)
    smooth = so3.project(jnp.tensordot(here, raw, 1))
    fast = so3.log_step(so3.matmul(so3.transpose(smooth), raw))
    jitter = safe_sqrt(jnp.mean(jnp.sum(fast * fast, -1), 0))
    moved = motion.translation - start
    root_jitter = safe_sqrt(jnp.mean(jnp.sum((moved - here @ moved) ** 2, -1)))

    dynamics = from_trajectory(skeleton, R, translation, RATE)
    mass = skeleton.total_mass
    weight = mass * GRAVITY
    spread = jnp.zeros((), dtype)
    height = ground
    if isinstance(ground, str):
        estimate = estimate_ground(*sole_motion(skeleton, dynamics, RATE))
        height, spread = estimate.height, estimate.spread
    size = skeleton.leg_length / LEG
    options = contact_options(size) if options is None else options
    contact = contact_forces(skeleton, dynamics, height, RATE, options=options)

    force = dynamics.root_force / weight
    missing = norm(contact.residual_force) / weight
    moment = contact.torque.at[:, 0].set(0.0) / mass
    worked = jnp.sum(contact.torque * dynamics.angular_velocity, -1).at[:, 0].set(0.0)
    power = jnp.sum(safe_sqrt(worked**2 + (1e-3 * mass) ** 2), -1) / mass
    load = jnp.clip(force[:, 2], 0.0, 1.0)
    if height is None:
        zero = jnp.zeros(force.shape[0], dtype)
        slip = depth = unsupported = tipping = other = planted = zero
        feet = 1.0 + zero
    else:
        a, b = _other_ends(skeleton.names, skeleton.capsule_body)
        radius = jnp.asarray(skeleton.capsule_radius, dtype)
        ends = [
            points(
                skeleton,
                dynamics.R,
                dynamics.p,
                jnp.asarray(end)[jnp.asarray(c)],
                tuple(skeleton.capsule_body[k] for k in c),
            )[..., 2]
            - radius[jnp.asarray(c)]
            for end, c in ((skeleton.capsule_a, a), (skeleton.capsule_b, b))
        ]
        lowest = jnp.concatenate(ends, -1) - height
        other = 1.0 - jnp.prod(1.0 - jax.nn.sigmoid((options.height - lowest) / options.height_width), -1)
        feet = (1.0 - contact.airborne) * (1.0 - other)
        recovered = [k for k, c in enumerate(a + b) if skeleton.capsule_body[c] in MOVED]
        sunk = lambda z: _softplus(-z, 0.002 * size)
        soles = jnp.mean(sunk(contact.clearance).reshape(force.shape[0], 2, -1), -1)
        below = jnp.concatenate([soles, sunk(lowest[:, jnp.asarray(recovered)] + TISSUE * size)], -1)
        planted = _all_around(1.0 - contact.airborne, BEFORE, AFTER)
        depth = safe_sqrt(safe_sqrt(jnp.sum(below**4, -1)))
        speed = norm(contact.velocity[..., :2])
        rank = speed + jnp.maximum(contact.clearance, 0.0) / LEVER
        stillest = jax.nn.softmax(-rank / (0.03 * size), -1)
        slip = feet * load * jnp.sum(stillest * speed, -1)
        unsupported = contact.airborne * (1.0 - other) * norm(force)
        zmp = zero_moment_point(dynamics.root_force, dynamics.root_moment, dynamics.p[:, 0], height)
        lost = size * lost_reach(contact.clearance / size)
        inside = support_margin(contact.point, lost, zmp, directions=32, softness=0.002 * size)
        out = _softplus(-jnp.maximum(inside, -FAR * size), 0.005 * size)
        lever2 = jnp.sum((zmp - dynamics.com[:, :2]) ** 2, -1) / (SURE * size) ** 2
        tipping = feet * load * out * (0.5 + 0.5 / (1.0 + lever2))
    return Quantities(
        time=jnp.arange(force.shape[0]) / RATE,
        dynamics=dynamics,
        contact=contact,
        jitter=jitter,
        limit_excess=excess(so3.log(R), skeleton.names, calibration.range_allowance),
        self_depth=size
        * penetration(
            clearance(skeleton, dynamics.R, dynamics.p) / size, calibration.overlap_allowance, candidates(skeleton)
        ),
        slip=slip,
        depth=depth,
        unsupported=unsupported,
        tipping=tipping,
        moment=norm(moment),
        moment_axes=moment,
        force=force,
        planted=planted,
        missing=feet * missing,
        force_rate=norm(differences(force, RATE)[0]),
        power=power,
        root_jitter=root_jitter,
        size=size,
        other_support=other,
        ground=jnp.asarray(0.0 if height is None else height, dtype),
        ground_spread=spread,
    )


PEAK, LOADING = 3.0, 40.0  # [body weights], [body weights / s]: sizes of force and rate that weigh as much as 1 missing
# [body weights / s] the same for a rate that no landing explains: the middle of what maximal counter-movement jumps
# reach before take-off, 7 to 15 (McLellan et al. 2011, J. Strength Cond. Res. 25, 379; Laffaye et al. 2014, 28, 1096)
ACTIVE = 11.0
BEFORE, AFTER = 6, 3  # samples: a landing's force peaks within 0.2 s, and the filter smears a take-off over 0.1 s


def frame_values(q: Quantities, calibration: Calibration) -> jax.Array:
    """The ten measures (n, 10), in the order of `NAMES`; clip values are their power means (see `clip_values`)."""
    rate = norm(q.dynamics.angular_velocity[:, 1:]) / calibration.rate[1:]
    jitter = power_mean(q.jitter / calibration.jitter)
    used = q.jitter[jnp.asarray(MOVED)]
    jitter_all = jnp.exp(jnp.mean(jnp.log(used + 1e-4))) / calibration.jitter_all
    # What moves the root by r faster than `CUTOFF` changes the force by m (2 pi CUTOFF)^3 r per second or more.
    rough = (2.0 * np.pi * CUTOFF) ** 3 / GRAVITY * q.root_jitter
    rising = (q.force_rate**2 + rough**2) / LOADING**2 + (q.planted * q.force_rate / ACTIVE) ** 4
    loading = safe_sqrt(q.missing**2 + (norm(q.force) / PEAK) ** 4 + rising)
    columns = {
        "angular_velocity": safe_sqrt(safe_sqrt(power_mean(rate, axis=-1) ** 4 + jitter**4 + jitter_all**4)),
        "self_penetration": q.self_depth / q.size,
        "joint_limits": norm(q.limit_excess),
        "sliding": q.slip / q.size,
        "penetration": q.depth / q.size,
        "floating": q.unsupported,
        "balance": q.tipping / q.size,
        "torque": power_mean(jnp.abs(q.moment_axes[:, 1:] / calibration.moment_axes[1:]), 8, (-2, -1)) / q.size,
        "ground_force": loading,
        "effort": q.power / q.size,
    }
    return jnp.stack([columns[name] for name in NAMES], -1)


def to_score(x: jax.Array, calibration: Calibration) -> jax.Array:
    """s = 1 / (1 + (x / half)^p) of values (..., 10)."""
    return 1.0 / (1.0 + (x / calibration.half) ** calibration.power)


def clip_values(frames: jax.Array) -> jax.Array:
    """(n, 10) values per sample to (10,) values of the clip, without `ENDS` samples at either end where there are more.

    Before the first and after the last frame nothing is known, so accelerations there are the least certain ones.
    """
    frames = frames[ENDS:-ENDS] if frames.shape[0] > 4 * ENDS else frames
    return jnp.stack([power_mean(frames[:, k], ORDERS[name]) for k, name in enumerate(NAMES)])
