"""The gradient of the PhyMotion reward takes half of each fault out of a motion and brings it nearer to what it was.

Windows of three clean clips (walk, sword play, kick) with each fault at severity 4 of 8 are repaired with the ground of
the clean clip. The residual is what the target measure has above its clean value; the distance is that of the joints to
the clean window (for a tilted body: to the same pose, frozen upright). Time warps are left out: their frames are those
of the clean clip, so no nearer pose exists. Three minutes on one core.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from experiments.configs.eval_phymotion import get_config
from experiments.configs.repair_motion import get_config as repair_config
from experiments.eval_phymotion import corrupted, score_windows
from experiments.phymotion_data import Windows, load, windows
from experiments.repair_motion import repair
from jaxphys.body import Motion, forward, humanoid
from jaxphys.body.corrupt import CORRUPTIONS
from jaxphys.body.scores import NAMES, calibration

CLIPS = ("02_01", "02_07", "11_01")
FAULTS = tuple(name for name in tuple(get_config().targets) if name not in ("fast", "slow"))


def distances(w: Windows, motion: Motion, clean: Motion) -> np.ndarray:
    """Root mean square distance of the joints of each window [m]."""
    place = jax.jit(jax.vmap(lambda s, m: forward(s, m.matrices(), m.translation)[1]))
    return np.asarray(
        jnp.sqrt(jnp.mean(jnp.sum((place(w.skeleton, motion) - place(w.skeleton, clean)) ** 2, -1), (1, 2)))
    )


@functools.cache
def _repair_all(steps: int, fps: float):
    def one(skeleton, motion, ground, constants, keep, rates):
        return repair(skeleton, motion, ground, constants, keep, rates, fps=fps, steps=steps)[0]

    return jax.jit(lambda s, m, g, c, keep, rates: jax.lax.map(lambda a: one(*a, c, keep, rates), (s, m, g)))


def run(names: tuple[str, ...] = FAULTS, steps: int | None = None) -> dict:
    config, how = get_config(), repair_config()
    clips = load(config.motions, config.fps, ("02", "11"), config.excluded, config.skip_seconds)
    clips = [c for c in clips if c.name in CLIPS]
    w = windows(clips, (config.window_frames,), 1)[config.window_frames]
    fps, constants = config.fps, calibration(humanoid())
    clean = score_windows(w, fps, config.batch)
    out = {}
    for name in names:
        k = NAMES.index(config.targets[name])
        severity = CORRUPTIONS[name].severities()[config.level - 1]
        faulty = corrupted(name, w, severity, fps).motion
        origin = corrupted(name, w, 0.0, fps).motion if name == "tilt" else w.motion
        args = (w.skeleton, faulty, jnp.asarray(w.ground), constants, how.keep, (how.rate_rad, how.rate_m))
        fixed = _repair_all(steps or how.steps, fps)(*args)
        before, after = (
            score_windows(Windows(w.clips, w.subjects, w.skeleton, m, w.ground), fps, config.batch)
            for m in (faulty, fixed)
        )
        base = 0.0 if name == "tilt" else clean["values"][:, k]
        residual = [np.maximum(s["values"][:, k] - base, 0.0) for s in (before, after)]
        known = residual[0] > 1e-3 * constants.half[k]  # a sword fighter with feet apart may lean and still stand
        fall = 1.0 - residual[1][known] / residual[0][known]
        far = [distances(w, m, origin) for m in (faulty, fixed)]
        out |= {
            f"{name}_windows": int(known.sum()),
            f"{name}_residual_fall_mean": float(np.mean(fall)) if known.any() else 0.0,
            f"{name}_distance_ratio_mean": float(np.mean(far[1] / far[0])),
            f"{name}_total_before": float(before["total"].mean()),
            f"{name}_total_after": float(after["total"].mean()),
        }
        print(name, {key: round(v, 3) for key, v in out.items() if key.startswith(f"{name}_")}, flush=True)
    return out


CHECKS = {f"{name}_residual_fall_mean": (">=", 0.5) for name in FAULTS} | {
    f"{name}_distance_ratio_mean": ("<", 1.0) for name in FAULTS
}
