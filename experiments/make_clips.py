"""Generates captioned clips: random scenes simulated and rendered on all cores, every clip with its true parameters.

    python -m experiments.make_clips --config=experiments/configs/make_clips.py --workdir=runs/clips

A shard holds clips of one material and one action; it follows from the seed and its number alone, so any shard can be
made again. Shards that are there are not made anew: a killed run goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import time
from pathlib import Path

from absl import app, flags
from ml_collections import config_flags

CHUNK = 8  # clips simulated side by side


def make_shard(folder: Path, number: int, config: dict) -> dict:
    """Makes one shard and returns what the manifest says of it."""
    import jax
    import numpy as np
    from safetensors.numpy import save_file

    from jaxphys.files import atomic_path
    from jaxphys.language import captions
    from jaxphys.scenes import clips

    world = clips.World(pixels=config["pixels"], particles=config["particles"])
    rng = np.random.default_rng([config["seed"], number])
    material = str(rng.choice(list(config["materials"]), p=np.asarray(list(config["materials"].values()))))
    actions = clips.ACTIONS["solid" if material in clips.SOLIDS else "flowing"]
    action = str(rng.choice(list(actions), p=list(actions.values())))
    shapes = ("",) if action == "poured" else clips.SHAPES.get(action, tuple(captions.NAMED["shape"]))
    count = config["clips_per_shard"]
    chosen = [str(rng.choice(shapes)) for _ in range(count)]
    scenes = [clips.draw_scene(rng, world, material, action, shape) for shape in chosen]
    steps = [clips.substeps(scene, world, action) for scene in scenes]
    order = np.argsort(steps, kind="stable")
    parts = []
    for chunk in order.reshape(-1, CHUNK):
        stack = jax.tree.map(lambda *a: np.stack(a), *(scenes[i] for i in chunk))
        options = dict(world=world, action=action, law=clips.LAW[material], steps=max(steps[i] for i in chunk))
        parts.append(jax.tree.map(np.asarray, clips.make_clips(stack, **options)))
    back = np.argsort(order)
    maps, outcomes, codes = jax.tree.map(lambda *a: np.concatenate(a)[back], *parts)
    sound = np.flatnonzero(codes == 0)
    words = []
    for i in sound:
        seen = jax.tree.map(lambda a, i=i: a[i], outcomes)
        named = {"material": material, "action": action} | ({"shape": chosen[i]} if chosen[i] else {})
        words.append(
            named | clips.property_words(material, scenes[i].law) | clips.outcome_words(material, action, seen)
        )
    arrays = {
        "maps": maps[sound],
        "tokens": np.stack([captions.tokens(w) for w in words]) if words else np.zeros((0, len(captions.SLOTS)), "i4"),
        "scalars": np.asarray([clips.scalars(scenes[i]) for i in sound], np.float32).reshape(len(sound), -1),
        "outcomes": np.stack([np.asarray(getattr(outcomes, name))[sound] for name in captions.OUTCOMES], -1),
        "view": np.stack([s.view for s in scenes])[sound],
    }
    path = folder / f"clips_{number:05d}.safetensors"
    with atomic_path(path) as temporary:
        save_file({k: np.ascontiguousarray(v) for k, v in arrays.items()}, temporary)
    return {
        "file": path.name,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "clips": len(sound),
        "refused": int(count - len(sound)),
        "material": material,
        "action": action,
    }


def work(folder: Path, config: dict, core: int | None, numbers: list[int], done) -> None:
    """One process on one core: makes its shards, one line of the ledger each."""
    if core is not None:
        os.sched_setaffinity(0, {core})
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(folder / "cache"))
    import jax

    parent = multiprocessing.parent_process()
    for number in numbers:
        if parent is not None and not parent.is_alive():  # a parent that is killed does not take its children along
            return
        began = time.process_time()
        entry = make_shard(folder, number, config) | {"core_seconds": time.process_time() - began}
        (folder / f"clips_{number:05d}.json").write_text(json.dumps(entry))
        done.put(entry)
        jax.clear_caches()  # programs of 100 kinds of scene take gigabytes; the cache on disk has them


def run(config, workdir: str) -> dict:
    """Makes what is missing, then the manifest and the report."""
    from tqdm import tqdm

    from experiments.report import write_json, write_report

    folder = Path(workdir)
    folder.mkdir(parents=True, exist_ok=True)
    values = config.to_dict()
    if values["clips_per_shard"] % CHUNK:
        raise ValueError(f"config.clips_per_shard must be a multiple of {CHUNK}, got {values['clips_per_shard']}")
    plan = folder / "config.json"
    if plan.exists() and json.loads(plan.read_text()) != json.loads(json.dumps(values)):
        raise ValueError(f"{folder} holds clips of another configuration; choose another workdir, or delete it")
    write_json(plan, values)
    shards = -(-values["clips"] // values["clips_per_shard"])
    left = [n for n in range(shards) if not (folder / f"clips_{n:05d}.json").exists()]
    cores: list = (
        sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_setaffinity") else [None] * (os.cpu_count() or 1)
    )
    began = time.monotonic()
    context = multiprocessing.get_context("spawn")
    done = context.Queue()
    workers = [
        context.Process(target=work, args=(folder, values, core, left[k :: len(cores)], done), daemon=True)
        for k, core in enumerate(cores)
    ]
    for worker in workers:
        worker.start()
    with tqdm(total=len(left) * values["clips_per_shard"], unit="clip", disable=not left) as bar:
        for _ in left:
            while done.empty():
                dead = [w for w in workers if w.exitcode not in (None, 0)]
                if dead:
                    raise RuntimeError(f"{len(dead)} workers failed, see above; a rerun goes on after the last shard")
                time.sleep(0.2)
            done.get()
            bar.update(values["clips_per_shard"])
    for worker in workers:
        worker.join()
    entries = [json.loads((folder / f"clips_{n:05d}.json").read_text()) for n in range(shards)]
    write_json(folder / "manifest.json", {"config": values, "shards": entries})
    count = sum(e["clips"] for e in entries)
    report = {
        "clips_count": count,
        "refused_count": sum(e["refused"] for e in entries),
        "core_seconds_per_clip": sum(e["core_seconds"] for e in entries) / max(count, 1),
        "wall_seconds_this_run": time.monotonic() - began,
        "seed": values["seed"],
    }
    write_report(folder, **report)
    return report


def main(argv) -> None:
    del argv
    report = run(flags.FLAGS.config, flags.FLAGS.workdir)
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    config_flags.DEFINE_config_file("config", str(Path(__file__).parent / "configs" / "make_clips.py"))
    flags.DEFINE_string("workdir", None, "folder of the shards", required=True)
    app.run(main)
