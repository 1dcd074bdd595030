"""Trains the small prior over clips.

    python -m experiments.make_clips --workdir=runs/clips
    python -m experiments.train_prior --config=experiments/configs/train_prior.py --config.clips=runs/clips \\
        --workdir=runs/prior
    python -m experiments.train_prior --config=experiments/configs/train_prior_captions.py --config.clips=runs/clips \\
        --config.start=runs/prior/prior.safetensors --workdir=runs/prior_captions

The second training goes on from the weights of the first and learns to tell captions apart (`caption_loss`); what it
yields reads and no longer draws.
Stopped at any moment, the same command goes on from the last checkpoint. The averaged weights are written to
prior.safetensors in the workdir, in bfloat16.
"""

from __future__ import annotations

import functools
import sys
from pathlib import Path

from experiments import cores  # isort: skip

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import app, flags
from ml_collections import config_flags

from experiments.clip_files import Clips, load_clips
from experiments.eval_prior import UNKNOWN_NUMBERS
from experiments.report import write_report
from jaxphys.diffusion.prior import PriorConfig, Text, caption_loss, prior_loss
from jaxphys.diffusion.prior_files import load_prior, save_prior
from jaxphys.language import captions
from jaxphys.scenes import clips as world
from jaxphys.scenes import similarity
from jaxphys.scenes.looks import COLOURS, draw_look, paint
from jaxphys.sharding import make_mesh
from jaxphys.train import Order, create_state, fit, make_step


def prior_config(values, frames: int, pixels: int) -> PriorConfig:
    """The sizes that a config asks for, with this vocabulary."""
    return PriorConfig(
        slots=tuple(len(v) for v in captions.SLOTS.values()),
        scalars=len(world.SCALARS),
        frames=frames,
        pixels=pixels,
        patch=tuple(values.patch),
        width=values.width,
        layers=values.layers,
        heads=values.heads,
    )


