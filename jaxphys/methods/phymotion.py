"""PhyMotion (arXiv 2605.14269): is a human motion physically possible? A reward in [0, 1], with its gradient.

Ten sub-scores in three axes, with the paper's content and another arithmetic (`jaxphys.body.scores` defines them):

    axis  = product of its scores           one impossible thing makes an axis impossible
    total = (kinematic + contact + dynamic) / 3

`variant="paper"` is the paper's arithmetic: counts of frames over hard thresholds and means (`phymotion_paper`; no
gradient). The released code, which differs from the paper, is in `phymotion_released`; it needs the user's MJCF.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxphys.body.contact import ContactOptions
from jaxphys.body.inverse import differences
from jaxphys.body.motion import Motion, check_fps, check_motion
from jaxphys.body.scores import (
    AXES,
    NAMES,
    RATE,
    Calibration,
    Quantities,
    calibration,
    clip_values,
    frame_values,
    measure,
    norm,
    to_score,
)
from jaxphys.body.skeleton import Skeleton, humanoid
from jaxphys.checks import is_concrete
from jaxphys.methods.phymotion_paper import paper_scores
from jaxphys.pytree import pytree, static

VARIANTS = ("default", "paper")


@pytree
class Score:
    """What a motion is worth, and why. Orders: of the ten scores `scores.NAMES`, of the axes `scores.AXES`."""

    total: Any  # in [0, 1], 1 is clean ()
    axes: Any  # (3,)
    scores: Any  # (10,)
    values: Any  # that the scores are made of, in the units of `scores` (10,)
    frame_scores: Any  # scores of the single samples, at quantities.time (n, 10)
    quantities: Quantities
    valid: Any  # False: not finite, or a joint turns by more than 2 rad between two frames ()
    confidence: Any  # in [0, 1]: see `reward` ()
    motion_amount: Any  # mean speed of the joints [m/s]: reported, never rewarded ()
    judged: tuple[bool, ...] = static()  # which axes count: without a ground the contact axis does not

    def check(self) -> Score:
        """Itself, or ValueError if the motion could not be judged."""
        if not bool(np.all(np.asarray(self.valid))):
            raise ValueError(
                "reward: the motion cannot be judged: it holds values that are not finite, or joints that turn by more "
                "than 2 rad from one frame to the next; cut these frames, or check fps, units and order of rotations"
            )
        return self

    def table(self) -> str:
        """Text for people: axes, scores and values of one clip."""
        lines = [f"total {float(self.total):.3f}   confidence {float(self.confidence):.2f}"]
        lines[0] += f"   motion amount {float(self.motion_amount):.2f} m/s"
        for a, (axis, names) in enumerate(AXES.items()):
            lines.append(f"{axis} {float(self.axes[a]):.3f}" + ("" if self.judged[a] else " (not judged: no ground)"))
            for name in names:
                k = NAMES.index(name)
                lines.append(f"  {name:17s} {float(self.scores[k]):.3f}   {float(self.values[k]):.3g} {UNITS[name]}")
        return "\n".join(lines)


UNITS = {
    "angular_velocity": "of a fast joint",
    "self_penetration": "m",
    "joint_limits": "rad",
    "sliding": "m/s",
    "penetration": "m",
    "floating": "body weights",
    "balance": "m body weights",
    "torque": "of a great moment",
    "ground_force": "body weights",
    "effort": "W/kg",
}


def _confidence(q: Quantities, seconds: float, ground) -> jax.Array:
    length = 1.0 - np.exp(-seconds / 0.5)
    seen = 1.0 - jnp.mean(q.other_support)
    if ground is None:
        return 0.5 * length * seen
    return length * seen * (0.9 * jnp.exp(-((q.ground_spread / 0.03) ** 2)) if isinstance(ground, str) else 1.0)


def score(
    skeleton: Skeleton,
    motion: Motion,
    fps,
    constants: Calibration,
    *,
    ground: Any = "estimate",
    variant: str = "default",
    options: ContactOptions | None = None,
) -> Score:
    """`reward` without its conveniences: pure, for one clip, to be traced with `jit`, `vmap`, `grad` or `pmap`.

    Args:
        skeleton: the body.
        motion: T frames.
        fps: frames per second, a number known when tracing.
        constants: from `scores.calibration`.
        ground: height [m], "estimate" or None.
        variant: "default" or "paper".
        options: of the contact model.

    Returns:
        Score; `valid` is not looked at.
    """
    if variant not in VARIANTS:
        more = (
            "; the released code is `phymotion_released.released`, which needs an MJCF" if variant == "released" else ""
        )
        raise ValueError(f"variant must be one of {VARIANTS}, got {variant!r}{more}")
    q = measure(skeleton, motion, fps, constants, ground=ground, options=options)
    frames = frame_values(q, constants)
    values = clip_values(frames)
    judged = (True, ground is not None, True)
    counts = jnp.asarray(judged, frames.dtype)
    if variant == "paper":
        scores = paper_scores(skeleton, q)
        members = jnp.split(scores, np.cumsum([len(n) for n in AXES.values()])[:-1])
        axes = jnp.stack([jnp.mean(m) for m in members])
    else:
        scores = to_score(values, constants)
        members = jnp.split(scores, np.cumsum([len(n) for n in AXES.values()])[:-1])
        axes = jnp.stack([jnp.prod(m) for m in members])
    raw = motion.rotation
    turn = jnp.max(jnp.abs(norm(q.dynamics.angular_velocity)), initial=0.0) / RATE
    finite = jnp.all(jnp.isfinite(raw)) & jnp.all(jnp.isfinite(motion.translation)) & jnp.all(jnp.isfinite(frames))
    return Score(
        total=jnp.sum(axes * counts) / jnp.sum(counts),
        axes=axes,
        scores=scores,
        values=values,
        frame_scores=to_score(frames, constants),
        quantities=q,
        valid=finite & (turn < 2.0),
        confidence=_confidence(q, (motion.frames - 1) / float(fps), ground),
        motion_amount=jnp.mean(norm(differences(q.dynamics.p, RATE)[0])),
        judged=judged,
    )


@functools.partial(jax.jit, static_argnames=("fps", "mode", "variant"))
def _one(skeleton, motion, height, constants, options, *, fps, mode, variant):
    ground = height if mode == "given" else mode
    return score(skeleton, motion, fps, constants, ground=ground, variant=variant, options=options)


@functools.partial(jax.jit, static_argnames=("fps", "mode", "variant", "own"))
def _many(skeleton, motions, height, constants, options, *, fps, mode, variant, own):
    ground = height if mode == "given" else mode

    def one(skeleton, motion):
        return score(skeleton, motion, fps, constants, ground=ground, variant=variant, options=options)

    return jax.vmap(one, in_axes=(0 if own else None, 0))(skeleton, motions)


def _prepare(skeleton, ground, constants):
    skeleton = humanoid() if skeleton is None else skeleton
    if isinstance(ground, str) and ground != "estimate":
        raise ValueError(f'reward: ground is a height [m], "estimate" or None, got {ground!r}')
    mode = ground if ground is None or isinstance(ground, str) else "given"
    height = ground if mode == "given" else 0.0
    if constants is None:
        one = skeleton if np.ndim(skeleton.mass) == 1 else jax.tree.map(lambda a: a[0], skeleton)
        constants = calibration(one)
    return skeleton, mode, height, constants


def reward(
    motion: Motion,
    fps,
    *,
    skeleton: Skeleton | None = None,
    ground: Any = "estimate",
    variant: str = "default",
    constants: Calibration | None = None,
    options: ContactOptions | None = None,
) -> Score:
    """The PhyMotion reward of one clip, differentiable with respect to poses and translation.

    Confidence is the product of: the share of samples in which nothing but the feet is on the ground (forces of hands,
    knees and trunk are not modelled); 1 - exp(-seconds / 0.5); for a ground that is estimated,
    0.9 exp(-(spread / 3 cm)^2); without a ground, 0.5.

    Args:
        motion: T frames; at least three, and 67 ms.
        fps: frames per second of the motion. Required: a wrong one changes every velocity.
        skeleton: the body; default `humanoid()`, 1.75 m and 75 kg.
        ground: height of a level ground [m]; "estimate": the height of the resting feet, with which a body that hovers
            in every frame cannot be told from one on the ground; None: no ground, or not a level one.
        variant: "default" or "paper".
        constants: default the shipped calibration.
        options: of the contact model.

    Returns:
        Score.

    Raises:
        ValueError: fps missing, another number of joints, too few frames, values that are not finite; when called
            eagerly, also a motion that cannot be judged.

    >>> upright = jnp.zeros((31, 24, 3)).at[:, 0, 0].set(jnp.pi / 2)
    >>> stand = Motion(upright, jnp.zeros((31, 3)).at[:, 2].set(1.75 * 0.578))
    >>> good = reward(stand, 30.0, ground=0.0)
    >>> hovering = reward(Motion(upright, stand.translation + 0.5), 30.0, ground=0.0)
    >>> bool(good.total > 0.9), bool(hovering.total < 0.75)
    (True, True)
    """
    check_fps("reward", fps)
    if not is_concrete(fps):
        raise ValueError("reward: fps fixes the number of samples when the function is traced: give a number")
    skeleton, mode, height, constants = _prepare(skeleton, ground, constants)
    check_motion("reward", motion, skeleton.count)
    result = _one(skeleton, motion, height, constants, options, fps=float(fps), mode=mode, variant=variant)
    return result.check() if is_concrete(result.valid) else result


def rewards(
    motions: Motion,
    fps,
    *,
    skeleton: Skeleton | None = None,
    ground: Any = "estimate",
    variant: str = "default",
    constants: Calibration | None = None,
    options: ContactOptions | None = None,
    mesh: Mesh | None = None,
) -> Score:
    """Rewards of B clips of equal length at once; `valid` says per clip whether its score means anything.

    Args:
        motions: rotation (B, T, 24, 3) and translation (B, T, 3).
        fps: frames per second of all.
        skeleton: one for all, or one per clip (leaves with a leading B).
        ground, variant, constants, options: as in `reward`, the same for all.
        mesh: devices; clips are spread over its axis `data`, which must divide B.

    Returns:
        Score with a leading B.

    >>> stand = Motion(jnp.zeros((2, 7, 24, 3)).at[:, :, 0, 0].set(1.5708), jnp.ones((2, 7, 3)))
    >>> rewards(stand, 30.0).total.shape
    (2,)
    """
    check_fps("rewards", fps)
    skeleton, mode, height, constants = _prepare(skeleton, ground, constants)
    check_motion("rewards", motions, len(skeleton.parents))
    if np.ndim(motions.rotation) != 4:
        raise ValueError(f"rewards takes rotation (B, T, 24, 3), got {list(np.shape(motions.rotation))}; see reward")
    own = np.ndim(skeleton.mass) == 2
    if mesh is not None:
        split, whole = NamedSharding(mesh, PartitionSpec("data")), NamedSharding(mesh, PartitionSpec())
        motions = jax.device_put(motions, split)
        skeleton = jax.device_put(skeleton, split if own else whole)
        constants = jax.device_put(constants, whole)
    return _many(skeleton, motions, height, constants, options, fps=float(fps), mode=mode, variant=variant, own=own)
