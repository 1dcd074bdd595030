"""The prior's posterior at another temperature, from half of the candidates, and with balanced words of a property.

The log-likelihoods that the prior gave are stored, so that the posterior of `methods.motion_posterior` is had again at
no cost. The temperature is the one under which the hidden values are likeliest, fitted on the scenes like the training
clips that it is not used on: those with an odd number for an even one, and the other way round.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import log_softmax

from experiments.motion_answers import row
from experiments.motion_scenes import WORDS_OF, HeldOut
from experiments.motion_summary import FIRST_SEED, METHOD
from experiments.motion_words import Belief
from jaxphys.language import captions
from jaxphys.methods.motion_posterior import balanced

Heard = tuple[HeldOut, np.ndarray, list[dict]]  # a scene, its candidates and what the prior heard
TEMPERATURES = 2.0 ** np.arange(-3, 9, 0.5)


def log_words(one: dict, temperature: float = 1.0) -> np.ndarray:
    """log p(word | candidate) of what was heard in one slot (K, words)."""
    mean = np.asarray(one["log_likelihood"], np.float64) / temperature
    error = np.asarray(one["error"], np.float64)[:, None] / temperature
    return log_softmax(mean / np.sqrt(1.0 + np.pi / 8.0 * error**2), axis=1)


def belief(held: HeldOut, grid: np.ndarray, heard: Sequence[dict], temperature: float) -> Belief:
    """The belief from what was heard in the slots of one caption, with one seed and as many first frames."""
    said = [(log_words(one, temperature), one["slot"], one["said"][one["slot"]]) for one in heard]
    return belief_of(held, grid, said)


def belief_of(held: HeldOut, grid: np.ndarray, said: Sequence[tuple[np.ndarray, str, str]]) -> Belief:
    """The belief from log p(word | candidate) (K, words), slot and the word that was said, one of each slot."""
    log_weight = sum(log_softmax(words[:, list(captions.SLOTS[slot]).index(word)]) for words, slot, word in said)
    return Belief.between(held.ends, grid, log_weight)


def halved(one: dict) -> dict:
    """What was heard of every other candidate."""
    return one | {key: np.asarray(one[key])[::2] for key in ("log_likelihood", "error")}


def likelihood(held: HeldOut, found: Belief) -> float:
    """Logarithm of the density at the hidden value, over that of the even belief."""
    near = int(np.argmin(np.abs(found.values - held.truth)))
    return float(np.log(np.maximum(found.weights[near] * len(found.values), 1e-12)))


def groups_of(heard: Sequence[dict]) -> dict[tuple[int, int], list[dict]]:
    """What was heard of the outcome caption of one scene, by first frames and seed."""
    out: dict[tuple[int, int], list[dict]] = {}
    for one in heard:
        if one["slot"] in one["said"]:
            out.setdefault((one["known"], one["seed"]), []).append(one)
    return out


def fitted(scenes: Sequence[Heard], frames: bool) -> float:
    """The temperature under which the hidden values of these scenes are likeliest."""
    asked = [(h, grid, g) for h, grid, heard in scenes for (k, _), g in groups_of(heard).items() if (k > 0) == frames]
    if not asked:
        return float("nan")
    means = [np.mean([likelihood(h, belief(h, grid, g, t)) for h, grid, g in asked]) for t in TEMPERATURES]
    return float(TEMPERATURES[int(np.argmax(means))])


def balanced_rows(scenes: Sequence[Heard]) -> list[dict]:
    """The answers to words of a property, each as likely as any other over all candidates together (`balanced`).

    The words share the range of the unknown evenly, as the candidates do.
    """
    rows = []
    for held, grid, heard in scenes:
        for one in heard:
            if one["slot"] in one["said"] or one["slot"] != WORDS_OF.get(held.material):
                continue
            name, scale = METHOD if one["known"] else "posterior_text", captions.SCALES[one["slot"]]
            even = np.asarray(balanced(log_words(one)), np.float64)
            for word in scale.values:
                found = belief_of(held, grid, [(even, one["slot"], word)])
                rows.append(row(held, f"{name}_balanced", "property", scale.centre(word), found, seed=one["seed"]))
    return rows


def rows_of(scenes: Sequence[Heard], more: Sequence[Heard], seed: int) -> tuple[list[dict], dict[str, float]]:
    """The answers at the fitted temperature, from every other candidate and of balanced words, and the temperatures.

    Args:
        scenes: each with its candidates and what the prior heard.
        more: scenes that were asked with the first seed alone.
        seed: the first.
    """
    of_first = lambda heard: [one for one in heard if one["seed"] == seed and one["known"] > 0]
    once = [(held, grid, of_first(heard)) for held, grid, heard in (*scenes, *more) if held.is_like_training]
    rows, temperatures = balanced_rows(scenes), {}
    for name, own, frames in (
        ("posterior_text", scenes, False),
        (METHOD, scenes, True),
        (FIRST_SEED, once, True),
    ):
        halves = [
            fitted([s for s in own if s[0].is_like_training and s[0].number % 2 == parity], frames) for parity in (0, 1)
        ]
        temperatures |= {f"{name}_temperature_{half}": t for half, t in zip(("even", "odd"), halves)}
        for held, grid, heard in own:
            temperature = halves[1 - held.number % 2]
            for (known, seed_of), group in groups_of(heard).items():
                if (known > 0) != frames:
                    continue
                found = {"halved": belief(held, grid[::2], [halved(one) for one in group], 1.0)}
                if np.isfinite(temperature):
                    found["tempered"] = belief(held, grid, group, temperature)
                rows += [row(held, f"{name}_{k}", "outcome", held.truth, b, seed=seed_of) for k, b in found.items()]
    return rows, temperatures
