"""Clips: bodies fall freely until they land, every kind of scene is stable, captions say what is true."""

import dataclasses

import jax
import numpy as np
import pytest

from jaxphys.language import captions
from jaxphys.scenes import clips, looks

SMALL = clips.World(pixels=16, frames=4, particles=64, dx=1 / 8)


def test_a_dropped_ball_falls_freely_and_is_seen_where_it_is():
    rng = np.random.default_rng(0)
    scene = clips.draw_scene(rng, SMALL, "elastic", "dropped", "ball")
    high = scene.x + np.float32([0.0, 0.0, 0.3 - scene.x[:, 2].min()])
    stack = jax.tree.map(lambda a: a[None], dataclasses.replace(scene, x=high))
    steps = clips.substeps(scene, SMALL, "dropped")
    maps, outcomes, codes = clips.make_clips(stack, world=SMALL, action="dropped", law="neo_hookean", steps=steps)
    assert maps.shape == (1, 4, 16, 16, 3) and maps.dtype == np.uint8 and codes.tolist() == [0]
    body = np.asarray(maps[0, ..., 0], np.float64)
    row = (body.sum(2) * (np.arange(16) + 0.5)).sum(1) / body.sum((1, 2))
    view = clips.camera(scene.view, SMALL)
    t = np.arange(4) / SMALL.fps
    fall = high.mean(0) - np.outer(0.5 * 9.81 * t**2, [0, 0, 1])
    expected = [float(view.project(x.astype(np.float32))[0][1]) for x in fall]
    np.testing.assert_allclose(row, expected, atol=0.15)  # [pixel]
    assert float(outcomes.squash[0]) < 0.05 and float(outcomes.bounces[0]) == 0.0


def test_every_kind_of_scene_is_inside_and_stable():
    rng = np.random.default_rng(1)
    for material in clips.LAW:
        actions = clips.ACTIONS["solid" if material in clips.SOLIDS else "flowing"]
        assert sum(actions.values()) == pytest.approx(1.0)
        for action in actions:
            for shape in clips.SHAPES.get(action, ("" if action == "poured" else "ring",)):
                scene = clips.draw_scene(rng, SMALL, material, action, shape)
                assert scene.x.shape == (64, 3) and np.isfinite(scene.x).all()
                assert (np.abs(scene.x[:, :2]) < SMALL.half_width).all()
                assert (scene.x[:, 2] > 0).all() and (scene.x[:, 2] < SMALL.height).all()
                assert clips.substeps(scene, SMALL, action) in clips.STEPS
                captions.check(clips.property_words(material, scene.law))


def test_words_follow_the_parameters():
    law = clips.materials.create("neo_hookean", density=300.0, E=2e4, nu=0.3)
    assert clips.property_words("elastic", law) == {"weight": "light", "stiffness": "very_soft"}
    sand = clips.materials.create("sand", density=1900.0, E=3e5, nu=0.3, friction_angle=40.0)
    assert clips.property_words("sand", sand) == {"weight": "heavy", "friction": "rough"}


def test_every_colour_word_has_a_colour():
    assert list(looks.COLOURS) == list(captions.NAMED["colour"])
