"""Held-out scenes, stored candidates, answers: each against something known, and the whole job with a random prior."""

import dataclasses
import json
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from experiments import (
    eval_motionphysics,
    motion_classes,
    motion_fields,
    motion_gaps,
    motion_guided,
    motion_looks,
    motion_pairs,
    motion_pictures,
    motion_scenes,
    motion_summary,
    motion_temper,
    motion_words,
)
from experiments.bench import motionphysics as bench
from experiments.cases import motionphysics as case
from experiments.configs.eval_motionphysics import get_config
from experiments.report import check, read_json, write_json
from jaxphys.diffusion import dit, vae
from jaxphys.diffusion.prior import PriorConfig
from jaxphys.diffusion.prior_files import load_prior, save_prior
from jaxphys.language import captions
from jaxphys.media import read_image
from jaxphys.methods.motion_posterior import posterior_of
from jaxphys.scenes import clips
from jaxphys.scenes.clips import SCALARS

WORLD = clips.World(pixels=16, frames=4, particles=48, dx=1 / 6)


def tiny_prior(path, seed=0):
    slots = tuple(len(v) for v in captions.SLOTS.values())
    sizes = dict(frames=4, pixels=16, patch=(2, 8, 8), width=12, layers=1, heads=2)
    config = PriorConfig(slots=slots, scalars=len(SCALARS), **sizes)
    save_prior(path, config.init(jax.random.key(seed)), config, np.zeros(len(SCALARS)), np.ones(len(SCALARS)))
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
        numbers = dict(zip(SCALARS, motion_scenes.blind(held).numbers()))
        assert np.isfinite([numbers.pop(name) for name in ("density", "size", "gap")]).all()
        assert np.isnan(list(numbers.values())).all()
    with pytest.raises(ValueError, match="kind must be one of"):
        motion_scenes.draw(0, "square", "elastic", WORLD)
    with pytest.raises(ValueError, match="is of solids"):
        motion_scenes.draw(0, "hollow", "water", WORLD)


def test_beliefs_hold_what_they_say():
    even = motion_words.Belief.of((4.0, 6.0), np.ones(161))
    assert even.median == pytest.approx(5.0) and even.mean == pytest.approx(5.0)
    np.testing.assert_allclose(even.interval(0.5), (4.5, 5.5), atol=0.01)
    nothing = motion_words.Belief.of((4.0, 6.0), np.zeros(161))
    np.testing.assert_allclose(nothing.weights, even.weights)
    sharp = motion_words.normal((4.0, 6.0), 4.7, 0.1)
    np.testing.assert_allclose([sharp.median, *sharp.interval(0.95)], [4.7, 4.504, 4.896], atol=0.01)
    np.testing.assert_allclose(sharp.densest(0.95), (4.504, 4.896), atol=0.02)
    falling = motion_words.Belief.of((0.0, 1.0), np.exp(-5.0 * np.linspace(0.0, 1.0, 161)))
    assert falling.densest(0.9)[0] == 0.0 < falling.interval(0.9)[0]  # the likeliest value is at the end


