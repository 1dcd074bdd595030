"""A small network that tells the words of a clip: the judge of generated clips.

It sees grey clips with random textures, light and floors, so that nothing but the motion helps; a twin that sees one
frame says how much a still picture gives away. How often it is right on simulated clips is the most that can be asked
of a read-back from the same pixels.
"""

from __future__ import annotations

import itertools
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.clip_files import Clips
from jaxphys.language import captions
from jaxphys.scenes.looks import COLOURS, draw_look, paint
from jaxphys.sharding import make_mesh
from jaxphys.train import Order, create_state, fit, make_step

HEARD = ("material", *captions.PROPERTIES, *captions.OUTCOMES)
"""Slots that are told."""
FLUIDS = ("newtonian", "non_newtonian", "water")
CLASSES = {"solid": ("elastic", "metal", "foam", "plasticine"), "granular": ("sand",), "fluid": FLUIDS}
"""Classes of material that look apart: a metal that never yields moves as a stiff elastic body does."""
COLUMN = {slot: k for k, slot in enumerate(captions.SLOTS)}
SIZES = [len(captions.SLOTS[slot]) for slot in HEARD]
WIDTHS = (16, 32, 48, 64)


def grey(maps: jax.Array, view: jax.Array, key: jax.Array) -> jax.Array:
    """A clip in grey with a random look (T, H, W, 1), contrast and brightness normalised."""
    k = jax.random.split(key, 3)
    clip = paint(maps, view, draw_look(k[0], jax.random.randint(k[1], (), 0, len(COLOURS))))
    clip = jnp.where(jax.random.bernoulli(k[2]), clip[:, :, ::-1], clip)
    return normalised(clip)


def normalised(clip: jax.Array) -> jax.Array:
    """(T, H, W, 3) in 0..1 to grey of mean 0 and deviation 1, (T, H, W, 1)."""
    g = clip.mean(-1, keepdims=True)
    return (g - g.mean()) / (g.std() + 1e-3)


def init(key: jax.Array) -> dict:
    """Random parameters."""
    keys, sizes = jax.random.split(key, len(WIDTHS) + 1), (1, *WIDTHS)
    layers = [
        {"kernel": jax.random.normal(k, (3, 3, 3, a, b)) * (2.0 / (27 * a)) ** 0.5, "bias": jnp.zeros(b)}
        for k, a, b in zip(keys, sizes, sizes[1:])
    ]
    out = jax.random.normal(keys[-1], (2 * WIDTHS[-1], sum(SIZES))) * (1.0 / WIDTHS[-1]) ** 0.5
    return {"layers": layers, "out": out, "bias": jnp.zeros(sum(SIZES))}


def convolved(x: jax.Array, kernel: jax.Array, strides: tuple[int, int, int]) -> jax.Array:
    """x (T, H, W, a) convolved with a kernel (3, 3, 3, a, b), as one product with its shifted copies.

    XLA's own gradient of a convolution in three dimensions is 17 times slower on a CPU.
    """
    sizes = [-(-n // s) for n, s in zip(x.shape, strides)]
    missing = [max((m - 1) * s + 3 - n, 0) for m, n, s in zip(sizes, x.shape, strides)]
    x = jnp.pad(x, [(n // 2, n - n // 2) for n in missing] + [(0, 0)])
    shifts = itertools.product(range(3), repeat=3)
    parts = [x[tuple(slice(i, i + (m - 1) * s + 1, s) for i, m, s in zip(at, sizes, strides))] for at in shifts]
    return jnp.concatenate(parts, -1) @ kernel.reshape(-1, kernel.shape[-1])


def logits(params: Any, clip: jax.Array) -> list[jax.Array]:
    """Scores of the words of each slot of `HEARD` for a grey clip (T, H, W, 1)."""
    x = clip
    for layer in params["layers"]:
        x = jax.nn.relu(convolved(x, layer["kernel"], (2 if len(x) > 4 else 1, 2, 2)) + layer["bias"])
    features = jnp.concatenate([x.mean((0, 1, 2)), x.max((0, 1, 2))])
    return jnp.split(features @ params["out"] + params["bias"], np.cumsum(SIZES)[:-1].tolist())


def train(clips: Clips, workdir: str, *, still: bool, steps: int, batch: int = 36, seed: int = 0) -> Any:
    """Parameters of a classifier of whole clips, or (`still`) of first frames repeated; spread over all devices."""

    def loss(params, example, key):
        clip = grey(example["maps"], example["view"], key)
        clip = jnp.broadcast_to(clip[:1], clip.shape) if still else clip
        terms = zip(logits(params, clip), example["words"])  # words count from 1; 0: the clip has none in this slot
        loss = [
            jnp.where(n > 0, optax.softmax_cross_entropy_with_integer_labels(s, jnp.maximum(n - 1, 0)), 0.0)
            for s, n in terms
        ]
        return sum(loss)

    tx = optax.adam(optax.cosine_decay_schedule(2e-3, steps))
    order = Order(len(clips), batch, seed)

    def rows(step):
        i = order.indices(step)
        return dict(maps=clips.maps[i], view=clips.view[i], words=words_of(clips.tokens[i]))

    mesh = make_mesh()
    state = create_state(init, tx, key=jax.random.key(seed), ema=False, mesh=mesh)
    about = dict(still=still, steps=steps, batch=batch, seed=seed)
    state = fit(make_step(loss, tx, mesh), state, rows, steps, workdir=workdir, about=about, checkpoint_every=1000)
    if int(state.step) < steps:
        sys.exit(f"asked to stop at step {int(state.step)} of {steps}: the same command goes on")
    return state.params


def words_of(tokens: np.ndarray) -> np.ndarray:
    """Numbers of the words in the slots of `HEARD`, (N, len(HEARD))."""
    return tokens[:, [COLUMN[slot] for slot in HEARD]]


@jax.jit
def _predict(params, clips):
    return jax.lax.map(lambda c: jnp.stack([1 + jnp.argmax(s) for s in logits(params, c)]), clips)


def accuracy(params: Any, clips: jax.Array, tokens: np.ndarray, *, still: bool = False) -> dict[str, float]:
    """Share of grey clips (N, T, H, W, 1) whose word is told right, of those that have one, for each slot.

    "class" is of the material: a solid, granular or a fluid.
    """
    clips = jnp.broadcast_to(clips[:, :1], clips.shape) if still else clips
    told, true = with_class(np.asarray(_predict(params, clips))), with_class(words_of(tokens))
    right = {slot: (told[slot] == true[slot])[true[slot] > 0] for slot in true}
    return {slot: float(r.mean()) if len(r) else float("nan") for slot, r in right.items()}


def with_class(words: np.ndarray) -> dict[str, np.ndarray]:
    """Columns of `words_of` by slot, and the class of the material, from 1."""
    materials = list(captions.NAMED["material"])
    kinds = [next(n for n, members in enumerate(CLASSES.values(), 1) if m in members) for m in materials]
    slots = {slot: words[:, k] for k, slot in enumerate(HEARD)}
    return {"class": np.asarray([0, *kinds])[slots["material"]]} | slots


def chance(tokens: np.ndarray) -> dict[str, float]:
    """Share of the commonest word of each slot of `HEARD`, and of the commonest class."""
    counts = {slot: np.bincount(words[words > 0]) for slot, words in with_class(words_of(tokens)).items()}
    return {slot: float(n.max() / n.sum()) if n.sum() else float("nan") for slot, n in counts.items()}
