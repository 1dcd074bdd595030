r"""The main job of MotionPhysics: a prompt decides the material of a captured object, and how sure that is.

    python -m experiments.motionphysics --config=experiments/configs/motionphysics.py \
        --config.prompt="a rubber robot is dropped, it is squashed flat" --workdir=runs/motionphysics

The words propose a material and a range; candidates over the range are simulated small; the best is refined along the
exact gradient; the posterior says how sure the answer is and, where the proposal was unsure, which class it is; the
object is simulated and drawn in full with the proposal (before) and with the answer (after). Words of outcomes
("squashes a lot", "bounces high") are measured on the simulations; other words are read by the prior, if one is given.

Writes into the workdir: preview.png, posterior.png, path.png, compare.mp4 (before left, after right), before/ and
after/ (the full simulations), report.json with every parameter, its interval and the seconds of every stage. A rerun
goes on where the last one stopped. Hardware, minutes and what to expect: see the config.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from absl import app, flags
from ml_collections import ConfigDict, config_flags

from experiments import motion_guided as guided
from experiments import simulate
from experiments.motion_fields import Field, Videos, coordinates, make_field, make_videos, restore, store
from experiments.motion_looks import in_colour
from experiments.motion_parts import body_points, parse_parts, split
from experiments.motion_proposals import proposals_of, provider_of
from experiments.motion_search import Small, belief_of, misfit, opposite, refine, small_scene
from experiments.motion_words import Belief
from experiments.report import write_json, write_report
from jaxphys import language, media, mpm
from jaxphys.diffusion.prior_files import Prior, load_prior, shipped_prior
from jaxphys.language import captions
from jaxphys.scenes import clips
from jaxphys.scenes.outcomes import measure

WINDOW = (0.6, 0.98)  # noise range in which the prior is asked
DRAWS = 4  # of its noise, each in another appearance
REACHED = 0.2  # score of outcome words below which they are not met


@dataclasses.dataclass(frozen=True)
class Answer:
    """What one caption decides."""

    caption: dict[str, str]
    small: Small  # the class
    belief: Belief
    chosen: float  # coordinate that is simulated in full
    path: list  # (coordinate, misfit, slope) of the refinement
    shares: dict[str, float]  # probability of each class
    judge: str  # what decided: "outcome words", "prior", "outcome words and prior", "proposal only"
    score: float = float("nan")  # 0..1, how far the chosen candidate does what the outcome words say

    @property
    def value(self) -> float:
        """The parameter, in SI units."""
        return self.chosen if self.small.linear else 10.0**self.chosen

    def ends(self, level: float) -> tuple[float, float]:
        """The interval of the parameter, in SI units."""
        lo, hi = self.belief.densest(level)
        return (lo, hi) if self.small.linear else (10.0**lo, 10.0**hi)


class Clock(dict):
    """Seconds of every stage."""

    @contextlib.contextmanager
    def stage(self, name: str):
        began = time.monotonic()
        print(f"{name} ...", flush=True)
        yield
        self[name] = self.get(name, 0.0) + time.monotonic() - began


def spoken(prompt: str) -> dict[str, str]:
    """The words of the prompt that are in the vocabulary of the clips."""
    return captions.parse(prompt)[0]


def candidates(small: Small, world: clips.World, config, path: Path) -> Field:
    """The coarse candidates of a class, stored."""
    if not path.exists():
        store(path, make_field(small, world, coordinates(small, config.candidates), truth=False))
    return restore(path, Field)


def heard(
    small: Small, field: Field, caption: Mapping[str, str], prior: Prior, world, config, path: Path
) -> np.ndarray:
    """Log-likelihood of the candidates by the prior, of the words that it reads (K,)."""
    if not path.exists():
        store(path, make_videos(small, world, field.grid, truth=False))
    shown = in_colour(small, field.grid, restore(path, Videos), DRAWS)
    options: dict[str, Any] = dict(window=WINDOW, known=1, levels=4, seed=config.seed)
    said = {"material": small.material, "action": "dropped"} | dict(caption)
    return guided.word_weights(prior, small, shown, said, **options)[0]


def decide(
    caption: dict[str, str],
    classes: list[tuple[Small, Field]],
    prior: Prior | None,
    world: clips.World,
    config,
    folder: Path,
    name: str,
) -> Answer:
    """Posterior over classes and values, and the refined value of the likeliest class."""
    measured = any(slot in caption for slot in captions.OUTCOMES)
    # outcomes are measured, not read, where they are named: they must not count twice
    left = {slot: word for slot, word in caption.items() if slot not in captions.OUTCOMES}
    read = prior is not None and any(slot in left for slot in captions.PROPERTIES)
    judge = " and ".join(w for w, on in (("outcome words", measured), ("prior", read)) if on) or "proposal only"
    found = []
    for small, field in classes:
        videos = folder / f"videos_{'prompt' if name == 'opposite' else name}_{small.name}.npz"
        more = heard(small, field, left, prior, world, config, videos) if read and prior is not None else None
        belief, evidence = belief_of(small, field, caption, more)
        found.append((small, field, belief, evidence + np.log(small.weight), more))
    top = max(f[3] for f in found)
    weights = {f[0].name: float(np.exp(f[3] - top)) for f in found}
    shares = {k: v / sum(weights.values()) for k, v in sorted(weights.items(), key=lambda item: -item[1])}
    small, field, belief, _, more = max(found, key=lambda f: f[3])
    if judge == "proposal only":
        print(
            f"{name}: THE PROMPT NAMES NO OUTCOME"
            + ("" if prior else " AND THERE IS NO PRIOR")
            + ": THE PROPOSAL STAYS"
        )
    if not measured:
        return Answer(caption, small, belief, belief.median, [], shares, judge)
    path = folder / f"path_{name}.json"
    known = None
    if path.exists():  # what is not finite is stored as text
        known = [tuple(float(a) for a in p) for p in json.loads(path.read_text())["path"]]
    start = float(belief.values[np.argmax(belief.weights)])
    save = lambda steps: write_json(path, {"path": steps})
    likelihood = np.zeros(len(field.grid)) if more is None else more
    by_prior = lambda u: jnp.interp(u, field.grid, likelihood)
    steps = refine(misfit(small, world, caption, by_prior), start, small.ends, config.refinements, known, save)
    chosen, value, _ = min(steps, key=lambda p: p[1])
    score = float(np.exp(-value - small.log_prior(chosen) - by_prior(chosen)))
    return Answer(caption, small, belief, float(chosen), steps, shares, judge, score)


def in_full(job: simulate.Job, laws: list[tuple[Any, str]], config, folder: Path) -> tuple[simulate.Job, dict]:
    """The whole object with a law, and its name, for each part; resumes chunk by chunk."""
    setup = job.setup
    parts = tuple(dataclasses.replace(p, law=name) for p, (_, name) in zip(setup.parts, laws))
    whole = dataclasses.replace(setup.config, frames=job.frames, substeps="auto")
    setup = dataclasses.replace(setup, laws=tuple(law for law, _ in laws), parts=parts, config=whole)
    own = simulate.in_chunks(setup, job.proposal, job.ground_m, config)
    folder.mkdir(exist_ok=True)
    return own, simulate.simulate_chunks(own, folder)


def measured_words(job: simulate.Job, fields: Mapping[str, np.ndarray], caption: Mapping[str, str], scale: float):
    """Outcomes of the first part in a full simulation: number, word and asked word; times as in the clips' world."""
    x = np.concatenate([np.asarray(job.setup.particles.x)[None], fields["x"]])
    x = x[:, np.asarray(job.setup.particles.material) == 0]
    found = measure(jnp.asarray(x), job.setup.config.fps / scale**0.5, job.ground_m)
    out = {}
    for slot in captions.OUTCOMES:
        if slot in caption:
            number = float(getattr(found, slot))
            out[slot] = (number, captions.SCALES[slot].word(number), caption[slot])
    return out


