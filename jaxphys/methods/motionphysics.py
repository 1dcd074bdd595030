"""MotionPhysics (arXiv 2601.00504): what a video model says of a simulated clip, as a loss on the clip.

With z the clip (pixels in -1..1, or latents), z_t = (1 - t) z + t eps, and x the clean clip that the denoiser finds in
z_t under the text, the kinds of guidance have these gradients with respect to z:

    sds             (1 - t) (z - x) / t = eps^ - eps      score distillation (Poole et al., DreamFusion, 2023)
    mds             that of the clip less that of its first frame held still (Huang et al., DreamPhysics, 2024)
    lmd             of sum sqrt((h(z) - h'(x))^2 + c^2) - c, h a motion head and h' its teacher
    reconstruction  z - x, text conditional only, at high noise, the first frames given
    reference       z - z_ref, with a given video and no denoiser
    contrast        S (sum_c p_c x_c - x), that of -log p(text | z) among rival captions c, S the SNR of the window

each but the last over the number of free elements, averaged over draws of (t, eps). What is hard to draw pulls a
reconstruction to where it is easier, whatever the text says; from the contrast that falls out. The published lmd sums
and divides by 8: another constant, which AdamW on the head and the published update of the material both cancel, but
for the threshold of that update (`motion_released`): give it the gradient of a sum.

The posterior over captions is in `motion_posterior`, the comparison with measured words in `motion_outcomes`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxphys.camera import Camera
from jaxphys.diffusion.flow import clean, interpolate
from jaxphys.diffusion.protocol import Condition, Denoiser, impose
from jaxphys.diffusion.sample import Experts
from jaxphys.methods.motion_heads import HEADS, Heads, frozen, see
from jaxphys.pytree import pytree
from jaxphys.splats import Kernels, rgb_to_sh
from jaxphys.splats.project import colors

KINDS = ("sds", "mds", "lmd", "reconstruction", "reference", "contrast")
SPACES = ("x0", "eps")
GRADIENTS = ("stopped", "through")


@pytree
class Prompt:
    """What is asked of a clip."""

    given: Condition  # the text, with whatever else the denoiser reads
    without: Any = None  # text embeddings (L, D) of no text, for classifier-free guidance
    rivals: Any = None  # of captions that say something else (C, L, D), for contrast


@pytree
class Guide:
    """The arrays that a guidance reads; those that a kind does not use stay None."""

    denoiser: Any = None  # parameters, or `Experts`
    encoder: Any = None  # parameters that `GuidanceConfig.encode` is called with
    heads: Heads | None = None  # of lmd with learned heads
    reference: Any = None  # video (T, H, W, 3) in 0..1
    progress: Any = None  # of the search, 0..1: where between `window` and `last_window` it is


@dataclasses.dataclass(frozen=True)
class GuidanceConfig:
    """Which guidance, and how. `recipe` gives the ones that are known to work or were published.

    >>> GuidanceConfig("reference").cfg
    1.0
    """

    kind: str
    denoiser: Denoiser | None = None
    encode: Callable[[Any, jax.Array], jax.Array] | None = None  # (params, video in 0..1) -> latents; None: 2 video - 1
    cfg: float = 1.0  # x = x_without + cfg (x_text - x_without); 1: the text alone
    window: tuple[float, float] = (0.02, 0.98)  # of t, from data at 0 to noise at 1
    last_window: tuple[float, float] | None = (
        None  # where the window ends as `Guide.progress` goes to 1; None: it stays
    )
    known: int = 0  # first frames (latent frames) of the clip that the denoiser is given
    space: str = "x0"  # what sds and mds compare: clean clips, or noises
    gradient: str = "stopped"  # at the denoiser, or through it
    draws: int = 1  # of (t, eps), t spread evenly over the window
    floor: float = 0.0  # the denoiser's: clean = x_t - max(t, floor) v
    head: str = "identity"  # of lmd
    huber: float = 1e-3  # c of lmd

    def __post_init__(self):
        if self.kind not in KINDS:
            raise ValueError(f"GuidanceConfig: kind must be one of {KINDS}, got {self.kind!r}")
        if (self.denoiser is None) != (self.kind == "reference"):
            raise ValueError("GuidanceConfig: every kind but reference needs a denoiser, and reference takes none")
        for name, options in (("space", SPACES), ("gradient", GRADIENTS), ("head", HEADS)):
            if getattr(self, name) not in options:
                raise ValueError(f"GuidanceConfig: {name} must be one of {options}, got {getattr(self, name)!r}")
        for name in ("window", "last_window"):
            pair = getattr(self, name)
            if pair is not None and not 0.0 < pair[0] <= pair[1] < 1.0:
                raise ValueError(f"GuidanceConfig: {name} must be (low, high) with 0 < low <= high < 1, got {pair}")
        if self.space == "eps" and self.kind not in ("sds", "mds"):
            raise ValueError(f"GuidanceConfig: {self.kind} compares clean clips; space='eps' is for sds and mds")
        if self.head != "identity" and self.kind != "lmd":
            raise ValueError(f"GuidanceConfig: head={self.head!r} is for lmd, not for {self.kind}")
        if self.kind in ("reconstruction", "contrast") and self.cfg != 1.0:
            raise ValueError(f"GuidanceConfig: {self.kind} is conditional only; cfg must be 1, got {self.cfg}")
        if self.draws < 1 or self.known < 0 or self.huber <= 0.0 or not 0.0 <= self.floor < 1.0:
            raise ValueError(
                "GuidanceConfig: draws must be at least 1, known at least 0, huber greater than 0 and floor in [0, 1), "
                f"got {self.draws}, {self.known}, {self.huber} and {self.floor}"
            )


def recipe(kind: str, denoiser: Denoiser | None = None, **changes: Any) -> GuidanceConfig:
    """A guidance with its usual settings, of which some may be changed.

    sds, mds: guidance weight 100 on noises, t in 0.02..0.98, as DreamPhysics. lmd: weight 101 (published as
    x_text + 100 (x_text - x_without)), learned heads, same t. reconstruction: t in 0.8..0.98, four frames given,
    eight draws. contrast: t in 0.6..0.98, four frames given, eight draws.

    >>> recipe("reference").kind
    'reference'
    """
    usual: dict[str, dict[str, Any]] = {
        "sds": dict(cfg=100.0, space="eps"),
        "mds": dict(cfg=100.0, space="eps"),
        "lmd": dict(cfg=101.0, head="learned"),
        "reconstruction": dict(window=(0.8, 0.98), known=4, draws=8),
        "contrast": dict(window=(0.6, 0.98), known=4, draws=8),
    }
    return GuidanceConfig(kind, denoiser, **(usual.get(kind, {}) | changes))


def guidance(
    params: Guide, video: jax.Array, text: Prompt | None, config: GuidanceConfig, *, key: jax.Array
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Loss of a clip under a text, whose gradient with respect to the clip is that of the module's table.

    With `gradient="stopped"` the denoiser's answer counts as a constant. For sds and mds the value is then half the
    mean square of the difference and the gradient the difference itself, which in general is not the gradient of that
    value. With "through" the gradient is exactly that of the value. Frames that are given are constants.

    Args:
        params: arrays.
        video: (T, H, W, 3) in 0..1, as rendered.
        text: prompt; None for reference.
        config: which guidance.
        key: of t and eps; the same key on two clips gives common random numbers.

    Returns:
        The loss (), and {"time": (draws,), "loss": (draws,), "clean": the mean of the clean clips (T', H', W', C)}; for
        contrast also {"words": p of the text and of its rivals (1 + C,)}.

    Raises:
        ValueError: something that this guidance needs is missing, or a shape differs.
    """
    _check(params, video, text, config)
    z = _encode(params, video, config)
    if config.known >= len(z):
        raise ValueError(f"guidance: known={config.known} leaves none of the {len(z)} frames free")
    held = None if text is None else text.given.mask
    mask = _first(len(z), config.known) if held is None else held
    free = jnp.where(mask > 0, 0.0, 1.0).astype(z.dtype)[:, None, None, None]
    z = jnp.where(free > 0, z, jax.lax.stop_gradient(z))
    count = jnp.maximum(free.sum(), 1.0) * (z.size // len(z))
    if config.kind == "reference":
        target = jax.lax.stop_gradient(_encode(params, params.reference, config))
        if target.shape != z.shape:
            raise ValueError(f"guidance: the reference becomes {target.shape}, the video {z.shape}; give like sizes")
        loss = 0.5 * jnp.sum(free * (z - target) ** 2) / count
        return loss, {"time": jnp.zeros(1, z.dtype), "loss": loss[None], "clean": target}

    assert text is not None
    still = None
    if config.kind == "mds":
        still = _encode(params, jax.lax.stop_gradient(jnp.broadcast_to(video[:1], video.shape)), config)
    draws = jax.random.normal(key, (config.draws, 1 + z.size), z.dtype)  # one call: each takes seconds to compile
    low, high = _window(params, config)
    spread = (jnp.arange(config.draws) + jax.scipy.special.ndtr(draws[:, 0])) / config.draws
    if config.kind == "contrast":
        return _contrast(params, z, (low, high), spread, draws[:, 1:], text, mask, free, config)
    times = (low + (high - low) * spread).astype(z.dtype)

    def one(draw):
        t, noise = draw[0], draw[1].reshape(z.shape)
        found = _clean(params, z, noise, t, text, mask, config)
        if config.kind == "lmd":
            heads = params.heads
            ours = see(config.head, z, heads and heads.student)
            apart = ours - see(config.head, found, heads and frozen(heads.teacher))
            return jnp.sum(jnp.sqrt(apart**2 + config.huber**2) - config.huber) / count, found
        apart = z - found
        if still is not None:
            apart = apart - (still - _clean(params, still, noise, t, text, mask, config))
        if config.space == "eps":
            apart = apart * (1.0 - t) / jnp.maximum(t, config.floor)
        apart = free * apart
        if config.gradient == "through":
            return 0.5 * jnp.sum(apart**2) / count, found
        apart = jax.lax.stop_gradient(apart)
        # the second term is 0 and has the gradient `apart`
        return (0.5 * jnp.sum(apart**2) + jnp.sum(apart * (z - jax.lax.stop_gradient(z)))) / count, found

    losses, found = jax.lax.map(one, (times, draws[:, 1:]))
    return losses.mean(), {"time": times, "loss": losses, "clean": jax.lax.stop_gradient(found.mean(0))}


def _contrast(params, z, window, spread, noises, text, mask, free, config):
    """-log p(text | z) among the text and its rivals, the integral of `motion_posterior` drawn evenly in SNR."""
    most, least = (((1.0 - t) / t) ** 2 for t in window)
    times = (1.0 / (1.0 + jnp.sqrt(least + (most - least) * spread))).astype(z.dtype)
    words = jnp.concatenate([text.given.text[None], text.rivals])

    def one(draw):
        t, noise = draw[0], draw[1].reshape(z.shape)

        def of(word):
            said = dataclasses.replace(text, given=dataclasses.replace(text.given, text=word))
            found = _clean(params, z, noise, t, said, mask, config)
            return -0.5 * (most - least) * jnp.sum(free * (z - found) ** 2), found

        log_likelihood, found = jax.lax.map(of, words)
        return log_likelihood, found[0]

    log_likelihood, found = jax.lax.map(one, (times, noises))
    log_words = jax.nn.log_softmax(log_likelihood.mean(0))
    aux = {"time": times, "loss": -jax.nn.log_softmax(log_likelihood)[:, 0], "clean": found.mean(0)}
    return -log_words[0], jax.lax.stop_gradient(aux | {"words": jnp.exp(log_words)})


def pilot_window(
    a: jax.Array, b: jax.Array, *, known: int = 0, strong: float = 4.0, weak: float = 0.5
) -> tuple[float, float]:
    """The times at which a video model has to decide between two simulations, from the simulations alone.

    In x_t the two lie (1 - t) |a - b| apart under noise of deviation t, so their discriminability (signal detection) is
    d' = (1 - t) |a - b| / t. Where d' is large x_t itself shows which one it was and the text does not count; where it
    is small nothing can be told. The window is from d' = strong to d' = weak.

    Args:
        a, b: two clips (T, H, W, C), as the denoiser sees them, of two pilot values of the unknown.
        known: first frames that the denoiser is given; they do not count.
        strong, weak: d' at the ends.

    Returns:
        (low, high) for `GuidanceConfig.window`.

    Raises:
        ValueError: shapes differ, the clips are equal, or not 0 < weak < strong.

    >>> a, b = jnp.zeros((2, 1, 1, 1)), jnp.full((2, 1, 1, 1), 2.0**0.5)
    >>> [round(t, 4) for t in pilot_window(a, b, strong=2.0, weak=1.0)]
    [0.5, 0.6667]
    """
    if a.shape != b.shape or not 0.0 < weak < strong:
        raise ValueError(
            f"pilot_window: needs clips of one shape and 0 < weak < strong, got {a.shape}, {b.shape}, {weak}, {strong}"
        )
    distance = float(np.linalg.norm(np.asarray(a, np.float64)[known:] - np.asarray(b, np.float64)[known:]))
    if not distance > 0.0 or not np.isfinite(distance):
        raise ValueError(f"pilot_window: the pilots are {distance} apart; take values of the unknown that differ more")
    return distance / (distance + strong), distance / (distance + weak)


@pytree
class AppearanceNoise:
    """One random appearance for all frames of a clip, so that only the motion stays to be judged."""

    sh: Any  # added to the colour coefficients (N, K, 3)
    view: Any  # added to the centres [m] where the direction of view is taken, not where they are drawn (N, 3)

    @classmethod
    def draw(cls, sh: jax.Array, key: jax.Array, deviation: float = 0.2, view: float = 0.1) -> AppearanceNoise:
        """Normal noise for colour coefficients `sh` (N, K, 3); the published deviations are 0.2 and 0.1."""
        split = sh.size
        draws = jax.random.normal(key, (split + 3 * len(sh),), sh.dtype)
        return cls(deviation * draws[:split].reshape(sh.shape), view * draws[split:].reshape(-1, 3))

    def apply(self, kernels: Kernels, camera: Camera) -> Kernels:
        """Kernels in the colours that this appearance shows to a camera."""
        seen = dataclasses.replace(kernels, mean=kernels.mean + self.view, sh=kernels.sh + self.sh)
        return dataclasses.replace(kernels, sh=rgb_to_sh(colors(seen, camera)), rotation=None)


def _encode(params, video, config):
    return 2.0 * video - 1.0 if config.encode is None else config.encode(params.encoder, video)


def _first(frames, known):
    return (jnp.arange(frames) < known).astype(jnp.float32)


def _window(params, config):
    if config.last_window is None:
        return config.window
    return tuple(a + (b - a) * params.progress for a, b in zip(config.window, config.last_window))


def _clean(params, z, noise, t, text, mask, config):
    """The clean clip under the text, with guidance; a constant unless the gradient goes through."""
    stopped = config.gradient == "stopped"
    base = jax.lax.stop_gradient(z) if stopped else z
    cond = text.given
    if cond.mask is None:
        known = jax.lax.stop_gradient(z) if config.known else None
        cond = dataclasses.replace(cond, known=known, mask=mask.astype(jnp.float32) if config.known else None)
    x = impose(interpolate(base, noise, t), cond)
    v = guided_velocity(config.denoiser, params.denoiser, x, t, cond, text.without, config.cfg)
    # frames that are given come back as they are: their velocity is 0
    out = clean(x, v.astype(x.dtype), t, config.floor)
    return jax.lax.stop_gradient(out) if stopped else out


def guided_velocity(
    denoiser: Denoiser, params: Any, x: jax.Array, t: jax.Array, cond: Condition, without: Any, cfg: float
) -> jax.Array:
    """Velocity with classifier-free guidance v_without + cfg (v_text - v_without), of one network or of two experts.

    Args:
        denoiser: see `protocol.Denoiser`.
        params: its parameters, or `Experts`, of which the one is run that t belongs to.
        x: noisy clip (T, H, W, C).
        t: time ().
        cond: conditions with the text.
        without: embeddings (L, D) of no text; read if cfg is not 1.
        cfg: weight.
    """

    def of(text):
        own = dataclasses.replace(cond, text=text)
        if not isinstance(params, Experts):
            return denoiser.velocity(params, x, t, own)
        run = lambda part: denoiser.velocity(part, x, t, own)
        return jax.lax.cond(t >= params.boundary, lambda: run(params.high), lambda: run(params.low))

    if cfg == 1.0:
        return of(cond.text)
    with_text, silent = jax.lax.map(of, jnp.stack([cond.text, without.astype(cond.text.dtype)]))
    return silent + cfg * (with_text - silent)


def _check(params, video, text, config):
    if video.ndim != 4 or video.shape[-1] != 3:
        raise ValueError(f"guidance: the video must have shape (T, H, W, 3), got {video.shape}")
    if config.kind == "reference":
        if params.reference is None:
            raise ValueError("guidance: reference needs Guide.reference, a video of the same size")
        return
    if text is None:
        raise ValueError(f"guidance: {config.kind} needs a prompt")
    if config.cfg != 1.0 and text.without is None:
        raise ValueError(f"guidance: cfg={config.cfg} needs Prompt.without, embeddings of no text")
    if text.without is not None and text.without.shape != text.given.text.shape:
        raise ValueError(
            f"guidance: Prompt.without must have the shape of the text, {text.given.text.shape}, "
            f"got {text.without.shape}"
        )
    if config.kind == "contrast" and (text.rivals is None or text.rivals.shape[1:] != text.given.text.shape):
        raise ValueError(
            f"guidance: contrast needs Prompt.rivals, texts (C, {', '.join(map(str, text.given.text.shape))}) of other "
            f"captions, got {None if text.rivals is None else text.rivals.shape}"
        )
    if config.head == "learned" and params.heads is None:
        raise ValueError("guidance: learned heads need Guide.heads (Heads.init)")
    if config.last_window is not None and params.progress is None:
        raise ValueError("guidance: an annealed window needs Guide.progress in 0..1")
    if text.given.mask is not None and config.known:
        raise ValueError(
            f"guidance: the prompt's condition already holds frames; set known=0 instead of {config.known}"
        )
