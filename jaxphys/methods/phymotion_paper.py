"""The arithmetic of the PhyMotion paper on our measurements: counts over hard thresholds, and means.

    F_kin = 1 - (v_vel + v_spen + v_lim) / 3
    F_con = 1 - (v_slip + v_gpen + v_float + v_bal) / 4
    F_dyn = (s_tau + s_GRF + s_met) / 3

The thresholds stand in an appendix of the paper that we do not have: `PAPER` marks them, and they are ours. Counts have
no useful gradient; use the default variant to train.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from jaxphys.body.balance import support_margin
from jaxphys.body.inverse import GRAVITY
from jaxphys.body.scores import Quantities, norm
from jaxphys.body.skeleton import Skeleton


@dataclasses.dataclass(frozen=True)
class PaperConstants:
    """Thresholds. "released": as in the authors' code; "ours": not public, chosen by us from the named source."""

    joint_rate: float = 20.0  # [rad/s] ours: above the fastest hip, knee and elbow of sprinting people
    self_depth: float = 0.01  # [m] ours: capsules instead of the paper's triangles
    limit_excess: float = 0.05  # [rad] ours: beyond our anatomical ranges, where the paper takes those of an MJCF
    slip: float = 0.05  # [m/s] of mean sliding that scores 0: released
    depth: float = 0.05  # [m] of mean depth that scores 0: released
    contact: float = 0.04  # [m] below which a foot touches: ours
    ballistic: float = 2.0  # [m/s^2] by which flight may differ from free fall: ours
    moment: tuple[tuple[str, float], ...] = (  # [N m] limit per joint: released
        ("hip", 400.0), ("knee", 300.0), ("ankle", 200.0), ("spine1", 200.0), ("spine2", 200.0), ("spine3", 200.0),
        ("collar", 150.0), ("shoulder", 150.0), ("foot", 100.0), ("neck", 100.0), ("head", 100.0), ("elbow", 100.0),
        ("wrist", 50.0), ("hand", 30.0),
    )  # fmt: skip
    ground_force: float = 3.0  # [body weights] F_max: released (its limit of vertical force)
    work: float = 10_000.0  # [J] that scores 0: released (not divided by duration)


PAPER = PaperConstants()


def paper_scores(skeleton: Skeleton, q: Quantities, constants: PaperConstants = PAPER) -> jax.Array:
    """The ten scores (10,): 1 - violation for the first seven.

    Args:
        skeleton: the body.
        q: from `scores.measure`.
        constants: thresholds.
    """
    c = constants
    share = lambda condition: jnp.mean(condition.astype(q.force.dtype))
    rate = jnp.max(norm(q.dynamics.angular_velocity[:, 1:]), -1)
    touching = q.contact.clearance < c.contact
    contact = jnp.any(touching, -1)
    falls = norm(q.dynamics.com_acceleration + jnp.array([0.0, 0.0, GRAVITY], q.force.dtype)) < c.ballistic
    margin = support_margin(q.contact.point, jnp.where(touching, 0.0, 10.0), q.dynamics.com, directions=32)
    mass = skeleton.total_mass
    limits = dict(c.moment)
    kinds = [n.removeprefix("left_").removeprefix("right_") for n in skeleton.names[1:]]
    limit = jnp.asarray([limits[kind] for kind in kinds], q.force.dtype) / mass
    seconds = q.time[-1] - q.time[0]
    peak = jnp.max(norm(q.force))
    v = [
        share(rate > c.joint_rate),
        share(q.self_depth > c.self_depth),
        share(q.limit_excess > c.limit_excess),
        jnp.clip(jnp.mean(q.slip) / c.slip, 0.0, 1.0),
        jnp.clip(jnp.mean(q.depth) / c.depth, 0.0, 1.0),
        share(~contact & ~falls),
        share(contact & (margin < 0.0)),
        share(q.moment[:, 1:] > limit),
        jnp.clip(peak / c.ground_force - 1.0, 0.0, 1.0),
        jnp.clip(jnp.mean(q.power) * mass * seconds / c.work, 0.0, 1.0),
    ]
    return 1.0 - jnp.stack(v)
