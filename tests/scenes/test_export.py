"""What leaves a simulation: Gaussians of a deformed frame, motions as npz and HDF5; previews and surveys before it."""

import dataclasses

import h5py
import jax.numpy as jnp
import numpy as np
import pytest

from jaxphys import mpm, scenes, shapes, splats
from jaxphys.camera import Camera
from jaxphys.scenes.export import frame_gaussians, motion_arrays, read_motion, to_gaussians, write_motion, write_plys
from jaxphys.scenes.preview import COLORS, draw_regions, preview
from jaxphys.scenes.setup import Frame, Part, Region, Setup
from jaxphys.scenes.survey import survey


def gaussians(n=30, count=4, seed=0):
    rng = np.random.default_rng(seed)
    return splats.Gaussians.create(
        rng.uniform(-0.3, 0.3, (n, 3)),
        rng.uniform(0.02, 0.2, (n, 3)),
        quat=rng.normal(size=(n, 4)),
        opacity=rng.uniform(0.3, 0.9, n),
        sh=0.3 * rng.normal(size=(n, count, 3)),
    )


def motion(n=30, seed=1):
    rng = np.random.default_rng(seed)
    F = np.eye(3) + 0.3 * rng.normal(size=(n, 3, 3))
    return jnp.asarray(rng.uniform(-0.3, 0.3, (n, 3)), jnp.float32), jnp.asarray(F, jnp.float32)


VIEW = Camera.look_at((0.2, -2.0, 0.5), (0.0, 0.0, 0.0), width=32, height=32)


def test_a_deformed_frame_written_as_gaussians_looks_the_same(tmp_path):
    """Colours that depend on the view included, after a round trip through PLY."""
    g, (x, F) = gaussians(), motion()
    kernels = splats.deform(g, x, F)
    (path,) = write_plys(tmp_path, [to_gaussians(kernels)])
    drawn = splats.render(splats.read_ply(path), VIEW).image
    np.testing.assert_allclose(drawn, splats.render(kernels, VIEW).image, atol=2e-4)
    assert path.name == "frame_0000.ply"
    with pytest.raises(ValueError, match="folder"):
        write_plys(tmp_path / "missing", [g])


def test_a_frame_goes_back_to_the_world_of_the_file():
    """Simulated in a turned and scaled space, exported, and compared with the same motion of the file itself."""
    g, (x, F) = gaussians(), motion()
    frame = Frame(np.asarray(splats.Y_DOWN_TO_Z_UP, np.float64), np.array([1.0, 2.0, 3.0]), 0.5)
    inside = g.transform(frame.rotation, frame.translation, frame.scale)
    F_inside = jnp.einsum("ij,njk,lk->nil", frame.rotation, F, frame.rotation)
    parts = (Part("a", "neo_hookean", slice(0, 10), 1.0), Part("b", "water", slice(10, 30), 1.0))
    still = gaussians(5, 1, seed=3).transform(frame.rotation, frame.translation, frame.scale)
    x_inside = jnp.asarray(frame.apply(x), jnp.float32)
    back = frame_gaussians(inside, still, parts, x_inside, F_inside, frame)
    shape = F.at[10:].set(jnp.eye(3))  # water keeps the shape of its Gaussians
    expected = splats.concatenate([to_gaussians(splats.deform(g, x, shape)), gaussians(5, 1, seed=3)])
    np.testing.assert_allclose(back.covariance(), expected.covariance(), atol=1e-5)
    for name in ("mean", "opacity", "sh"):
        np.testing.assert_allclose(getattr(back, name), getattr(expected, name), atol=1e-5, err_msg=name)


def simulated():
    grid = mpm.Grid((0, 0, 0), (1, 1, 1), 0.1)
    particles = mpm.Particles.create(jnp.full((3, 3), 0.5) + 0.02 * jnp.arange(3.0)[:, None], 1e-3)
    law = mpm.materials.NeoHookean(density=100.0, E=1e3, nu=0.3)
    config = mpm.Config(grid, fps=20.0, frames=2, substeps=30)
    return particles, mpm.simulate(law, particles, mpm.Scene(), config, save=("x", "v", "F"))


def fields(path):
    return {"x": path.x, "v": path.v, "F": path.F}