def test_outcomes_that_scatter_between_candidates_say_less():
    held = motion_scenes.draw(0, "training", "elastic", WORLD)
    grid, rng = np.linspace(*held.ends, 401), np.random.default_rng(0)
    scatter = 0.02 * rng.normal(size=(401, 2))
    found = motion_words.roughness(grid, np.stack([0.3 * grid, grid], 1) + scatter)
    unseen = scatter[1:-1:2] - 0.5 * (scatter[:-2:2] + scatter[2::2])  # half of the candidates against the others
    assert np.sqrt(np.mean(found**2)) == pytest.approx(np.sqrt(np.mean(unseen**2)), rel=0.1)
    assert motion_words.roughness(grid[:2], scatter[:2]).max() == 0.0
    grid = np.linspace(*held.ends, 17)
    smooth = np.zeros((18, 6))
    smooth[:17, 0] = 0.6 - 0.25 * (grid - 4.0)
    rough = smooth.copy()
    rough[:17, 0] += 0.15 * (-1.0) ** np.arange(17)
    widths = []
    for outcomes in (smooth, rough):
        field = motion_fields.Field(grid, outcomes, np.zeros(18, int), 0.0)
        low, high = motion_words.by_outcomes(field, held, {"squash": "half"}).interval(0.8)
        widths.append(high - low)
    assert widths[0] == pytest.approx(0.8, abs=0.1) and widths[1] > 1.2 * widths[0]
    assert motion_words.order_within(motion_fields.Field(grid, smooth, np.zeros(18, int), 0.0), held) == pytest.approx(
        0.95
    )
    belief = motion_words.Belief.of((4.0, 6.0), np.ones(161))
    assert belief.greatest(0.3) == pytest.approx(0.3, abs=0.01) and belief.greatest(2.0) == pytest.approx(1.0)


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
    found = motion_summary.summary(rows)
    name = "outcome_training_elastic_outcome_match"
    assert found[f"{name}_median"] == pytest.approx(0.2) and found[f"{name}_within_0.3"] == pytest.approx(0.75)
    assert found[f"{name}_coverage_80"] == pytest.approx(0.8)
    assert found[f"{name}_coverage_80_low"] < 0.7 < 0.9 < found[f"{name}_coverage_80_high"]
    assert found[f"{name}_gain_over_regression_low"] > 0.2
    assert found["outcome_training_elastic_regression_order_right"] == 1.0
    hollow = [r | dict(kind="hollow", scene=f"hollow_elastic_{n:04d}") for n, r in enumerate(rows[::2])]
    found = motion_summary.summary([r | dict(error=4.4 - 4.2) for r in hollow])
    assert found["outcome_hollow_elastic_outcome_match_scenes_count"] == 40
    assert found["outcome_new_elastic_outcome_match_scenes_count"] == motion_summary.EACH  # as of every other new kind
    assert found["outcome_new_elastic_outcome_match_median"] == 0.2 < 4.4 - 4.2


def test_the_class_whose_candidates_do_what_was_seen_wins_however_many_of_them_failed():
    held, count = motion_scenes.draw(0, "training", "metal", WORLD), 3
    seen = {"squash": 0.3, "rebound": 0.02, "bounces": 0.0, "spread": 1.0, "wobble": 0.0, "flow": 0.7}
    row = np.array([seen[slot] for slot in captions.OUTCOMES])
    outcomes = np.tile(row, (8 * count, 1))
    own = motion_classes.labels(count) == motion_classes.MATERIALS.index("metal")
    outcomes[~own, 0] = 0.9
    field = motion_fields.Field(np.linspace(0, 1, 2), np.tile(row, (3, 1)), np.zeros(3, int), 0.0)
    codes = np.zeros(8 * count, int)
    drawn = motion_fields.Drawn(np.zeros((8 * count, 1)), outcomes, codes, 0.0)
    shares = motion_classes.by_outcomes(held, drawn, field, count)
    assert shares.sum() == pytest.approx(1.0) and motion_classes.MATERIALS[shares.argmax()] == "metal"
    codes[np.flatnonzero(own)[:2]] = 3  # failed simulations
    fewer = motion_classes.by_outcomes(held, drawn, field, count)
    np.testing.assert_allclose(fewer, shares, rtol=1e-5)
    codes[own] = 3
    assert motion_classes.by_outcomes(held, drawn, field, count)[motion_classes.MATERIALS.index("metal")] == 0.0
    right = motion_classes.decision(held, "outcomes", shares)
    wrong = motion_classes.decision(held, "outcomes", np.roll(shares, 1))
    found = motion_classes.figures([right, wrong])
    assert found["class_outcomes_right"] == 0.5 and found["class_outcomes_metal_share"] < shares.max()
    read = motion_classes.by_proposal("a clay ball is dropped, it is squashed flat")
    assert read.sum() == 1.0 and motion_classes.MATERIALS[read.argmax()] == "plasticine"
    even, water = np.full(8, 0.125), np.eye(8)[motion_classes.MATERIALS.index("water")]
    sure = "a clay ball is dropped, it is squashed flat"
    unsure = "a water plate is dropped, it is squashed flat and spreads far and thin and runs out fast"
    for sentence, evidence, expected in (
        (sure, water, "plasticine"),
        (unsure, even, "elastic"),
        (unsure, even + water, "water"),
    ):
        share = motion_classes.by_job(sentence, evidence)
        assert share.sum() == pytest.approx(1.0) and motion_classes.MATERIALS[share.argmax()] == expected, sentence


