"""What the prior reads with one seed: in other ranges of noise than the one fixed beforehand, and of many more scenes.

Low noise shows fine detail and little of what a word means; at high noise a video is hardly seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from experiments import motion_guided as guided
from experiments.motion_answers import row
from experiments.motion_fields import Videos
from experiments.motion_looks import in_colour
from experiments.motion_scenes import WORDS_OF, HeldOut
from experiments.motion_summary import FIRST_SEED, METHOD
from jaxphys.diffusion.prior_files import Prior
from jaxphys.language import captions


def label(window: Sequence[float]) -> str:
    """The name of the method with a window."""
    return f"{METHOD}_window_{window[0]:g}_{window[1]:g}"


def asked_of(held: HeldOut, grid, caption: dict[str, str], videos: Videos, prior: Prior, config) -> dict:
    """What one scene is asked with the first seed alone, the first frames given.

    Some elastic scenes like the training clips are asked in the other windows; elastic ones that the prior is not asked
    about otherwise in the fixed one, of outcomes, so that its calibration, and its gain on hollow bodies, is that of
    many scenes; other materials every word of their property.

    Args:
        held: scene.
        grid: coordinates of its candidates.
        caption: of outcomes.
        videos: of the candidates.
        prior: video model.
        config: of the evaluation.

    Returns:
        "rows", and as "heard" what `FIRST_SEED` heard in every slot, for other temperatures.
    """
    slot, fixed = WORDS_OF.get(held.material), (config.window_low, config.window_high)
    scale, rows, kept, todo = captions.SCALES.get(slot or ""), [], [], []
    outcome = [("outcome", caption, held.truth)]
    words = [("property", held.named() | {slot: w}, scale.centre(w)) for w in scale.values] if scale else []
    elastic = held.material == "elastic"
    if held.is_like_training and held.number < config.window_scenes:
        todo += [(label(window), tuple(window), outcome + words) for window in config.other_windows]
    if elastic and held.number >= config.asked.get(f"{held.kind}_{held.material}", 0):
        todo.append((FIRST_SEED, fixed, outcome))
    if not elastic and words:
        todo.append((METHOD, fixed, words))
    change = guided.first_change(videos, config.known)
    if not todo or change > guided.STILL:
        return {"rows": rows, "heard": kept}
    shown, seed = in_colour(held, grid, videos, config.draws), config.seeds[0]
    for name, window, asked in todo:
        heard: dict = {}
        options: dict[str, Any] = dict(window=window, known=config.known, levels=config.levels)
        options |= dict(seed=seed, heard=heard)
        for about, said, target in asked:
            belief, sure = guided.read_words(prior, held, shown, said, **options)
            rows.append(row(held, name, about, target, belief, seed=seed, confidence=sure))
        if name == FIRST_SEED:
            kept = guided.as_heard(heard, caption, change)
    return {"rows": rows, "heard": kept}


def beside(rows: Sequence[dict], config) -> list[dict]:
    """The answers with all seeds, cut to the first: under the name of the fixed window, and of the first seed."""
    names = {label(window) for window in config.other_windows}
    asked = {(r["scene"], r["asked"]) for r in rows if r["method"] in names}
    own = [r for r in rows if r["method"] == METHOD and r.get("seed") == config.seeds[0]]
    fixed = label((config.window_low, config.window_high))
    out = [r | {"method": fixed} for r in own if (r["scene"], r["asked"]) in asked]
    once = [r for r in own if (r["material"], r["asked"]) == ("elastic", "outcome")]
    return out + [r | {"method": FIRST_SEED} for r in once if f"{r['kind']}_elastic" in config.first_seed]
