"""Answers of a video model: guidance followed over the stored candidates, and the posterior over words.

Videos and derivatives of a scene are stored (`motion_fields`), so a guidance is reduced to its pull on the one unknown
at every candidate, <dL/dvideo, dvideo/du>, for several draws of time and noise; a search then reads between candidates.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.motion_fields import Videos
from experiments.motion_looks import Shown
from experiments.motion_scenes import WORDS_OF, HeldOut
from experiments.motion_words import SLOT, Belief
from jaxphys.diffusion.prior_files import Prior
from jaxphys.diffusion.protocol import Condition
from jaxphys.language import captions
from jaxphys.methods.motion_heads import Heads
from jaxphys.methods.motion_posterior import CaptionPosterior, log_likelihoods, posterior_of
from jaxphys.methods.motionphysics import GuidanceConfig, Guide, Prompt, guidance, recipe
from jaxphys.scenes.clips import SCALARS

METHODS = ("sds", "mds", "lmd_published", "lmd_tuned", "reconstruction", "contrast", "reference")


STILL = 1.0  # change of the given frames between neighbouring candidates beyond which they may not be given [1/255]


def first_change(videos: Videos, known: int) -> float:
    """Greatest mean change of the first frames between neighbouring candidates [1/255]."""
    first = videos.maps[:, : videos.slopes.shape[1], :known].astype(float)
    return float(np.abs(np.diff(first, axis=1)).mean((2, 3, 4, 5)).max()) if known else 0.0


def condition_of(prior: Prior, held: HeldOut, caption: Mapping[str, str], colour: int) -> Condition:
    """The text of a caption, with the colour and the numbers of the scene."""
    tokens = captions.tokens(caption)
    tokens[SLOT["colour"]] = colour
    numbers = held.numbers()
    assert len(numbers) == len(SCALARS)
    return prior.config.condition(prior.params, prior.text(tokens, numbers))


def named_slots(held: HeldOut, caption: Mapping[str, str]) -> list[str]:
    """The slots of outcomes and of the property that a caption names."""
    return [slot for slot in (*captions.OUTCOMES, WORDS_OF.get(held.material, "")) if slot in caption]


def word_texts(prior: Prior, held: HeldOut, shown: Shown, caption: Mapping[str, str], slot: str) -> jax.Array:
    """Texts (C, L, D), one per word of a slot, in which the caption's other properties and outcomes stay unsaid."""
    named = {s: w for s, w in caption.items() if s in captions.NAMED}
    of = lambda word: condition_of(prior, held, named | {slot: word}, shown.colour).text
    return jnp.stack([of(word) for word in captions.SLOTS[slot]])


def settings(method: str, prior: Prior | None, window: tuple[float, float], known: int) -> GuidanceConfig:
    """The guidance that a name of `METHODS` stands for; contrast follows what is read, and wants weights that read.

    `lmd_published` runs its learned head as it starts: at the published rate 40 steps leave it there. `lmd_tuned`
    compares differences of frames, in the time window and with the first frames that the reconstruction has.
    """
    if method == "reference":
        return recipe("reference")
    if prior is None:
        raise ValueError(f"guidance: {method} needs a prior")
    net, floor = prior.config.dit, prior.config.min_time
    if method == "lmd_published":
        return recipe("lmd", net, floor=floor)
    if method == "lmd_tuned":
        return recipe("lmd", net, floor=floor, cfg=3.0, head="difference", window=window, known=known)
    if method == "reconstruction":
        return recipe("reconstruction", net, floor=floor, window=window, known=known, draws=2)
    if method == "contrast":
        return recipe("contrast", net, floor=floor, window=window, known=known, draws=5)
    if method in ("sds", "mds"):
        return recipe(method, net, floor=floor)
    raise ValueError(f"guidance on stored fields: method must be one of {METHODS}, got {method!r}")


@functools.partial(jax.jit, static_argnames=("config",))
def _pulls(guide, video, slope, true, prompt, keys, *, config):
    """Pull on the unknown, loss and cosine with the pull of the true video, (R, K) each."""

    def one(key):
        def at(candidate):
            v, dv = candidate
            (loss, _), pull = jax.value_and_grad(lambda v: guidance(guide, v, prompt, config, key=key), has_aux=True)(v)
            apart = (v - true).at[: config.known].set(0.0)
            size = jnp.sqrt(jnp.sum(pull**2) * jnp.sum(apart**2))
            return jnp.sum(pull * dv), loss, jnp.sum(pull * apart) / jnp.maximum(size, 1e-20)

        return jax.lax.map(at, (video, slope))

    return jax.lax.map(one, keys)