def test_words_that_fix_a_product_leave_two_unknowns_tied():
    held = motion_scenes.draw(0, "training", "plasticine", WORLD)
    axes = motion_pairs.axes_of(held, 5)
    a, b = (g.ravel() for g in np.meshgrid(*axes, indexing="ij"))
    outcomes = np.zeros((26, 6))
    outcomes[:25, 0] = np.clip(0.3 + 0.4 * ((a - 5.5) + (b - 3.35)), 0.0, 1.0)
    drawn = motion_fields.Drawn(np.zeros((26, 1)), outcomes, np.zeros(26, int), 0.0)
    joint = motion_pairs.posterior(axes, drawn, {"squash": "half"})
    assert joint.weights.sum() == pytest.approx(1.0) and joint.correlation < -0.6
    assert joint.marginal(0).median == pytest.approx(5.55, abs=0.15)
    outcomes[:25, 0] = np.clip(0.3 + 0.4 * (a - 5.5), 0.0, 1.0)
    alone = motion_pairs.posterior(axes, drawn, {"squash": "half"})
    assert abs(alone.correlation) < 0.01
    np.testing.assert_allclose(alone.marginal(1).interval(0.5), np.quantile(alone.second, [0.25, 0.75]), atol=0.03)
    drawn.codes[:5] = 3  # the softest could not be simulated: their neighbours stand for them
    assert motion_pairs.posterior(axes, drawn, {"squash": "half"}).weights.sum() == pytest.approx(1.0)
    heard = motion_pairs.posterior(axes, drawn, more=-50.0 * (b - 3.0) ** 2)
    assert heard.marginal(1).median == pytest.approx(3.0, abs=0.15)
    drawn.codes[:25] = 3
    with pytest.raises(ValueError, match="two are needed"):
        motion_pairs.posterior(axes, drawn, {"squash": "half"})
    for material, ends in motion_pairs.ENDS.items():
        truth = motion_pairs.hidden(motion_scenes.draw(3, "training", material, WORLD))
        assert all(lo <= u <= hi for u, (lo, hi) in zip(truth, ends))
    with pytest.raises(ValueError, match="two unknowns: material"):
        motion_pairs.hidden(motion_scenes.draw(0, "training", "sand", WORLD))


def test_domain_gaps_change_what_they_name_and_nothing_else():
    held = motion_scenes.draw(0, "training", "elastic", WORLD)
    for gap in motion_gaps.GAPS:
        other, world, finer = motion_gaps.altered(held, WORLD, gap)
        assert other.truth == held.truth and other.name == held.name
        same = [np.array_equal(getattr(other.scene, f), getattr(held.scene, f)) for f in ("x", "view", "texture")]
        assert same == [gap != "particles", gap != "camera", gap not in ("texture", "particles")], gap
        assert (world == WORLD) == (gap != "resolution") and finer == 1 + (gap == "time_step")
    twice = motion_gaps.altered(held, WORLD, "particles")[0]
    assert len(twice.scene.x) == len(twice.volumes) == twice.first == 2 * held.first
    assert twice.volumes.sum() == pytest.approx(held.volumes.sum())
    np.testing.assert_allclose(twice.scene.x.mean(0), held.scene.x.mean(0), atol=1e-5)
    with pytest.raises(ValueError, match="domain gap"):
        motion_gaps.altered(held, WORLD, "sound")
    plain = np.full((1, 1, 2, 24, 24, 3), 100, np.uint8)
    made = motion_gaps.smaller(motion_fields.Videos(plain, np.ones(plain.shape, np.float16), 0.0), 16)
    assert made.maps.shape == (1, 1, 2, 16, 16, 3) and (made.maps == 100).all()
    np.testing.assert_allclose(made.slopes, 1.0, rtol=1e-3)
    about = [("s0", "gap_none", 0.1), ("s1", "gap_none", 0.3), ("s0", "gap_light", 0.3), ("s1", "gap_light", 0.4)]
    rows = [dict(scene=s, asked=gap, method="posterior_text", error=e) for s, gap, e in about]
    assert motion_gaps.lost(rows)["gap_light_posterior_text_lost_mean"] == pytest.approx(0.15)


