"""Two unknowns at once: stiffness and yield stress of a body that bends for good, from one prompt.

Candidates stand on a square grid over both ranges; the posterior is the score of the outcome words (and what the prior
hears in the candidates' clips), interpolated between them. Both hidden values are drawn anew over these ranges, which
are wider in stiffness than those of the clips. What the words leave open shows in the correlation of the posterior:
near -1 or 1 they fix a combination of the two and neither alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy.interpolate import NearestNDInterpolator, RegularGridInterpolator

from experiments import motion_guided as guided
from experiments.motion_fields import Drawn, draw_laws, restore, store
from experiments.motion_looks import in_colour_alone
from experiments.motion_scenes import SEED, HeldOut, blind
from experiments.motion_words import Belief
from jaxphys.diffusion.prior_files import Prior
from jaxphys.methods.motion_outcomes import compare
from jaxphys.scenes import clips
from jaxphys.scenes.outcomes import Outcomes

NAMES = ("E", "yield_stress")
ENDS = {  # log10 Pa
    "metal": ((5.0, 6.0), (2.5, 5.0)),
    "plasticine": ((5.0, 6.0), (2.5, 4.2)),
}
FINE = 61  # values of each unknown that the posterior is told on


def hidden(held: HeldOut) -> np.ndarray:
    """The two hidden coordinates, other ones than the scene's own (2,).

    Raises:
        ValueError: the scene's material has no such pair.
    """
    if held.material not in ENDS:
        raise ValueError(f"two unknowns: material must be one of {', '.join(ENDS)}, got {held.material!r}")
    rng = np.random.default_rng([SEED, 5, list(ENDS).index(held.material), held.number])
    return np.array([rng.uniform(*ends) for ends in ENDS[held.material]])


def axes_of(held: HeldOut, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates of the candidates along each unknown."""
    first, second = (np.linspace(*ends, count) for ends in ENDS[held.material])
    return first, second


def law_of(held: HeldOut, point) -> Any:
    """The law with both values."""
    return dataclasses.replace(held.scene.law, **{n: np.float32(10.0**u) for n, u in zip(NAMES, point)})


def candidates_of(folder: Path, held: HeldOut, world: clips.World, count: int) -> Drawn:
    """The stored candidates, the second unknown running fastest, and the hidden pair last; made where missing."""
    path = folder / f"{held.name}.pair.npz"
    if not path.exists():
        points = [*np.stack(np.meshgrid(*axes_of(held, count), indexing="ij"), -1).reshape(-1, 2), hidden(held)]
        store(path, draw_laws(held, world, [(held.law_name, law_of(held, p)) for p in points]))
    return restore(path, Drawn)


@dataclasses.dataclass(frozen=True)
class Joint:
    """Weights, sum 1, over both unknowns."""

    first: np.ndarray  # (M,)
    second: np.ndarray  # (M,)
    weights: np.ndarray  # (M, M)

    def marginal(self, which: int) -> Belief:
        """The belief in one unknown."""
        values = (self.first, self.second)[which]
        return Belief.of((values[0], values[-1]), self.weights.sum(1 - which))

    @property
    def correlation(self) -> float:
        """Pearson's, of the weighted values; NaN where one of them is certain."""
        grid = np.meshgrid(self.first, self.second, indexing="ij")
        apart = [g - (self.weights * g).sum() for g in grid]
        a, b, both = ((self.weights * x * y).sum() for x, y in ((apart[0],) * 2, (apart[1],) * 2, apart))
        return float(both / np.sqrt(a * b)) if a * b > 0.0 else float("nan")


