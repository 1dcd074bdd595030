"""Repairs a faulty motion: ascends the PhyMotion reward and stays close to the motion that was given.

    python -m experiments.repair_motion FILE --workdir=runs/repair

minimises over turns of all joints and shifts of the root, with the moves of the joints in space that follow from them,

    sum over the ten scores of log(1 + (x / h)^p)  +  keep (mean |move|^2 / (0.1 m)^2 + mean |turn|^2 / (0.3 rad)^2)

The first term is - sum log s, with h and p of `aim`. The descent is that of the second term's metric and not of the
coordinates: a turn counts by how far it moves what hangs on the joint (`leverage`), and a change that is slow, as most
of a motion and most of its faults are, is preferred to a fast one. All turns share one length of step, and all shifts:
what no score asks for stays where it was, while Adam would move every joint of every frame by as much. Contact is wide
at first and then narrows to that of the scores, so that a foot is found from afar.

Writes repaired.npz, scores before and after in report.json, and both bodies as video.mp4.
"""

from __future__ import annotations

import dataclasses
import functools
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags
from ml_collections import config_flags

from experiments.report import write_report
from jaxphys.body import Motion, Skeleton, forward, motion_files, so3
from jaxphys.body.filter import whittaker
from jaxphys.body.kinematics import subtree
from jaxphys.body.scores import LEG, NAMES, Calibration, calibration, contact_options
from jaxphys.methods.phymotion import score

SLOW = 1.0  # [Hz] below which a change is preferred
FAST = 0.3  # share of a change that is not
WIDE, NARROW = 5.0, 0.75  # width of contact at first, over that of the scores, and the share of the steps to narrow it
TURN = 0.05  # [m] that a turn by 1 rad counts for at least, so that hands and head may turn


def leverage(skeleton: Skeleton) -> jax.Array:
    """How far a turn of each joint by 1 rad moves the joints, rms, in the rest pose [m] (J,)."""
    joints = jnp.broadcast_to(jnp.eye(3), (skeleton.count, 3, 3))
    p = forward(skeleton, joints, jnp.zeros(3))[1]
    hang = jnp.asarray(subtree(skeleton.parents), p.dtype)
    return jnp.sqrt(jnp.mean(hang * jnp.sum((p[None] - p[:, None]) ** 2, -1), -1))


def aim(constants: Calibration) -> Calibration:
    """Constants that pull towards the middle of clean motion; those of the scores stop at its edge."""
    return dataclasses.replace(constants, half=0.7 * constants.half, power=jnp.full_like(constants.power, 3.0))


@functools.partial(jax.jit, static_argnames=("fps", "mode", "steps"))
def repair(
    skeleton: Skeleton,
    motion: Motion,
    height,
    constants: Calibration,
    keep,
    rates,
    *,
    fps: float,
    mode: str = "given",
    steps: int = 100,
) -> tuple[Motion, jax.Array]:
    """The repaired motion and the loss of every step.

    Args:
        skeleton: the body.
        motion: T frames.
        height: of the ground [m], read where mode is "given".
        constants: of the scores.
        keep: weight of staying close.
        rates: rms over joints and frames of a step of the turns [rad], and of the root [m].
        fps: frames per second.
        mode: "given" or "estimate": where the ground comes from.
        steps: of the descent.
    """
    goal = aim(constants)
    options = contact_options(skeleton.leg_length / LEG)
    start = forward(skeleton, motion.matrices(), motion.translation)[1]
    slow = jnp.asarray(whittaker(motion.frames, fps, min(SLOW, 0.4 * fps)), motion.rotation.dtype)
    weight = 1.0 / (leverage(skeleton) ** 2 + TURN**2)[:, None]

    def moved(change) -> Motion:
        turn, shift = change
        return Motion(so3.log(so3.matmul(motion.matrices(), so3.exp(turn))), motion.translation + shift)

    def loss(change, width):
        now = moved(change)
        contact = dataclasses.replace(options, height_width=options.height_width * width)
        s = score(skeleton, now, fps, goal, ground=height if mode == "given" else mode, options=contact)
        p = forward(skeleton, now.matrices(), now.translation)[1]
        away = jnp.mean(jnp.sum((p - start) ** 2, -1)) / 0.1**2 + jnp.mean(jnp.sum(change[0] ** 2, -1)) / 0.3**2
        return -jnp.sum(jnp.log(s.scores)) + keep * away

    def natural(gradient):
        smooth = lambda g: FAST * g + jnp.tensordot(slow, g, 1)
        return smooth(weight * gradient[0]), smooth(gradient[1])

    def step(carry, k):
        change, mean, square = carry
        width = 1.0 + (WIDE - 1.0) * jnp.maximum(1.0 - k / (NARROW * steps), 0.0)
        value, gradient = jax.value_and_grad(loss)(change, width)
        cool = 0.5 * (1.0 + jnp.cos(jnp.pi * k / steps))
        # Adam's moments, with one second moment for all turns and one for all shifts
        mean = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, mean, natural(gradient))
        square = jax.tree.map(lambda v, g: 0.99 * v + 0.01 * jnp.mean(g * g), square, natural(gradient))
        length = [jnp.sqrt(v / (1.0 - 0.99 ** (k + 1))) * (1.0 - 0.9 ** (k + 1)) + 1e-8 for v in square]
        change = tuple(c - cool * rate * m / n for c, rate, m, n in zip(change, rates, mean, length))
        return (change, mean, square), value

    zero = (jnp.zeros_like(motion.rotation), jnp.zeros_like(motion.translation))
    one = jnp.zeros((), motion.rotation.dtype)
    (change, _, _), losses = jax.lax.scan(step, (zero, zero, (one, one)), jnp.arange(steps))
    return moved(change), losses