def with_value(held, coordinate, number):
    law = dataclasses.replace(held.scene.law, E=np.float32(10.0**coordinate))
    return dataclasses.replace(held, number=number, scene=dataclasses.replace(held.scene, law=law))


def test_balanced_words_of_a_property_undo_what_is_heard_of_all_candidates_alike():
    held = motion_scenes.draw(0, "training", "elastic", WORLD)
    grid, steps = np.linspace(*held.ends, 17), np.arange(len(captions.SLOTS["stiffness"]))
    odds = 40.0 * np.linspace(0, 1, 17)[:, None] * steps - 4.0 * steps**2
    about = dict(slot="stiffness", known=0, seed=0, error=np.zeros(17), said={"squash": "flat"})
    for shift in (0.0 * steps, np.array([9.0, 0.0, -5.0, 30.0, 2.0])):
        heard = [about | {"log_likelihood": odds + shift}, about | {"log_likelihood": odds, "slot": "squash"}]
        rows = motion_temper.balanced_rows([(held, grid, heard)])
        assert [r["method"] for r in rows] == ["posterior_text_balanced"] * 5
        assert all(r["bin_right"] and r["error"] < 0.12 for r in rows), shift


def test_what_was_heard_gives_the_posterior_and_the_temperature_of_a_witness_that_is_too_sure():
    held, rng = motion_scenes.draw(0, "training", "elastic", WORLD), np.random.default_rng(0)
    grid, words = np.linspace(*held.ends, 9), list(captions.SLOTS["squash"])
    found = posterior_of(jnp.asarray(rng.normal(size=(3, 9, len(words))), jnp.float32))
    heard = dict(slot="squash", known=4, seed=0, log_likelihood=found.log_likelihood, error=found.error)
    told = motion_temper.belief(held, grid, [heard | {"said": {"squash": words[2]}}], 1.0)
    expected = np.log(np.asarray(found.candidates[:, 2]))
    told = np.log(np.interp(grid, told.values, told.weights))
    np.testing.assert_allclose(told - told[0], expected - expected[0], atol=1e-4)

    scenes, steps = [], np.linspace(-1.0, 1.0, len(words))
    for number in range(60):
        share = rng.random()
        chance = np.exp(6.0 * (share - 0.5) * steps)
        word = words[rng.choice(len(words), p=chance / chance.sum())]
        odds = 16.0 * 6.0 * (np.linspace(0, 1, 9)[:, None] - 0.5) * steps  # 16 times too sure
        one = dict(slot="squash", known=4, seed=0, log_likelihood=odds, error=np.zeros(9), said={"squash": word})
        truth = held.ends[0] + share * (held.ends[1] - held.ends[0])
        scenes.append((with_value(held, truth, number), grid, [one]))
    rows, temperatures = motion_temper.rows_of(scenes[:30], scenes[30:], 0)
    once = "posterior_frames_first_seed"
    assert all(8.0 <= temperatures[f"{once}_temperature_{half}"] <= 32.0 for half in ("even", "odd"))
    assert len([r for r in rows if r["method"] == "posterior_frames_tempered"]) == 30
    rows = [r | {"method": r["method"].replace(once, "posterior_frames")} for r in rows if once in r["method"]]
    halved = [r for r in rows if r["method"] == "posterior_frames_halved"]
    rows = [r for r in rows if r["method"] == "posterior_frames_tempered"]
    assert len(rows) == len(halved) == 60
    inside = np.mean([r["interval_80"][0] <= r["target"] <= r["interval_80"][1] for r in rows])
    assert 0.65 <= inside <= 0.92, inside


