"""Filling: volumes of meshes, shapes and shells of Gaussians; what stands beside a solid; speed at 100k particles."""

import time

import jax.numpy as jnp
import numpy as np
import pytest

from jaxphys import shapes, splats
from jaxphys.mesh import Mesh
from jaxphys.scenes.fill import cell_volumes, fill, opacity_field, solid_of_gaussians, solid_of_mesh, solid_of_shape


def icosphere(levels=4, radius=1.0):
    t = (1 + 5**0.5) / 2
    x = [(-1, t, 0), (1, t, 0), (-1, -t, 0), (1, -t, 0), (0, -1, t), (0, 1, t)]
    x += [(0, -1, -t), (0, 1, -t), (t, 0, -1), (t, 0, 1), (-t, 0, -1), (-t, 0, 1)]
    f = [(0, 11, 5), (0, 5, 1), (0, 1, 7), (0, 7, 10), (0, 10, 11), (1, 5, 9), (5, 11, 4), (11, 10, 2), (10, 7, 6)]
    f += [(7, 1, 8), (3, 9, 4), (3, 4, 2), (3, 2, 6), (3, 6, 8), (3, 8, 9), (4, 9, 5), (2, 4, 11), (6, 2, 10)]
    f += [(8, 6, 7), (9, 8, 1)]
    x, f = np.array(x, float), np.array(f)
    for _ in range(levels):
        mid = [(x[f[:, i]] + x[f[:, j]]) / 2 for i, j in ((0, 1), (1, 2), (2, 0))]
        n, m = len(x), len(f)
        x = np.concatenate([x, *mid])
        a, b, c = (n + k * m + np.arange(m) for k in range(3))
        f = np.concatenate([np.stack(t, 1) for t in ((f[:, 0], a, c), (f[:, 1], b, a), (f[:, 2], c, b), (a, b, c))])
        x, index = np.unique(np.round(x, 12), axis=0, return_inverse=True)
        f = index.reshape(-1)[f]
    return Mesh(radius * x / np.linalg.norm(x, axis=1, keepdims=True), f)


def shell_of(mesh, count, size=1.2):
    """Flat Gaussians on a surface, as a capture holds them: as wide as they are apart."""
    x = mesh.sample(count)
    a, b, c = np.moveaxis(mesh.vertices[mesh.faces], 1, 0)
    area = 0.5 * np.linalg.norm(np.cross(b - a, c - a), axis=1).sum()
    return splats.Gaussians.create(x, size * np.sqrt(area / count), color=0.5, opacity=0.9)


def test_a_closed_mesh_is_filled_to_its_volume_with_100k_particles_in_seconds():
    mesh = icosphere().transform(translation=(3.0, -2.0, 1.0), scale=0.3)
    spacing = (mesh.volume / 12_500) ** (1 / 3)  # eight particles per voxel
    start = time.perf_counter()
    solid = solid_of_mesh(mesh, spacing)
    particles = fill(solid)
    seconds = time.perf_counter() - start
    assert 90_000 < particles.count < 110_000
    total = float(np.asarray(particles.volume, np.float64).sum())
    assert total == pytest.approx(solid.volume, rel=1e-5) and abs(total / mesh.volume - 1) < 0.03
    assert seconds < 10
    assert mesh.volume == pytest.approx(4 / 3 * np.pi * 0.027, rel=0.01)


@pytest.mark.parametrize(
    "shape, volume",
    [
        (shapes.Sphere((0.1, 0.2, 0.3), 0.5), 4 / 3 * np.pi * 0.125),
        (shapes.Box((0.0, 0.0, 1.0), (0.5, 0.3, 0.2), (0.3, 0.2, 0.1)), 0.24),
        (shapes.Cylinder((0.0, 0.0, 0.0), (1.0, 1.0, 0.0), 0.4, 0.3), np.pi * 0.09 * 0.8),
        (shapes.Capsule((0.0, 0.0, 0.0), (0.5, 0.5, 0.0), 0.3), np.pi * 0.09 * np.sqrt(0.5) + 4 / 3 * np.pi * 0.027),
    ],
    ids=["sphere", "box", "cylinder", "capsule"],
)
def test_shapes_are_filled_to_their_volume(shape, volume):
    solid = solid_of_shape(shape, 0.03)
    assert solid.volume == pytest.approx(volume, rel=0.02)
    assert (np.asarray(shape.distance(tuple(jnp.asarray(c) for c in solid.points().T))) < 0.03).all()


