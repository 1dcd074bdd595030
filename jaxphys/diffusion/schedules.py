"""Samplers as constants: where on the path the network is evaluated, and what is done with the result.

Euler, Heun, UniPC and re-noising are linear in the clip, in what they remember and in the velocity v. Each is therefore
a table, made on the host in float64, of one matrix and two vectors per evaluation:

    z <- A_i z + b_i v(z_0, t_i) + c_i eps_i,    z = (clip, memory ...)

and one `lax.scan` runs them all (`sample.py`). The reverse mode of such a step needs the input of the network and
nothing else.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import NamedTuple

import numpy as np

from jaxphys.diffusion.flow import shift_time

SOLVERS = ("euler", "heun", "unipc", "renoise")
TRAIN_STEPS = 1000  # of the released models: the step of their time grid is 1 / 1000


class Table(NamedTuple):
    """Host constants of one sampler: M evaluations of the network, K clips of state."""

    time: np.ndarray  # (M,) time given to the network
    state: np.ndarray  # (M, K, K) A
    velocity: np.ndarray  # (M, K) b
    noise: np.ndarray  # (M, K) c; all 0 for a deterministic sampler


@dataclasses.dataclass(frozen=True)
class Schedule:
    """A solver and its nodes. Hashable: a static argument.

    >>> Schedule.create(2, "euler", shift=3.0)
    Schedule(solver='euler', sigmas=(1.0, 0.75, 0.0), times=(1.0, 0.75))
    """

    solver: str
    sigmas: tuple[float, ...]  # (N + 1,) noise levels, falling, the last one 0
    times: tuple[float, ...]  # (N,) what the network is told at each of them but the last

    def __post_init__(self):
        if self.solver not in SOLVERS:
            raise ValueError(f"Schedule: solver must be one of {SOLVERS}, got {self.solver!r}")
        s = np.asarray(self.sigmas, np.float64)
        if len(s) < 2 or s[0] > 1.0 or s[-1] != 0.0 or not np.all(np.diff(s) < 0.0):
            raise ValueError(f"Schedule: sigmas must fall from at most 1 to exactly 0, got {self.sigmas}")
        if len(self.times) != len(s) - 1:
            raise ValueError(f"Schedule: {len(s)} sigmas need {len(s) - 1} times, got {len(self.times)}")

    @classmethod
    def create(cls, steps: int, solver: str = "unipc", *, shift: float = 5.0, variant: str = "default") -> Schedule:
        """Equal steps, shifted towards noise by `flow.shift_time`.

        Args:
            steps: N >= 1.
            solver: "euler"; "heun" (2 N - 1 evaluations); "unipc" (order 2, B2(h), data prediction, corrector); or
                "renoise", for few-step models: to the clean clip and back up with fresh noise at every step.
            shift: 1 none; released models use 3 to 12 (the 1.3B model 8 to 12, the 14B model 3 at 480p and 5 at 720p).
            variant: "default": sigma = shifted 1, 1 - 1/N, ..., 0, and the network is told sigma. "released": what
                diffusers does with the released models. Its UniPC runs from 1 to 1/1000 and tells the network
                thousandths, rounded down; its Euler and Heun apply the shift twice.

        Raises:
            ValueError: steps, shift or variant out of range.
        """
        if steps < 1 or shift <= 0.0:
            raise ValueError(f"Schedule: steps must be at least 1 and shift greater than 0, got {steps} and {shift}")
        if variant == "default":
            sigmas = shift_time(np.linspace(1.0, 0.0, steps + 1)[:-1], shift)
            times = sigmas
        elif variant == "released":
            last = 1.0 / TRAIN_STEPS
            if solver == "unipc":
                sigmas = shift_time(np.linspace(1.0, last, steps + 1)[:-1], shift)
                sigmas[0] = min(sigmas[0], 1.0 - 1e-6)
                times = np.floor(sigmas * TRAIN_STEPS) / TRAIN_STEPS
                sigmas = sigmas.astype(np.float32)  # 1 - sigma_0 is 1.3 % more than 1e-6 in float32, and its log counts
            else:
                sigmas = shift_time(np.linspace(1.0, shift_time(last, shift), steps), shift)
                times = sigmas
        else:
            raise ValueError(f"Schedule: variant must be 'default' or 'released', got {variant!r}")
        return cls(solver, (*map(float, sigmas), 0.0), tuple(map(float, times)))

    @classmethod
    def at(cls, times: tuple[float, ...], solver: str = "renoise", *, shift: float = 1.0) -> Schedule:
        """The given times, for distilled models that know only a few: 1, 0.75, 0.5, 0.25 before their shift.

        >>> Schedule.at((1.0, 0.5), "euler", shift=3.0).times
        (1.0, 0.75)
        """
        shifted = tuple(float(shift_time(t, shift)) for t in times)
        return cls(solver, (*shifted, 0.0), shifted)

    @property
    def evaluations(self) -> int:
        """How often the network runs (once more for each with guidance)."""
        steps = len(self.times)
        return 2 * steps - 1 if self.solver == "heun" else steps

    def table(self) -> Table:
        """The constants of this sampler."""
        return _table(self)


@functools.lru_cache(maxsize=64)
def _table(schedule: Schedule) -> Table:
    s, t = np.asarray(schedule.sigmas), np.asarray(schedule.times)
    rows = {"euler": _euler, "heun": _heun, "unipc": _unipc, "renoise": _renoise}[schedule.solver](s, t)
    time = np.array([row[0] for row in rows])
    linear = np.array([row[1] for row in rows])  # (M, K, K + 2) over (z, v, eps)
    K = linear.shape[1]
    return Table(time, linear[..., :K], linear[..., K], linear[..., K + 1])


def _euler(s, t):
    """x' = x + (s' - s) v."""
    x, v, _ = np.eye(3)
    return [(t[i], [x + (s[i + 1] - s[i]) * v]) for i in range(len(t))]


def _heun(s, t):
    """x' = x + h (v(x) + v(x + h v)) / 2 in two evaluations, m = x + h v / 2 kept between them; last, a step of Euler.

    (At s = 0 the network has nothing to say, and one that predicts the clean clip would divide by 0.)
    """
    x, m, v, _ = np.eye(4)
    rows = []
    for i in range(len(t)):
        h = s[i + 1] - s[i]
        rows.append((t[i], [x + h * v, x + 0.5 * h * v]))
        if i + 1 < len(t):
            rows.append((t[i + 1], [m + 0.5 * h * v, 0.0 * m]))
    return rows


def _renoise(s, t):
    """x_0 = x - s v, then x' = (1 - s') x_0 + s' eps (consistency sampling, Song et al. 2023, algorithm 1)."""
    x, v, eps = np.eye(3)
    return [(t[i], [(1.0 - s[i + 1]) * (x - s[i] * v) + s[i + 1] * eps]) for i in range(len(t))]