def test_rows_are_read_back_with_their_numbers_that_are_not_finite(tmp_path):
    rows = [{"answer": 1.5, "reachable": float("nan")}, {"scene": "inferno", "ends": [float("-inf"), 2]}]
    write_json(tmp_path / "rows.json", {"rows": rows})
    first, second = read_json(tmp_path / "rows.json")["rows"]
    assert first["answer"] == 1.5 and np.isnan(first["reachable"])
    assert second == rows[1]


def test_failures_are_listed_worst_first_and_plotted(tmp_path):
    held = motion_scenes.draw(0, "training", "elastic", WORLD)
    about = dict(scene=held.name, kind="training", material="elastic", asked="outcome", target=4.5)
    errors = {"outcome_match": (0.2, 0.4, 0.9), "posterior_frames": (0.5,), "constant": (1.0,)}
    rows = [about | dict(method=m, error=e, answer=4.5 + e) for m, found in errors.items() for e in found]
    rng = np.random.default_rng(0)
    maps = rng.integers(0, 255, (2, 4, 4, 16, 16, 3), np.uint8)
    drawn = motion_fields.Videos(maps, np.zeros((2, 3, 4, 16, 16, 3), np.float16), 0.0)
    (tmp_path / "fields").mkdir()
    motion_fields.store(tmp_path / "fields" / f"{held.name}.videos.npz", drawn)
    motion_pictures.write(rows, [held], {held.name: "a soft ball"}, tmp_path, 0.3)
    found = json.loads((tmp_path / "failures.json").read_text())["failures"]
    assert [(r["method"], r["error"]) for r in found] == [
        ("outcome_match", 0.9),
        ("outcome_match", 0.4),
        ("posterior_frames", 0.5),
    ]
    assert found[0]["caption"] == "a soft ball"
    assert (tmp_path / "answers.png").stat().st_size > 1000
    # two strips of two frames of 16 pixels, and a line, for each of the three
    assert read_image(tmp_path / "failures.png").shape == (2 * 3 * (2 * 16 + 4), 2 * 2 * 16, 3)


def small(**changes):
    config = get_config()
    config.update(
        dict(clips="", candidates=3, pixels=16, frames=4, particles=48, dx_m=1 / 6, known=1, levels=2, draws=2)
    )
    config.update(dict(seeds=(0,), property_scenes=0, class_scenes=0, loop_scenes=0, processes=1))
    config.update(dict(pair_scenes=0, gap_scenes=0, class_candidates=1, pair_candidates=2))
    config.window_scenes, config.first_seed = 0, ConfigDict()
    config.scenes = ConfigDict(dict(flat_elastic=2))
    config.asked = ConfigDict(dict(flat_elastic=1, training_elastic=1, training_metal=1))
    config.update(changes)
    return config


def test_words_of_a_property_are_ordered_within_a_scene():
    about = dict(asked="property", kind="training", material="metal", method="posterior_frames", seed=0)
    answers = {"a": (3.0, 4.0, 5.0), "b": (4.0, 3.5, 3.5)}  # all three pairs right; one tie and two wrong
    rows = [
        about | dict(scene=scene, target=float(k), answer=answer, error=0.1)
        for scene, each in answers.items()
        for k, answer in enumerate(each)
    ]
    found = motion_summary.summary(rows)["property_training_metal_posterior_frames_order_right"]
    assert found == pytest.approx((1.0 + 0.5 / 3) / 2)


def test_a_report_is_held_against_the_bars_and_what_it_lacks_counts_as_missed():
    like = "outcome_training_elastic"
    report = {f"{like}_outcome_match_{k}": v for k, v in (("median", 0.1), ("scenes_count", 160))}
    for method, low in (("outcome_match", 0.75), ("posterior_frames", 0.81)):
        report |= {f"{like}_{method}_coverage_80_low": low, f"{like}_{method}_coverage_80_high": 0.9}
        report |= {f"outcome_training_{m}_{method}_order_right": 0.9 for m in case.OTHERS}
    report |= {f"{like}_posterior_frames_median": 0.3, "commit": "abc", "methods": ["sds"]}
    found = case.figures(report)
    assert set(case.CHECKS) <= set(found) and found["evaluation_commit"] == "abc" and "methods" not in found
    assert found["posterior_frames_median_over_outcome_match"] == pytest.approx(3.0)
    assert found["outcome_match_order_right_of_other_materials"] == pytest.approx(0.9)
    met = {key for key, bar in case.CHECKS.items() if check(found[key], *bar)["met"]}
    assert met == {
        f"{like}_outcome_match_median",
        f"{like}_outcome_match_scenes_count",
        "outcome_match_coverage_80_holds",
        "outcome_match_order_right_of_other_materials",
        "posterior_frames_order_right_of_other_materials",
    }


