"""The prior's posterior at another temperature, and from half of the candidates: how much of what it hears is so.

The log-likelihoods that the prior gave are stored, so that the posterior of `methods.motion_posterior` is had again at
no cost. The temperature is the one under which the hidden values are likeliest, fitted on the scenes like the training
clips that it is not used on: those with an odd number for an even one, and the other way round.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import log_softmax

from experiments.motion_answers import row
from experiments.motion_first_seed import FIRST_SEED, METHOD
from experiments.motion_scenes import HeldOut
from experiments.motion_words import FINE, Belief
from jaxphys.language import captions

Heard = tuple[HeldOut, np.ndarray, list[dict]]  # a scene, its candidates and what the prior heard
TEMPERATURES = 2.0 ** np.arange(-3, 9, 0.5)


def belief(held: HeldOut, grid: np.ndarray, heard: Sequence[dict], temperature: float) -> Belief:
    """The belief from what was heard in the slots of one caption, with one seed and as many first frames."""
    log_weight = np.zeros(len(grid))
    for one in heard:
        mean = np.asarray(one["log_likelihood"], np.float64) / temperature
        error = np.asarray(one["error"], np.float64)[:, None] / temperature
        log_words = log_softmax(mean / np.sqrt(1.0 + np.pi / 8.0 * error**2), axis=1)
        said = list(captions.SLOTS[one["slot"]]).index(one["said"][one["slot"]])
        log_weight += log_softmax(log_words[:, said])
    fine = np.interp(np.linspace(*held.ends, FINE), grid, log_weight)
    return Belief.of(held.ends, np.exp(fine - fine.max()))


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


def rows_of(scenes: Sequence[Heard], more: Sequence[Heard], seed: int) -> tuple[list[dict], dict[str, float]]:
    """The answers at the fitted temperature, those from every other candidate, and the temperatures.

    Args:
        scenes: each with its candidates and what the prior heard.
        more: scenes that were asked with the first seed alone.
        seed: the first.
    """
    of_first = lambda heard: [one for one in heard if one["seed"] == seed and one["known"] > 0]
    once = [(held, grid, of_first(heard)) for held, grid, heard in (*scenes, *more) if held.is_like_training]
    rows, temperatures = [], {}
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
