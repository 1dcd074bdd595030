"""Measures the small prior on held-out captions and scenes.

    python -m experiments.eval_prior --config.prior=runs/prior/prior.safetensors --config.clips=runs/clips \\
        --workdir=runs/prior_eval

Writes report.json, and samples.png: generated clips beside simulated ones of the same caption.
"""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

from experiments import cores  # isort: skip

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags
from ml_collections import config_flags
from tqdm import tqdm

from experiments import clip_classifier
from experiments.clip_files import Clips, load_clips
from experiments.report import write_report
from jaxphys.diffusion.prior_files import Prior, load_prior
from jaxphys.diffusion.protocol import Condition
from jaxphys.language import captions
from jaxphys.media import write_image
from jaxphys.methods.motion_posterior import caption_posterior
from jaxphys.methods.motionphysics import Guide, recipe
from jaxphys.scenes import clips as world
from jaxphys.scenes.imagine import generate
from jaxphys.scenes.looks import COLOURS, Look, draw_look, paint

SLOT = {name: k for k, name in enumerate(captions.SLOTS)}
UNKNOWN_NUMBERS = {  # scalars that would give the answer of a slot away
    "material": world.LAW_SCALARS,
    "stiffness": ("E",),
    "strength": ("yield_stress",),
    "viscosity": ("viscosity",),
    "friction": ("friction_angle",),
    "weight": ("density",),
}


def painted(clips: Clips, index: np.ndarray, seed: int) -> tuple[jax.Array, np.ndarray, list[Look]]:
    """Clips in colour (n, T, H, W, 3), their tokens with the colour, and their looks (steady light)."""
    out, tokens, looks = [], clips.tokens[index].copy(), []
    for n, i in enumerate(index):
        key = jax.random.fold_in(jax.random.key(seed), int(i))
        key_colour, key_look = jax.random.split(key)
        colour = int(jax.random.randint(key_colour, (), 0, len(COLOURS)))
        look = dataclasses.replace(draw_look(key_look, jnp.asarray(colour)), light=jnp.ones(2))
        out.append(paint(jnp.asarray(clips.maps[i]), jnp.asarray(clips.view[i]), look))
        tokens[n, SLOT["colour"]] = 1 + colour
        looks.append(look)
    return jnp.stack(out), tokens, looks


def height_of_body(clip: jax.Array, view: jax.Array, look: Look) -> jax.Array:
    """Row of the body's centre in each frame, over the height of the picture (T,)."""
    back = paint(jnp.zeros((*clip.shape[:3], 3)), view, look)
    weight = jnp.maximum(jnp.abs(clip - back).sum(-1) - 0.15, 0.0)
    rows = (jnp.arange(clip.shape[1]) + 0.5) / clip.shape[1]
    return (weight.sum(2) * rows).sum(1) / (weight.sum((1, 2)) + 1e-6)


def read_back(prior: Prior, clips: Clips, slot: str, known: int, config) -> float:
    """Share of held-out clips whose most probable word of a slot (`caption_posterior`) is the true one."""
    with_word = np.flatnonzero(clips.tokens[:, SLOT[slot]] > 0)[: config.read_back_clips]
    if not len(with_word):
        return float("nan")
    video, tokens, _ = painted(clips, with_word, 3)
    if slot == "material":  # what else is said tells it, by which slots it fills
        tokens[:, [SLOT[other] for other in (*captions.PROPERTIES, *captions.OUTCOMES)]] = 0
    hidden = jnp.asarray([name in UNKNOWN_NUMBERS.get(slot, ()) for name in world.SCALARS])
    look = recipe(
        "reconstruction",
        prior.config.dit,
        window=(config.noise_low, config.noise_high),
        known=known,
        floor=prior.config.min_time,
    )
    guide = Guide(prior.params["dit"])
    words = 1 + jnp.arange(len(captions.SLOTS[slot]))

    def best(tokens, scalars, video, key):
        numbers = jnp.where(hidden, jnp.nan, scalars)
        text = jax.vmap(
            lambda word: prior.config.condition(prior.params, prior.text(tokens.at[SLOT[slot]].set(word), numbers)).text
        )(words)
        options = dict(levels=config.noise_levels, draws=config.noise_draws, key=key)
        return jnp.argmax(caption_posterior(guide, video[None], Condition(text), look, **options).words[0])

    keys = jax.random.split(jax.random.key(4), len(with_word))
    read = cores.each(best, jnp.asarray(tokens), jnp.asarray(clips.scalars[with_word]), video, keys)
    return float(np.mean(read + 1 == tokens[:, SLOT[slot]]))