def guide_of(prior: Prior | None, shown: Shown, config: GuidanceConfig, seed: int) -> Guide:
    """The arrays of a guidance; the reference needs no prior."""
    if config.kind == "reference":
        return Guide(reference=shown.true)
    assert prior is not None
    heads = Heads.init(prior.config.frames, jax.random.key(seed)) if config.head == "learned" else None
    return Guide(denoiser=prior.params["dit"], heads=heads)


def prompts_of(
    prior: Prior | None, held: HeldOut, shown: Shown, caption: Mapping[str, str], config: GuidanceConfig
) -> list[Prompt | None]:
    """What a guidance is asked, one after the other: the caption, or for contrast each word among those of its slot."""
    if config.kind == "reference":
        return [None]
    assert prior is not None
    if config.kind == "contrast":
        prompts: list[Prompt | None] = []
        for slot in named_slots(held, caption):
            k, texts = list(captions.SLOTS[slot]).index(caption[slot]), word_texts(prior, held, shown, caption, slot)
            others = jnp.asarray([c for c in range(len(texts)) if c != k])
            prompts.append(Prompt(Condition(texts[k]), rivals=texts[others]))
        if not prompts:
            raise ValueError(f"contrast needs a caption with a word of a property or an outcome, got {dict(caption)}")
        return prompts
    silent = prior.config.condition(prior.params, prior.config.nothing()).text
    return [Prompt(condition_of(prior, held, caption, shown.colour), silent)]


