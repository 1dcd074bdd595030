"""Measures how well a prompt decides a material parameter: every method on the same held-out scenes.

    python -m experiments.eval_motionphysics --config=experiments/configs/eval_motionphysics.py \
        --workdir=runs/motionphysics_eval

Every core takes one scene after another. Writes fields/ (candidates of every scene, made once), answers/ (one file per
scene), rows.json, answers.png, failures.json, failures.png and report.json; a rerun goes on after the last scene.
Figures on outcome captions are errors against the hidden value, in decades (degrees for sand); those on property
captions are errors against the centre of the word, which a look-up answers perfectly.
"""

from __future__ import annotations

import functools
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import app, flags
from ml_collections import config_flags

from experiments import motion_classes, motion_first_seed, motion_gaps, motion_pairs, motion_pictures, motion_temper
from experiments import motion_end_to_end as end_to_end
from experiments import motion_guided as guided
from experiments import motion_words as words
from experiments.clip_files import load_clips
from experiments.motion_answers import asked_of, follow, read, row
from experiments.motion_fields import VIEWS, Field, field_of, videos_of
from experiments.motion_looks import in_colour
from experiments.motion_scenes import HeldOut, draw, manifest
from experiments.motion_summary import NEAR, summary, table
from experiments.processes import call_all
from experiments.report import read_json, write_json, write_report
from jaxphys.diffusion.prior_files import Prior, load_prior
from jaxphys.language import captions
from jaxphys.scenes import clips


def without_prior(held: HeldOut, field: Field, trained: dict, alone: dict) -> list[dict]:
    """The rows of one scene that no video model is needed for.

    `order_within` is the order of what `outcome_match` answers to the words of several candidates of this one scene.
    """
    caption = held.outcome_caption(field.true_outcomes())
    numbers = words.numbers_of(held.numbers())
    answers = {
        "constant": words.constant(held),
        "look_up": words.look_up(held, caption),
        "proposal": words.proposal(held, caption),
        "outcome_match": words.by_outcomes(field, held, caption),
    }
    if held.material in trained:
        answers["regression"] = trained[held.material].answer(held, caption, numbers)
        answers["words_alone"] = alone[held.material].answer(held, caption, numbers)
    rows = [row(held, name, "outcome", held.truth, belief) for name, belief in answers.items()]
    rows[list(answers).index("outcome_match")]["order_within"] = words.order_within(field, held)
    said = held.property_caption()
    if words.WORDS_OF.get(held.material) in said:
        scale = captions.SCALES[words.WORDS_OF[held.material]]
        target = scale.centre(said[words.WORDS_OF[held.material]])
        for name, belief in {"constant": answers["constant"], "look_up": words.look_up(held, said)}.items():
            rows.append(row(held, name, "property", target, belief))
    return rows


def beside(held: HeldOut, field: Field, reader: Prior | None, config, world: clips.World, folder: Path) -> dict:
    """What is asked of some scenes only: which material, two unknowns at once, and the domain gaps."""
    found: dict[str, list[dict]] = {"rows": [], "classes": [], "pairs": [], "heard": []}
    if held.kind != "training":
        return found
    if held.number < config.class_scenes:
        found["classes"] = motion_classes.decisions(folder, held, field, reader, config, world)
    if held.number < config.pair_scenes and held.material in motion_pairs.ENDS:
        found["pairs"] = motion_pairs.rows_of(folder, held, reader, config, world)
    if has_gaps(held, config):
        found["rows"] = motion_gaps.measured(folder, held, field, config, world)
        if reader is not None:
            found["rows"] += motion_gaps.read(folder, held, field, reader, config, world)
    return found


def among(counts, held: HeldOut) -> bool:
    """Is this one of the first scenes of its kind and material, as many as a table of kind_material has? None: 0."""
    return held.number < counts.get(f"{held.kind}_{held.material}", 0)


def has_gaps(held: HeldOut, config) -> bool:
    """Is this one of the scenes that are asked again where the simulation is not like the clips?"""
    return (held.kind, held.material) == ("training", "elastic") and held.number < config.gap_scenes