def draw_frames(job: simulate.Job, fields: Mapping[str, np.ndarray]) -> np.ndarray:
    """(1 + T, H, W, 3), the object at rest first."""
    eye = jnp.broadcast_to(jnp.eye(3), (len(job.setup.gaussians), 3, 3))
    frames = [simulate.picture(job, job.setup.particles.x, eye)]
    for k, (x, F) in enumerate(zip(fields["x"], fields["F"])):
        frames.append(simulate.picture(job, jnp.asarray(x), jnp.asarray(F), k + 1))
    return np.stack(frames)


def run(config: ConfigDict, workdir: str | Path) -> dict:
    """The whole job; returns what report.json says."""
    began, clock, folder = time.monotonic(), Clock(), Path(workdir)
    parts = parse_parts(config)
    prompts = [config.prompt, *(prompt for _, prompt in parts)]
    said = [spoken(prompt) for prompt in prompts]
    with clock.stage("proposal"):
        job = split(simulate.prepare(config), [place for place, _ in parts], config)
        weights = shipped_prior(reads=True) if config.prior == "shipped" else config.prior
        prior = load_prior(weights) if weights else None
        provider_of(config)
        for prompt in prompts:
            language.propose(prompt)  # what is wrong with the words shows before anything is written
        folder.mkdir(parents=True, exist_ok=True)
        simulate.claim_workdir(folder, config)
        chosen = proposals_of(prompts, config, folder / "proposals.json")
    for found in chosen:
        print(found[0][0].report())
    with clock.stage("preview"):
        eye = jnp.broadcast_to(jnp.eye(3), (len(job.setup.gaussians), 3, 3))
        media.write_image(folder / "preview.png", simulate.picture(job, job.setup.particles.x, eye))
    preview = time.monotonic() - began
    print(f"preview: {folder / 'preview.png'} after {preview:.0f} s", flush=True)
    if prior is None:
        print("NO PRIOR (config.prior is empty): outcome words alone decide")
    world = clips.World(particles=config.particles, dx=1.0 / config.cells_per_metre)
    if prior is not None:
        world = dataclasses.replace(world, pixels=prior.config.pixels, frames=prior.config.frames)
    first = [mpm.materials.create(f[0][0].law, density=f[0][0].density, **f[0][0].simulated) for f in chosen]
    before = list(zip(first, (f[0][0].law for f in chosen)))
    after, answers, fields = list(before), {}, []
    for k, caption in enumerate(said):
        points, index, volume = body_points(job, k)
        others = tuple(law for j, (law, _) in enumerate(after) if j != k)
        name, classes = ("prompt" if k == 0 else f"part_{k}"), []
        with clock.stage("candidates"):
            for proposal, weight in chosen[k]:
                options: dict[str, Any] = dict(drop=config.drop_m, least=config.least_decades, seed=config.seed)
                small = small_scene(points, volume, proposal, weight, world, part=index, others=others, **options)
                print(f"  {small.model} ({small.law_key}), {small.unknown} over {small.ends}, weight {weight:.2f}")
                classes.append(
                    (small, candidates(small, world, config, folder / f"candidates_{name}_{small.name}.npz"))
                )
        asked = {name: caption}
        if k == 0 and config.opposite and any(slot in caption for slot in captions.OUTCOMES):
            asked["opposite"] = opposite(caption)
        for name, words in asked.items():
            with clock.stage("refinement"):
                answers[name] = decide(words, classes, prior, world, config, folder, name)
            tell(name, answers[name], config.level)
            if name != "opposite":
                after[k] = (answers[name].small.own_law(answers[name].chosen), answers[name].small.law_key)
        fields += [field for _, field in classes]
    draw_posteriors(answers, folder)
    with clock.stage("simulation"):
        pair = [in_full(job, laws, config, folder / when) for when, laws in (("before", before), ("after", after))]
    with clock.stage("rendering"):
        both = [draw_frames(full, moved) for full, moved in pair]
        media.write_video(folder / "compare.mp4", np.concatenate(both, 2), job.setup.config.fps)
        media.write_image(folder / "compare.png", np.concatenate([b[len(b) // 2] for b in both], 1))
    figures = report(config, chosen[0][0][0], answers, fields, clock, preview)
    scale = answers["prompt"].small.scale
    for when, (full, moved) in zip(("before", "after"), pair):
        for slot, (number, word, wanted) in measured_words(full, moved, said[0], scale).items():
            figures |= {f"{when}_{slot}": number, f"{when}_{slot}_word": word, f"{when}_{slot}_right": word == wanted}
            print(f"{when}, in full: {slot} {number:.2f}, {word} (asked: {wanted})")
    path = write_report(folder, **figures)
    print(f"{'stage':12s} seconds\n" + "\n".join(f"{k:12s} {v:7.1f}" for k, v in clock.items()))
    print(f"video: {folder / 'compare.mp4'}, report: {path}, {time.monotonic() - began:.0f} s in all")
    return figures


def tell(name: str, answer: Answer, level: float) -> None:
    """Prints an answer."""
    lo, hi = answer.ends(level)
    start = answer.small.start if answer.small.linear else 10.0**answer.small.start
    said = ", ".join(f"{slot} {word}" for slot, word in answer.caption.items())
    print(
        f"{name} ({said}; by {answer.judge}): {answer.small.model}, {answer.small.unknown} {start:.4g} -> "
        f"{answer.value:.4g}, {level:.0%} between {lo:.4g} and {hi:.4g}; classes "
        + ", ".join(f"{k} {v:.2f}" for k, v in answer.shares.items()),
        flush=True,
    )
    if answer.score < REACHED:
        print(f"NOT REACHED: no value in the range does what {name} asks; this one comes nearest", flush=True)


def report(
    config, proposal: language.Proposal, answers: dict[str, Answer], fields: list[Field], clock: Clock, preview: float
) -> dict:
    """Flat keys."""
    out: dict[str, Any] = {"prompt": config.prompt, "material": proposal.material, "confidence": proposal.confidence}
    out |= {"provider": proposal.provider, "refusals": list(proposal.refusals)}
    for name, answer in answers.items():
        small, (lo, hi) = answer.small, answer.ends(config.level)
        values = {
            "model": small.model,
            "law": small.law_key,
            "unknown": small.unknown,
            "judge": answer.judge,
            "proposed": small.start if small.linear else 10.0**small.start,
            "answer": answer.value,
            "low": lo,
            "high": hi,
            "score": answer.score,
            "probability_of_class": answer.shares[small.name],
            "path": [float(p[0]) for p in answer.path],
            "misfit": [float(p[1]) for p in answer.path],
            "caption": captions.say(answer.caption),
        }
        out |= {f"{name}_{key}": value for key, value in values.items()}
    out["candidates_count"] = sum(len(field.grid) for field in fields)
    out["candidates_refused_count"] = int(sum((~field.sound).sum() for field in fields))
    return out | {f"{k}_seconds": v for k, v in clock.items()} | {"preview_seconds": preview, "seeds": [config.seed]}


def draw_posteriors(answers: dict[str, Answer], folder: Path) -> None:
    """posterior.png: of the classes that won; path.png: the refinement."""
    first = next(iter(answers.values())).small
    same = {n: a for n, a in answers.items() if a.small.name == first.name}
    unit = first.unknown if first.linear else f"log10 {first.unknown}"
    curves = {n: a.belief.weights / a.belief.weights.max() for n, a in same.items()}
    grid = next(iter(same.values())).belief.values
    prior = np.exp(np.asarray(first.log_prior(grid)))
    media.plot_series(folder / "posterior.png", grid, curves | {"proposal": prior}, unit, "relative probability")
    paths = {n: [p[0] for p in a.path] for n, a in answers.items() if a.path}
    if paths:
        longest = max(len(p) for p in paths.values())
        lines = {n: np.array(p + [p[-1]] * (longest - len(p))) for n, p in paths.items()}
        media.plot_series(folder / "path.png", np.arange(1, longest + 1), lines, "evaluation", unit)


def main(argv) -> None:
    del argv
    try:
        run(flags.FLAGS.config, flags.FLAGS.workdir)
    except (ValueError, mpm.SimulationError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    config_flags.DEFINE_config_file("config", str(Path(__file__).parent / "configs" / "motionphysics.py"))
    flags.DEFINE_string("workdir", "runs/motionphysics", "where everything is written")
    app.run(main)