def pulls(
    prior: Prior | None,
    held: HeldOut,
    shown: Sequence[Shown],
    caption: Mapping[str, str],
    config: GuidanceConfig,
    draws: int,
    seed: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`_pulls` of a caption under several draws of the noise; those of several prompts add up, cosines are averaged.

    Contrast takes each draw in another appearance, the other guidances all in the first.
    """
    keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), held.number), draws)
    views = shown[:draws] if config.kind == "contrast" else shown[:1]
    found = []
    for n, view in enumerate(views):
        guide, prompts = guide_of(prior, view, config, seed), prompts_of(prior, held, view, caption, config)
        own = keys[n :: len(views)]
        parts = [_pulls(guide, view.video, view.slope, view.true, p, own, config=config) for p in prompts]
        pull, loss, cosine = np.asarray(jax.device_get(parts), np.float64).sum(0)
        found.append((pull, loss, cosine / len(prompts)))
    pull, loss, cosine = (np.concatenate(a) for a in zip(*found))
    return pull, loss, cosine


class Adam:
    """Adam in one unknown whose steps shrink by a cosine from a twelfth of the range (Kingma and Ba, 2015)."""

    def __init__(self, ends: tuple[float, float], steps: int):
        self.ends, self.steps, self.taken, self.m, self.v = ends, steps, 0, 0.0, 0.0

    def step(self, u: float, pull: float) -> float:
        """The next value; a pull that is not finite moves nothing."""
        span, i = self.ends[1] - self.ends[0], self.taken
        self.taken += 1
        pull = pull if np.isfinite(pull) else 0.0
        self.m, self.v = 0.8 * self.m + 0.2 * pull, 0.95 * self.v + 0.05 * pull * pull
        rate = span / 12 * (0.5 + 0.5 * np.cos(np.pi * i / self.steps)) + span / 600
        change = self.m / (1 - 0.8 ** (i + 1)) / (np.sqrt(self.v / (1 - 0.95 ** (i + 1))) + 1e-30)
        return float(np.clip(u - rate * change, *self.ends))


def follow(grid: np.ndarray, pull: np.ndarray, start: float, rng: np.random.Generator, steps: int = 50) -> float:
    """Where Adam ends that follows the pulls (R, K), one draw per step, read between the candidates.

    The answer is the mean of the last eight steps.
    """
    adam, u, path = Adam((grid[0], grid[-1]), steps), start, []
    for _ in range(steps):
        u = adam.step(u, float(np.interp(u, grid, pull[rng.integers(len(pull))])))
        path.append(u)
    return float(np.mean(path[-8:]))


def starts(ends: tuple[float, float], target: float, rng: np.random.Generator) -> list[float]:
    """Two starts half a range to a whole range off, one on each side where there is room."""
    span = ends[1] - ends[0]
    out = []
    for side in (-1.0, 1.0):
        room = target - ends[0] if side < 0 else ends[1] - target
        if room < 0.5 * span:
            side, room = -side, span - room
        out.append(float(target + side * rng.uniform(0.5 * span, max(room, 0.5 * span))))
    return [float(np.clip(u, *ends)) for u in out]


def sign_right(grid: np.ndarray, pull: np.ndarray, target: float, near: float) -> float:
    """Share of the candidates farther than `near` from the target whose mean pull has the right sign."""
    far = np.abs(grid - target) > near
    return float(np.mean(np.sign(pull.mean(0)[far]) == np.sign(grid[far] - target))) if far.any() else float("nan")


def word_weights(
    prior: Prior,
    held: HeldOut,
    shown: Sequence[Shown],
    caption: Mapping[str, str],
    *,
    window: tuple[float, float],
    known: int,
    levels: int,
    seed: int,
    heard: dict | None = None,
) -> tuple[np.ndarray, float]:
    """Log-likelihood of the candidates by the words that name a property or an outcome, (K,).

    The noise is drawn once in each appearance, of which there must be two at least.
    In each such slot the words compete, the others staying unsaid; the slots count as independent. Also the confidence
    of the posterior: the mean probability of the word that the best candidate shows. `heard` keeps what was heard
    of a scene in a slot, for other captions of the same scene.
    """
    slots = named_slots(held, caption)
    if not slots:
        return np.zeros(len(shown[0].grid)), 1.0
    net, floor = prior.config.dit, prior.config.min_time
    config = recipe("reconstruction", net, floor=floor, window=window, known=known, draws=1)
    guide, heard = Guide(denoiser=prior.params["dit"]), {} if heard is None else heard
    log_weight, sure = np.zeros(len(shown[0].grid)), []
    for slot in slots:
        words = list(captions.SLOTS[slot])
        asked = (slot, known, seed)
        if asked not in heard:
            key = jax.random.fold_in(jax.random.key(seed), SLOT[slot])
            texts = [word_texts(prior, held, view, caption, slot) for view in shown]
            heard[asked] = _posterior(guide, shown, texts, key, config=config, levels=levels)
        found, k = heard[asked], words.index(caption[slot])
        log_weight += np.log(np.maximum(found.candidates[:, k].astype(np.float64), 1e-30))
        sure.append(found.words[:, k])
    best = int(np.argmax(log_weight))
    return log_weight, float(np.mean([s[best] for s in sure]))


def as_heard(heard: Mapping[tuple, Any], caption: Mapping[str, str], change: float) -> list[dict]:
    """What `word_weights` kept of a scene, to be stored with the caption and the change of its first frames."""
    return [
        dict(slot=slot, known=known, seed=seed, log_likelihood=found.log_likelihood, error=found.error)
        | dict(said=dict(caption), first_change=change)
        for (slot, known, seed), found in heard.items()
    ]


def read_words(prior: Prior, held: HeldOut, shown: Sequence[Shown], caption: Mapping[str, str], **options: Any):
    """The belief of `word_weights` over the range, and the confidence."""
    log_weight, sure = word_weights(prior, held, shown, caption, **options)
    return Belief.between(held.ends, shown[0].grid, log_weight), sure


@functools.partial(jax.jit, static_argnames=("config", "levels"))
def _heard_once(guide: Any, videos, texts, key, *, config, levels):
    batch = len(videos)  # a third quicker than one by one on a CPU core
    return log_likelihoods(guide, videos, Condition(texts), config, levels=levels, draws=1, batch=batch, key=key)


def _posterior(
    guide: Guide, shown: Sequence[Shown], texts: Sequence[jax.Array], key, prior: Any = None, **options: Any
):
    """The posterior over texts (C, L, D), told in the words of each appearance."""
    keys = jax.random.split(key, len(shown))
    once = [_heard_once(guide, s.video, t, k, **options) for s, t, k in zip(shown, texts, keys)]
    return jax.device_get(posterior_of(jnp.concatenate(once), prior=prior))


def read_material(
    prior: Prior,
    held: HeldOut,
    shown: Sequence[Shown],
    weights: np.ndarray,
    *,
    window,
    known: int,
    levels: int,
    seed: int,
) -> CaptionPosterior:
    """Which material word each candidate shows, for candidates of several materials; words in the captions' order."""
    net, floor = prior.config.dit, prior.config.min_time
    config = recipe("reconstruction", net, floor=floor, window=window, known=known, draws=1)
    named = {s: w for s, w in held.named().items() if s != "material"}
    of = lambda word, colour: condition_of(prior, held, named | {"material": word}, colour).text
    texts = [jnp.stack([of(word, view.colour) for word in captions.NAMED["material"]]) for view in shown]
    guide = Guide(denoiser=prior.params["dit"])
    return _posterior(guide, shown, texts, jax.random.key(seed), prior=weights, config=config, levels=levels)