def fitted_stiffness(prior: Prior, config) -> np.ndarray:
    """log10 E of the best simulated candidate less the centre of the word, for clips generated from stiffness words.

    New scenes, dropped; the first four frames are given, which are the same for all candidates.
    """
    sizes = world.World(pixels=prior.config.pixels, frames=prior.config.frames)
    scale, errors = captions.SCALES["stiffness"], []
    grid = np.linspace(scale.edges[0] - 0.2, scale.edges[-1], config.candidates)
    for number in tqdm(range(config.fitted_scenes), desc="fitted stiffness", unit="scene"):
        rng = np.random.default_rng([99_991, number])
        scene = world.draw_scene(rng, sizes, "elastic", "dropped", str(rng.choice(["ball", "block", "ring"])))
        laws = [dataclasses.replace(scene.law, E=np.float32(10**e), nu=np.float32(0.3)) for e in grid]
        stack = jax.tree.map(lambda *a: np.stack(a), *(dataclasses.replace(scene, law=law) for law in laws))
        steps = world.substeps(dataclasses.replace(scene, law=laws[-1]), sizes, "dropped")
        maps, _, codes = world.make_clips(stack, world=sizes, action="dropped", law="neo_hookean", steps=steps)
        look = draw_look(jax.random.key(number), jnp.array(number % len(COLOURS)))
        video = jnp.stack([paint(m, jnp.asarray(scene.view), look) for m in maps])
        word = list(scale.values)[number % len(scale.values)]
        said = {"stiffness": word, "material": "elastic", "action": "dropped"}
        numbers = np.asarray(world.scalars(scene), np.float32)
        numbers[world.SCALARS.index("E")] = np.nan
        text = prior.text(captions.tokens(said), numbers)
        clip = generate(prior, text, video[0, :4], steps=config.steps, guidance=1.0, key=jax.random.key(number))
        error = np.asarray(((video - clip) ** 2).mean((1, 2, 3, 4)))
        errors.append(grid[int(np.argmin(np.where(np.asarray(codes) == 0, error, np.inf)))] - scale.centre(word))
    return np.asarray(errors)


def run(config, workdir: str) -> dict:
    folder = Path(workdir)
    folder.mkdir(parents=True, exist_ok=True)
    prior = load_prior(config.prior)
    reader = load_prior(config.reader) if config.reader else prior
    train, held_out = load_clips(config.clips)
    held_out = held_out.take(np.random.default_rng(0).permutation(len(held_out)))  # else one kind of scene comes first
    report: dict = {"seed": 0, "held_out_clips_count": len(held_out)}

    judges = {
        still: clip_classifier.train(train, str(folder / f"judge_{still}"), still=still, steps=config.judge_steps)
        for still in (False, True)
    }
    keys = jax.random.split(jax.random.key(1), len(held_out))
    seen = jax.jit(jax.vmap(clip_classifier.grey))(held_out.maps, held_out.view, keys)
    ceiling = clip_classifier.accuracy(judges[False], seen, held_out.tokens)
    first_frame = clip_classifier.accuracy(judges[True], seen, held_out.tokens, still=True)
    for slot, value in clip_classifier.chance(held_out.tokens).items():
        report |= {f"{slot}_ceiling": ceiling[slot], f"{slot}_first_frame": first_frame[slot], f"{slot}_chance": value}

    index = np.arange(min(config.samples, len(held_out)))
    video, tokens, looks = painted(held_out, index, 2)
    keys = jax.random.split(jax.random.key(5), len(index))
    for known in (0, 4):
        pairs = zip(jnp.asarray(tokens), video, keys)
        made = jnp.stack([generate(prior, prior.text(t), c[:known], steps=config.steps, key=k) for t, c, k in pairs])
        name = "text" if known == 0 else "frames"
        grey = jax.vmap(clip_classifier.normalised)(made)
        for slot, value in clip_classifier.accuracy(judges[False], grey, tokens).items():
            report[f"{slot}_generated_from_{name}"] = value
    falls = []
    for n, i in enumerate(index):
        if tokens[n, SLOT["action"]] == 1:  # dropped
            view = jnp.asarray(held_out.view[i])
            ours, true = (height_of_body(c, view, looks[n]) for c in (made[n], video[n]))
            falls.append(float(jnp.abs(ours - true).mean()))
    report["fall_curve_error_of_height"] = float(np.mean(falls))
    strips = [np.concatenate([np.concatenate(list(v[::3]), 1) for v in (video[n], made[n])], 0) for n in range(12)]
    sheet = np.concatenate([np.concatenate(strips[k::2], 0) for k in (0, 1)], 1)  # truth above, drawn below
    write_image(folder / "samples.png", np.kron(sheet, np.ones((2, 2, 1))))

    asked = list(itertools.product(clip_classifier.HEARD, (0, 4)))
    for slot, known in tqdm(asked, desc="read back", unit="slot"):
        name = "text" if known == 0 else "frames"
        report[f"{slot}_read_back_{name}"] = read_back(reader, held_out, slot, known, config)
    errors = fitted_stiffness(prior, config)
    report["fitted_stiffness_median_decades"] = float(np.median(np.abs(errors)))
    write_report(folder, **report)
    return report


def main(argv) -> None:
    del argv
    cores.keep_memory()
    for name, value in run(flags.FLAGS.config, flags.FLAGS.workdir).items():
        print(f"{name:45s} {value}")


if __name__ == "__main__":
    config_flags.DEFINE_config_file("config", str(Path(__file__).parent / "configs" / "eval_prior.py"))
    flags.DEFINE_string("workdir", None, "folder of the report and the pictures", required=True)
    app.run(main)
