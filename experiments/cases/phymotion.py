"""The PhyMotion reward notices every fault by its own sub-score and leaves clean motion alone.

The corruption benchmark of `experiments/eval_phymotion.py` on people whom the calibration has not seen; targets and
ground fixed in `experiments/configs/eval_phymotion.py`. Bars: per fault AUROC >= 0.95 at severity 4 of 8 and Spearman
>= 0.9 with severity for its own sub-score; clean median >= 0.9, runs and acrobatics >= 0.8; controls within 0.02; a
hovering body below every clean clip, a standing one at most 0.02 above the clean median, a pose frozen out of balance
below its walk. `released_*`: the same windows and faults by the arithmetic of the released code, on our body in the
place of its licensed one. Six minutes on one core.
"""

from __future__ import annotations

import mujoco

from experiments.configs.eval_phymotion import get_config
from experiments.eval_phymotion import released_figures, score_windows
from experiments.eval_phymotion import run as evaluate
from experiments.phymotion_data import load, windows
from jaxphys.body import humanoid
from jaxphys.methods.phymotion_released import hinged_mjcf


def run() -> dict:
    config = get_config()
    figures = evaluate(config, config.test, progress=False)
    clips = load(config.motions, config.fps, config.processed, config.excluded, config.skip_seconds)
    groups = windows(clips, (config.window_frames, config.short_frames), config.windows_per_clip)
    for w in groups.values():
        for name, total in zip(w.clips, score_windows(w, config.fps, config.batch)["total"]):
            figures[f"processed_{name}_total"] = min(float(total), figures.get(f"processed_{name}_total", 1.0))
    clips = load(config.motions, config.fps, config.test, config.excluded, config.skip_seconds)
    figures |= released_figures(clips, config, mujoco.MjModel.from_xml_string(hinged_mjcf(humanoid())))
    drifts = [k for k in figures if k.startswith("drift_") and k.endswith("_mean_absolute")]
    figures["drift_greatest_mean_absolute"] = max(figures[k] for k in drifts)
    return figures


FAULTS = tuple(get_config().targets)
CHECKS = (
    {f"{name}_auroc": (">=", 0.95) for name in FAULTS}
    | {f"{name}_spearman": (">=", 0.9) for name in FAULTS}
    | {
        "clean_median_total": (">=", 0.9),
        "clean_acrobatics_and_runs_median_total": (">=", 0.8),
        "drift_greatest_mean_absolute": ("<=", 0.02),
        "hovering_below_worst_clean_clip": (">", 0.0),
        "frozen_standing_above_clean_median": ("<=", 0.02),
        "mid_stride_worst_win": (">", 0.0),
    }
)
