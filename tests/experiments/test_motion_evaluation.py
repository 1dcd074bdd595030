"""Held-out scenes, stored candidates, answers: each against something known, and the whole job with a random prior."""

import dataclasses
import json
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from experiments import eval_motionphysics, motion_fields, motion_guided, motion_scenes, motion_words
from experiments.configs.eval_motionphysics import get_config
from jaxphys.diffusion.prior import PriorConfig
from jaxphys.diffusion.prior_files import load_prior, save_prior
from jaxphys.language import captions
from jaxphys.scenes import clips
from jaxphys.scenes.clips import SCALARS

WORLD = clips.World(pixels=16, frames=4, particles=48, dx=1 / 6)


def tiny_prior(path):
    slots = tuple(len(v) for v in captions.SLOTS.values())
    sizes = dict(frames=4, pixels=16, patch=(2, 8, 8), width=12, layers=1, heads=2)
    config = PriorConfig(slots=slots, scalars=len(SCALARS), **sizes)
    save_prior(path, config.init(jax.random.key(0)), config, np.zeros(len(SCALARS)), np.ones(len(SCALARS)))
    return str(path)


def test_held_out_scenes_are_reproducible_inside_and_hide_one_parameter():
    for kind in motion_scenes.KINDS:
        held = motion_scenes.draw(0, kind, "elastic", WORLD)
        again = motion_scenes.draw(0, kind, "elastic", WORLD)
        np.testing.assert_array_equal(held.scene.x, again.scene.x)
        assert (held.scene.x[:, 2] > 0).all() and (held.scene.x[:, 2] < WORLD.height).all()
        assert len(held.scene.x) == len(held.volumes) == len(held.scene.texture)
        assert np.isnan(held.numbers()[SCALARS.index("E")]) and held.ends[0] <= held.truth <= held.ends[1]
        assert float(held.law(held.truth).E) == pytest.approx(float(held.scene.law.E), rel=1e-5)
    other = motion_scenes.draw(1, "training", "elastic", WORLD)
    assert other.truth != motion_scenes.draw(0, "training", "elastic", WORLD).truth
    hollow = motion_scenes.draw(1, "hollow", "elastic", clips.World(particles=512))
    centre = 0.5 * (hollow.scene.x.min(0) + hollow.scene.x.max(0))
    assert (np.linalg.norm(hollow.scene.x - centre, axis=1) > 0.05).all()
    for material in motion_scenes.UNKNOWN:
        held = motion_scenes.draw(0, "training", material, WORLD)
        assert held.ends[0] <= held.truth <= held.ends[1], material
    with pytest.raises(ValueError, match="kind must be one of"):
        motion_scenes.draw(0, "square", "elastic", WORLD)
    with pytest.raises(ValueError, match="is of solids"):
        motion_scenes.draw(0, "hollow", "water", WORLD)


def test_stored_slopes_agree_with_finite_differences(tmp_path):
    held = motion_scenes.draw(3, "flat", "elastic", WORLD)
    low = held.scene.x - np.float32([0, 0, held.scene.x[:, 2].min() - 0.01])  # it lands within the four frames
    held = dataclasses.replace(held, scene=dataclasses.replace(held.scene, x=low))
    step, grid = 0.04, np.array([4.3, 4.34, 4.38])
    videos = motion_fields.make_videos(held, WORLD, grid, truth=False)
    assert videos.maps.shape == (3, 4, 16, 16, 3)
    exact = videos.slopes[1].astype(np.float64)
    differences = (videos.maps[2].astype(np.float64) - videos.maps[0]) / 255.0 / (2 * step)
    assert np.abs(exact).max() > 0.2
    # the maps are stored in eight bits: a difference of two has a deviation of 1 / 255 / 6^1/2 / 2 step = 0.02
    moved = np.abs(exact) > 0.05
    assert np.sqrt(np.mean((exact - differences)[moved] ** 2)) < 0.03 < 0.2 * np.sqrt(np.mean(exact[moved] ** 2))
    assert np.corrcoef(exact[moved], differences[moved])[0, 1] > 0.98
    motion_fields.store(tmp_path / "v.npz", videos)
    np.testing.assert_array_equal(motion_fields.restore(tmp_path / "v.npz", motion_fields.Videos).slopes, videos.slopes)
    (tmp_path / "v.npz").write_bytes(b"PK")
    with pytest.raises(ValueError, match="delete it to make it again"):
        motion_fields.restore(tmp_path / "v.npz", motion_fields.Videos)


