"""Repairs a faulty motion: ascends the PhyMotion reward and stays close to the motion that was given.

    python -m experiments.repair_motion FILE --workdir=runs/repair

minimises, with Adam over rotations and root positions,

    sum over the ten scores of log(1 + (x / h)^p)  +  keep (mean |turn|^2 / (0.1 rad)^2 + mean |shift|^2 / (0.5 m)^2)

over the turns of all joints and the shifts of the root. The pose is the intent, so it is held more firmly than the
path, which video tells least about. The first term is - sum log s, with h and p of `aim`. Writes
repaired.npz, scores before and after in report.json, and both bodies as video.mp4.
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
import optax
from absl import app, flags
from ml_collections import config_flags

from experiments.report import write_report
from jaxphys.body import Motion, Skeleton, forward, motion_files, so3
from jaxphys.body.scores import NAMES, Calibration, calibration
from jaxphys.methods.phymotion import score


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
    steps: int = 200,
) -> tuple[Motion, jax.Array]:
    """The repaired motion and the loss of every step.

    Args:
        skeleton: the body.
        motion: T frames.
        height: of the ground [m], read where mode is "given".
        constants: of the scores.
        keep: weight of staying close.
        rates: Adam's step for rotations [rad] and for the root [m].
        fps: frames per second.
        mode: "given" or "estimate": where the ground comes from.
        steps: of Adam.
    """

    def moved(change) -> Motion:
        turn, shift = change
        return Motion(so3.log(so3.matmul(motion.matrices(), so3.exp(turn))), motion.translation + shift)

    def loss(change):
        now = moved(change)
        s = score(skeleton, now, fps, aim(constants), ground=height if mode == "given" else mode)
        turn, shift = change
        away = jnp.mean(jnp.sum(turn**2, -1)) / 0.1**2 + jnp.mean(jnp.sum(shift**2, -1)) / 0.5**2
        return -jnp.sum(jnp.log(s.scores)) + keep * away

    turn_rate, shift_rate = rates
    adam = optax.scale_by_adam()

    def step(carry, k):
        change, state = carry
        value, gradient = jax.value_and_grad(loss)(change)
        update, state = adam.update(gradient, state)
        cool = 0.5 * (1.0 + jnp.cos(jnp.pi * k / steps))
        turn, shift = change
        return ((turn - cool * turn_rate * update[0], shift - cool * shift_rate * update[1]), state), value

    change = (jnp.zeros_like(motion.rotation), jnp.zeros_like(motion.translation))
    (change, _), losses = jax.lax.scan(step, (change, adam.init(change)), jnp.arange(steps))
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
