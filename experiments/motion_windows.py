"""What the prior reads in other ranges of noise: how much of its answer hangs on the window that was fixed beforehand.

Low noise shows fine detail and little of what a word means; at high noise a video is hardly seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from experiments import motion_guided as guided
from experiments.motion_fields import Videos
from experiments.motion_scenes import HeldOut
from jaxphys.diffusion.prior_files import Prior
from jaxphys.language import captions

METHOD = "posterior_frames"


def label(window: Sequence[float]) -> str:
    """The name of the method with a window."""
    return f"{METHOD}_window_{window[0]:g}_{window[1]:g}"


def rows_of(held: HeldOut, grid, caption: dict[str, str], videos: Videos, prior: Prior, config, row: Any) -> list[dict]:
    """The answers of one elastic scene in every other window, with the first frames given and the first seed.

    Args:
        held: scene.
        grid: coordinates of its candidates.
        caption: of outcomes.
        videos: of the candidates.
        prior: video model.
        config: of the evaluation.
        row: makes a row of (held, method, asked, target, belief).
    """
    shown, seed = guided.in_colour(held, grid, videos), config.seeds[0]
    if guided.first_change(videos, config.known) > guided.STILL:
        return []
    scale, rows = captions.SCALES["stiffness"], []
    asked = [("outcome", caption, held.truth)]
    asked += [("property", held.named() | {"stiffness": w}, scale.centre(w)) for w in scale.values]
    for window in config.other_windows:
        heard: dict = {}
        options: dict[str, Any] = dict(window=tuple(window), known=config.known, levels=config.levels)
        options |= dict(draws=config.draws, seed=seed, heard=heard)
        for about, words, target in asked:
            belief, sure = guided.read_words(prior, held, shown, words, **options)
            rows.append(row(held, label(window), about, target, belief, seed=seed, confidence=sure))
    return rows


def beside(rows: Sequence[dict], config) -> list[dict]:
    """The answers in the fixed window to what was asked in the others, under the name of that window."""
    names = {label(window) for window in config.other_windows}
    asked = {(r["scene"], r["asked"]) for r in rows if r["method"] in names}
    own = [r for r in rows if r["method"] == METHOD and r.get("seed") == config.seeds[0]]
    name = label((config.window_low, config.window_high))
    return [r | {"method": name} for r in own if (r["scene"], r["asked"]) in asked]
