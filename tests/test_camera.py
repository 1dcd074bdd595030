"""Cameras against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxphys.camera import Camera


def test_projection_in_closed_form():
    """From 4 m along -y: x is to the right, z is up in the picture, depth is y + 4."""
    camera = Camera.look_at((0.0, -4.0, 0.0), (0.0, 0.0, 0.0), fov_degrees=60.0, width=200, height=100)
    focal = 50 / np.tan(np.pi / 6)
    pixel, depth = camera.project(jnp.array([[1.0, 0.0, 0.5], [0.0, 2.0, 0.0], [-0.3, -1.0, -0.2]]))
    np.testing.assert_allclose(depth, [4.0, 6.0, 3.0], rtol=1e-6)
    expected = [[100 + focal / 4, 50 - focal * 0.5 / 4], [100, 50], [100 - focal * 0.1, 50 + focal * 0.2 / 3]]
    np.testing.assert_allclose(pixel, expected, rtol=1e-5)
    top = 4 * np.tan(np.pi / 6)  # the vertical field of view ends at the top edge
    np.testing.assert_allclose(camera.project(jnp.array([0.0, 0.0, top]))[0], [100.0, 0.0], atol=1e-4)


def test_rotation_is_proper_and_position_is_recovered():
    camera = Camera.look_at((1.0, 2.0, 3.0), (-0.5, 0.2, 0.1))
    np.testing.assert_allclose(camera.R @ camera.R.T, np.eye(3), atol=1e-6)
    assert np.linalg.det(camera.R) == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(camera.position, [1.0, 2.0, 3.0], atol=1e-5)
    again = Camera.from_pose(camera.position, camera.R.T, fx=camera.fx, fy=camera.fy, width=512, height=512)
    for a, b in zip(jax.tree.leaves(camera), jax.tree.leaves(again)):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_orbit():
    cameras = Camera.orbit((1.0, 0.0, 0.0), 2.0, jnp.array([0.0, 90.0]), jnp.array([0.0, 30.0]), width=9, height=9)
    c, s = 2 * np.cos(np.pi / 6), 2 * np.sin(np.pi / 6)
    np.testing.assert_allclose(cameras.position, [[3.0, 0.0, 0.0], [1.0, c, s]], atol=1e-6)
    one = jax.tree.map(lambda a: a[1], cameras)
    np.testing.assert_allclose(one.project(jnp.array([1.0, 0.0, 0.0]))[0], [4.5, 4.5], atol=1e-5)


def test_resized_view_scales_pixels():
    camera = Camera.look_at((0.0, -4.0, 1.0), (0.0, 0.0, 0.0), width=200, height=100)
    point = jnp.array([0.3, 0.1, 0.2])
    half = camera.resized(100, 50)
    np.testing.assert_allclose(2 * half.project(point)[0], camera.project(point)[0], rtol=1e-6)


def test_gradient_at_and_behind_the_camera_is_finite():
    camera = Camera.look_at((0.0, -4.0, 0.0), (0.0, 0.0, 0.0))
    points = jnp.array([[0.0, -4.0, 0.0], [1.0, -5.0, 0.0], [1.0, -4.0, 0.0]])
    assert np.isfinite(jax.jacobian(lambda p: camera.project(p)[0])(points)).all()
    assert (camera.project(points)[1] <= 0).all()


def test_moving_camera_does_not_recompile():
    traces = []

    @jax.jit
    def depth(camera):
        traces.append(1)
        return camera.project(jnp.zeros(3))[1]

    for x in (1.0, 2.0, 3.0):
        assert float(depth(Camera.look_at((x, 0.0, 0.0), (0.0, 0.0, 0.0)))) == pytest.approx(x)
    assert len(traces) == 1


@pytest.mark.parametrize(
    "make",
    [
        lambda: Camera.look_at((0, 0, 0), (0, 0, 0)),
        lambda: Camera.look_at((0, 0, 2), (0, 0, 0)),  # up is along the view
        lambda: Camera.look_at((0, 0), (0, 0, 0)),
        lambda: Camera.look_at((0, 1, 0), (0, 0, 0), fov_degrees=180.0),
        lambda: Camera.look_at((0, 1, 0), (0, 0, 0), width=0),
        lambda: Camera.look_at((0, 1, 0), (0, 0, 0), height=1.5),
        lambda: Camera.orbit((0, 0, 0), -1.0, 0.0),
        lambda: Camera.orbit((0, 0, 0), 1.0, 0.0, 90.0),
        lambda: Camera.from_pose((0, 0), np.eye(3), fx=1, fy=1, width=2, height=2),
        lambda: Camera.look_at((0, 1, 0), (0, 0, 0)).project(jnp.zeros((3, 2))),
    ],
)
def test_bad_arguments_raise(make):
    with pytest.raises(ValueError):
        make()
