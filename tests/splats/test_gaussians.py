"""Harmonics, quaternions, rigid motion and deformation of Gaussians."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from scipy.spatial.transform import Rotation
from scipy.special import sph_harm_y

from jaxphys import splats
from jaxphys.camera import Camera
from jaxphys.splats.gaussians import matrix_to_quat, quat_multiply, quat_to_matrix
from jaxphys.splats.harmonics import sh_basis


def random_scene(n=100, count=16, seed=0):
    rng = np.random.default_rng(seed)
    return splats.Gaussians.create(
        0.4 * rng.normal(size=(n, 3)),
        scale=0.05 * np.exp(0.5 * rng.normal(size=(n, 3))),
        quat=rng.normal(size=(n, 4)),
        opacity=rng.uniform(0.2, 0.99, n),
        sh=0.2 * rng.normal(size=(n, count, 3)),
    )


def test_basis_is_the_real_form_of_scipy_harmonics():
    d = np.random.default_rng(0).normal(size=(50, 3))
    d /= np.linalg.norm(d, axis=-1, keepdims=True)
    theta, phi = np.arccos(d[:, 2]), np.arctan2(d[:, 1], d[:, 0])
    expected = []
    for degree in range(4):
        for m in range(-degree, degree + 1):
            y = sph_harm_y(degree, abs(m), theta, phi)
            expected.append(y.real if m == 0 else np.sqrt(2) * (y.imag if m < 0 else y.real))
    np.testing.assert_allclose(sh_basis(tuple(d.T), 16), expected, atol=1e-14)


@pytest.mark.parametrize("count", [1, 4, 9, 16])
def test_rotated_coefficients_are_the_function_seen_from_the_rotated_direction(count):
    rng = np.random.default_rng(1)
    R = Rotation.random(rng=rng).as_matrix()
    d = rng.normal(size=(20, 3))
    d /= np.linalg.norm(d, axis=-1, keepdims=True)
    with jax.enable_x64(True):
        sh = jnp.asarray(rng.normal(size=(20, count, 3)))
        rotated = splats.rotate_sh(sh, jnp.asarray(R))
        np.testing.assert_allclose(
            splats.evaluate_sh(rotated, jnp.asarray(d)), splats.evaluate_sh(sh, jnp.asarray(d @ R)), atol=1e-13
        )
        # each degree turns within itself, by an orthogonal matrix
        for degree in range(int(np.sqrt(count))):
            part = slice(degree**2, (degree + 1) ** 2)
            np.testing.assert_allclose(jnp.sum(rotated[:, part] ** 2, 1), jnp.sum(sh[:, part] ** 2, 1), atol=1e-12)


def test_quaternions_match_scipy():
    rng = np.random.default_rng(2)
    rotations = Rotation.concatenate([Rotation.random(200, rng=rng), Rotation.from_matrix(np.diag([1.0, -1.0, -1.0]))])
    q = jnp.asarray(rotations.as_quat(scalar_first=True), jnp.float32)
    np.testing.assert_allclose(quat_to_matrix(3.0 * q), rotations.as_matrix(), atol=1e-6)
    back = matrix_to_quat(jnp.asarray(rotations.as_matrix(), jnp.float32))
    np.testing.assert_allclose(jnp.abs(jnp.sum(back * q, -1)), 1.0, atol=1e-6)
    np.testing.assert_allclose(
        quat_to_matrix(quat_multiply(q[:100], q[100:200])),
        (rotations[:100] * rotations[100:200]).as_matrix(),
        atol=2e-6,
    )


@pytest.fixture(scope="module")
def draw():
    """Picture of a scene deformed by F about its centres; compiled once."""
    return jax.jit(
        lambda scene, F, camera: splats.render(splats.deform(scene, scene.mean, F), camera, capacity=8192),
        compiler_options={"xla_backend_optimization_level": 0},  # it runs five times: compiling is all the time
    )


def test_moving_scene_and_camera_together_changes_nothing(draw):
    scene = random_scene()
    rest = jnp.zeros((100, 3, 3)) + jnp.eye(3)
    camera = Camera.look_at((2.0, -1.0, 0.8), (0.0, 0.0, 0.0), width=40, height=40)
    R = Rotation.random(rng=np.random.default_rng(3)).as_matrix().astype(np.float32)
    t = np.array([0.3, -2.0, 1.0], np.float32)
    moved = scene.transform(rotation=R, translation=t)
    together = Camera.from_pose(
        R @ np.asarray(camera.position) + t, R @ np.asarray(camera.R).T, fx=camera.fx, fy=camera.fy, width=40, height=40
    )
    image = draw(scene, rest, camera).image
    np.testing.assert_allclose(draw(moved, rest, together).image, image, atol=2e-5)
    # and the view does depend on the direction: unturned coefficients show other colours
    unturned = dataclasses.replace(moved, sh=scene.sh)
    assert np.abs(draw(unturned, rest, together).image - image).max() > 0.05
    # a deformation that is a rotation is the same motion; colours turn by the polar rotation instead
    deformed = draw(dataclasses.replace(scene, mean=moved.mean), rest * 0 + R, together)
    np.testing.assert_allclose(deformed.image, image, atol=2e-5)


def test_scaling_scene_and_distance_together_changes_nothing(draw):
    scene = random_scene()
    rest = jnp.zeros((100, 3, 3)) + jnp.eye(3)
    camera = Camera.look_at((2.0, -1.0, 0.8), (0.0, 0.0, 0.0), width=40, height=40)
    near = draw(scene, rest, camera)
    far = draw(scene.transform(scale=3.0), rest, dataclasses.replace(camera, t=3.0 * camera.t))
    np.testing.assert_allclose(far.image, near.image, atol=2e-5)
    np.testing.assert_allclose(far.depth, 3.0 * near.depth, rtol=1e-5)


def test_deformed_covariance_and_gradient_at_rest():
    with jax.enable_x64(True):
        scene = jax.tree.map(lambda a: a[:3].astype(float), random_scene(count=4))
        rng = np.random.default_rng(4)
        F = np.eye(3) + 0.2 * rng.normal(size=(3, 3, 3))
        kernels = splats.deform(scene, scene.mean, F)
        np.testing.assert_allclose(kernels.cov, F @ np.asarray(scene.covariance()) @ F.transpose(0, 2, 1), atol=1e-15)
        weight = jnp.asarray(rng.normal(size=(3, 3, 3)))

        def loss(F):
            kernels = splats.deform(scene, scene.mean, F)
            return jnp.sum(weight * kernels.rotation) + 100 * jnp.sum(weight * kernels.cov)

        at = jnp.stack([jnp.eye(3), jnp.diag(jnp.array([2.0, 1.0, 1.0])), jnp.asarray(F[2])])
        check_grads(jax.jit(loss), (at,), order=1, modes=["rev"], atol=1e-6, rtol=1e-6)


def test_select_and_concatenate():
    a, b = random_scene(5, 4), random_scene(7, 9, seed=1)
    both = jax.jit(lambda *parts: splats.concatenate(parts))(a, b)
    assert len(both) == 12 and both.degree == 2
    np.testing.assert_array_equal(both.sh[:5, 4:], 0.0)
    np.testing.assert_array_equal(both.select(slice(5, 12)).sh, b.sh)
    np.testing.assert_array_equal(both.select(np.arange(12) < 5).mean, a.mean)


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(mean=np.zeros((2, 2))), "mean"),
        (dict(mean=np.full((2, 3), np.nan)), "mean holds NaN"),
        (dict(scale=-1.0), "scale"),
        (dict(opacity=1.5), "opacity"),
        (dict(quat=(0.0, 0.0, 0.0, 0.0)), "zero quaternion"),
        (dict(color=None), "color"),
        (dict(color=None, sh=np.zeros((2, 5, 3))), "sh"),
        (dict(scale=np.zeros((3, 3))), "broadcast"),
    ],
)
def test_create_names_what_is_wrong(change, message):
    arguments = dict(mean=np.zeros((2, 3)), scale=0.1, color=0.5) | change
    with pytest.raises(ValueError, match=message):
        splats.Gaussians.create(**arguments)


def test_transform_refuses_what_is_no_rotation():
    scene = random_scene(3, 4)
    for arguments in (dict(rotation=np.diag([1.0, 1.0, -1.0])), dict(rotation=2 * np.eye(3)), dict(scale=0.0)):
        with pytest.raises(ValueError):
            scene.transform(**arguments)
    with pytest.raises(ValueError, match="F"):
        splats.deform(scene, scene.mean, jnp.eye(3))
