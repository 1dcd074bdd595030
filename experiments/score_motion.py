r"""Is a human motion physically possible? Scores motion files, and shows where they fail.

    python -m experiments.score_motion FILE... --workdir=runs/score
    python -m experiments.score_motion walk.amc.gz --config.fps=120 --config.ground=none

Reads every kind of file in `jaxphys.body.motion_files`. Prints a table per file; writes into WORKDIR/NAME: report.json,
frames.json (scores and quantities of every sample), one plot of scores per axis, force.png, and video.mp4 of the body
with contact forces (green), forces that nothing gives (magenta) and faults (red).
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from absl import app, flags
from ml_collections import config_flags

from experiments.report import write_json, write_report
from jaxphys import media
from jaxphys.body import motion_files
from jaxphys.body.draw import Marks, draw_motion
from jaxphys.body.motion import Motion
from jaxphys.body.scores import AXES, NAMES, RATE, calibration
from jaxphys.methods import phymotion

FEET = ("left_ankle", "right_ankle", "left_foot", "right_foot")
AT_FEET = ("sliding", "penetration", "floating")
MUCH_LIMIT = 0.3  # [rad] beyond a range that is drawn fully red
LOW = 0.8  # scores of a sample below this are written into the video


def ground_of(text: str) -> float | str | None:
    """The `ground` of the reward from a word of the command line."""
    if text in ("estimate", "none"):
        return None if text == "none" else text
    try:
        return float(text)
    except ValueError:
        raise ValueError(f'config.ground is "estimate", "none" or a height in metres, got {text!r}') from None


def read(path: str | Path, config) -> motion_files.Clip:
    return motion_files.read(
        path,
        config.fps or None,
        up=config.up or None,
        unit=config.unit_m or None,
        height=config.height_m or None,
        mass=config.mass_kg or None,
        asf=config.asf or None,
        smpl_model=config.smpl_model or None,
    )


def per_frame(score: phymotion.Score) -> dict[str, np.ndarray]:
    """Scores and quantities of every sample."""
    q = score.quantities
    named = {f"score_{name}": score.frame_scores[:, k] for k, name in enumerate(NAMES)}
    quantities = dict(
        time_s=q.time,
        joint_rate_fastest_rad_s=np.linalg.norm(np.asarray(q.dynamics.angular_velocity)[:, 1:], axis=-1).max(-1),
        limit_excess_worst_rad=np.asarray(q.limit_excess).max(-1),
        self_depth_m=q.self_depth,
        slip_m_s=q.slip,
        depth_m=q.depth,
        unsupported_bw=q.unsupported,
        tipping_m_bw=q.tipping,
        moment_greatest_nm_kg=np.asarray(q.moment).max(-1),
        force_vertical_bw=np.asarray(q.force)[:, 2],
        force_missing_bw=q.missing,
        power_w_kg=q.power,
    )
    return {name: np.asarray(value) for name, value in (quantities | named).items()}


def marks_of(score: phymotion.Score, skeleton, mass: float) -> Marks:
    """Red bodies, arrows and text for the video."""
    q, frames = score.quantities, np.asarray(score.frame_scores)
    weight = 9.81 * mass
    moment = np.asarray(q.moment) / np.asarray(calibration(skeleton).moment)
    wrong = np.maximum(np.asarray(q.limit_excess) / MUCH_LIMIT, moment - 1.0)
    wrong[:, 0] = 1.0 - frames[:, NAMES.index("self_penetration")]
    at_feet = 1.0 - frames[:, [NAMES.index(name) for name in AT_FEET]].min(1)
    for name in FEET:
        j = skeleton.index(name)
        wrong[:, j] = np.maximum(wrong[:, j], at_feet)
    head = [(f"total {float(score.total):.2f}", 0.0)]
    head += [(f"{axis} {float(a):.2f}", 0.0) for axis, a in zip(AXES, np.asarray(score.axes))]
    lines = []
    for t, row in enumerate(frames):
        low = [(f"  {name} {row[k]:.2f}", float(1 - row[k])) for k, name in enumerate(NAMES) if row[k] < LOW]
        lines.append([(f"{t / RATE:.2f} s", 0.0), *head, *low])
    # one arrow per foot, at its centre of pressure; what hands, knees or trunk carry is not modelled, so not missing
    feet = np.array(skeleton.sole_body)
    left = np.array([skeleton.names[j].startswith("left") for j in feet])
    x, f = (np.asarray(a)[:, : len(feet)] for a in (q.contact.point, q.contact.force / weight))
    up = np.maximum(f[..., 2], 1e-6)[..., None]
    pressure = [(x[:, side] * up[:, side]).sum(1) / up[:, side].sum(1) for side in (left, ~left)]
    seen = 1.0 - np.asarray(q.other_support)[:, None]
    return Marks(
        wrong=np.clip(wrong, 0.0, 1.0),
        point=np.stack(pressure, 1),
        force=np.stack([f[:, side].sum(1) for side in (left, ~left)], 1),
        missing=seen * np.asarray(q.contact.residual_force) / weight,
        lines=lines,
    )


def write_pictures(folder: Path, clip: motion_files.Clip, score: phymotion.Score, config) -> None:
    frames = per_frame(score)
    write_json(folder / "frames.json", frames)
    t = frames["time_s"]
    for axis, names in AXES.items():
        curves = {name: frames[f"score_{name}"] for name in names}
        media.plot_series(folder / f"{axis}.png", t, curves, "time [s]", "score of the sample", title=axis)
    forces = {"vertical, needed": frames["force_vertical_bw"], "missing": frames["force_missing_bw"]}
    media.plot_series(folder / "force.png", t, forces, "time [s]", "force [body weights]", title=clip.name)
    if not config.video:
        return
    last = clip.motion.frames - 1
    shown = np.minimum(np.round(t * clip.fps).astype(int), last)
    motion = Motion(clip.motion.rotation[shown], clip.motion.translation[shown])
    ground = None if ground_of(config.ground) is None else float(score.quantities.ground)
    print(f"{clip.name}: drawing {len(shown)} frames", flush=True)
    video = draw_motion(
        clip.skeleton,
        motion,
        ground=ground,
        marks=marks_of(score, clip.skeleton, clip.mass),
        azimuth_degrees=config.azimuth_degrees,
        width=config.image_pixels,
        height=config.image_pixels,
    )
    media.write_video(folder / "video.mp4", video, RATE)


def score_file(path: str | Path, config, workdir: Path) -> dict:
    """Scores one file and writes its folder; returns what report.json says."""
    clip = read(path, config)
    ground = ground_of(config.ground)
    score = phymotion.reward(
        clip.motion, clip.fps, skeleton=clip.skeleton, ground=ground, variant=config.variant
    ).check()
    print(f"\n{path}")
    for note in clip.notes:
        print(f"  {note}")
    print(score.table(), flush=True)
    folder = workdir / clip.name
    folder.mkdir(parents=True, exist_ok=True)
    figures = dict(
        file=str(path),
        notes=list(clip.notes),
        frames=clip.motion.frames,
        fps=clip.fps,
        height_m=clip.height,
        mass_kg=clip.mass,
        variant=config.variant,
        ground=config.ground,
        ground_m=float(score.quantities.ground),
        total=float(score.total),
        **{f"axis_{axis}": float(a) for axis, a in zip(AXES, np.asarray(score.axes))},
        **{f"score_{name}": float(s) for name, s in zip(NAMES, np.asarray(score.scores))},
        **{f"value_{name}": float(v) for name, v in zip(NAMES, np.asarray(score.values))},
        value_units=[f"{name}: {unit}" for name, unit in phymotion.UNITS.items()],
        confidence=float(score.confidence),
        motion_amount_m_s=float(score.motion_amount),
        seeds=[],
    )
    write_report(folder, **figures)
    write_pictures(folder, clip, score, config)
    return figures


def run(files: list[str | Path], config, workdir: str | Path) -> list[dict]:
    """Scores all files; a bad one does not keep the others from being scored.

    Raises:
        ValueError: no file was given; or, after all others were scored, what was wrong with the bad ones.
    """
    if not files:
        raise ValueError("give one motion file or more: python -m experiments.score_motion FILE...")
    ground_of(config.ground)
    done, failed = [], []
    for path in files:
        try:
            done.append(score_file(path, config, Path(workdir)))
        except (ValueError, FileNotFoundError) as error:
            failed.append(str(error))
    if len(done) > 1:
        print("\n" + f"{'file':32s} total  " + "  ".join(f"{axis:9s}" for axis in AXES) + "  confidence")
        for row in done:
            axes = "  ".join(f"{row[f'axis_{axis}']:<9.3f}" for axis in AXES)
            print(f"{Path(row['file']).name:32s} {row['total']:.3f}  {axes}  {row['confidence']:.2f}")
    if failed:
        raise ValueError("\n".join(failed))
    return done


def main(argv) -> None:
    try:
        run(argv[1:], flags.FLAGS.config, flags.FLAGS.workdir)
    except ValueError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    config_flags.DEFINE_config_file("config", str(Path(__file__).parent / "configs" / "score_motion.py"))
    flags.DEFINE_string("workdir", "runs/score", "where everything is written, one folder per file")
    app.run(main)
