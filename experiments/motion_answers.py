"""What video models answer about one scene: by reading words in pictures of its candidates, and by guidance.

Reading and drawing want different weights (see the card of the small prior), so each is asked apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments import motion_guided as guided
from experiments import motion_words as words
from experiments.motion_fields import Field, videos_of
from experiments.motion_looks import Shown, in_colour
from experiments.motion_scenes import HeldOut
from experiments.motion_summary import NEAR
from jaxphys.diffusion.prior_files import Prior
from jaxphys.language import captions
from jaxphys.scenes import clips


def row(held: HeldOut, method: str, asked: str, target: float, belief: words.Belief | float, **more: Any) -> dict:
    """One answer of one method."""
    if isinstance(belief, words.Belief):
        ends: dict[str, Any] = {f"interval_{round(100 * level)}": belief.interval(level) for level in words.LEVELS}
        ends["reachable"] = belief.greatest(NEAR) if not held.linear else float("nan")
        answer = belief.median
    else:
        ends, answer = {}, float(belief)
    about = {"scene": held.name, "kind": held.kind, "material": held.material, "action": held.action}
    about |= {"shape": held.shape, "method": method, "asked": asked, "target": target, "answer": answer}
    slot = words.WORDS_OF.get(held.material)
    if asked == "property" and slot is not None:
        more["bin_right"] = captions.SCALES[slot].word(answer) == captions.SCALES[slot].word(target)
    return about | {"error": abs(answer - target)} | ends | more


COARSE = ("reconstruction", "contrast")  # begin at the best of every other candidate, too


class Asked(NamedTuple):
    """A scene as it is asked about."""

    shown: list[Shown]  # in as many appearances as the noise is drawn
    change: float  # of the first frames between neighbouring candidates, of 255
    given: list[int]  # numbers of first frames with which words are read; guidance has the last of them
    questions: list[tuple[str, dict[str, str], float]]  # (outcome or property, caption, target)
    seeds: tuple[int, ...]


def asked_of(held: HeldOut, field: Field, config, world: clips.World, folder: Path) -> Asked:
    """The candidates in colour and every caption; first frames are given where they are alike."""
    videos = videos_of(folder, held, world, config.candidates)
    change = guided.first_change(videos, config.known)
    still = config.known > 0 and change <= guided.STILL
    like = held.is_like_training
    given = [known for known, told in ((0, like or not still), (config.known, still)) if told]
    questions = [("outcome", held.outcome_caption(field.true_outcomes()), held.truth)]
    if like and held.number < config.property_scenes:
        scale = captions.SCALES["stiffness"]
        questions += [("property", held.named() | {"stiffness": w}, scale.centre(w)) for w in scale.values]
    seeds = tuple(config.seeds) if like else tuple(config.seeds[:1])
    shown = in_colour(held, field.grid, videos, config.draws)
    return Asked(shown, change, given, questions, seeds)


def read(held: HeldOut, asked: Asked, reader: Prior, config) -> tuple[list[dict], list[dict]]:
    """The posteriors of one scene, and what was heard in every slot, for other temperatures."""
    rows, heard = [], {}
    for seed in asked.seeds:
        options: dict[str, Any] = dict(levels=config.levels, seed=seed, heard=heard)
        options |= dict(window=(config.window_low, config.window_high))
        for about, caption, target in asked.questions:
            for known in asked.given:
                if known == 0 and about == "outcome" and seed != config.seeds[0]:
                    continue
                name = "posterior_frames" if known else "posterior_text"
                belief, sure = guided.read_words(reader, held, asked.shown, caption, known=known, **options)
                more = dict(seed=seed, confidence=sure, first_change=asked.change)
                rows.append(row(held, name, about, target, belief, **more))
    return rows, guided.as_heard(heard, asked.questions[0][1], asked.change)


def follow(held: HeldOut, asked: Asked, grid: np.ndarray, prior: Prior, methods: Sequence[str], config) -> list[dict]:
    """Where the gradient of each guidance leads in one scene, from starts that are far off."""
    rows, window = [], (config.window_low, config.window_high)
    for seed in asked.seeds:
        for n, (about, caption, target) in enumerate(asked.questions):
            rng = np.random.default_rng([seed, held.number, n])
            for method in methods:
                settings = guided.settings(method, prior, window, asked.given[-1])
                if method == "reference" and (about == "property" or seed != config.seeds[0]):
                    continue
                pull, loss, cosine = guided.pulls(prior, held, asked.shown, caption, settings, config.draws, seed)
                begins = guided.starts(held.ends, target, rng)
                if method in COARSE:
                    begins = [float(grid[::2][np.argmin(loss.mean(0)[::2])]), *begins]
                right = guided.sign_right(grid, pull, target, 0.1 * (held.ends[1] - held.ends[0]))
                for k, begin in enumerate(begins):
                    name = f"{method}_coarse" if method in COARSE and k == 0 else method
                    end = guided.follow(grid, pull, begin, rng)
                    about_it = dict(seed=seed, start=begin, sign_right=right, cosine=float(cosine.mean()))
                    rows.append(row(held, name, about, target, end, **about_it))
    return rows