def test_beliefs_hold_what_they_say():
    even = motion_words.Belief.of((4.0, 6.0), np.ones(161))
    assert even.median == pytest.approx(5.0) and even.mean == pytest.approx(5.0)
    np.testing.assert_allclose(even.interval(0.5), (4.5, 5.5), atol=0.01)
    nothing = motion_words.Belief.of((4.0, 6.0), np.zeros(161))
    np.testing.assert_allclose(nothing.weights, even.weights)
    sharp = motion_words.normal((4.0, 6.0), 4.7, 0.1)
    np.testing.assert_allclose([sharp.median, *sharp.interval(0.95)], [4.7, 4.504, 4.896], atol=0.01)


def test_a_regression_finds_a_law_of_words_and_numbers_and_knows_its_noise():
    rng = np.random.default_rng(0)
    tokens = np.zeros((300, len(captions.SLOTS)), int)
    tokens[:, motion_words.SLOT["squash"]] = rng.integers(1, 5, 300)
    numbers = rng.normal(size=(300, 3)) * [0.3, 0.05, 0.1] + [3.0, 0.3, 0.2]
    law = lambda t, x: 5.0 - 0.3 * t[:, motion_words.SLOT["squash"]] + 0.8 * (x[:, 0] - 3.0)
    target = law(tokens, numbers) + 0.1 * rng.normal(size=300)
    found = motion_words.Regression.fit(tokens[:200], numbers[:200], target[:200])
    mean, deviation = found.predict(tokens[200:], numbers[200:])
    assert np.sqrt(np.mean((mean - target[200:]) ** 2)) < 0.13
    assert np.mean(np.abs(mean - target[200:]) < 1.96 * deviation) > 0.88


def test_following_a_pull_ends_where_it_vanishes_and_starts_are_far():
    grid, rng = np.linspace(4.0, 6.0, 17), np.random.default_rng(0)
    pull = np.stack([grid - 5.3 + 0.1 * rng.normal() for _ in range(8)])
    assert motion_guided.follow(grid, pull, 4.1, rng) == pytest.approx(5.3, abs=0.1)
    assert motion_guided.sign_right(grid, pull, 5.3, 0.3) == 1.0
    assert motion_guided.sign_right(grid, -pull, 5.3, 0.3) == 0.0
    for target in (4.2, 5.0, 5.9):
        begun = motion_guided.starts((4.0, 6.0), target, rng)
        assert len(begun) == 2 and all(4.0 <= u <= 6.0 and abs(u - target) > 0.99 for u in begun)


def test_figures_of_answers():
    rows = []
    for n in range(40):
        inside = (4.0, 6.0) if n < 32 else (4.0, 4.1)
        belief = {"interval_50": (4.9, 5.1), "interval_80": inside, "interval_95": (4.0, 6.0)}
        target, error = 5.0 + 0.01 * n, 0.2 if n % 4 else 0.5
        about = dict(scene=f"s{n}", kind="training", material="elastic", asked="outcome", target=target)
        rows.append(about | dict(method="outcome_match", answer=target + error, error=error) | belief)
        rows.append(about | dict(method="regression", answer=target + 0.6, error=0.6) | belief)
    found = eval_motionphysics.summary(rows)
    name = "outcome_training_elastic_outcome_match"
    assert found[f"{name}_median"] == pytest.approx(0.2) and found[f"{name}_within_0.3"] == pytest.approx(0.75)
    assert found[f"{name}_coverage_80"] == pytest.approx(0.8)
    assert found[f"{name}_coverage_80_low"] < 0.7 < 0.9 < found[f"{name}_coverage_80_high"]
    assert found[f"{name}_gain_over_regression_low"] > 0.2
    assert found["outcome_training_elastic_regression_order_right"] == 1.0


def small(**changes):
    config = get_config()
    config.update(
        dict(clips="", candidates=3, pixels=16, frames=4, particles=48, dx_m=1 / 6, known=1, levels=2, draws=2)
    )
    config.update(dict(seeds=(0,), property_scenes=0, class_scenes=0, video_scenes=1, loop_scenes=0))
    config.scenes = ConfigDict(dict(flat_elastic=2))
    config.update(changes)
    return config


