"""Splats to particles: volume, selection, drawing."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxphys import scenes, splats


def shell(radius=0.3, center=(0.0, 0.0, 1.0), n=4000):
    """Gaussians on a sphere."""
    rng = np.random.default_rng(0)
    d = rng.normal(size=(n, 3))
    points = center + radius * d / np.linalg.norm(d, axis=1, keepdims=True)
    return splats.Gaussians.create(points, 0.02, color=(0.8, 0.3, 0.1), opacity=0.9)


def test_a_bound_shell_is_filled_to_the_volume_of_its_ball():
    dx = 0.02
    binding = scenes.bind(shell(), dx)
    # The voxels of the shell reach half a voxel beyond it on average.
    ball = 4 / 3 * np.pi * (0.3 + dx / 2) ** 3
    assert abs(binding.volume / ball - 1) < 0.05
    assert float(binding.particles.volume.sum()) == pytest.approx(binding.volume, rel=1e-4)
    np.testing.assert_allclose(binding.particles.x[:4000], shell().mean, atol=1e-6)


def test_the_object_is_told_from_its_ground():
    ground = scenes.floor((0.0, 0.0), 0.0, 1.0)
    both = splats.concatenate([ground, shell()])
    mask = scenes.select_component(both, 0.06)
    assert mask[len(ground) :].all() and not mask[: len(ground)].any()
    box = scenes.select_box(both, (-0.5, -0.5, 0.5), (0.5, 0.5, 1.5))
    assert (box == mask).all()


def test_selection_that_cannot_work_is_refused():
    with pytest.raises(ValueError, match="one piece"):
        scenes.select_component(shell(), 0.1)
    with pytest.raises(ValueError, match="the scene spans"):
        scenes.select_box(shell(), (5, 5, 5), (6, 6, 6))
    with pytest.raises(ValueError, match="no opaque"):
        scenes.select_component(shell(), 0.005)
    with pytest.raises(ValueError, match="positive spacing"):
        scenes.bind(shell(), 0.0)


def test_what_flows_is_drawn_undeformed_and_a_solid_as_it_is():
    F = jnp.broadcast_to(jnp.diag(jnp.array([1e6, 1.0, 1.0])), (3, 3, 3))
    assert (scenes.drawing_gradient("water", F) == jnp.eye(3)).all()
    assert (scenes.drawing_gradient("hencky", F) == F).all()


def test_a_still_frame_equals_the_scene():
    body, ground = shell(n=50), scenes.floor((0.0, 0.0), 0.0, 1.0, tiles=2)
    view = scenes.suggest_camera(body.mean, width=32, height=32)
    eye = jnp.broadcast_to(jnp.eye(3), (50, 3, 3))
    moved = splats.render(scenes.frame_kernels(body, ground, body.mean, eye), view).image
    np.testing.assert_allclose(moved, splats.render(splats.concatenate([body, ground]), view).image, atol=1e-5)
