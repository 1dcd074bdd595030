"""Answers to "which value does this caption mean?" that need no video model: from the words, and from simulations.

Every answer is a belief over the range of the unknown, so that errors and intervals of all are counted alike.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from experiments.clip_files import Clips
from experiments.motion_fields import Field
from experiments.motion_scenes import MEASURED, UNKNOWN, WORDS_OF, HeldOut
from jaxphys import language
from jaxphys.language import captions
from jaxphys.methods.motion_outcomes import compare
from jaxphys.scenes import clips
from jaxphys.scenes.outcomes import Outcomes

FINE = 161  # values that a belief is told on
LEVELS = (0.5, 0.8, 0.95)
SLOT = {name: k for k, name in enumerate(captions.SLOTS)}
NUMBERS = ("density", "size", "gap")  # of `clips.SCALARS`, what every scene has


@dataclasses.dataclass(frozen=True)
class Belief:
    """Weights, sum 1, of evenly spaced values."""

    values: np.ndarray  # (M,)
    weights: np.ndarray  # (M,)

    @classmethod
    def of(cls, ends: tuple[float, float], weights) -> Belief:
        """A belief over a range; weights that vanish everywhere say nothing."""
        weights = np.asarray(weights, np.float64)
        total = weights.sum()
        even = np.full(len(weights), 1.0 / len(weights))
        return cls(np.linspace(*ends, len(weights)), weights / total if total > 0.0 else even)

    @classmethod
    def between(cls, ends: tuple[float, float], grid: np.ndarray, log_weight: np.ndarray) -> Belief:
        """A belief over a range from log-weights (K,) of candidates at `grid` (K,), read between them."""
        fine = np.interp(np.linspace(*ends, FINE), grid, log_weight)
        return cls.of(ends, np.exp(fine - fine.max()))

    @property
    def mean(self) -> float:
        return float(self.weights @ self.values)

    def quantile(self, share: float) -> float:
        """The value that holds a share of the weight below it; each value stands for its half-way neighbourhood."""
        below = np.concatenate([[0.0], np.cumsum(self.weights)])
        step = self.values[1] - self.values[0]
        edges = np.clip(np.append(self.values - step / 2, self.values[-1] + step / 2), self.values[0], self.values[-1])
        return float(np.interp(share, below + 1e-12 * np.arange(len(below)), edges))

    @property
    def median(self) -> float:
        return self.quantile(0.5)

    def greatest(self, near: float) -> float:
        """The greatest probability that any answer has of being within `near`: what words that say this much allow."""
        inside = np.abs(self.values[:, None] - self.values) <= near + 1e-9
        return float((inside @ self.weights).max())

    def interval(self, level: float) -> tuple[float, float]:
        """The central interval of a probability."""
        return self.quantile(0.5 - level / 2), self.quantile(0.5 + level / 2)

    def densest(self, level: float) -> tuple[float, float]:
        """The ends of the likeliest values that hold a probability together: the likeliest of all is among them."""
        order = np.argsort(-self.weights, kind="stable")
        inside = self.values[order[: 1 + np.searchsorted(np.cumsum(self.weights[order]), level - 1e-9)]]
        return float(inside.min()), float(inside.max())


def normal(ends: tuple[float, float], mean: float, deviation: float) -> Belief:
    """A normal belief cut off at the ends of the range."""
    values = np.linspace(*ends, FINE)
    return Belief.of(ends, np.exp(-0.5 * ((values - np.clip(mean, *ends)) / deviation) ** 2))


def constant(held: HeldOut) -> Belief:
    """The range itself: its middle, whatever was said."""
    return Belief.of(held.ends, np.ones(FINE))


def look_up(held: HeldOut, caption: Mapping[str, str]) -> Belief:
    """The bin of the word that names the unknown; where no word does, the range."""
    slot = WORDS_OF.get(held.material)
    if slot is None or slot not in caption:
        return constant(held)
    scale, values = captions.SCALES[slot], np.linspace(*held.ends, FINE)
    words = [scale.word(float(v)) for v in values]
    return Belief.of(held.ends, [word == caption[slot] for word in words])


def proposal(held: HeldOut, caption: Mapping[str, str]) -> Belief:
    """What the offline material table proposes for the sentence, in the range of the unknown."""
    found = language.propose(captions.say(caption))
    if held.unknown not in found.simulated:
        return constant(held)
    place = (lambda v: v) if held.linear else np.log10
    mean = float(place(found.simulated[held.unknown]))
    wide = found.ranges[held.unknown]
    spread = float(place(max(wide.hi, 1e-9)) - place(max(wide.lo, 1e-9)))
    return normal(held.ends, mean, max(spread / 4, 0.05 * (held.ends[1] - held.ends[0])))


def roughness(grid: np.ndarray, values: np.ndarray) -> np.ndarray:
    """How far values between candidates may be from a straight line: deviations like `values` (K, ...).

    A candidate is off the line through its two neighbours by a residual r. Where the values scatter by s about a line,
    r has the variance 3/2 s^2, and a further value is off the interpolation by 5/3 s^2 on average: so r^2 serves, as a
    mean over a candidate and its neighbours.

    >>> roughness(np.arange(5.0), np.array([0.0, 1.0, 2.0, 3.0, 4.0])).tolist()
    [0.0, 0.0, 0.0, 0.0, 0.0]
    """
    if len(grid) < 3:
        return np.zeros(values.shape)
    share = ((grid[1:-1] - grid[:-2]) / (grid[2:] - grid[:-2])).reshape(-1, *[1] * (values.ndim - 1))
    off = values[1:-1] - (1.0 - share) * values[:-2] - share * values[2:]
    square = np.concatenate([off[:1], off, off[-1:]]) ** 2
    near = np.abs(np.subtract.outer(np.arange(len(grid)), np.arange(len(grid)))) <= 1
    return np.sqrt(np.tensordot(near / near.sum(1, keepdims=True), square, 1))


def by_outcomes(field: Field, held: HeldOut, caption: Mapping[str, str], softness: float = 0.05) -> Belief:
    """`outcome_match` on outcomes interpolated between the sound candidates, as uncertain as they scatter."""
    sound = field.sound
    if not sound.any():
        return constant(held)
    values, grid, rows = np.linspace(*held.ends, FINE), field.grid[sound], field.outcomes[:-1][sound]
    between = lambda table: Outcomes(*(np.interp(values, grid, column).astype(np.float32) for column in table.T))
    match = compare(between(rows), caption, softness=softness, deviation=between(roughness(grid, rows)))
    return Belief.of(held.ends, np.asarray(match.probability))


def order_within(field: Field, held: HeldOut, every: int = 4) -> float:
    """Share of pairs of candidates of one scene that are answered in their order, ties counting half.

    Each candidate stands for the hidden value in turn: its outcome words are matched with the others'.
    """
    answers = []
    for k in np.flatnonzero(field.sound)[::every]:
        rest = field.codes.copy()
        rest[k] = 1
        said = held.outcome_caption(Outcomes(*field.outcomes[k]))
        answers.append(by_outcomes(dataclasses.replace(field, codes=rest), held, said).median)
    i, j = np.triu_indices(len(answers), 1)
    signs = np.sign(np.array(answers)[j] - np.array(answers)[i]) if len(answers) > 1 else np.zeros(0)
    return float((0.5 + 0.5 * signs).mean()) if len(signs) else float("nan")


@dataclasses.dataclass(frozen=True)
class Regression:
    """A Gaussian process from the words and the numbers of a scene to the coordinate of the unknown.

    Rasmussen and Williams, Gaussian Processes for Machine Learning (2006), eq. 2.25 and 2.26, with a squared
    exponential kernel; its scales and the noise have the greatest marginal likelihood (eq. 2.30) of a small grid.
    """

    features: np.ndarray  # of the training clips, scaled (N, D)
    weights: np.ndarray  # (N,)
    factor: np.ndarray  # Cholesky factor of the kernel matrix (N, N)
    noise: float
    mean: float
    scale: float  # deviation of the coordinate
    lengths: tuple[float, float]  # of words and of numbers
    centre: np.ndarray  # of the numbers (3,)
    width: np.ndarray

    @classmethod
    def fit(cls, tokens, numbers, target, most: int = 1500) -> Regression:
        """Trains on clips.

        Args:
            tokens: captions (N, slots).
            numbers: density, size, gap (N, 3), or None: words alone.
            target: coordinates (N,).
            most: clips beyond this many are left out.
        """
        tokens, target = np.asarray(tokens)[:most], np.asarray(target, np.float64)[:most]
        numbers = np.zeros((len(target), 3)) if numbers is None else np.asarray(numbers, np.float64)[:most]
        centre, width = numbers.mean(0), np.maximum(numbers.std(0), 1e-9)
        mean, scale = float(target.mean()), float(max(target.std(), 1e-9))
        y, best = (target - mean) / scale, None
        for words in (1.0, 2.0, 4.0):
            for amount in (1.0, 2.0, 4.0, 16.0):
                x = cls._features(tokens, (numbers - centre) / width, (words, amount))
                kernel = _kernel(x, x)
                for noise in (0.02, 0.1, 0.3, 0.6):
                    factor = np.linalg.cholesky(kernel + noise * np.eye(len(x)))
                    half = np.linalg.solve(factor, y)
                    evidence = -0.5 * half @ half - np.log(np.diag(factor)).sum()
                    if best is None or evidence > best[0]:
                        alpha = np.linalg.solve(factor.T, half)
                        best = evidence, cls(x, alpha, factor, noise, mean, scale, (words, amount), centre, width)
        assert best is not None
        return best[1]

    @staticmethod
    def _features(tokens, numbers, lengths):
        parts = [np.asarray(numbers) / lengths[1]]
        for slot, values in enumerate(captions.SLOTS.values()):
            parts.append((tokens[:, slot, None] == np.arange(len(values) + 1)) / lengths[0])
        return np.concatenate(parts, 1)

    def predict(self, tokens, numbers) -> tuple[np.ndarray, np.ndarray]:
        """Mean and deviation for captions (N, slots) and numbers (N, 3)."""
        x = self._features(np.asarray(tokens), (np.asarray(numbers) - self.centre) / self.width, self.lengths)
        k = _kernel(x, self.features)
        inner = np.linalg.solve(self.factor, k.T)
        variance = np.maximum(1.0 - (inner * inner).sum(0), 0.0) + self.noise
        return self.mean + self.scale * (k @ self.weights), self.scale * np.sqrt(variance)

    def answer(self, held: HeldOut, caption: Mapping[str, str], numbers) -> Belief:
        """The belief for one caption and the numbers of its scene."""
        given = np.zeros(3) if not self.centre.any() else np.asarray(numbers)
        mean, deviation = self.predict(captions.tokens(caption)[None], given[None])
        return normal(held.ends, float(mean[0]), float(deviation[0]))


def _kernel(a, b):
    distance = (a * a).sum(1)[:, None] + (b * b).sum(1) - 2.0 * a @ b.T
    return np.exp(-0.5 * np.maximum(distance, 0.0))


def numbers_of(scalars) -> np.ndarray:
    """`NUMBERS` out of `clips.SCALARS` (..., K)."""
    return np.asarray(scalars)[..., [clips.SCALARS.index(name) for name in NUMBERS]]


def material_clips(clips_: Clips, material: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Captions of outcomes as the held-out scenes have, numbers and coordinates of a material's clips."""
    number = 1 + list(captions.NAMED["material"]).index(material)
    spoken = (clips_.tokens[:, [SLOT[s] for s in captions.OUTCOMES]] > 0).any(1)
    acted = np.isin(clips_.tokens[:, SLOT["action"]], [_action(a) for a in MEASURED[_kind(material)]])
    chosen = (clips_.tokens[:, SLOT["material"]] == number) & spoken & acted
    tokens = clips_.tokens[chosen].copy()
    tokens[:, [SLOT[s] for s in (*captions.PROPERTIES, "colour")]] = 0
    scalars = clips_.scalars[chosen]
    return tokens, numbers_of(scalars), scalars[:, clips.SCALARS.index(UNKNOWN[material])]


def _action(name: str) -> int:
    return 1 + list(captions.NAMED["action"]).index(name)


def _kind(material: str) -> str:
    return "solid" if material in clips.SOLIDS else "flowing"


def regressions(train: Clips, materials: Sequence[str], *, words_alone: bool = False) -> dict[str, Regression]:
    """One regression per material whose unknown the clips vary and have eight of."""
    out = {}
    for material in materials:
        if UNKNOWN[material] in clips.SCALARS:
            tokens, numbers, target = material_clips(train, material)
            if len(target) >= 8:
                out[material] = Regression.fit(tokens, None if words_alone else numbers, target)
    return out


def explained(alone: Mapping[str, Regression], unseen: Clips) -> dict[str, float]:
    """Share of the variance of the unknown that words alone explain on clips that were not trained on."""
    out = {}
    for material, regression in alone.items():
        tokens, _, target = material_clips(unseen, material)
        if len(target) >= 8:
            rest = target - regression.predict(tokens, np.zeros((len(tokens), 3)))[0]
            out[f"{material}_words_explain"] = float(1.0 - np.mean(rest**2) / np.var(target))
    return out
