"""Candidates of a scene: their derivatives, the sides they are seen from, and their looks."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import motion_fields, motion_looks, motion_scenes
from jaxphys.language import captions
from jaxphys.scenes import clips
from jaxphys.scenes.looks import paint

WORLD = clips.World(pixels=16, frames=4, particles=48, dx=1 / 6)


def test_stored_slopes_agree_with_finite_differences(tmp_path):
    held = motion_scenes.draw(3, "flat", "elastic", WORLD)
    low = held.scene.x - np.float32([0, 0, held.scene.x[:, 2].min() - 0.01])  # it lands within the four frames
    held = dataclasses.replace(held, scene=dataclasses.replace(held.scene, x=low))
    step, grid = 0.04, np.array([4.3, 4.34, 4.38])
    videos = motion_fields.make_videos(held, WORLD, grid, truth=False)
    assert videos.maps.shape == (2, 3, 4, 16, 16, 3)
    exact = videos.slopes[:, 1].astype(np.float64)
    differences = (videos.maps[:, 2].astype(np.float64) - videos.maps[:, 0]) / 255.0 / (2 * step)
    assert np.abs(exact).max() > 0.2
    # the maps are stored in eight bits: a difference of two has a deviation of 1 / 255 / 6^1/2 / 2 step = 0.02
    moved = np.abs(exact) > 0.05
    assert np.sqrt(np.mean((exact - differences)[moved] ** 2)) < 0.03 < 0.2 * np.sqrt(np.mean(exact[moved] ** 2))
    assert np.corrcoef(exact[moved], differences[moved])[0, 1] > 0.98
    other = dataclasses.replace(held.scene, view=held.scene.view + np.float32([90.0, 0.0, 0.0]))
    beside = motion_fields.make_videos(dataclasses.replace(held, scene=other), WORLD, grid[:1], truth=False)
    np.testing.assert_array_equal(beside.maps[0, 0], videos.maps[1, 0])
    assert not np.array_equal(videos.maps[1, 0], videos.maps[0, 0])
    motion_fields.store(tmp_path / "v.npz", videos)
    np.testing.assert_array_equal(motion_fields.restore(tmp_path / "v.npz", motion_fields.Videos).slopes, videos.slopes)
    np.savez(tmp_path / "v.npz", maps=videos.maps[0], slopes=videos.slopes[0], seconds=0.0)  # of one view alone
    with pytest.raises(ValueError, match=r"need maps and slopes of six axes .*; delete it to make it again"):
        motion_fields.restore(tmp_path / "v.npz", motion_fields.Videos)
    (tmp_path / "v.npz").write_bytes(b"PK")
    with pytest.raises(ValueError, match="delete it to make it again"):
        motion_fields.restore(tmp_path / "v.npz", motion_fields.Videos)


def test_candidates_of_other_laws_are_drawn_like_clips():
    held, rng = motion_scenes.draw(3, "training", "elastic", WORLD), np.random.default_rng(0)
    laws = [(clips.LAW[material], clips.draw_law(rng, material)) for material in ("sand", "water")]
    drawn = motion_fields.draw_laws(held, WORLD, laws)
    assert drawn.maps.shape == (2, 2, 4, 16, 16, 3) and (drawn.codes == 0).all()
    for k, (name, law) in enumerate(laws):
        scene = dataclasses.replace(held.scene, law=law)
        other = dataclasses.replace(scene, view=scene.view + np.float32([90.0, 0.0, 0.0]))
        stack, steps = jax.tree.map(lambda *a: np.stack(a), scene, other), clips.substeps(scene, WORLD, "dropped")
        assert held.action not in clips.ARRANGEMENT
        maps, outcomes, _ = clips.make_clips(stack, world=WORLD, action="dropped", law=name, steps=steps)
        np.testing.assert_allclose(drawn.maps[:, k].astype(int), maps.astype(int), atol=1)
        expected = [float(getattr(outcomes, slot)[0]) for slot in captions.OUTCOMES]
        np.testing.assert_allclose(drawn.outcomes[k], expected, atol=1e-4)


def test_other_appearances_show_the_same_motion_in_other_colours_from_another_side_and_mirrored():
    held = motion_scenes.draw(3, "flat", "elastic", WORLD)
    rng = np.random.default_rng(0)
    maps = 0.1 + 0.2 * rng.random((2, 3, 4, 16, 16, 3))
    slopes = rng.normal(size=(2, 2, 4, 16, 16, 3)).astype(np.float16)
    videos = motion_fields.Videos(np.round(255 * maps).astype(np.uint8), slopes, 0.0)
    shown = motion_looks.in_colour(held, np.array([4.0, 5.0]), videos, 4)
    assert len({s.colour for s in shown}) == 4
    (alone,) = motion_looks.in_colour(held, np.array([4.0, 5.0]), videos)
    np.testing.assert_array_equal(shown[0].video, alone.video)
    turn = np.float32([90.0, 0.0, 0.0])
    for n, (seen, how) in enumerate(zip(shown, motion_looks.appearances(held, 4))):
        view, slope = held.scene.view + (n % 2) * turn, slopes[n % 2, 0]
        maps = jnp.asarray(videos.maps[n % 2] / 255.0, jnp.float32)
        back = lambda clip, n=n: clip[..., ::-1, :] if n % 2 else clip
        drawn = lambda maps, how=how, view=view: paint(maps, view, how.look)
        np.testing.assert_allclose(back(seen.video)[1], drawn(maps[1]), atol=1e-6)
        np.testing.assert_allclose(back(seen.true), drawn(maps[-1]), atol=1e-6)
        step = 1e-3 * jnp.asarray(slope, jnp.float32)
        between = (drawn(maps[0] + step) - drawn(maps[0] - step)) / 2e-3
        np.testing.assert_allclose(back(seen.slope)[0], between, atol=2e-3)