def normalisation(clips: Clips) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each scalar over the clips that have it; 0 and 1 where none has."""
    given = ~np.isnan(clips.scalars)
    count = np.maximum(given.sum(0), 1)
    mean = np.where(given, clips.scalars, 0.0).sum(0) / count
    variance = np.where(given, (clips.scalars - mean) ** 2, 0.0).sum(0) / count
    return mean, np.where(given.any(0), np.sqrt(np.maximum(variance, 1e-6)), 1.0)


def asked(text: Text, key: jax.Array) -> Text:
    """A caption of one kind: it names properties, outcomes or both; the law's numbers are hidden half of the time.

    Where a clip's outcomes are told, its properties tell little more: with both in every caption they would be ignored.
    """
    u = jax.random.uniform(key, (2,))
    of = lambda names: jnp.asarray([slot in names for slot in captions.SLOTS])
    mute = jnp.where(u[0] < 0.4, of(captions.OUTCOMES), of(captions.PROPERTIES) & (u[0] < 0.7))
    hidden = jnp.asarray([name in world.LAW_SCALARS for name in world.SCALARS]) & (u[1] < 0.5)
    return Text(jnp.where(mute, 0, text.tokens), jnp.where(hidden, jnp.nan, text.scalars))


SHARE = {"material": 2.0, "stiffness": 3.0, "strength": 3.0, "viscosity": 3.0, "friction": 3.0}
SHARE |= dict.fromkeys(captions.OUTCOMES, 1.0)
"""How often a slot is asked, beside others that the text fills: more often what is harder to hear."""


def rivals(text: Text, count: int, key: jax.Array) -> Text:
    """A text and others that say another word in one slot, leaves (count, ...); the true one comes first.

    The slot is one of those that the text fills, by `SHARE`; half of the time nothing else is said of properties and
    outcomes, and half of the time the law's numbers are hidden. Weight is left out: its number is given.
    """
    names = list(captions.SLOTS)
    of = lambda chosen: jnp.asarray([slot in chosen for slot in names])
    sizes = jnp.asarray([len(values) for values in captions.SLOTS.values()])
    away = jnp.asarray([[n in UNKNOWN_NUMBERS.get(slot, ()) for n in world.SCALARS] for slot in names])
    most = max(len(captions.SLOTS[slot]) for slot in SHARE)
    u = jax.random.uniform(key, (2 + len(names) + most,))

    share = jnp.asarray([SHARE.get(slot, 0.0) for slot in names])
    waits = -jnp.log(u[2 : 2 + len(names)]) / share  # the first of exponential waits, whose rates are the shares
    slot = jnp.argmin(jnp.where((share > 0.0) & (text.tokens > 0), waits, jnp.inf))
    others = of((*captions.PROPERTIES, *captions.OUTCOMES)) & ((u[0] < 0.5) | (slot == names.index("material")))
    hidden = away[slot] | (jnp.asarray([n in world.LAW_SCALARS for n in world.SCALARS]) & (u[1] < 0.5))

    true, words = text.tokens[slot], 1 + jnp.arange(most)
    wrong = jnp.where((words > sizes[slot]) | (words == true), -1.0, u[2 + len(names) :])
    said = jnp.append(true[None], 1 + jax.lax.top_k(wrong, count - 1)[1].astype(true.dtype))
    tokens = jnp.where(others, 0, text.tokens)
    tokens = jax.vmap(lambda word: tokens.at[slot].set(word))(said)
    scalars = jnp.where(hidden, jnp.nan, text.scalars)
    return Text(tokens, jnp.broadcast_to(scalars, (count, *scalars.shape)))


def example_loss(config: PriorConfig, mean, deviation, reads: bool = False, count: int = 3):
    """The loss of one stored clip: painted anew, at another density, mirrored half of the time, with some caption.

    That of drawing it; where it `reads`, that of telling its caption from others, `count` in all. The network is given
    scalars less their `mean`, over their `deviation`.
    """
    colour_slot = list(captions.SLOTS).index("colour")

    def loss(params, example, key):
        k = jax.random.split(key, 8)
        colour = jax.random.randint(k[0], (), 0, len(COLOURS))
        clip = paint(example["maps"], example["view"], draw_look(k[1], colour))
        clip = jnp.where(jax.random.bernoulli(k[2]), clip[:, :, ::-1], clip)
        tokens, scalars = similarity.resample(example["tokens"], example["scalars"], k[7])
        text = Text(tokens.at[colour_slot].set(colour + 1), (scalars - mean) / deviation)
        if reads:
            return caption_loss(params, clip, rivals(text, count, k[5]), config, key=k[6])
        return prior_loss(params, clip, asked(text, k[4]), config, key=k[3])

    return loss


def run(config, workdir: str) -> dict:
    train, held_out = load_clips(config.clips)
    held_out = held_out.take(np.random.default_rng(0).permutation(len(held_out))[:256])
    frames, pixels = train.maps.shape[1:3]
    if config.start:
        start = load_prior(config.start)
        prior, mean, deviation = start.config, np.asarray(start.mean), np.asarray(start.deviation)
        if (prior.frames, prior.pixels) != (frames, pixels):
            raise ValueError(
                f"train_prior: {config.start} draws {prior.frames} frames of {prior.pixels} pixels, the clips of "
                f"{config.clips} have {frames} of {pixels}"
            )
    else:
        start, prior = None, prior_config(config, frames, pixels)
        mean, deviation = normalisation(train)
    schedule = optax.warmup_cosine_decay_schedule(
        0.0, config.learning_rate, config.warmup_steps, config.steps, 0.01 * config.learning_rate
    )
    tx = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(schedule, b2=0.98, weight_decay=0.01))
    mesh = make_mesh(data=jax.device_count())
    loss_of = functools.partial(example_loss, prior, jnp.asarray(mean), jnp.asarray(deviation))
    params = start.params if start else prior.init
    state = create_state(params, tx, key=jax.random.key(config.seed), ema=True, mesh=mesh)
    order = Order(len(train), config.batch, config.seed)

    def rows(clips: Clips, index) -> dict:
        names = ("maps", "view", "tokens", "scalars")
        return {name: getattr(clips, name)[index] for name in names}

    state = fit(
        make_step(loss_of(reads=config.reads), tx, mesh, ema_decay=config.ema_decay, rounded=config.rounded),
        state,
        lambda step: rows(train, order.indices(step)),
        config.steps,
        workdir=workdir,
        about=config.to_dict(),
        checkpoint_every=config.checkpoint_every,
        keep=2,
    )
    if int(state.step) < config.steps:
        sys.exit(f"asked to stop at step {int(state.step)} of {config.steps}: the same command goes on")
    whole = rows(held_out, slice(None))
    keys = jax.random.split(jax.random.key(1), len(held_out))

    def mean_of(loss) -> float:
        one = jax.jit(loss)
        found = [one(state.ema, jax.tree.map(lambda a, i=i: a[i], whole), keys[i]) for i in range(len(held_out))]
        return float(np.mean(jax.device_get(found)))

    save_prior(Path(workdir) / "prior.safetensors", state.ema, prior, mean, deviation)
    report = {
        "steps_count": int(state.step),
        "clips_count": len(train),
        "parameters_count": sum(a.size for a in jax.tree.leaves(state.params)),
        "held_out_loss": mean_of(loss_of()),
        "held_out_caption_loss": mean_of(loss_of(reads=True)),
        "seed": config.seed,
    }
    write_report(workdir, **report)
    return report


def main(argv) -> None:
    del argv
    cores.keep_memory()
    print(run(flags.FLAGS.config, flags.FLAGS.workdir))


if __name__ == "__main__":
    config_flags.DEFINE_config_file("config", str(Path(__file__).parent / "configs" / "train_prior.py"))
    flags.DEFINE_string("workdir", None, "folder of checkpoints, metrics and weights", required=True)
    app.run(main)
