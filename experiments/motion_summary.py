"""Rows of answers to figures: errors with intervals, shares, signs, coverage, order, paired differences."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from scipy.stats import binomtest

from experiments.motion_words import LEVELS

METHOD, FIRST_SEED = "posterior_frames", "posterior_frames_first_seed"  # the latter of more scenes
EACH = 24  # scenes of every new kind, the first of it, that stand for the new kinds together
NEAR = 0.3  # an answer within this many decades counts as right
MEANS = ("bin_right", "sign_right", "cosine", "confidence", "first_change", "reachable", "order_within")
MEANS += ("step_seconds", "peak_bytes", "energy_left", "energy_greatest", "volume_change", "stored_apart")


def interval_of(values: Iterable[float], statistic=np.median, level: float = 0.95) -> tuple[float, float]:
    """Bootstrap interval of a statistic (2,000 resamples)."""
    values = np.asarray(list(values), float)
    index = np.random.default_rng(0).integers(len(values), size=(2000, len(values)))
    ends = np.quantile(statistic(values[index], axis=1), [0.5 - level / 2, 0.5 + level / 2])
    return float(ends[0]), float(ends[1])


def by_scene(rows: list[dict], key: str = "error") -> dict[str, float]:
    """Mean over seeds, words and starts of each scene."""
    out: dict[str, list[float]] = {}
    for r in rows:
        out.setdefault(r["scene"], []).append(r[key])
    return {name: float(np.mean(v)) for name, v in out.items()}


def summary(rows: list[dict]) -> dict[str, float]:
    """Flat figures of all rows: errors with intervals, shares, signs, coverage, order, paired differences."""
    out: dict[str, Any] = {}
    groups: dict[tuple, list[dict]] = {}
    for r in rows:
        groups.setdefault((r["asked"], r["kind"], r["material"], r["method"]), []).append(r)
        new = r["asked"] == "outcome" and r["kind"] != "training" and r["method"] != FIRST_SEED
        if new and int(r["scene"].rpartition("_")[2]) < EACH:
            groups.setdefault((r["asked"], "new", r["material"], r["method"]), []).append(r)
    for (asked, kind, material, method), own in groups.items():
        name = f"{asked}_{kind}_{material}_{method}"
        errors = np.round([r["error"] for r in own], 9)  # 4.4 - 4.2 is no more than 0.2
        low, high = interval_of(errors)
        out |= {f"{name}_median": float(np.median(errors)), f"{name}_median_low": low, f"{name}_median_high": high}
        out |= {f"{name}_mean": float(errors.mean()), f"{name}_scenes_count": len({r["scene"] for r in own})}
        if material != "sand":
            out[f"{name}_within_{NEAR:g}"] = float((errors <= NEAR).mean())
        for key in MEANS:
            known = [r[key] for r in own if np.isfinite(r.get(key, np.nan))]
            if known:
                out[f"{name}_{key}"] = float(np.mean(known))
        if asked == "outcome" and "interval_80" in own[0]:
            out |= coverage(name, own)
        if asked == "outcome" and method != "constant":
            out[f"{name}_order_right"] = order_right(own)
        if asked == "property" and method not in ("constant", "look_up"):
            out[f"{name}_order_right"] = order_of_words(own)
    for kind in {k for _, k, _, _ in groups}:
        for method in ("outcome_match", METHOD, FIRST_SEED):
            ours = groups.get(("outcome", kind, "elastic", method))
            theirs = groups.get(("outcome", kind, "elastic", "regression"))
            if ours and theirs:
                a, b = by_scene(ours), by_scene(theirs)
                gain = [b[s] - a[s] for s in a if s in b]
                name = f"outcome_{kind}_elastic_{method}_gain_over_regression"
                low, high = interval_of(gain, np.mean, 0.9)
                out |= {name: float(np.mean(gain)), f"{name}_low": low, f"{name}_high": high}
    return out


def coverage(name: str, rows: list[dict]) -> dict[str, float]:
    """How often the intervals hold the hidden value, with binomial intervals, and how wide they are."""
    out, seeds = {}, len({r.get("seed", 0) for r in rows})
    for level in LEVELS:
        key = f"interval_{round(100 * level)}"
        inside = [r[key][0] <= r["target"] <= r[key][1] for r in rows]
        # seeds of one scene are not independent draws
        n = len(inside) // seeds
        ends = binomtest(round(sum(inside) / seeds), n).proportion_ci()
        label = f"{name}_coverage_{round(100 * level)}"
        out |= {label: float(np.mean(inside)), f"{label}_low": float(ends.low), f"{label}_high": float(ends.high)}
        out[f"{name}_width_{round(100 * level)}"] = float(np.mean([r[key][1] - r[key][0] for r in rows]))
    return out


def order_right(rows: list[dict]) -> float:
    """Share of the pairs of scenes whose answers are ordered as their hidden values are, ties counting half."""
    target, answer = (np.array([r[k] for r in rows]) for k in ("target", "answer"))
    i, j = np.triu_indices(len(rows), 1)
    apart = np.abs(target[i] - target[j]) > 0
    signs = np.sign(answer[i] - answer[j]) * np.sign(target[i] - target[j])
    return float((0.5 + 0.5 * signs)[apart].mean()) if apart.any() else float("nan")


def order_of_words(rows: list[dict]) -> float:
    """Share of the pairs of words of one property, in one scene, that are answered in their order."""
    scenes: dict[tuple, list[dict]] = {}
    for r in rows:
        scenes.setdefault((r["scene"], r.get("seed")), []).append(r)
    return float(np.nanmean([order_right(own) for own in scenes.values() if len(own) > 1] or [np.nan]))


def table(figures: dict) -> str:
    """The medians, one line per caption, kind, material and method."""
    lines = [f"{'':55s} median   [95 %]          within {NEAR:g}  coverage 50/80/95"]
    for key, value in figures.items():
        if f"{key}_low" in figures and key.endswith("_median"):
            name = key.removesuffix("_median")
            ends = f"[{figures[f'{key}_low']:.3f}, {figures[f'{key}_high']:.3f}]"
            near = figures.get(f"{name}_within_{NEAR:g}")
            held = [figures.get(f"{name}_coverage_{c}") for c in (50, 80, 95)]
            tail = "" if held[0] is None else " ".join(f"{c:.2f}" for c in held if c is not None)
            lines.append(f"{name:55s} {value:.3f}  {ends:16s}  {'' if near is None else f'{near:.2f}':10s} {tail}")
        elif key.startswith(("class_", "pair_")) or key.endswith("_lost_mean"):
            lines.append(f"{key:70s} {value:.3f}")
    return "\n".join(lines)