def in_the_loop(
    held: HeldOut, field: Field, prior: Prior | None, config, world: clips.World, folder: Path
) -> list[dict]:
    """Searches with the simulator in the loop, exact and released, on the reference and what the prior guides."""
    shown = in_colour(held, field.grid, videos_of(folder, held, world, config.candidates))
    caption = held.outcome_caption(field.true_outcomes())
    begin = guided.starts(held.ends, held.truth, np.random.default_rng(held.number))[0]
    rows = []
    for method in ("reference", *(("reconstruction", "lmd_published") if prior is not None else ())):
        settings = guided.settings(method, prior, (config.window_low, config.window_high), config.known)
        guide = guided.guide_of(prior, shown[0], settings, config.seeds[0])
        (prompt,) = guided.prompts_of(prior, held, shown[0], caption, settings)
        stored = None
        for search in (end_to_end.exact, end_to_end.released):
            options: dict[str, Any] = dict(iterations=config.loop_steps, seed=config.seeds[0])
            found = search(held, world, guide, prompt, settings, begin, **options)
            if search is end_to_end.exact and prior is not None:
                pull = guided.pulls(prior, held, shown, caption, settings, config.draws, config.seeds[0])[0]
                stored = guided.follow(field.grid, pull, begin, np.random.default_rng(0), config.loop_steps)
            more = dict(start=begin, step_seconds=found.seconds, peak_bytes=found.peak_bytes, path=found.path)
            if stored is not None and search is end_to_end.exact:
                more["stored_apart"] = abs(stored - found.answer)
            more |= end_to_end.invariants(held, world, found.answer)
            rows.append(row(held, f"{method}_{search.__name__}", "loop", held.truth, found.answer, **more))
    return rows


def baselines(config, materials: list[str]) -> tuple[dict, dict, dict]:
    """The regressions, with and without the numbers of the scene, and how much of the variance words alone explain."""
    if not config.clips:
        print("NO CLIPS (config.clips is empty): regression and words alone are skipped", flush=True)
        return {}, {}, {}
    train, unseen = load_clips(config.clips)
    trained = words.regressions(train, materials)
    alone = words.regressions(train, materials, words_alone=True)
    share = words.explained(alone, unseen) | {f"{m}_clips": len(r.features) for m, r in trained.items()}
    return trained, alone, {f"regression_{k}": v for k, v in share.items()}


def claim(folder: Path, config) -> None:
    """Refuses to mix stored fields, or stored answers, of different settings.

    Raises:
        ValueError: the workdir holds others.
    """
    fields = ("candidates", "class_candidates", "pair_candidates", "pixels", "frames", "particles", "dx_m")
    answers = ("window_low", "window_high", "known", "levels", "draws", "seeds", "methods", "loop_steps", "asked")
    answers += (
        "property_scenes",
        "class_scenes",
        "pair_scenes",
        "gap_scenes",
        "other_windows",
        "window_scenes",
        "first_seed",
    )
    chosen = config.to_dict()
    settings = [(folder / "fields" / "settings.json", {key: chosen[key] for key in fields} | {"views": VIEWS})]
    for name, weights in weights_of(config).items():
        of = {"weights_sha256": hashlib.sha256(Path(weights).read_bytes()).hexdigest() if weights else ""}
        path = folder / "answers" / f"settings.{name if weights else 'none'}.json"
        settings.append((path, {key: chosen[key] for key in answers} | of))
    for path, values in settings:
        values = json.loads(json.dumps(values))
        if not path.exists():
            write_json(path, values)
        old = json.loads(path.read_text())
        if old != values:
            differing = sorted(key for key in values if values[key] != old.get(key))
            raise ValueError(f"{path.parent} was made with other settings ({differing}): choose another workdir")


def weights_of(config) -> dict[str, str]:
    """The files of the weights that draw, for guidance, and of those that read; empty where there are none."""
    return {"prior": config.prior, "reader": config.reader or config.prior}


def answers_of(folder: Path, config, held: HeldOut) -> dict[str, Path]:
    """The files of one scene, by what is in them; their names say of who answered."""
    prior, reader = (name if weights else "none" for name, weights in weights_of(config).items())
    ends = {"read": reader, "first_seed": f"{reader}.first_seed", "guided": f"{prior}.guided", "loop": f"{prior}.loop"}
    ends["contrast"] = f"{reader}.contrast"
    return {name: folder / "answers" / f"{held.name}.{end}.json" for name, end in ends.items()}


def world_of(config) -> clips.World:
    """The sizes of a config."""
    return clips.World(pixels=config.pixels, frames=config.frames, particles=config.particles, dx=config.dx_m)


load_once = functools.cache(load_prior)


@functools.lru_cache(maxsize=1)
def forget_programs(kind: str, material: str) -> None:
    """Lets go of the programs of the kind of scene before: each maps memory, and a process has few maps (65,530)."""
    jax.clear_caches()