def _unipc(s, t):
    """UniPC of order 2 with B2(h) = expm1(h) and data prediction (Zhao et al. 2023, algorithms 5 and 6, appendix).

    With alpha = 1 - s, lambda = log(alpha / s), h = lambda' - lambda, e = expm1(-h) and x_0 = x - s v:

        predictor   x' = (s'/s) x_c - alpha' e (x_0 + (m - x_0) / (2 r)),    r = (lambda_prev - lambda) / h
        corrector   x_c' = (s'/s) x_c - alpha' e (x_0 + rho_1 (m - x_0) / r + rho_2 (x_0' - x_0))

    m is the x_0 of the step before. First order (no m) on the first step and on the last. All of the corrector but its
    last term is known one step early: it is kept as y, so that the state is (x, y, m).
    """
    s = np.array(s)
    s[0] = min(s[0], 1.0 - 1e-6)  # lambda is infinite at 1
    alpha = 1.0 - s
    with np.errstate(divide="ignore"):
        lam = np.log(alpha) - np.log(s)
    x, y, m, v, _ = np.eye(5)
    rows, weight = [], 0.0
    for i in range(len(t)):
        clean = x - s[i] * v
        corrected = x if i == 0 else y + weight * clean
        if i + 1 == len(t):
            rows.append((t[i], [clean, 0.0 * y, 0.0 * m]))
            break
        h = lam[i + 1] - lam[i]
        e = np.expm1(-h)
        scale = -alpha[i + 1] * e
        base = s[i + 1] / s[i] * corrected + scale * clean
        if i == 0:
            predicted, weight, slope = base, 0.5 * scale, 0.0 * m
        else:
            r = (lam[i - 1] - lam[i]) / h
            # Moments of the exponential integrator, matched by the two differences (equation 12 of the paper).
            first = (e / -h - 1.0) / e
            second = 2.0 * ((e / -h - 1.0) / -h - 0.5) / e
            rho = np.linalg.solve([[1.0, 1.0], [r, 1.0]], [first, second])
            predicted = base + scale * 0.5 * (m - clean) / r
            weight, slope = scale * rho[1], scale * rho[0] * (m - clean) / r
        rows.append((t[i], [predicted, base + slope - weight * clean, clean]))
    return rows