@pytest.mark.parametrize("name", ["a.npz", "a.h5"])
def test_motions_round_trip(tmp_path, name):
    particles, path = simulated()
    arrays = motion_arrays(fields(path), 20.0, particles)
    write_motion(tmp_path / name, arrays)
    back = read_motion(tmp_path / name)
    assert set(back) == {"times", "x", "v", "F", "volume", "material"}
    for key, value in arrays.items():
        np.testing.assert_array_equal(back[key], value, err_msg=key)
    np.testing.assert_allclose(back["times"], [0.05, 0.1])
    if name == "a.h5":
        with h5py.File(tmp_path / name) as file:
            assert file["v"].attrs["unit"] == "m/s" and file["x"].chunks == (1, 3, 3)
    whole = (tmp_path / name).read_bytes()
    for cut in (0, 10, len(whole) // 2):
        (tmp_path / f"cut{name}").write_bytes(whole[:cut])
        with pytest.raises(ValueError, match="cut"):
            read_motion(tmp_path / f"cut{name}")
    with pytest.raises(ValueError, match="missing"):
        write_motion(tmp_path / f"b{name}", {"x": arrays["x"]})
    with pytest.raises(ValueError, match="F must be"):
        write_motion(tmp_path / f"b{name}", arrays | {"F": arrays["F"][:1]})
    assert not (tmp_path / f"b{name}").exists()


def test_motions_in_the_world_of_the_file():
    particles, path = simulated()
    frame = Frame(np.asarray(splats.Y_DOWN_TO_Z_UP, np.float64), np.array([1.0, 2.0, 3.0]), 0.5)
    here, there = motion_arrays(fields(path), 20.0, particles), motion_arrays(fields(path), 20.0, particles, frame)
    np.testing.assert_allclose(frame.apply(there["x"]), here["x"], atol=1e-5)
    np.testing.assert_allclose(there["v"][..., 1], -here["v"][..., 2] / 0.5, rtol=1e-5)  # y points down there
    np.testing.assert_allclose(there["volume"], 8e-3, rtol=1e-5)
    np.testing.assert_allclose(np.linalg.det(there["F"]), np.linalg.det(here["F"]), rtol=1e-5)
    with pytest.raises(ValueError, match="stored as"):
        write_motion("a.txt", here)
    with pytest.raises(FileNotFoundError):
        read_motion("nowhere.npz")


def test_boxes_are_drawn_where_they_project():
    camera = Camera.look_at((0.0, -4.0, 0.0), (0.0, 0.0, 0.0), fov_degrees=60, width=100, height=100)
    box = shapes.Box((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    behind = shapes.Box((0.0, -9.0, 0.0), (1.0, 1.0, 1.0))
    regions = (Region("a box", box, "boundary"), Region("behind", behind, "force"))
    image = draw_regions(np.ones((100, 100, 3)), regions, camera)
    red = np.abs(image - np.array(COLORS["boundary"]) / 255).max(-1) < 0.01
    assert not (np.abs(image - np.array(COLORS["force"]) / 255).max(-1) < 0.01).any()
    focal = 50 / np.tan(np.radians(30))
    for depth in (3.0, 5.0):  # the front and the back face, seen straight on
        half = focal / depth
        assert red[round(50 - half) - 1 : round(50 - half) + 2, 50].any()
        assert red[50, round(50 + half) - 1 : round(50 + half) + 2].any()
    assert not red[50, 50]
    turned = draw_regions(
        np.ones((100, 100, 3)), (Region("", shapes.Box((0, 0, 0), (1, 1, 1), (0, 0, 0.6)), "domain"),), camera
    )
    assert (turned != 1).any() and not np.array_equal(turned, image)


def test_a_preview_shows_the_scene_and_its_boxes():
    g = splats.Gaussians.create(np.zeros((1, 3)), 0.3, color=(0.0, 0.8, 0.0), opacity=0.99)
    particles = mpm.Particles.create(g.mean, 1e-3)
    law = mpm.materials.Water(density=1e3, bulk_modulus=1e5)
    config = mpm.Config(mpm.Grid((-1, -1, -1), (1, 1, 1), 0.1))
    regions = (Region("domain", shapes.Box((0, 0, 0), (1, 1, 1)), "domain"),)
    view = Camera.look_at((0.0, -4.0, 0.0), (0.0, 0.0, 0.0), width=640, height=320)
    part = (Part("a", "water", slice(0, 1), 1e-3),)
    setup = Setup("native", g, None, particles, (law,), part, mpm.Scene(), config, view, Frame.identity(), regions, ())
    image = preview(setup, 64)
    assert image.shape == (32, 64, 3) and image[16, 32, 1] > 2 * image[16, 32, 0]
    assert (np.abs(image - np.array(COLORS["domain"]) / 255).max(-1) < 0.01).any()


@pytest.mark.parametrize("up", ["z", "y", "-y", "-z"])
def test_a_survey_finds_up_and_the_ground(up):
    from jaxphys.scenes.native import UPS

    rng = np.random.default_rng(0)
    body = splats.Gaussians.create(rng.uniform(-0.4, 0.4, (600, 3)) + [0, 0, 1.0], 0.03, color=0.5)
    wall = dataclasses.replace(
        splats.Gaussians.create(rng.uniform((-1.5, 1.4, 0.3), (1.5, 1.4, 0.9), (80, 3)), (0.08, 0.005, 0.08), color=0.5)
    )
    scene = splats.concatenate([scenes.floor((0.0, 0.0), 0.3, 1.5, tiles=4), body, wall])
    found = survey(scene.transform(rotation=UPS[up].T))
    sign = -1 if up.startswith("-") else 1
    assert found.up == ("-" if sign < 0 else "+") + up[-1]
    assert sign * found.ground == pytest.approx(0.3, abs=0.02) and found.share > 0.2
    assert found.size.max() == pytest.approx(2.9, rel=0.1)


def test_a_survey_of_a_ball_says_that_it_is_uncertain():
    rng = np.random.default_rng(0)
    d = rng.normal(size=(500, 3))
    ball = splats.Gaussians.create(d / np.linalg.norm(d, axis=1, keepdims=True), 0.05, color=0.5)
    assert "uncertain" in survey(ball).describe()
    with pytest.raises(ValueError, match="opacity"):
        survey(splats.Gaussians.create(d, 0.05, color=0.5, opacity=0.01))
