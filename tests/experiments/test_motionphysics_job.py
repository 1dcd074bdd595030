"""The main job in its smallest form: the parameter moves for a reason, both ways, and a rerun goes on."""

import json

import jax
import numpy as np
import pytest

from experiments import motion_search, motionphysics
from experiments.configs.motionphysics import get_config
from experiments.motion_fields import Field
from jaxphys import language, mpm
from jaxphys.diffusion.prior import PriorConfig
from jaxphys.diffusion.prior_files import save_prior
from jaxphys.language import captions
from jaxphys.scenes import clips

WORLD = clips.World(pixels=16, frames=8, particles=64, dx=1 / 8)


def cube(proposal, **changes):
    axis = np.linspace(0.05, 0.95, 10)
    points = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    options = dict(drop=0.3, least=1.0, seed=0) | changes
    return motion_search.small_scene(points, 1.0, proposal, 1.0, WORLD, **options)


def test_a_small_image_moves_as_the_body_does():
    """Equal Froude number: the same motion, times the scale and slower by its root."""
    small = cube(language.propose("jelly"))
    s = small.scale
    assert s == pytest.approx(0.34 / 0.9) and float(np.ptp(small.scene.x, axis=0).max()) < 0.35
    large = small.own_law(small.start)
    config = WORLD.config(small.substeps(WORLD, np.array([small.start])))
    own = mpm.simulate(
        small.law(small.start), small.particles(small.scene), mpm.Scene((0, 0, -9.81), _floor(1.0)), config
    )
    grid = mpm.Grid(tuple(np.array(config.grid.lo) / s), tuple(np.array(config.grid.hi) / s), config.grid.dx / s)
    slower = mpm.Config(grid, fps=config.fps * s**0.5, frames=config.frames, substeps=config.substeps)
    particles = mpm.Particles.create(small.scene.x / s, small.volumes / s**3)
    there = mpm.simulate(large, particles, mpm.Scene((0, 0, -9.81), _floor(s)), slower)
    np.testing.assert_allclose(there.x * s, own.x, atol=2e-4)


def _floor(s):
    w = WORLD.half_width / s
    return (mpm.Walls((-w, -w, 0.0), (w, w, 2.0 * WORLD.height / s), friction=0.4),)


def test_classes_ranges_and_words():
    sure = motion_search.classes_of("a jelly robot", 0.6, 3)
    assert [p.model for p, _ in sure] == ["elastic"] and sure[0][1] == 1.0
    unsure = motion_search.classes_of("a robot", 0.7, 3)
    assert len(unsure) == 2 and {p.model for p, _ in unsure} == {"elastic", "metal"}
    assert sum(w for _, w in unsure) == pytest.approx(1.0)
    small = cube(language.propose("a block of wet sand"))
    assert small.unknown == "friction_angle" and small.linear and small.ends == (19.0, 49.0)
    with pytest.raises(ValueError, match="ask for fewer"):
        motion_search.small_scene(np.zeros((3, 3)), 1.0, language.propose("jelly"), 1.0, WORLD, drop=0, least=1, seed=0)


def test_the_posterior_of_a_class_is_the_proposal_times_the_score():
    small, grid = cube(language.propose("jelly")), np.linspace(0, 1, 5)
    grid = small.ends[0] + (small.ends[1] - small.ends[0]) * grid
    table = np.zeros((5, 6))
    table[:, 0] = [0.9, 0.7, 0.4, 0.15, 0.05]  # the softer, the flatter
    field = Field(grid, table, np.zeros(5, int), 0.0)
    soft, _ = motion_search.belief_of(small, field, {"squash": "flat"})
    stiff, _ = motion_search.belief_of(small, field, {"squash": "keeps"})
    silent, evidence = motion_search.belief_of(small, field, {"shape": "ball"})
    assert soft.median < silent.median - 0.2 and stiff.median > silent.median + 0.4
    assert silent.median == pytest.approx(small.start, abs=0.02) and evidence == pytest.approx(0.0, abs=1e-9)
    heard, _ = motion_search.belief_of(small, field, {}, np.array([-50.0, -50.0, -50.0, 0.0, -50.0]))
    assert heard.median == pytest.approx(grid[3], abs=0.1)
    broken = Field(grid, table, np.ones(5, int), 0.0)
    with pytest.raises(ValueError, match="no candidate"):
        motion_search.belief_of(small, broken, {"squash": "flat"})


def tiny(**changes):
    config = get_config()
    config.update(dict(dx_m=1 / 8, seconds=4 / 24, chunk_frames=4, image_pixels=32, drop_m=0.1, margin_m=0.3))
    config.update(dict(candidates=3, refinements=2, particles=64, cells_per_metre=8))
    config.update(changes)
    return config


@pytest.mark.long
def test_the_job_answers_both_prompts_and_goes_on_where_it_was(tmp_path, capsys):
    first = motionphysics.run(tiny(), tmp_path)
    said = capsys.readouterr().out
    assert "NO PRIOR" in said and "outcome words alone decide" in said
    assert first["prompt_answer"] < first["opposite_answer"]  # squashed flat; keeps its height
    assert first["prompt_low"] <= first["prompt_high"] and first["prompt_judge"] == "outcome words"
    assert first["prompt_proposed"] == first["opposite_proposed"]
    for name in ("preview.png", "posterior.png", "path.png", "compare.mp4", "compare.png"):
        assert (tmp_path / name).stat().st_size > 0, name
    kept = {p.name: p.stat().st_mtime_ns for p in tmp_path.glob("*.npz")}
    (tmp_path / "after" / "chunk_000.npz").unlink()
    again = motionphysics.run(tiny(), tmp_path)
    assert kept == {p.name: p.stat().st_mtime_ns for p in tmp_path.glob("*.npz")}
    assert again["prompt_answer"] == first["prompt_answer"] and again["after_squash"] == first["after_squash"]
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["candidates_seconds"] >= 0 and "device" in report
    with pytest.raises(ValueError, match="differs in"):
        motionphysics.run(tiny(prompt="jelly"), tmp_path)


@pytest.mark.long
def test_parts_have_their_own_material_and_a_prior_reads_what_is_no_outcome(tmp_path):
    slots = tuple(len(v) for v in captions.SLOTS.values())
    sizes = dict(frames=8, pixels=16, patch=(4, 8, 8), width=12, layers=1, heads=2)
    prior = PriorConfig(slots=slots, scalars=len(clips.SCALARS), **sizes)
    path, ones = tmp_path / "prior.safetensors", np.ones(len(clips.SCALARS))
    save_prior(path, prior.init(jax.random.key(0)), prior, 0 * ones, ones)
    head = "-9,-9,0.9,9,9,9: wet sand that spreads wide"
    config = tiny(prompt="a very soft rubber robot is dropped", parts=(head,), prior=str(path))
    found = motionphysics.run(config, tmp_path / "out")
    assert found["prompt_judge"] == "prior" and found["prompt_unknown"] == "E"
    assert found["part_1_judge"] == "outcome words" and found["part_1_unknown"] == "friction_angle"
    assert np.isfinite(found["prompt_answer"]) and "opposite_answer" not in found
    with pytest.raises(ValueError, match="holds nothing of the object"):
        motionphysics.run(tiny(parts=("7,7,7,8,8,8: sand",)), tmp_path / "other")
    with pytest.raises(ValueError, match="expected"):
        motionphysics.parse_parts(tiny(parts=("sand",)))