def posterior(
    axes: tuple[np.ndarray, np.ndarray],
    drawn: Drawn,
    caption: Mapping[str, str] | None = None,
    more: np.ndarray | None = None,
) -> Joint:
    """The joint posterior of outcome words, of what a video model heard, or of both.

    Args:
        axes: coordinates of the candidates (A,), (B,).
        drawn: A * B candidates, and any after them.
        caption: its outcome words count; None: `more` alone does.
        more: log-likelihood of the candidates by a video model (A * B,).

    Raises:
        ValueError: fewer than two candidates are sound.
    """
    count = len(axes[0]) * len(axes[1])
    sound = drawn.codes[:count] == 0
    if sound.sum() < 2:
        raise ValueError(f"two unknowns: {sound.sum()} of {count} candidates could be simulated, two are needed")
    points = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 2)
    rows = drawn.outcomes[:count] if more is None else np.column_stack([drawn.outcomes[:count], more])
    # candidates whose simulation failed count as their nearest neighbour, in steps of the grid
    steps = (points - points[0]) / [axis[1] - axis[0] for axis in axes]
    table = NearestNDInterpolator(steps[sound], rows[sound])(steps)
    fine = [np.linspace(axis[0], axis[-1], FINE) for axis in axes]
    there = np.stack(np.meshgrid(*fine, indexing="ij"), -1).reshape(-1, 2)
    values = RegularGridInterpolator(axes, table.reshape(len(axes[0]), len(axes[1]), -1))(there)
    log = np.zeros(len(there))
    if caption is not None:
        score = compare(Outcomes(*np.asarray(values[:, :6].T, np.float32)), caption).score
        log = np.log(np.maximum(np.asarray(score, np.float64), 1e-30))
    if more is not None:
        log = log + values[:, 6]
    weights = np.exp(log - log.max()).reshape(FINE, FINE)
    return Joint(fine[0], fine[1], weights / weights.sum())


def heard(
    prior: Prior, held: HeldOut, drawn: Drawn, axes, caption: Mapping[str, str], *, draws: int, **options: Any
) -> np.ndarray:
    """Log-likelihood of the candidates by the caption's words, read by the prior (A * B,)."""
    count = len(axes[0]) * len(axes[1])
    shown = in_colour_alone(held, drawn.maps[:, :count], draws)
    return guided.word_weights(prior, blind(held), shown, caption, **options)[0]


def rows_of(folder: Path, held: HeldOut, prior: Prior | None, config, world: clips.World) -> list[dict]:
    """The answers of one scene, one row per judge: errors, intervals and the correlation."""
    axes, truth = axes_of(held, config.pair_candidates), hidden(held)
    drawn = candidates_of(folder, held, world, config.pair_candidates)
    if drawn.codes[-1] != 0:
        return []
    caption = held.outcome_caption(Outcomes(*drawn.outcomes[-1]))
    judged = [("outcome_match", posterior(axes, drawn, caption))]
    if prior is not None:
        options = dict(window=(config.window_low, config.window_high), known=1, levels=config.levels)
        log = heard(prior, held, drawn, axes, caption, draws=config.draws, seed=config.seeds[0], **options)
        judged.append(("posterior_frames", posterior(axes, drawn, more=log)))
    rows = []
    for judge, joint in judged:
        row: dict[str, Any] = {"scene": held.name, "material": held.material, "judge": judge}
        row["correlation"] = joint.correlation
        for k, name in enumerate(NAMES):
            belief, span = joint.marginal(k), np.ptp(axes[k])
            low, high = belief.interval(0.8)
            row |= {f"{name}_error": abs(belief.median - truth[k]), f"{name}_inside_80": low <= truth[k] <= high}
            row |= {f"{name}_constant_error": abs(axes[k].mean() - truth[k]), f"{name}_width_80": (high - low) / span}
        rows.append(row)
    return rows


def figures(rows: list[dict]) -> dict[str, float]:
    """Medians over scenes, by judge and material."""
    out: dict[str, float] = {}
    for judge, material in dict.fromkeys((r["judge"], r["material"]) for r in rows):
        own = [r for r in rows if (r["judge"], r["material"]) == (judge, material)]
        name = f"pair_{material}_{judge}"
        for key in own[0]:
            if key.endswith(("_error", "_width_80")):
                out[f"{name}_{key}_median"] = float(np.median([r[key] for r in own]))
            elif key.endswith("_inside_80"):
                out[f"{name}_{key}_share"] = float(np.mean([r[key] for r in own]))
        tied = np.array([r["correlation"] for r in own])
        out[f"{name}_correlation_mean"] = float(np.nanmean(tied))
        out[f"{name}_correlation_size_median"] = float(np.nanmedian(np.abs(tied)))
        out[f"{name}_scenes_count"] = len({r["scene"] for r in own})
    return out
