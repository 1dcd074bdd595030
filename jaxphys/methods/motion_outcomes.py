"""Which candidate does what the prompt says: measured outcomes against the outcome words of a caption.

No network takes part. A word is a bin of a number (`language.captions`), the number is measured on the simulation
(`scenes.outcomes`), and a candidate agrees as far as its numbers lie inside:

    score = prod over words of sigma((x - low) / w) sigma((high - x) / w),    w = softness (high - low)

with sigma the logistic function; the outer sides of the outer bins are open. It is smooth in what was measured. Where
a number is known up to a deviation s only, because a motion is chaotic or was interpolated between others, the score is
the probability of the word under a logistic distribution of that deviation,

    sigma((high - x) / w) - sigma((low - x) / w)
        = sigma((x - low) / w) sigma((high - x) / w) (1 - exp(-(high - low) / w)),

with w^2 = (softness (high - low))^2 + 3 s^2 / pi^2; the last factor is 1 at an open side.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxphys.checks import is_concrete
from jaxphys.language.captions import OUTCOMES, SCALES, check, parse
from jaxphys.pytree import pytree, static
from jaxphys.scenes.outcomes import Outcomes, measure


@pytree
class OutcomeMatch:
    """How K candidates agree with the S outcome words of a caption."""

    score: Any  # 0..1 (K,)
    probability: Any  # score times prior, sum 1 (K,)
    agree: Any  # whether the measured word is the asked one (K, S)
    measured: Any  # the numbers behind the words (K, S)
    best: Any  # index of the candidate with the greatest score ()
    slots: tuple[str, ...] = static()  # the S slots
    asked: tuple[str, ...] = static()  # their words
    ignored: tuple[str, ...] = static()  # words of the sentence that are not in the vocabulary

    def words(self) -> list[dict[str, str]]:
        """The measured word of each candidate in each slot."""
        return [{s: SCALES[s].word(float(v)) for s, v in zip(self.slots, row)} for row in np.asarray(self.measured)]


def outcome_match(
    x: jax.Array,
    caption: str | Mapping[str, str],
    fps: float,
    *,
    ground: float = 0.0,
    valid: Any = None,
    prior: Any = None,
    softness: float = 0.1,
) -> OutcomeMatch:
    """Compares candidate motions with a caption.

    Args:
        x: positions of the particles of the candidates (K, T, N, 3) [m]; frame 0 is the undisturbed body.
        caption: a sentence, or slot -> value; slots that cannot be measured are passed over.
        fps: frames per second.
        ground: height of the ground [m].
        valid: False for candidates whose simulation failed (K,); they score 0, as do motions that are not finite.
        prior: weights of the candidates before anything was said (K,); None: even.
        softness: width of the edge of a word over the width of its bin.

    Raises:
        ValueError: the caption names no outcome or is no caption, shapes do not fit, or softness is not above 0.

    >>> drop = jnp.array([2.0, 1.0, 0.0, 1.0, 2.0])[:, None, None] * jnp.array([0.0, 0.0, 1.0])
    >>> stay = jnp.array([2.0, 1.0, 0.0, 0.0, 0.0])[:, None, None] * jnp.array([0.0, 0.0, 1.0])
    >>> body = jnp.array([[0.0, 0.0, 0.0], [0.1, 0.1, 0.1]])
    >>> int(outcome_match(jnp.stack([stay + body, drop + body]), "a ball bounces high", 10.0).best)
    1
    """
    if x.ndim != 4 or x.shape[-1] != 3:
        raise ValueError(f"outcome_match: positions must have shape (K, T, N, 3), got {x.shape}")
    measured = jax.vmap(lambda one: measure(one, fps, ground))(x)
    finite = jnp.isfinite(x).all((1, 2, 3))
    alive = finite if valid is None else finite & jnp.asarray(valid, bool)
    return compare(measured, caption, valid=alive, prior=prior, softness=softness)


def compare(
    measured: Outcomes,
    caption: str | Mapping[str, str],
    *,
    valid: Any = None,
    prior: Any = None,
    softness: float = 0.1,
    deviation: Outcomes | None = None,
) -> OutcomeMatch:
    """`outcome_match` of outcomes that were measured before; leaves (K,).

    `deviation` says how far the numbers may be off; None: not at all, and the last factor of the formula, 1 but for
    exp(-1 / softness), is left out. No derivative is taken of it.
    """
    said, ignored = parse(caption) if isinstance(caption, str) else (dict(caption), [])
    check(said)
    slots = tuple(slot for slot in OUTCOMES if slot in said)
    if not slots:
        raise ValueError(
            f"outcome_match: the caption {caption!r} names no outcome; say something of {', '.join(OUTCOMES)}, or use "
            "caption_posterior"
        )
    if softness <= 0.0:
        raise ValueError(f"outcome_match: softness must be greater than 0, got {softness}")
    numbers = jnp.stack([jnp.asarray(getattr(measured, slot)) for slot in slots], -1)
    if numbers.ndim != 2:
        raise ValueError(f"outcome_match: outcomes must have leaves (K,), got {numbers.shape[:-1]}")
    K = len(numbers)
    for name, given in (("valid", valid), ("prior", prior)):
        if given is not None and jnp.shape(given) != (K,):
            raise ValueError(f"outcome_match: {name} must have shape ({K},), got {jnp.shape(given)}")
    if prior is not None and is_concrete(prior) and not (np.min(prior) >= 0.0 < np.sum(prior)):
        raise ValueError("outcome_match: the prior must be at least 0, and greater for one candidate")
    alive = jnp.isfinite(numbers).all(-1)
    if valid is not None:
        alive = alive & jnp.asarray(valid, bool)
    safe = jnp.where(alive[:, None], numbers, 0.0)
    low, high, width = (jnp.asarray(a, numbers.dtype) for a in _bins(slots, said))
    edge = softness * width
    if deviation is not None:
        apart = jnp.stack([jnp.asarray(getattr(deviation, slot)) for slot in slots], -1)
        if apart.shape != numbers.shape:
            raise ValueError(f"outcome_match: the deviation must have leaves ({K},), got {apart.shape[:-1]}")
        edge = jnp.sqrt(edge**2 + 3.0 / np.pi**2 * jax.lax.stop_gradient(apart) ** 2)
    logs = jax.nn.log_sigmoid((safe - low) / edge) + jax.nn.log_sigmoid((high - safe) / edge)
    if deviation is not None:
        logs = logs + jnp.log(-jnp.expm1((low - high) / edge))
    log_score = jnp.where(alive, logs.sum(-1), -jnp.inf)
    weights = jnp.ones(K, numbers.dtype) if prior is None else jnp.asarray(prior, numbers.dtype)
    log_joint = jnp.where(weights > 0.0, log_score + jnp.log(jnp.where(weights > 0.0, weights, 1.0)), -jnp.inf)
    # where every simulation failed nothing is known: softmax would give NaN
    some = jnp.isfinite(log_joint).any()
    probability = jnp.where(some, jax.nn.softmax(jnp.where(some, log_joint, 0.0)), weights / weights.sum())
    return OutcomeMatch(
        score=jnp.exp(log_score),
        probability=probability,
        agree=(safe >= low) & (safe < high) & alive[:, None],
        measured=numbers,
        best=jnp.argmax(log_score),
        slots=slots,
        asked=tuple(said[slot] for slot in slots),
        ignored=tuple(ignored),
    )


def _bins(slots, said):
    """Lower and upper edges, open at the ends of a scale, and widths."""
    rows = []
    for slot in slots:
        scale = SCALES[slot]
        k = list(scale.values).index(said[slot])
        low, high = scale.edges[k], scale.edges[k + 1]
        last = len(scale.values) - 1
        rows.append((-np.inf if k == 0 else low, np.inf if k == last else high, high - low))
    return np.asarray(rows).T