@pytest.mark.long
def test_an_iteration_of_the_published_kind_runs_and_its_parts_are_timed():
    net = dit.WanConfig(dim=12, ffn_dim=24, heads=2, layers=2, in_channels=2, out_channels=2, text_dim=8)
    coder = vae.VaeConfig(2, base=4, mean=(0.0, 0.0), std=(1.0, 1.0), multipliers=(1, 1, 1), temporal=(True, True))
    sizes = dict(particles=64, cells=16, frames=4, substeps=3, pixels=16, tokens=4)
    scale = bench.Scale(**sizes, net=net, coder=coder)
    call, given = bench.iteration(scale)
    value, slope = call(*given)
    assert jnp.isfinite(value) and slope.shape == (64,) and jnp.isfinite(slope).all() and jnp.abs(slope).max() > 0.0
    found = bench.parts(scale)
    assert found["encoder, forward + backward"] > 0.0
    made = dict.fromkeys(found, 1.0)
    assert bench.extrapolated(bench.Scale(), made) == 16 * 2304 + 17 + 2 + 1


@pytest.mark.long
def test_every_method_and_the_decision_between_materials_run_with_a_random_prior(tmp_path):
    prior = tiny_prior(tmp_path / "prior.safetensors")
    scenes = ConfigDict(dict(training_elastic=2, training_metal=1))
    reader = tiny_prior(tmp_path / "reader.safetensors", seed=1)
    config = small(prior=prior, reader=reader, scenes=scenes, property_scenes=1, class_scenes=1, seeds=(0, 1))
    config.update(dict(pair_scenes=1, gap_scenes=1, window_scenes=1, other_windows=((0.8, 0.9),)))
    config.first_seed = ConfigDict(dict(training_elastic=2, training_metal=1))
    config.update(dict(loop_scenes=1, loop_steps=2))
    found = eval_motionphysics.run(config, tmp_path / "out")
    for method in ("posterior_text", "reconstruction_coarse", *motion_guided.METHODS):
        assert 0.0 <= found[f"outcome_training_elastic_{method}_median"] <= 2.0, method
    for method in ("posterior_text", "posterior_text_balanced", "posterior_frames_balanced"):
        assert 0.0 <= found[f"property_training_elastic_{method}_median"] <= 2.0, method
    for method in ("reference", "reconstruction", "lmd_published"):
        for search in ("exact", "released"):
            assert 0.0 <= found[f"loop_training_elastic_{method}_{search}_median"] <= 2.0
    assert found["property_training_elastic_look_up_median"] < 0.02
    for asked, count in (("outcome", 1), ("property", 5)):
        rows = [r for r in json.loads((tmp_path / "out" / "rows.json").read_text())["rows"] if r["asked"] == asked]
        other = [r["answer"] for r in rows if r["method"] == "posterior_frames_window_0.8_0.9"]
        fixed = [r["answer"] for r in rows if r["method"] == "posterior_frames_window_0.6_0.98"]
        assert len(other) == len(fixed) == count and other != fixed, asked
    assert found["outcome_training_elastic_posterior_frames_first_seed_scenes_count"] == 2  # one is asked so alone
    assert 0.0 <= found["property_training_metal_posterior_frames_order_right"] <= 1.0
    for judge in ("outcomes", "prior", "prior_balanced", "prior_and_outcomes"):
        assert 0.0 <= found[f"class_{judge}_metal_share"] <= 1.0, judge
    for judge in ("outcome_match", "posterior_frames"):
        assert 0.0 <= found[f"pair_metal_{judge}_yield_stress_error_median"] <= 2.5, judge
    for gap in motion_gaps.GAPS[1:]:
        assert np.isfinite(found[f"gap_{gap}_posterior_frames_lost_mean"]), gap
    assert abs(found["gap_particles_outcome_match_lost_mean"]) < 2.0