@pytest.mark.parametrize("count", [4000, 20_000])
def test_a_shell_of_gaussians_is_filled_to_the_surface_it_lies_on(count):
    mesh = icosphere(4, 0.5)
    solid = solid_of_gaussians(shell_of(mesh, count), 0.02)
    assert solid.volume == pytest.approx(mesh.volume, rel=0.03) and not solid.hollow
    particles = fill(solid, surface=shell_of(mesh, count).mean)
    np.testing.assert_allclose(particles.x[:count], shell_of(mesh, count).mean, atol=1e-6)
    assert float(particles.volume.sum()) == pytest.approx(solid.volume, rel=0.01)


def test_a_bowl_stays_open():
    """What the outside reaches is not filled: the lower half of a sphere, its rim wide open."""
    g = shell_of(icosphere(4, 0.5), 20_000)
    bowl = g.select(np.flatnonzero(np.asarray(g.mean)[:, 2] < 0))
    solid = solid_of_gaussians(bowl, 0.02)
    assert solid.hollow and solid.volume < 0.2 * (2 / 3 * np.pi * 0.125)


def test_the_field_is_the_sum_of_the_gaussians():
    rng = np.random.default_rng(0)
    g = splats.Gaussians.create(rng.uniform(0.3, 0.7, (5, 3)), rng.uniform(0.05, 0.1, (5, 3)), color=0.5, opacity=0.7)
    spacing, shape = 0.1, (10, 10, 10)
    field = opacity_field(g, np.zeros(3), spacing, shape)
    centres = (np.argwhere(np.ones(shape, bool)) + 0.5) * spacing
    d = centres[:, None] - np.asarray(g.mean, np.float64)
    inverse = np.linalg.inv(np.asarray(g.covariance(), np.float64) + (spacing / 2) ** 2 * np.eye(3))
    dense = 0.7 * np.exp(-0.5 * np.einsum("cni,nij,cnj->cn", d, inverse, d)).sum(1).reshape(shape)
    np.testing.assert_allclose(field, dense, atol=5 * 0.7 * np.exp(-4.5))  # beyond three standard deviations: nothing
    assert field.max() > 0.5


def test_a_gaussian_of_any_size_costs_no_more_than_its_reach():
    """The degenerate covariances on which the released filling hangs: huge, and flat as paper."""
    g = splats.Gaussians.create(np.zeros((300, 3)), (1e8, 1e-12, 1e-3), color=0.5)
    start = time.perf_counter()
    field = opacity_field(g, np.full(3, -1.0), 0.05, (40, 40, 40))
    assert np.isfinite(field).all() and time.perf_counter() - start < 5


def test_stray_points_have_a_voxel_of_their_own_and_neighbours_are_adopted():
    solid = solid_of_shape(shapes.Sphere((0.0, 0.0, 0.0), 0.3), 0.05)
    beside, far = np.array([[0.36, 0.0, 0.0]]), np.array([[1.0, 1.0, 1.0]])
    particles = fill(solid, surface=np.concatenate([beside, far]), per_axis=1)
    volume = np.asarray(particles.volume, np.float64)
    assert volume[1] == pytest.approx(0.05**3) and volume[0] < 0.05**3
    assert volume.sum() == pytest.approx(solid.volume + 0.05**3, rel=1e-5)


def test_cell_volumes_share_cells():
    x = np.array([[0.1, 0.1, 0.1], [0.2, 0.1, 0.1], [0.9, 0.9, 0.9]])
    np.testing.assert_allclose(cell_volumes(x, 0.5), [0.0625, 0.0625, 0.125])


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: solid_of_mesh(icosphere(1), 0.0), "positive number"),
        (lambda: solid_of_mesh(icosphere(1), 1e-4), "voxels"),
        (lambda: solid_of_mesh(icosphere(1), 9.0), "no voxel centre"),
        (lambda: solid_of_mesh(Mesh(np.eye(3), np.array([[0, 1, 2]])), 0.1), "open edges"),
        (lambda: solid_of_shape(shapes.HalfSpace((0, 0, 0), (0, 0, 1)), 0.1), "infinite"),
        (lambda: solid_of_gaussians(shell_of(icosphere(1), 50), 0.02, threshold=0.0), "threshold > 0"),
        (lambda: solid_of_gaussians(shell_of(icosphere(1), 50), 0.05, threshold=9.0), "nowhere"),
        (lambda: fill(solid_of_shape(shapes.Sphere((0, 0, 0), 1.0), 0.5), per_axis=0), "per_axis"),
    ],
)
def test_nonsense_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
