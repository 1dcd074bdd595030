"""A prompt decides the material: every bar of MotionPhysics on held-out scenes, beside what needs no video model.

Reads report.json of a finished evaluation (`python -m experiments.eval_motionphysics`, hours; the folder is
runs/motionphysics_eval, or the one that MOTIONPHYSICS_EVAL names), and holds its figures against the bars that were
fixed beforehand. A figure that the report lacks, because there was no prior or a scene was left out, counts as missed.
Property captions: error against the centre of the word. Outcome captions: error in decades against the hidden value.
"Reachable" is the greatest share within 0.3 decades that the posterior itself expects of any answer: where it is below
the bar, the words of the captions do not hold what the bar asks for. The contrast was added when the misses of the
reconstruction were known, the balanced posterior when those of the posterior were; both are held against the same
bars, beside what they are to mend. So was the reading of 136 more hollow bodies, as many in all as of those like the
training clips, when 24 had given an interval of the gain that was too wide to tell. Seconds on one core.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np

from experiments.motion_scenes import KINDS, UNKNOWN, WORDS_OF
from experiments.motion_summary import FIRST_SEED, NEAR
from experiments.report import ROOT

LIKE = "outcome_training_elastic"
PROPERTY = "property_training_elastic"
OTHERS = tuple(m for m in UNKNOWN if m != "elastic")
LEVELS = (50, 80, 95)
ORDERED = ("outcome_match", "posterior_frames")

CHECKS = {
    # property captions
    f"{PROPERTY}_reconstruction_coarse_scenes_count": (">=", 20),
    f"{PROPERTY}_reconstruction_coarse_median": ("<=", 0.20),
    f"{PROPERTY}_reconstruction_coarse_bin_right": (">=", 0.65),
    f"{PROPERTY}_reconstruction_sign_right": (">=", 0.85),
    f"{PROPERTY}_contrast_coarse_median": ("<=", 0.20),
    f"{PROPERTY}_contrast_coarse_bin_right": (">=", 0.65),
    f"{PROPERTY}_contrast_sign_right": (">=", 0.85),
    f"{PROPERTY}_posterior_frames_median": ("<=", 0.15),
    f"{PROPERTY}_posterior_frames_bin_right": (">=", 0.85),
    f"{PROPERTY}_posterior_text_median": ("<=", 0.25),
    f"{PROPERTY}_posterior_text_bin_right": (">=", 0.65),
    f"{PROPERTY}_posterior_frames_balanced_median": ("<=", 0.15),
    f"{PROPERTY}_posterior_frames_balanced_bin_right": (">=", 0.85),
    f"{PROPERTY}_posterior_text_balanced_median": ("<=", 0.25),
    f"{PROPERTY}_posterior_text_balanced_bin_right": (">=", 0.65),
    # outcome captions
    "regression_elastic_words_explain": ("<=", 0.7),
    f"{LIKE}_posterior_text_scenes_count": (">=", 48),
    "least_scenes_of_a_new_kind_count": (">=", 24),
    f"{LIKE}_outcome_match_median": ("<=", 0.20),
    f"{LIKE}_outcome_match_within_{NEAR:g}": (">=", 0.80),
    "outcome_new_elastic_outcome_match_median": ("<=", 0.25),
    f"outcome_new_elastic_outcome_match_within_{NEAR:g}": (">=", 0.70),
    "posterior_frames_median_over_outcome_match": ("<=", 2.0),
    f"{LIKE}_posterior_frames_within_{NEAR:g}": (">=", 0.65),
    "outcome_hollow_elastic_posterior_frames_gain_over_regression_low": (">", 0.0),
    f"outcome_hollow_elastic_{FIRST_SEED}_gain_over_regression_low": (">", 0.0),
    "outcome_hollow_elastic_outcome_match_gain_over_regression_low": (">", 0.0),
    # the other materials
    "least_scenes_of_another_material_count": (">=", 8),
    "class_prior_right": (">=", 0.85),
    "class_prior_balanced_right": (">=", 0.85),
    "class_job_right": (">=", 0.85),
    **{f"{method}_order_right_of_other_materials": (">=", 0.85) for method in ORDERED},
    "posterior_frames_order_of_words_right_of_other_materials": (">=", 0.85),
    # calibration
    f"{LIKE}_outcome_match_scenes_count": (">=", 150),
    **{f"outcome_match_coverage_{level}_holds": (">=", 1) for level in LEVELS},
    **{f"posterior_frames_coverage_{level}_holds": (">=", 1) for level in LEVELS},
    f"{LIKE}_{FIRST_SEED}_scenes_count": (">=", 150),
    **{f"{FIRST_SEED}_coverage_{level}_holds": (">=", 1) for level in LEVELS},
    **{f"{FIRST_SEED}_tempered_coverage_{level}_holds": (">=", 1) for level in LEVELS},
    # the simulator in the loop
    "loop_training_elastic_reconstruction_exact_scenes_count": (">=", 10),
}


def derived(report: dict) -> dict[str, float]:
    """Figures that compare several of the report's; NaN, or 0 for a yes or no, where one of these is missing."""
    get = lambda key: float(report.get(key, np.nan))
    count = lambda kind, material: get(f"outcome_{kind}_{material}_outcome_match_scenes_count")
    out = {
        "least_scenes_of_a_new_kind_count": np.min([count(k, "elastic") for k in KINDS if k != "training"]),
        "least_scenes_of_another_material_count": np.min([count("training", m) for m in OTHERS]),
        "posterior_frames_median_over_outcome_match": get(f"{LIKE}_posterior_frames_median")
        / get(f"{LIKE}_outcome_match_median"),
    }
    for method in ORDERED:
        orders = [get(f"outcome_training_{m}_{method}_order_right") for m in OTHERS]
        out[f"{method}_order_right_of_other_materials"] = np.mean(orders)
    words = [get(f"property_training_{m}_posterior_frames_order_right") for m in OTHERS if m in WORDS_OF]
    out["posterior_frames_order_of_words_right_of_other_materials"] = np.mean(words)
    for method in (*ORDERED, FIRST_SEED, f"{FIRST_SEED}_tempered"):
        for level in LEVELS:
            low, high = (get(f"{LIKE}_{method}_coverage_{level}_{end}") for end in ("low", "high"))
            out[f"{method}_coverage_{level}_holds"] = low <= level / 100 <= high
    return {name: float(value) for name, value in out.items()}


def figures(report: dict) -> dict:
    """Everything that the evaluation says of errors, shares and cost, and the figures of all bars."""
    kept = {k: v for k, v in report.items() if isinstance(v, (int, float))}
    about = {f"evaluation_{k}": report[k] for k in ("commit", "date", "device", "prior", "reader") if k in report}
    return dict.fromkeys(CHECKS, float("nan")) | kept | derived(report) | about


def run() -> dict:
    folder = Path(os.environ.get("MOTIONPHYSICS_EVAL", ROOT / "runs" / "motionphysics_eval"))
    path = folder / "report.json"
    if not path.exists():
        raise ValueError(
            f"{path} is missing: run python -m experiments.eval_motionphysics --workdir={folder} with a prior first "
            "(see its config), or name another folder by MOTIONPHYSICS_EVAL"
        )
    return figures(json.loads(path.read_text()))