def answer(folder: Path, config, scene: tuple[int, str, str]) -> None:
    """Stores what there is of one scene: its candidates, and with a prior its answers."""
    forget_programs(*scene[1:])
    world = world_of(config)
    held, fields = draw(*scene, world), folder / "fields"
    prior, reader = (load_once(weights) if weights else None for weights in weights_of(config).values())
    field, paths = field_of(fields, held, world, config.candidates), answers_of(folder, config, held)
    if held.is_like_training and held.number < config.loop_scenes and not paths["loop"].exists():
        write_json(paths["loop"], {"rows": in_the_loop(held, field, prior, config, world, fields)})
    once = among(config.first_seed, held)
    if once and reader is not None and not paths["first_seed"].exists():
        caption, videos = held.outcome_caption(field.true_outcomes()), videos_of(fields, held, world, config.candidates)
        found = motion_first_seed.asked_of(held, field.grid, caption, videos, reader, config)
        write_json(paths["first_seed"], found)
    asked = among(config.asked, held)
    if not paths["read"].exists():
        found = beside(held, field, reader, config, world, fields)
        if reader is not None and asked:
            rows, found["heard"] = read(held, asked_of(held, field, config, world, fields), reader, config)
            found["rows"] += rows
        write_json(paths["read"], found)
    if prior is not None and asked and not paths["guided"].exists():
        rows = follow(held, asked_of(held, field, config, world, fields), field.grid, prior, config.methods, config)
        if has_gaps(held, config):
            rows += motion_gaps.followed(fields, held, field, prior, config, world)
        write_json(paths["guided"], {"rows": rows})
    if reader is not None and asked and not paths["contrast"].exists():
        contrast = asked_of(held, field, config, world, fields)
        write_json(paths["contrast"], {"rows": follow(held, contrast, field.grid, reader, ("contrast",), config)})


def run(config, workdir: str | Path) -> dict:
    """Everything that is not there yet, then the report."""
    folder = Path(workdir)
    for name in ("fields", "answers"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    claim(folder, config)
    world = world_of(config)
    scenes = manifest(config, world)
    write_json(
        folder / "manifest.json",
        {h.name: {"material": h.material, "action": h.action, "shape": h.shape, "truth": h.truth} for h in scenes},
    )
    if not config.prior:
        posteriors = "" if config.reader else " and every posterior"
        print(f"NO PRIOR (config.prior is empty): skipped are {', '.join(config.methods)}{posteriors}")
    todo = [(h.number, h.kind, h.material) for h in scenes]
    call_all(functools.partial(answer, folder, config), todo, config.processes, "scene")
    trained, alone, about = baselines(config, sorted({h.material for h in scenes}))
    rows, classes, pairs, heard, heard_once, seconds, said = [], [], [], [], [], [], {}
    for held in scenes:
        field = field_of(folder / "fields", held, world, config.candidates)
        seconds.append(field.seconds)
        said[held.name] = captions.say(held.outcome_caption(field.true_outcomes()))
        rows += without_prior(held, field, trained, alone)
        paths = answers_of(folder, config, held)
        training = held.kind == "training"
        for name, more in (
            ("guided", among(config.asked, held)),
            ("contrast", among(config.asked, held)),
            ("loop", training and held.number < config.loop_scenes),
            ("first_seed", among(config.first_seed, held)),
        ):
            if more and paths[name].exists():
                stored = read_json(paths[name])
                rows += stored["rows"]
                if name == "first_seed":
                    heard_once.append((held, field.grid, stored["heard"]))
        found = read_json(paths["read"])
        rows += found["rows"]
        classes += found["classes"]
        if found["classes"]:
            classes += motion_classes.from_words(held, said[held.name], found["classes"])
        pairs += found["pairs"]
        heard.append((held, field.grid, found["heard"]))
    tempered, temperatures = motion_temper.rows_of(heard, heard_once, config.seeds[0])
    rows += tempered + motion_first_seed.beside(rows, config)
    write_json(folder / "rows.json", {"rows": rows, "classes": classes, "pairs": pairs})
    motion_pictures.write(rows, scenes, said, folder, NEAR)
    figures = summary(rows) | motion_gaps.lost(rows) | about
    figures |= motion_classes.figures(classes) | motion_pairs.figures(pairs)
    figures |= {"field_seconds_per_scene": float(np.mean(seconds)), "scenes_count": len(scenes)}
    figures |= {name: weights or "none" for name, weights in weights_of(config).items()}
    figures |= {"seeds": list(config.seeds)} | temperatures
    write_report(folder, **figures)
    return figures


def main(argv) -> None:
    del argv
    try:
        print(table(run(flags.FLAGS.config, flags.FLAGS.workdir)))
    except ValueError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    config_flags.DEFINE_config_file("config", str(Path(__file__).parent / "configs" / "eval_motionphysics.py"))
    flags.DEFINE_string("workdir", "runs/motionphysics_eval", "where everything is written")
    app.run(main)
