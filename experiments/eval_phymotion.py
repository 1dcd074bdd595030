"""The corruption benchmark: does each sub-score of the PhyMotion reward fall for its own fault, and only for it?

    python -m experiments.eval_phymotion --config=experiments/configs/eval_phymotion.py --workdir=runs/phymotion

Windows of clean motion get one of fifteen faults at eight severities. Per fault: AUROC and win rate of clean over
faulty windows by the target sub-score and by the total, Spearman's rank correlation of severity and target score, and
what each of the ten sub-scores loses. Also scored: clean motion, controls that must change nothing, frozen bodies.
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
from scipy.stats import rankdata
from tqdm import tqdm

from experiments.phymotion_data import CleanClip, Windows, at_rate, load, pick, stack, subject_of, windows
from experiments.report import write_json, write_report
from jaxphys.body import Motion, Skeleton, forward, so3
from jaxphys.body.balance import UP
from jaxphys.body.corrupt import CORRUPTIONS, LEVELS, freeze, mirrored
from jaxphys.body.kinematics import points
from jaxphys.body.scores import NAMES, calibration
from jaxphys.body.skeleton import humanoid
from jaxphys.methods.phymotion import score
from jaxphys.methods.phymotion_released import outside, released

OUTSIDE = 0.03  # [m] by which the centre of mass of a pose must be out of its support to count as out of balance
SWING, STANDS = 0.4, 0.04  # [m/s], [m]: a foot that is faster swings, one that is lower stands


@functools.partial(jax.jit, static_argnames=("fps", "batch"))
def _score_batch(skeleton, motion, ground, constants, *, fps, batch):
    def one(skeleton, motion, ground):
        s = score(skeleton, motion, fps, constants, ground=ground)
        flight = s.quantities.contact.airborne * (1.0 - s.quantities.other_support)
        return dict(total=s.total, scores=s.scores, values=s.values, amount=s.motion_amount, flight=flight)

    return jax.lax.map(lambda a: one(*a), (skeleton, motion, ground), batch_size=batch)


def score_windows(w: Windows, fps: float, batch: int) -> dict[str, np.ndarray]:
    """Total (B,), scores (B, 10) and the like of windows of equal length, in batches of one size: one compilation."""
    count = len(w.clips)
    whole = -(-count // batch) * batch
    index = np.minimum(np.arange(whole), count - 1)
    parts = []
    for k in range(0, whole, batch):
        rows = index[k : k + batch]
        take = lambda a, rows=rows: jnp.asarray(a)[rows]
        skeleton, motion = jax.tree.map(take, (w.skeleton, w.motion))
        constants = calibration(humanoid())
        out = _score_batch(skeleton, motion, take(w.ground), constants, fps=fps, batch=batch)
        parts.append(jax.tree.map(np.asarray, out))
    return {k: np.concatenate([p[k] for p in parts])[:count] for k in parts[0]}


@functools.partial(jax.jit, static_argnames=("name", "fps"))
def _corrupt_all(name, skeleton, motion, severity, keys, *, fps):
    def one(skeleton, motion, key):
        return CORRUPTIONS[name].apply(skeleton, motion, fps, severity, key)[0]

    return jax.vmap(one)(skeleton, motion, keys)


def corrupted(name: str, w: Windows, severity: float, fps: float) -> Windows:
    """The windows with one fault that leaves the frame rate as it is."""
    keys = jax.random.split(jax.random.key(0), len(w.clips))
    return dataclasses.replace(w, motion=_corrupt_all(name, w.skeleton, w.motion, severity, keys, fps=fps))


def warped(clips: list[CleanClip], factor: float, length: int, most: int, fps: float) -> Windows | None:
    """Windows of clips that are shown `factor` times faster, each from the middle of an equal share of its clip."""
    rows = []
    for clip in clips:
        shown = at_rate(clip.motion, fps * factor, fps)
        count = min(most, clip.motion.frames // length)
        if shown.frames >= length:
            for start in np.linspace(0, shown.frames - length, max(1, count)).astype(int):
                rows.append((clip, pick(shown, int(start), length)))
    return stack(rows) if rows else None


def slowed(w: Windows, flight: np.ndarray, factor: float, config) -> tuple[Windows, np.ndarray] | None:
    """The windows with a flight phase, slowed down and cut to their length about the middle of the flight."""
    flying = np.flatnonzero((flight > 0.5).sum(-1) > config.flight_seconds * config.fps)
    rows = []
    for k in flying:
        clip, motion = row(w, int(k))
        shown = at_rate(motion, config.fps / factor, config.fps)
        middle = factor * np.flatnonzero(flight[k] > 0.5).mean()
        rows.append(
            (
                clip,
                pick(shown, int(np.clip(middle - motion.frames / 2, 0, shown.frames - motion.frames)), motion.frames),
            )
        )
    return (stack(rows), flying) if rows else None


def auroc(clean: np.ndarray, faulty: np.ndarray) -> float:
    """Probability that a clean window scores above a faulty one, ties half."""
    ranks = rankdata(np.concatenate([clean, faulty]))
    n, m = len(clean), len(faulty)
    return float((ranks[:n].sum() - n * (n + 1) / 2) / (n * m))


def spearman(severity: np.ndarray, scores: np.ndarray) -> float:
    """Rank correlation of severity (S,) with what one window loses, averaged over windows: scores (S, B)."""
    a = rankdata(severity)
    b = rankdata(-scores, axis=0)
    a = a - a.mean()
    b = b - b.mean(0)
    spread = np.sqrt((a**2).sum() * (b**2).sum(0))
    return float(np.mean(np.where(spread > 0, (a[:, None] * b).sum(0) / np.where(spread > 0, spread, 1.0), 0.0)))


def benchmark(clips: list[CleanClip], config, progress: bool = True) -> dict:
    """Scores of clean windows and of all faults at all severities, per window length merged."""
    lengths = (config.window_frames, config.short_frames)
    groups = windows(clips, lengths, config.windows_per_clip)
    fps, batch = config.fps, config.batch
    clean = {n: score_windows(w, fps, batch) for n, w in groups.items()}
    first = dict(zip(groups, np.cumsum([0] + [len(w.clips) for w in groups.values()])))  # row of each group's first
    faults = {}
    for name in tqdm(list(config.targets), disable=not progress, file=sys.stdout, mininterval=30):
        levels = []
        for severity in CORRUPTIONS[name].severities():
            parts = []
            for n, w in groups.items():
                rows = np.arange(len(w.clips))
                if name == "fast":  # from the whole clip: the window's own content would be too short
                    moved = warped([c for c in clips if c.name in w.clips], severity, n, config.windows_per_clip, fps)
                    rows = np.flatnonzero(np.isin(w.clips, moved.clips if moved else ()))
                elif name == "slow":
                    found = slowed(w, clean[n]["flight"], severity, config)
                    moved, rows = found if found else (None, rows)
                else:
                    moved = corrupted(name, w, severity, fps)
                if moved is not None:
                    clip = np.asarray(moved.clips)
                    parts.append((score_windows(moved, fps, batch) | {"clip": clip}, first[n] + rows))
            level = {k: np.concatenate([p[k] for p, _ in parts]) for k in ("total", "scores", "values", "clip")}
            levels.append(level | {"reference": np.concatenate([rows for _, rows in parts])})
        faults[name] = levels
    merged = {k: np.concatenate([c[k] for c in clean.values()]) for k in ("total", "scores", "values", "amount")}
    merged["clip"] = np.concatenate([np.asarray(w.clips) for w in groups.values()])
    return dict(clean=merged, faults=faults, groups=groups)


def summary(result: dict, config) -> dict:
    """Flat figures of `benchmark`."""
    clean, out = result["clean"], {}
    fast = np.isin(clean["clip"], list(config.acrobatics_and_runs))
    out["clean_windows"] = len(clean["total"])
    out["clean_clips"] = len(set(clean["clip"]))
    out["clean_median_total"] = float(np.median(clean["total"]))
    out["clean_worst_total"] = float(clean["total"].min())
    by_clip = {c: float(clean["total"][clean["clip"] == c].mean()) for c in sorted(set(clean["clip"]))}
    acrobatic = [v for c, v in by_clip.items() if c in config.acrobatics_and_runs]
    out["clean_acrobatics_and_runs_median_total"] = float(np.median(clean["total"][fast])) if fast.any() else 1.0
    out["clean_acrobatics_and_runs_worst_clip_total"] = min(acrobatic, default=1.0)
    for c, v in by_clip.items():
        out[f"clean_{c}_total"] = v
    for name, target in config.targets.items():
        k, levels = NAMES.index(target), result["faults"][name]
        at = levels[config.level - 1]
        # A score falls as its value grows, so both rank alike; values do not round to 1.
        reference = {key: clean[key][at["reference"]] for key in ("total", "scores", "values")}
        for level, here in enumerate(levels, 1):
            out[f"{name}_auroc_level_{level}"] = auroc(-clean["values"][here["reference"], k], -here["values"][:, k])
        out[f"{name}_auroc"] = out[f"{name}_auroc_level_{config.level}"]
        out[f"{name}_auroc_total"] = auroc(reference["total"], at["total"])
        if name == "fast":  # windows differ from level to level: their means over each clip that has all levels
            whole = [c for c in sorted(set(levels[0]["clip"])) if all(c in here["clip"] for here in levels)]
            curves = np.stack([[-h["values"][h["clip"] == c, k].mean() for c in whole] for h in levels])
        else:
            curves = np.stack([-here["values"][:, k] for here in levels])
            out[f"{name}_win_rate"] = float(np.mean(reference["values"][:, k] < at["values"][:, k]))
        out[f"{name}_spearman"] = spearman(np.arange(LEVELS), curves)
        out[f"{name}_windows"] = len(at["total"])
        drop = reference["scores"].mean(0) - at["scores"].mean(0)
        out |= {f"{name}_drop_{n}": float(drop[i]) for i, n in enumerate(NAMES)}
        out[f"{name}_specificity"] = float(drop[k] / max(np.delete(drop, k).max(), 1e-3))
    return out


def mid_stride_frame(skeleton: Skeleton, motion: Motion, ground: float, fps: float) -> tuple[int, float]:
    """The frame of a stride in which the centre of mass is farthest from the foot that stands, and how far [m].

    A stride: one foot stands (near the ground, the slower one), and the other one moves, and is up, by more than
    `SWING` and `UP`. Distance 0 where there is none.
    """
    R, p = forward(skeleton, motion.matrices(), motion.translation)
    x = np.asarray(points(skeleton, R, p, skeleton.sole, skeleton.sole_body)).reshape(motion.frames, 2, -1, 3)
    share = skeleton.mass / jnp.sum(skeleton.mass)
    com = np.asarray(jnp.einsum("b,tbk->tk", share, p + jnp.einsum("tbij,bj->tbi", R, jnp.asarray(skeleton.com))))
    speed = np.linalg.norm(np.gradient(x, 1.0 / fps, axis=0), axis=-1).min(-1)  # (T, 2)
    height = x[..., 2].min(-1) - ground
    time = np.arange(motion.frames)
    stands = speed.argmin(-1)
    on, up = height[time, stands], height[time, 1 - stands]
    stride = (speed[time, 1 - stands] > SWING) & (on < STANDS) & (up - np.maximum(on, 0.0) > UP)
    away = np.array([outside(com[t, :2], x[t, stands[t], :, :2]) if stride[t] else 0.0 for t in time])
    return int(np.argmax(away)), float(np.max(away))


def row(w: Windows, k: int) -> tuple[CleanClip, Motion]:
    skeleton, motion = jax.tree.map(lambda a: a[k], (w.skeleton, w.motion))
    clip = CleanClip(w.clips[k], w.subjects[k], skeleton, motion, float(w.ground[k]))
    return clip, motion


def controls(groups: dict[int, Windows], clean: dict, config) -> dict:
    """Changes that must not matter, and bodies that do not move."""
    out, fps, batch = {}, config.fps, config.batch
    totals, n0 = clean["total"], 0
    drift: dict[str, list] = {}
    for n, w in groups.items():
        base = totals[n0 : n0 + len(w.clips)]
        n0 += len(w.clips)
        angle = jnp.deg2rad(37.0)
        c, s = jnp.cos(angle), jnp.sin(angle)
        turned = jnp.asarray([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
        root = so3.log(so3.matmul(turned, so3.exp(w.motion.rotation[..., 0, :])))
        yaw = Motion(w.motion.rotation.at[..., 0, :].set(root), w.motion.translation @ turned.T)
        moved = Motion(w.motion.rotation, w.motion.translation + jnp.array([13.0, -7.0, 2.0]))
        mirror = jax.vmap(mirrored)(w.skeleton, w.motion)
        cases = {
            "yaw": dataclasses.replace(w, motion=yaw),
            "translation": dataclasses.replace(w, motion=moved, ground=w.ground + 2.0),
            "mirror": dataclasses.replace(w, motion=mirror),
        }
        for factor in (0.85, 1.15):
            cases[f"height_{factor}"] = scaled(w, factor)
        for name, changed in cases.items():
            drift.setdefault(name, []).append(score_windows(changed, fps, batch)["total"] - base)
        for other in (16.0, 24.0, 60.0):
            rows = [row(w, k) for k in range(len(w.clips))]
            again = stack([(clip, at_rate(motion, fps, other)) for clip, motion in rows])
            drift.setdefault(f"fps_{other:.0f}", []).append(score_windows(again, other, batch)["total"] - base)
        if n == config.window_frames:
            half = (n + 1) // 2
            rows = [row(w, k) for k in range(len(w.clips))]
            parts = [
                score_windows(stack([(c, pick(m, start, half)) for c, m in rows]), fps, batch)["total"]
                for start in (0, n - half)
            ]
            drift.setdefault("length", []).append(0.5 * (parts[0] + parts[1]) - base)
    for name, parts in drift.items():
        d = np.concatenate(parts)
        out[f"drift_{name}_mean"] = float(np.mean(d))
        out[f"drift_{name}_mean_absolute"] = float(np.mean(np.abs(d)))
        out[f"drift_{name}_worst"] = float(np.max(np.abs(d)))
    return out | frozen(groups, clean, config)


def scaled(w: Windows, factor: float) -> Windows:
    """The same motion of a body that is taller or smaller by a factor, with its mass as the cube of it."""
    s = w.skeleton
    names = ("offset", "com", "sole", "palm", "capsule_a", "capsule_b", "capsule_radius")
    lengths = {n: getattr(s, n) * factor for n in names if hasattr(s, n)}
    skeleton = dataclasses.replace(s, mass=s.mass * factor**3, inertia=s.inertia * factor**5, **lengths)
    ground = jnp.asarray(w.ground)[:, None]
    z = w.motion.translation.at[..., 2].add(-ground)
    x = (z * factor).at[..., 2].add(ground)
    return dataclasses.replace(w, skeleton=skeleton, motion=Motion(w.motion.rotation, x))


def frozen(groups: dict[int, Windows], clean: dict, config) -> dict:
    """A body that hovers and one that stands, against clean motion."""
    fps, batch = config.fps, config.batch
    n = max(groups)
    stand = jnp.zeros((n, 24, 3)).at[:, 0, 0].set(jnp.pi / 2)
    person = humanoid()
    height = 1.75 * 0.578
    still = Motion(stand, jnp.zeros((n, 3)).at[:, 2].set(height))
    clip = CleanClip("stand", "none", person, still, 0.0)
    arms = Motion(stand.at[:, 16, 2].set(-1.3).at[:, 17, 2].set(1.3), still.translation)
    hover = Motion(arms.rotation, arms.translation + jnp.array([0.0, 0.0, 0.5]))
    s = score_windows(stack([(clip, still), (clip, arms), (clip, hover)]), fps, batch)["total"]
    out = dict(frozen_t_pose_total=float(s[0]), frozen_standing_total=float(s[1]), frozen_hovering_total=float(s[2]))
    out["frozen_standing_above_clean_median"] = float(max(s[0], s[1]) - np.median(clean["total"]))
    worst = min(clean["total"][clean["clip"] == c].mean() for c in set(clean["clip"]))
    out["hovering_below_worst_clean_clip"] = float(worst - s[2])
    return out


def mid_stride(config, motions: str | Path) -> dict:
    """Walks against their own poses that are farthest out of balance, frozen: what each window loses by it."""
    fps, lost = config.fps, {}
    subjects = {subject_of(name) for name in config.walks}
    walks = [c for c in load(motions, fps, subjects, (), config.skip_seconds) if c.name in config.walks]
    for w in windows(walks, (config.window_frames, config.short_frames), config.windows_per_clip).values():
        moving = score_windows(w, fps, config.batch)["total"]
        held = []
        for k in range(len(w.clips)):
            walker, motion = row(w, k)
            frame, away = mid_stride_frame(walker.skeleton, motion, walker.ground, fps)
            if away > OUTSIDE:
                held.append((k, walker, freeze(motion, frame)))
        if held:
            still = score_windows(stack([h[1:] for h in held]), fps, config.batch)["total"]
            for (k, walker, _), s in zip(held, still):
                lost.setdefault(walker.name, []).append(float(moving[k] - s))
    out: dict[str, float] = {f"mid_stride_{name}_worst_win": min(v) for name, v in lost.items()}
    every = [d for v in lost.values() for d in v]
    return out | {"mid_stride_windows": len(every), "mid_stride_worst_win": min(every, default=float("nan"))}


def run(config, subjects, motions: str | Path | None = None, progress: bool = True) -> dict:
    """All figures for the clips of some subjects."""
    clips = load(motions or config.motions, config.fps, subjects, config.excluded, config.skip_seconds)
    result = benchmark(clips, config, progress)
    out = summary(result, config) | controls(result["groups"], result["clean"], config)
    return out | mid_stride(config, motions or config.motions)


def released_figures(clips: list[CleanClip], config, model: Any) -> dict:
    """The same windows and faults by the released code: means of its axes, and AUROC at the level of the bars.

    Args:
        clips: clean clips.
        config: of the benchmark.
        model: `mujoco.MjModel` of the MJCF that the released code takes.
    """

    def judge(w: Windows) -> np.ndarray:
        scores = [released(model, row(w, k)[1], config.fps) for k in range(len(w.clips))]
        return np.array([[s.contact, s.dynamic, 0.5 * (s.contact + s.dynamic)] for s in scores])

    groups = windows(clips, (config.window_frames, config.short_frames), config.windows_per_clip)
    clean = {n: judge(w) for n, w in groups.items()}
    whole = np.concatenate(list(clean.values()))
    out = {f"released_clean_{axis}": float(whole[:, k].mean()) for k, axis in enumerate(("contact", "dynamic"))}
    for name in config.targets:
        if name == "slow":  # its windows are cut by our own measure of flight
            continue
        severity = CORRUPTIONS[name].severities()[config.level - 1]
        pairs = []
        for n, w in groups.items():
            if name == "fast":
                moved = warped(
                    [c for c in clips if c.name in w.clips], severity, n, config.windows_per_clip, config.fps
                )
            else:
                moved = corrupted(name, w, severity, config.fps)
            if moved is not None:
                pairs.append((clean[n], judge(moved)))
        before, after = (np.concatenate(side) for side in zip(*pairs))
        for k, axis in enumerate(("contact", "dynamic", "mean")):
            out[f"released_{name}_{axis}_auroc"] = auroc(before[:, k], after[:, k])
    return out


def table(figures: dict, config) -> str:
    """AUROC, win rate, Spearman and the specificity matrix as text."""
    short = [n[:9] for n in NAMES]
    lines = [f"{'fault':15s} auroc  total  win   rho   spec  " + " ".join(f"{n:>9s}" for n in short)]
    for name, target in config.targets.items():
        g = lambda key, name=name: figures.get(f"{name}_{key}", float("nan"))
        drops = " ".join(f"{g('drop_' + n):8.3f}{'*' if n == target else ' '}" for n in NAMES)
        lines.append(
            f"{name:15s} {g('auroc'):.3f}  {g('auroc_total'):.3f}  {g('win_rate'):.2f}  {g('spearman'):.2f}  "
            f"{g('specificity'):5.1f} {drops}"
        )
    rest = [k for k in figures if k.startswith(("clean_", "drift_", "frozen", "hovering", "mid", "released"))]
    return "\n".join(lines + [f"{k} = {figures[k]:.4g}" for k in rest])


def main(_) -> None:
    config = flags.FLAGS.config
    workdir = Path(flags.FLAGS.workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    for side in flags.FLAGS.sides:
        figures = run(config, getattr(config, side))
        if flags.FLAGS.mjcf:
            import mujoco

            clips = load(config.motions, config.fps, getattr(config, side), config.excluded, config.skip_seconds)
            figures |= released_figures(clips, config, mujoco.MjModel.from_xml_path(flags.FLAGS.mjcf))
        print(f"--- {side} subjects {', '.join(getattr(config, side))}")
        print(table(figures, config), flush=True)
        write_json(workdir / f"{side}.json", figures)
        if side == "test":
            write_report(workdir, **figures, seeds=[0])


if __name__ == "__main__":
    config_flags.DEFINE_config_file("config", str(Path(__file__).parent / "configs" / "eval_phymotion.py"))
    flags.DEFINE_string("workdir", "runs/phymotion", "where everything is written")
    flags.DEFINE_list("sides", ["test"], "of calibration, test, processed")
    flags.DEFINE_string("mjcf", "", "MJCF of the released code, to score the same windows with it")
    app.run(main)