def distance(skeleton: Skeleton, a: Motion, b: Motion) -> float:
    """Root mean square distance of the joints of two motions of equal length [m]."""
    p, q = (forward(skeleton, m.matrices(), m.translation)[1] for m in (a, b))
    return float(jnp.sqrt(jnp.mean(jnp.sum((p - q) ** 2, -1))))


def picture(skeleton: Skeleton, before: Motion, after: Motion, frame: int, ground: float) -> np.ndarray:
    """Both bodies from the side, as lines (H, W, 3)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4), dpi=80, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    for k, (title, motion) in enumerate((("before", before), ("after", after))):
        p = np.asarray(forward(skeleton, motion.matrices(), motion.translation)[1])
        axis = int(np.argmax(np.ptp(p[:, 0, :2], axis=0)))  # the way the clip goes
        ax = figure.add_subplot(1, 2, k + 1)
        for j, parent in enumerate(skeleton.parents):
            if parent >= 0:
                ax.plot(p[frame, [j, parent], axis], p[frame, [j, parent], 2], "k-", lw=2)
        ax.axhline(ground, color="tab:brown")
        middle = p[frame, 0, axis]
        ax.set(title=title, xlim=(middle - 1.2, middle + 1.2), ylim=(ground - 0.3, ground + 2.1), aspect="equal")
        ax.axis("off")
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3] / 255.0


def run(path: str | Path, config, workdir: str | Path) -> dict[str, Any]:
    """The whole job; returns what report.json says."""
    from jaxphys import media

    clip = motion_files.read(path)
    workdir = Path(workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    frames = config.frames or clip.motion.frames
    motion = Motion(clip.motion.rotation[:frames], clip.motion.translation[:frames])
    motion = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), motion)
    skeleton = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), clip.skeleton)
    constants = calibration(skeleton)
    mode = "estimate" if config.ground == "estimate" else "given"
    height = 0.0 if mode == "estimate" else float(config.ground)
    rates = (config.rate_rad, config.rate_m)
    fixed, losses = repair(
        skeleton, motion, height, constants, config.keep, rates, fps=float(clip.fps), mode=mode, steps=config.steps
    )
    judge = jax.jit(
        lambda m: score(skeleton, m, float(clip.fps), constants, ground=height if mode == "given" else mode)
    )
    before, after = judge(motion), judge(fixed)
    after.check()
    np.savez(
        workdir / "repaired.npz",
        rotation=np.asarray(fixed.rotation),
        translation=np.asarray(fixed.translation),
        fps=clip.fps,
    )
    figures: dict[str, Any] = dict(
        file=str(path),
        frames=motion.frames,
        fps=float(clip.fps),
        steps=config.steps,
        loss_first=float(losses[0]),
        loss_last=float(losses[-1]),
        moved_m=distance(skeleton, motion, fixed),
        before_total=float(before.total),
        after_total=float(after.total),
        seeds=[],
    )
    for k, name in enumerate(NAMES):
        figures |= {f"before_{name}": float(before.scores[k]), f"after_{name}": float(after.scores[k])}
    if config.video:
        ground = float(before.quantities.ground)
        shown = [
            picture(skeleton, motion, fixed, t, ground) for t in range(0, motion.frames, max(1, round(clip.fps / 15)))
        ]
        media.write_video(workdir / "video.mp4", np.stack(shown), 15.0)
    write_report(workdir, **figures)
    print(f"total {figures['before_total']:.3f} -> {figures['after_total']:.3f}, moved by {figures['moved_m']:.3f} m")
    for name in NAMES:
        print(f"  {name:17s} {figures['before_' + name]:.3f} -> {figures['after_' + name]:.3f}")
    return figures


def main(argv: list[str]) -> None:
    if len(argv) != 2:
        sys.exit("usage: python -m experiments.repair_motion FILE --workdir=FOLDER")
    try:
        run(argv[1], flags.FLAGS.config, flags.FLAGS.workdir)
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    config_flags.DEFINE_config_file("config", str(Path(__file__).parent / "configs" / "repair_motion.py"))
    flags.DEFINE_string("workdir", "runs/repair", "where everything is written")
    app.run(main)
