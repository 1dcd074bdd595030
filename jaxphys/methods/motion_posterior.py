"""Which caption does a video model read in a simulated clip, and so: which parameters does a caption mean?

The variational bound of a diffusion model (Kingma et al., 2021) with x_c its clean clip under caption c:

    log p(z | c) = const - 1/2 integral E |z - x_c(z_t)|^2 d SNR,    SNR = ((1 - t) / t)^2

With competing captions the constant cancels, and Bayes' rule gives the caption of each candidate (as in Li et al., Your
Diffusion Model is Secretly a Zero-Shot Classifier, 2023) and the candidate of each caption. All pairs see the same
noise, so that what they share cancels too.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxphys.checks import is_concrete
from jaxphys.diffusion.flow import clean, interpolate
from jaxphys.diffusion.protocol import Condition, impose
from jaxphys.methods.motionphysics import GuidanceConfig, Guide, guided_velocity
from jaxphys.pytree import pytree


@pytree
class CaptionPosterior:
    """What K candidates say about C captions."""

    log_likelihood: Any  # log p(z_k | c) but for a constant per candidate (K, C)
    error: Any  # standard error of the margin between a candidate's best two captions, from the noise drawn (K,)
    words: Any  # p(c | candidate), rows sum to 1 (K, C)
    candidates: Any  # p(candidate | c), columns sum to 1 (K, C)
    confidence: Any  # probability of the best caption of each candidate (K,)


def caption_posterior(
    params: Guide,
    videos: jax.Array,
    captions: Condition,
    config: GuidanceConfig,
    *,
    levels: int = 6,
    draws: int = 4,
    prior: Any = None,
    temperature: float = 1.0,
    batch: int = 1,
    key: jax.Array,
) -> CaptionPosterior:
    """The posterior over competing captions of candidate videos, and over candidates of each caption.

    The integral is a trapezoid rule in SNR over `levels` times evenly spaced in `config.window`. The finite number of
    draws makes the log-odds of a candidate uncertain by a deviation s; its probabilities are averaged over that, by
    the probit approximation: log-odds are divided by sqrt(1 + pi s^2 / 8) (MacKay 1992).

    Args:
        params: `Guide` with the denoiser (and the encoder).
        videos: candidates (K, T, H, W, 3) in 0..1.
        captions: conditions with texts (C, L, D); what else it holds is shared by all captions.
        config: its denoiser, encode, window, known and floor count; cfg must be 1.
        levels: times, at least 2.
        draws: of the noise at each time, at least 2.
        prior: weights of the candidates before anything was said (K,); None: even. See `even_prior`.
        temperature: log-likelihoods are divided by it, to be fitted where a model is surer than it is right.
        batch: pairs of candidate and caption that go through the network together.
        key: of the noise.

    Raises:
        ValueError: an option out of range, or shapes that do not fit.
    """
    _check(videos, captions, config, levels, draws)
    _check_samples((draws, len(videos), len(captions.text)), prior, temperature)
    samples = log_likelihoods(params, videos, captions, config, levels=levels, draws=draws, batch=batch, key=key)
    return posterior_of(samples, prior=prior, temperature=temperature)


def log_likelihoods(
    params: Guide,
    videos: jax.Array,
    captions: Condition,
    config: GuidanceConfig,
    *,
    levels: int = 6,
    draws: int = 4,
    batch: int = 1,
    key: jax.Array,
) -> jax.Array:
    """log p(video | caption) but for a constant per candidate, (draws, K, C), for `posterior_of`.

    Estimates from several appearances of the same motions (other colours, mirrored) are joined by
    `jnp.concatenate`: what a model reads in the looks of a clip then counts less than what it reads in the motion. The
    arguments are those of `caption_posterior`, but one draw is enough.

    Raises:
        ValueError: an option out of range, or shapes that do not fit.
    """
    _check(videos, captions, config, levels, draws)
    denoiser = config.denoiser
    assert denoiser is not None
    z = _encoded(params, videos, config)
    K, C = len(z), len(captions.text)
    times = np.linspace(*config.window, levels)
    weight = jnp.asarray(_snr_weights(times), z.dtype)
    if config.known >= z.shape[1]:
        raise ValueError(f"caption_posterior: known={config.known} leaves none of the {z.shape[1]} frames free")
    first = (jnp.arange(z.shape[1]) < config.known).astype(z.dtype)
    pairs = (jnp.repeat(jnp.arange(K), C), jnp.tile(jnp.arange(C), K))

    def at(index):
        noise = jax.random.normal(jax.random.fold_in(key, index), z.shape[1:], z.dtype)
        t = jnp.asarray(times, z.dtype)[index % levels]

        def of_pair(pair):
            k, c = pair
            cond = dataclasses.replace(captions, text=captions.text[c])
            if config.known:
                cond = dataclasses.replace(cond, known=z[k], mask=first)
            free = jnp.ones_like(first) if cond.mask is None else jnp.where(cond.mask > 0, 0.0, 1.0)
            x = impose(interpolate(z[k], noise, t), cond)
            v = guided_velocity(denoiser, params.denoiser, x, t, cond, None, 1.0)
            apart = z[k] - clean(x, v.astype(x.dtype), t, config.floor)
            return -0.5 * jnp.sum(free[:, None, None, None] * apart**2)

        return jax.lax.map(of_pair, pairs, batch_size=batch).reshape(K, C) * weight[index % levels]

    return jax.lax.map(at, jnp.arange(draws * levels)).reshape(draws, levels, K, C).sum(1)


def posterior_of(samples: jax.Array, *, prior: Any = None, temperature: float = 1.0) -> CaptionPosterior:
    """The posterior from independent estimates of the log-likelihoods.

    Args:
        samples: (n, K, C), n >= 2 estimates for K candidates and C >= 2 captions. A candidate with one that is not
            finite (its simulation failed) gets even words, confidence 0 and no share of any caption.
        prior: weights of the candidates (K,); None: even.
        temperature: log-likelihoods are divided by it.

    Raises:
        ValueError: shapes that do not fit, or a temperature or a prior out of range.

    >>> posterior = posterior_of(jnp.log(jnp.array([[[0.9, 0.1], [0.5, 0.5]]] * 2)))
    >>> [round(float(p), 3) for p in (posterior.words[0, 0], posterior.candidates[1, 1])]
    [0.9, 0.833]
    """
    _check_samples(samples.shape, prior, temperature)
    n, K, _ = samples.shape
    alive = jnp.isfinite(samples).all((0, 2))
    samples = jnp.where(alive[:, None], samples, 0.0)
    mean = samples.mean(0) / temperature
    best = jax.lax.top_k(mean, 2)[1]
    pair = jnp.take_along_axis(samples, jnp.broadcast_to(best, (n, K, 2)), 2) / temperature
    error = jnp.std(pair[..., 0] - pair[..., 1], axis=0, ddof=1) / n**0.5
    log_words = jax.nn.log_softmax(mean / jnp.sqrt(1.0 + np.pi / 8.0 * error[:, None] ** 2), -1)
    words = jnp.exp(log_words)
    weights = jnp.ones(K, mean.dtype) if prior is None else jnp.asarray(prior, mean.dtype)
    counted = alive & (weights > 0.0)
    # in logarithms: where all candidates show another caption, one still shows this one least badly
    log_joint = jnp.where(counted, jnp.log(jnp.where(counted, weights, 1.0)), -jnp.inf)[:, None] + log_words
    some = counted.any()
    candidates = jnp.where(
        some, jax.nn.softmax(jnp.where(some, log_joint, 0.0), axis=0), (weights / weights.sum())[:, None]
    )
    return CaptionPosterior(mean, error, words, candidates, jnp.where(alive, words.max(-1), 0.0))


def balanced(log_words: jax.Array, *, prior: Any = None, rounds: int = 1000) -> jax.Array:
    """The captions of candidates, where each caption is as likely as any other over all candidates together.

    Where candidates w_k stand for all that the captions tell apart, and each of the C captions is said as often (words
    that share a range evenly, candidates evenly over it), the law of total probability asks for

        sum_k w_k p(c | z_k) = 1 / C,    log p(c | z_k) = log_words[k, c] + b_c - const_k

    A bound that is looser under one caption than under another moves all candidates of a scene alike; b takes that
    back. It is found by the scaling of Sinkhorn and Knopp (1967). What is left of the evidence is the order of the
    candidates and how clearly they differ: not to be used where they cover a part of what the captions tell apart.

    Args:
        log_words: log p(c | candidate), as `CaptionPosterior.words` (K, C).
        prior: weights of the candidates (K,), 0 for one that failed; None: even.
        rounds: of the scaling.

    Returns:
        log p(c | candidate), whose exponentials sum to 1 over the captions (K, C).

    Raises:
        ValueError: shapes that do not fit, or a weight out of range.

    >>> balanced(jnp.log(jnp.array([[0.9, 0.1], [0.6, 0.4]]))).argmax(1).tolist()
    [0, 1]
    """
    if jnp.ndim(log_words) != 2:
        raise ValueError(f"balanced: log_words must have shape (K, C), got {jnp.shape(log_words)}")
    weights = jnp.ones(len(log_words)) if prior is None else jnp.asarray(prior)
    if weights.shape != (len(log_words),):
        raise ValueError(f"balanced: the prior must have shape {(len(log_words),)}, got {weights.shape}")
    if is_concrete(prior) and not (np.min(weights) >= 0.0 < np.sum(weights)):
        raise ValueError("balanced: the prior must be at least 0, and greater for one candidate")
    return _scaled(jnp.asarray(log_words), jnp.log(weights / weights.sum()), rounds)


@functools.partial(jax.jit, static_argnames="rounds")
def _scaled(log_words, log_weights, rounds):
    captions = log_words.shape[1]

    def once(_, b):
        said = jax.nn.logsumexp(log_weights[:, None] + jax.nn.log_softmax(log_words + b, -1), axis=0)
        return b - np.log(captions) - said

    return jax.nn.log_softmax(log_words + jax.lax.fori_loop(0, rounds, once, jnp.zeros_like(log_words[0])), -1)


@pytree
class Estimate:
    """Parameters with their uncertainty."""

    mean: Any  # (P,)
    covariance: Any  # (P, P)
    low: Any  # ends of the central interval (P,)
    high: Any


def estimate(weights: jax.Array, values: jax.Array, *, level: float = 0.9) -> Estimate:
    """The parameters that weighted candidates stand for.

    Args:
        weights: of the candidates, a column of `CaptionPosterior.candidates` or `OutcomeMatch.probability` (K,).
        values: their parameters, logarithms where the grid is even in them (K, P).
        level: probability of the interval. Its ends are interpolated between candidates, each of which holds half of
            its weight on either side.

    Raises:
        ValueError: shapes do not fit, or a level outside (0, 1).

    >>> estimate(jnp.array([0.5, 0.5]), jnp.array([[4.0], [5.0]])).mean.tolist()
    [4.5]
    """
    if values.ndim != 2 or weights.shape != values.shape[:1] or not 0.0 < level < 1.0:
        raise ValueError(
            f"estimate: needs weights (K,), values (K, P) and a level in (0, 1), got {weights.shape}, {values.shape} "
            f"and {level}"
        )
    weights = weights / weights.sum()
    mean = weights @ values
    apart = values - mean

    def ends(column):
        order = jnp.argsort(column)
        share = weights[order]
        return jnp.interp(
            jnp.array([0.5 - level / 2, 0.5 + level / 2], values.dtype), jnp.cumsum(share) - share / 2, column[order]
        )

    low, high = jax.vmap(ends, in_axes=1, out_axes=1)(values)
    return Estimate(mean, jnp.einsum("k,kp,kq->pq", weights, apart, apart), low, high)


def even_prior(classes: Sequence[str]) -> np.ndarray:
    """Weights of candidates of several model classes: each class as likely as any, however many candidates it has.

    >>> even_prior(["metal", "sand", "sand"]).tolist()
    [0.5, 0.25, 0.25]
    """
    names, inverse, counts = np.unique(np.asarray(classes), return_inverse=True, return_counts=True)
    return 1.0 / (len(names) * counts[inverse])


def class_probabilities(weights: Any, classes: Sequence[str]) -> dict[str, float]:
    """Probability of each model class, the most likely first.

    Args:
        weights: of the candidates (K,), from a posterior with `even_prior`.
        classes: of the candidates.

    >>> class_probabilities([0.2, 0.3, 0.5], ["metal", "sand", "sand"])
    {'sand': 0.8, 'metal': 0.2}
    """
    weights = np.asarray(weights, np.float64)
    if weights.shape != (len(classes),):
        raise ValueError(f"class_probabilities: needs one weight per candidate ({len(classes)},), got {weights.shape}")
    total: dict[str, float] = {}
    for name, weight in zip(classes, weights / weights.sum()):
        total[name] = total.get(name, 0.0) + float(weight)
    return dict(sorted(total.items(), key=lambda item: -item[1]))


def _snr_weights(times: np.ndarray) -> np.ndarray:
    """Weights of the trapezoid rule in SNR."""
    snr = ((1.0 - times) / times) ** 2
    half = 0.5 * (snr[:-1] - snr[1:])
    return np.append(half, 0.0) + np.append(0.0, half)


def _encoded(params, videos, config):
    if config.encode is None:
        return 2.0 * videos - 1.0
    return jax.lax.map(lambda video: config.encode(params.encoder, video), videos)


def _check(videos, captions, config, levels, draws):
    if config.denoiser is None or config.cfg != 1.0:
        raise ValueError("caption_posterior: needs a config with a denoiser and cfg 1 (recipe('reconstruction', ...))")
    if videos.ndim != 5 or videos.shape[-1] != 3:
        raise ValueError(f"caption_posterior: videos must have shape (K, T, H, W, 3), got {videos.shape}")
    if captions.text.ndim != 3 or len(captions.text) < 2:
        raise ValueError(
            f"caption_posterior: the texts must have shape (C, L, D) with at least two captions, got "
            f"{captions.text.shape}"
        )
    if levels < 2 or draws < 1 or config.window[0] == config.window[1]:
        raise ValueError(
            "caption_posterior: levels must be at least 2, draws at least 1 and the window not a point, got "
            f"{levels}, {draws} and {config.window}"
        )
    if captions.mask is not None and config.known:
        raise ValueError("caption_posterior: the captions' condition already holds frames; set known=0")


def _check_samples(shape, prior, temperature):
    if len(shape) != 3 or shape[0] < 2 or shape[2] < 2:
        raise ValueError(f"posterior: needs draws n >= 2 of K candidates and C >= 2 captions (n, K, C), got {shape}")
    if temperature <= 0.0:
        raise ValueError(f"posterior: temperature must be greater than 0, got {temperature}")
    if prior is not None and jnp.shape(prior) != (shape[1],):
        raise ValueError(f"posterior: the prior must have shape {(shape[1],)}, got {jnp.shape(prior)}")
    if prior is not None and is_concrete(prior) and not (np.min(prior) >= 0.0 < np.sum(prior)):
        raise ValueError("posterior: the prior must be at least 0, and greater for one candidate")
