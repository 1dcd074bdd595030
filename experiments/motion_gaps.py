"""The domain gap, on purpose: candidates that look or are computed otherwise than the clips that the prior has seen.

The caption stays that of the hidden motion in the world of the clips, so each gap says what a difference between the
video model's world and the simulation costs. Where the simulation differs, `outcome_match` is asked too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments import motion_guided as guided
from experiments import motion_words as words
from experiments.motion_answers import row
from experiments.motion_fields import Field, Videos, coordinates, make_field, make_videos, restore, store
from experiments.motion_looks import Shown, in_colour, paint_look
from experiments.motion_scenes import PEER, HeldOut, split_particles
from jaxphys.diffusion.prior_files import Prior
from jaxphys.scenes import clips

LOOKS = ("none", "camera", "texture", "light", "resolution")
MOTIONS = ("time_step", "particles")
GAPS = LOOKS + MOTIONS
PIXELS = 48  # of "resolution", made smaller to the pixels of the prior


def altered(held: HeldOut, world: clips.World, gap: str) -> tuple[HeldOut, clips.World, int]:
    """The scene, the world and the factor on the substeps of a gap.

    Raises:
        ValueError: there is no such gap.
    """
    if gap not in GAPS:
        raise ValueError(f"domain gap: must be one of {', '.join(GAPS)}, got {gap!r}")
    scene = held.scene
    if gap == "camera":  # higher than any clip's (8 to 24 degrees) and farther off than `clips.DISTANCE`
        scene = dataclasses.replace(scene, view=scene.view + np.float32([0.0, 24.0, 0.3]))
    elif gap == "texture":  # clips: two soft waves; here rings with sharp edges
        away = np.linalg.norm(scene.x - scene.x.mean(0), axis=1)
        scene = dataclasses.replace(scene, texture=np.float32(np.sin(120.0 * away) > 0.0))
    elif gap == "resolution":
        world = dataclasses.replace(world, pixels=world.pixels * PIXELS // 32)
    held = dataclasses.replace(held, scene=scene)
    if gap == "particles":
        held = split_particles(held, np.random.default_rng(held.number))
    return held, world, 2 if gap == "time_step" else 1


def smaller(videos: Videos, pixels: int) -> Videos:
    """The videos with `pixels` rows and columns: means over the pixels that fall together, or shares of them."""
    if videos.maps.shape[-2] == pixels:
        return videos

    def resize(a):
        shape = (*a.shape[:-3], pixels, pixels, a.shape[-1])
        return np.asarray(jax.image.resize(jnp.asarray(a, jnp.float32), shape, "linear", antialias=True))

    maps = np.round(np.clip(resize(videos.maps), 0.0, 255.0)).astype(np.uint8)
    return Videos(maps, resize(videos.slopes).astype(np.float16), videos.seconds)


def videos_of(folder: Path, held: HeldOut, world: clips.World, count: int, gap: str) -> Videos:
    """The stored candidates of a gap, made where they are missing. A change of light needs no others."""
    name = "" if gap in ("none", "light") else f".{gap}"
    path = folder / f"{held.name}{name}.videos.npz"
    if not path.exists():
        other, larger, finer = altered(held, world, gap)
        store(path, smaller(make_videos(other, larger, coordinates(held, count), finer=finer), world.pixels))
    return restore(path, Videos)


def field_of(folder: Path, held: HeldOut, world: clips.World, count: int, gap: str) -> Field:
    """The stored outcomes of a gap in motion, made where they are missing."""
    path = folder / f"{held.name}.{gap}.npz"
    if not path.exists():
        other, world, finer = altered(held, world, gap)
        store(path, make_field(other, world, coordinates(held, count), finer=finer))
    return restore(path, Field)


def peers(folder: Path, held: HeldOut) -> tuple[str, ...]:
    """The gap of another simulator, where its candidates were made."""
    return (PEER,) if (folder / f"{held.name}.{PEER}.npz").exists() else ()


def measured(folder: Path, held: HeldOut, field: Field, config, world: clips.World) -> list[dict]:
    """The answers of `outcome_match` in one scene, in every gap in motion.

    Args:
        folder: of the stored fields.
        held: scene.
        field: its candidates without a gap.
        config: of the evaluation.
        world: of the clips.
    """
    caption = held.outcome_caption(field.true_outcomes())
    rows = [row(held, "outcome_match", "gap_none", held.truth, words.by_outcomes(field, held, caption))]
    for gap in MOTIONS + peers(folder, held):
        other = field_of(folder, held, world, config.candidates, gap)
        rows.append(row(held, "outcome_match", f"gap_{gap}", held.truth, words.by_outcomes(other, held, caption)))
    return rows


def seen(
    folder: Path, held: HeldOut, field: Field, config, world: clips.World
) -> Iterator[tuple[str, list[Shown], int]]:
    """Every gap with its candidates in colour and the number of first frames that are given."""
    for gap in GAPS + peers(folder, held):
        other = held if gap == PEER else altered(held, world, gap)[0]
        look = paint_look(held)
        if gap == "light":  # clips: 0.8 to 1.1, changing by a tenth at most
            look = dataclasses.replace(look, light=jnp.array([1.1, 0.5]))
        videos = videos_of(folder, held, world, config.candidates, gap)
        still = guided.first_change(videos, config.known) <= guided.STILL
        yield gap, in_colour(other, field.grid, videos, config.draws, look), config.known if still else 0


def read(folder: Path, held: HeldOut, field: Field, reader: Prior, config, world: clips.World) -> list[dict]:
    """The posterior of one scene in every gap; arguments as of `measured`, and the weights that read."""
    caption, rows = held.outcome_caption(field.true_outcomes()), []
    options: dict[str, Any] = dict(window=(config.window_low, config.window_high), levels=config.levels)
    options |= dict(seed=config.seeds[0])
    for gap, shown, given in seen(folder, held, field, config, world):
        name = "posterior_frames" if given else "posterior_text"
        belief, sure = guided.read_words(reader, held, shown, caption, known=given, **options)
        rows.append(row(held, name, f"gap_{gap}", held.truth, belief, confidence=sure))
    return rows


def followed(folder: Path, held: HeldOut, field: Field, prior: Prior, config, world: clips.World) -> list[dict]:
    """Where the reconstruction leads in every gap; arguments as of `measured`, and the weights that draw."""
    caption, rows = held.outcome_caption(field.true_outcomes()), []
    window, seed = (config.window_low, config.window_high), config.seeds[0]
    for gap, shown, given in seen(folder, held, field, config, world):
        settings = guided.settings("reconstruction", prior, window, given)
        pull, loss, _ = guided.pulls(prior, held, shown, caption, settings, config.draws, seed)
        coarse = float(field.grid[::2][np.argmin(loss.mean(0)[::2])])
        end = guided.follow(field.grid, pull, coarse, np.random.default_rng([seed, held.number]))
        rows.append(row(held, "reconstruction_coarse", f"gap_{gap}", held.truth, end, start=coarse))
    return rows


def lost(rows: list[dict]) -> dict[str, float]:
    """How much farther off the answers are than without a gap: mean over scenes, paired."""
    found: dict[tuple[str, str], dict[str, float]] = {}
    for r in rows:
        if r["asked"].startswith("gap_"):
            found.setdefault((r["method"], r["asked"]), {})[r["scene"]] = r["error"]
    out = {}
    for (method, gap), errors in found.items():
        before = found.get((method, "gap_none"), {})
        paired = [e - before[s] for s, e in errors.items() if s in before]
        if gap != "gap_none" and paired:
            out[f"{gap}_{method}_lost_mean"] = float(np.mean(paired))
    return out