@pytest.mark.long
def test_the_evaluation_runs_with_a_random_prior_and_goes_on_where_it_was(tmp_path, capsys):
    config = small(prior=tiny_prior(tmp_path / "prior.safetensors"), methods=("sds",))
    found = eval_motionphysics.run(config, tmp_path / "out")
    assert "NO CLIPS" in capsys.readouterr().out and found["prior"] == found["reader"]
    for method in ("constant", "outcome_match", "posterior_frames", "sds"):
        assert 0.0 <= found[f"outcome_flat_elastic_{method}_median"] <= 2.0, method
    assert found["outcome_flat_elastic_constant_scenes_count"] == 2
    assert found["outcome_flat_elastic_sds_scenes_count"] == 1
    fields = sorted((tmp_path / "out" / "fields").iterdir())
    times = [os.stat(p).st_mtime_ns for p in fields]
    again = eval_motionphysics.run(config, tmp_path / "out")
    assert [os.stat(p).st_mtime_ns for p in fields] == times
    assert again["outcome_flat_elastic_sds_median"] == found["outcome_flat_elastic_sds_median"]
    apart = small(prior=config.prior, reader=tiny_prior(tmp_path / "reader.safetensors", seed=1), methods=("sds",))
    with pytest.raises(ValueError, match=r"other settings \(\['weights_sha256'\]\)"):
        eval_motionphysics.run(apart, tmp_path / "out")
    (tmp_path / "apart").mkdir()
    (tmp_path / "apart" / "fields").symlink_to(tmp_path / "out" / "fields")
    other = eval_motionphysics.run(apart, tmp_path / "apart")
    key = "outcome_flat_elastic_{}_mean"
    assert other[key.format("sds")] == found[key.format("sds")]
    assert other[key.format("posterior_frames")] != found[key.format("posterior_frames")]
    with pytest.raises(ValueError, match=r"other settings \(\['draws'\]\)"):
        eval_motionphysics.run(small(prior=config.prior, methods=("sds",), draws=3), tmp_path / "out")
    with pytest.raises(ValueError, match=r"other settings \(\['candidates'\]\)"):
        eval_motionphysics.run(small(candidates=4), tmp_path / "out")
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert set(manifest) == {"flat_elastic_0000", "flat_elastic_0001"}
    assert (tmp_path / "out" / "answers.png").exists()


def test_the_pull_of_a_reference_is_that_of_the_true_video(tmp_path):
    held = motion_scenes.draw(0, "flat", "elastic", WORLD)
    rng = np.random.default_rng(0)
    videos = motion_fields.Videos(
        rng.integers(0, 255, (1, 3, 4, 16, 16, 3), np.uint8),
        rng.normal(size=(1, 2, 4, 16, 16, 3)).astype(np.float16),
        0.0,
    )
    (shown,) = motion_looks.in_colour(held, np.array([4.0, 5.0]), videos)
    prior = load_prior(tiny_prior(tmp_path / "prior.safetensors"))
    settings = motion_guided.settings("reference", prior, (0.6, 0.98), 0)
    pull, loss, cosine = motion_guided.pulls(prior, held, [shown], held.property_caption(), settings, 1, 0)
    assert shown.true is not None
    np.testing.assert_allclose(cosine, 1.0, atol=1e-5)
    apart = np.asarray(shown.video - shown.true, np.float64)
    # the model sees 2 video - 1
    expected = 4.0 * (apart * np.asarray(shown.slope, np.float64)).sum((1, 2, 3, 4)) / apart[0].size
    np.testing.assert_allclose(pull[0], expected, rtol=1e-3)
    np.testing.assert_allclose(loss[0], 2.0 * (apart**2).sum((1, 2, 3, 4)) / apart[0].size, rtol=1e-3)
    assert jnp.isfinite(shown.slope).all()