@pytest.mark.long
def test_every_method_and_the_decision_between_materials_run_with_a_random_prior(tmp_path):
    prior = tiny_prior(tmp_path / "prior.safetensors")
    scenes = ConfigDict(dict(training_elastic=1))
    config = small(prior=prior, scenes=scenes, property_scenes=1, class_scenes=1, seeds=(0, 1))
    config.update(dict(loop_scenes=1, loop_steps=2))
    found = eval_motionphysics.run(config, tmp_path / "out")
    for method in ("posterior_text", "reconstruction_coarse", *motion_guided.METHODS):
        assert 0.0 <= found[f"outcome_training_elastic_{method}_median"] <= 2.0, method
    assert 0.0 <= found["property_training_elastic_posterior_text_median"] <= 2.0
    for method in ("reference", "reconstruction", "lmd_published"):
        for search in ("exact", "released"):
            assert 0.0 <= found[f"loop_training_elastic_{method}_{search}_median"] <= 2.0
    assert found["property_training_elastic_look_up_median"] < 0.02 and 0.0 <= found["class_right"] <= 1.0


@pytest.mark.long
def test_the_evaluation_runs_with_a_random_prior_and_goes_on_where_it_was(tmp_path, capsys):
    config = small(prior=tiny_prior(tmp_path / "prior.safetensors"), methods=("sds",))
    found = eval_motionphysics.run(config, tmp_path / "out")
    assert "NO CLIPS" in capsys.readouterr().out
    for method in ("constant", "outcome_match", "posterior_text", "sds"):
        assert 0.0 <= found[f"outcome_flat_elastic_{method}_median"] <= 2.0, method
    assert found["outcome_flat_elastic_constant_scenes_count"] == 2
    assert found["outcome_flat_elastic_sds_scenes_count"] == 1
    fields = sorted((tmp_path / "out" / "fields").iterdir())
    times = [os.stat(p).st_mtime_ns for p in fields]
    again = eval_motionphysics.run(config, tmp_path / "out")
    assert [os.stat(p).st_mtime_ns for p in fields] == times
    assert again["outcome_flat_elastic_sds_median"] == found["outcome_flat_elastic_sds_median"]
    with pytest.raises(ValueError, match=r"other settings \(\['draws'\]\)"):
        eval_motionphysics.run(small(prior=config.prior, methods=("sds",), draws=3), tmp_path / "out")
    with pytest.raises(ValueError, match=r"other settings \(\['candidates'\]\)"):
        eval_motionphysics.run(small(candidates=4), tmp_path / "out")
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert set(manifest) == {"flat_elastic_0000", "flat_elastic_0001"}


def test_the_pull_of_a_reference_is_that_of_the_true_video(tmp_path):
    held = motion_scenes.draw(0, "flat", "elastic", WORLD)
    rng = np.random.default_rng(0)
    videos = motion_fields.Videos(
        rng.integers(0, 255, (3, 4, 16, 16, 3), np.uint8), rng.normal(size=(2, 4, 16, 16, 3)).astype(np.float16), 0.0
    )
    shown = motion_guided.in_colour(held, np.array([4.0, 5.0]), videos)
    prior = load_prior(tiny_prior(tmp_path / "prior.safetensors"))
    settings = motion_guided.settings("reference", prior, (0.6, 0.98), 0)
    pull, loss, cosine = motion_guided.pulls(prior, held, shown, held.property_caption(), settings, 1, 0)
    assert shown.true is not None
    np.testing.assert_allclose(cosine, 1.0, atol=1e-5)
    apart = np.asarray(shown.video - shown.true, np.float64)
    # the model sees 2 video - 1
    expected = 4.0 * (apart * np.asarray(shown.slope, np.float64)).sum((1, 2, 3, 4)) / apart[0].size
    np.testing.assert_allclose(pull[0], expected, rtol=1e-3)
    np.testing.assert_allclose(loss[0], 2.0 * (apart**2).sum((1, 2, 3, 4)) / apart[0].size, rtol=1e-3)
    assert jnp.isfinite(shown.slope).all()
