"""Which motions show the outcomes that were asked for: drawn motions, and the probabilities of words."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jaxphys.language import captions
from jaxphys.methods.motion_outcomes import compare, outcome_match
from jaxphys.scenes.outcomes import Outcomes


def bouncing(rebound, squash=0.0):
    """A block that falls 1 m and comes back up to `rebound` m, flatter by `squash` on the ground."""
    time = jnp.linspace(0.0, 2.0, 21)
    centre = jnp.where(time < 1.0, 1.0 - time**2, rebound * (1.0 - (time - 2.0) ** 2))
    height = 0.2 * (1.0 - squash * jnp.exp(-(((time - 1.0) / 0.15) ** 2)))
    corners = jnp.stack(jnp.meshgrid(*[jnp.linspace(-0.5, 0.5, 5)] * 3), -1).reshape(-1, 3)
    x = 0.2 * corners[None].repeat(21, 0)
    return x.at[..., 2].set(corners[:, 2] * height[:, None] + (centre + 0.5 * height)[:, None])


def test_outcome_match_finds_the_motion_that_was_asked_for():
    rebounds = (0.0, 0.15, 0.4, 0.8)
    x = jnp.stack([bouncing(r) for r in rebounds])
    for k, said in enumerate(("it stays down", "it bounces low", "it bounces halfway up", "it bounces high")):
        out = outcome_match(x, said, 10.0)
        assert int(out.best) == k and out.agree[:, 0].tolist() == [j == k for j in range(4)], said
        np.testing.assert_allclose(out.probability.sum(), 1.0, rtol=1e-6)
    assert [w["rebound"] for w in out.words()] == ["none", "low", "half", "high"]
    both = jnp.stack([bouncing(0.8, 0.0), bouncing(0.8, 0.7), bouncing(0.0, 0.7)])
    out = outcome_match(both, "A ball near Paris bounces high and is squashed flat", 10.0)
    assert int(out.best) == 1 and out.slots == ("squash", "rebound") and out.ignored == ("near", "paris")
    assert out.agree.tolist() == [[False, True], [True, True], [True, False]]


@pytest.mark.long
def test_words_of_an_uncertain_number_have_the_probabilities_of_its_distribution():
    number, deviation = np.array([0.05, 0.3, 0.9]), np.array([0.2, 0.02, 0.5])
    measured = Outcomes(*(jnp.asarray(number),) * 6)
    off = Outcomes(*(jnp.asarray(deviation),) * 6)
    scale = captions.SCALES["squash"]
    edges = np.array([-np.inf, *scale.edges[1:-1], np.inf])
    below = scipy.stats.logistic.cdf((edges[:, None] - number) / (deviation * 3**0.5 / np.pi))
    for k, word in enumerate(scale.values):
        found = compare(measured, {"squash": word}, softness=1e-4, deviation=off)
        np.testing.assert_allclose(found.score, below[k + 1] - below[k], atol=2e-6)
    sure = compare(measured, {"squash": "half"}, deviation=Outcomes(*(jnp.zeros(3),) * 6))
    np.testing.assert_allclose(sure.score, compare(measured, {"squash": "half"}).score, rtol=1e-4)
    with pytest.raises(ValueError, match="deviation must have leaves"):
        compare(measured, {"squash": "half"}, deviation=Outcomes(*(jnp.zeros(2),) * 6))


def test_outcome_match_is_smooth_and_leaves_failures_out():
    slope = jax.grad(lambda r: outcome_match(bouncing(r)[None], {"rebound": "half"}, 10.0).score[0])
    for r, sign in ((0.2, 1.0), (0.6, -1.0)):
        assert jnp.sign(slope(r)) == sign
    assert jnp.isfinite(jax.grad(lambda r: outcome_match(bouncing(r)[None], {"rebound": "high"}, 10.0).score[0])(0.9))
    beyond = outcome_match(bouncing(1.4)[None], {"rebound": "high", "squash": "keeps"}, 10.0)  # outer bins are open
    assert beyond.agree.all() and beyond.measured[0, 1] > 1.2 and beyond.score[0] > 0.9
    x = jnp.stack([bouncing(0.8), bouncing(0.8).at[3, 0, 0].set(jnp.nan), bouncing(0.75)])
    out = outcome_match(x, {"rebound": "high"}, 10.0, valid=jnp.array([False, True, True]))
    assert int(out.best) == 2 and out.probability.tolist() == [0.0, 0.0, 1.0]
    none = outcome_match(x, {"rebound": "high"}, 10.0, valid=jnp.zeros(3, bool), prior=jnp.array([1.0, 1.0, 2.0]))
    assert none.probability.tolist() == [0.25, 0.25, 0.5] and not none.score.any()


def test_bad_input_is_refused():
    x, high = bouncing(0.5)[None], {"rebound": "high"}
    with pytest.raises(ValueError, match="names no outcome"):
        outcome_match(x, "a red ball", 10.0)
    with pytest.raises(ValueError, match="is one of"):
        outcome_match(x, {"rebound": "huge"}, 10.0)
    with pytest.raises(ValueError, match="positions must have"):
        outcome_match(x[0], high, 10.0)
    with pytest.raises(ValueError, match="valid must have"):
        outcome_match(x, high, 10.0, valid=jnp.ones(2))
    with pytest.raises(ValueError, match="the prior must be at least 0"):
        compare(Outcomes(*jnp.zeros((6, 2))), {"squash": "keeps"}, prior=jnp.zeros(2))
