"""Scene files of every dialect load and simulate; units, boxes, masks and times mean what the files say."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from jaxphys import mpm, shapes, splats
from jaxphys.camera_files import moved, read_cameras
from jaxphys.scenes.dialects import detect
from jaxphys.scenes.drive import Drive, ForceOnEach
from jaxphys.scenes.scene_files import read_scene
from jaxphys.scenes.sections import Section
from jaxphys.splats import formats


def ball(n=200, center=(0.3, -0.1, 0.2), radius=0.4, seed=0):
    rng = np.random.default_rng(seed)
    d = rng.normal(size=(n, 3))
    points = center + radius * d / np.linalg.norm(d, axis=1, keepdims=True)
    return splats.Gaussians.create(points, 0.06, color=rng.uniform(size=(n, 3)), opacity=0.9)


@pytest.fixture
def run(tmp_path):
    """The folder of a capture: a ball over a floor, one camera."""
    floor = splats.Gaussians.create(
        np.stack([*np.meshgrid(np.linspace(-1, 1, 8), np.linspace(-1, 1, 8)), np.full((8, 8), -0.6)], -1).reshape(
            -1, 3
        ),
        (0.1, 0.1, 0.01),
        color=0.5,
    )
    ghost = splats.Gaussians.create([[0.0, 0.0, 3.0]], 0.1, color=0.5, opacity=0.01)
    folder = tmp_path / "run" / "point_cloud" / "iteration_9"
    folder.mkdir(parents=True)
    formats.write(folder / "point_cloud.ply", splats.concatenate([ball(), floor, ghost]))
    camera = dict(id=0, img_name="0", width=40, height=30, position=[0, -3, 0], fx=30, fy=30)
    camera["rotation"] = [[1, 0, 0], [0, 0, 1], [0, -1, 0]]
    (tmp_path / "run" / "cameras.json").write_text(json.dumps([camera]))
    return tmp_path / "run"


AREA = [-0.2, 0.8, -0.6, 0.4, -0.3, 0.7]
COMMON = dict(opacity_threshold=0.02, rotation_degree=[], rotation_axis=[], n_grid=24, density=200, nu=0.3, scale=0.6)
COMMON |= dict(mpm_space_viewpoint_center=[1, 1, 1], mpm_space_vertical_upward_axis=[0, 0, 1], default_camera_index=-1)
COMMON |= dict(init_azimuthm=30.0, init_elevation=10.0, init_radius=3.0, show_hint=False, sim_area=AREA)
COMMON |= dict(boundary_conditions=[{"type": "bounding_box"}])
CUBOID = {"type": "cuboid", "point": [1, 1, 0.2], "size": [1, 1, 0.1], "velocity": [0, 0, 0], "reset": 1}
SURFACE = {"type": "surface_collider", "point": [1, 1, 0.3], "normal": [0, 0, 1], "surface": "sticky", "friction": 0.0}
SURFACE |= {"start_time": 0, "end_time": 1e3}
FILES = {
    "physgaussian": COMMON
    | dict(material="sand", E=2e4, friction_angle=30, substep_dt=1e-3, frame_dt=2e-2, frame_num=3, g=[0, 0, -9.8])
    | dict(particle_filling={"n_grid": 48, "max_partciels_per_cell": 8, "search_threshold": 1.0, "boundary": None})
    | dict(boundary_conditions=[{"type": "bounding_box"}, CUBOID, SURFACE], move_camera=True, delta_a=1.0),
    "dreamphysics": COMMON
    | dict(material="jelly", E=0.005, substep_dt=1e-3, frame_dt=2e-2, frame_num=3, g=[0, 0, -9.8])
    | dict(grid_v_damping_scale=0.9999, rpic_damping=0.0)
    | dict(additional_material_params=[dict(point=[1, 1, 1.5], size=[1, 1, 0.5], E=0.01, nu=0.4, density=70)]),
    "physflow": COMMON
    | dict(material="non_newtonian", E=3e-3, nu=0.4, yield_stress=1e-3, plastic_viscosity=1e-3, g=[0, -9.8, 0])
    | dict(substep_dt=1e-3, frame_dt=2e-2, opt_frame_dt=2e-2, frame_num=3, lr={"E": [0.1, 0.01]}, bbox_2d=None)
    | dict(default_camera_index=0, line={"axis": 0, "pos": 3, "start": 1, "end": 5}, reduction="mean"),
    "motionphysics": {k: v for k, v in COMMON.items() if k != "scale"}
    | dict(material="jelly", E=0.01, g=[0, 0, 0], substep_perframe=20, total_time=0.06, frame_num=3, grid_lim=1.0)
    | dict(prompt="a ball wobbles", downsample_scale=1.0, lr={"E": [1, 0.1]})
    | dict(boundary_conditions=[dict(type="add_constant_force", force=[15, 0, 0], point=[0.3, -0.1, 0.2], radius=0.5)]),
}


def write(folder, content, name="scene.json"):
    path = folder / name
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize("dialect", FILES)
def test_a_scene_of_every_dialect_is_told_apart_loads_and_simulates(run, dialect):
    setup = read_scene(write(run, FILES[dialect]), run)
    assert setup.dialect == dialect and f"dialect {dialect}" in setup.notes[0]
    n = len(setup.gaussians)
    assert n == 200 and len(setup.still) == 64  # the ball; the floor; the ghost is left out
    np.testing.assert_allclose(setup.particles.x[:n], setup.gaussians.mean, atol=1e-6)
    back = setup.frame.undo(setup.gaussians.mean)
    np.testing.assert_allclose(back, ball().mean, atol=1e-5)
    law = setup.laws[0]
    path = mpm.simulate(law, setup.particles, setup.scene, setup.config, save=("x",))
    assert path.x.shape[0] == 3 and np.isfinite(path.x).all()
    drift = np.asarray(path.x[-1].mean(0) - setup.particles.x.mean(0), np.float64)
    t = 3 / setup.config.fps
    if dialect == "motionphysics":  # the push is an acceleration
        assert drift[0] == pytest.approx(0.5 * 15 * t**2, rel=0.1)
    else:
        axis = 1 if dialect == "physflow" else 2
        assert drift[axis] == pytest.approx(-0.5 * 9.8 * t**2, rel=0.1)
    text = setup.describe()
    assert "note:" in text and ("up is +y" in text) == (dialect == "physflow")


def test_units_of_the_dialects(run):
    """The same numbers in pascals and in the scaled units."""
    file = {k: v for k, v in FILES["physflow"].items() if k != "E"}
    laws = {}
    for dialect in ("physgaussian", "physflow"):
        file["E"] = 3e-3 * (1e7 if dialect == "physgaussian" else 1)
        file["yield_stress"] = 1e-3 * (1e5 if dialect == "physgaussian" else 1)
        file["plastic_viscosity"] = 1e-3 * (1e4 if dialect == "physgaussian" else 1)
        laws[dialect] = read_scene(write(run, file), run, dialect=dialect).laws[0]
    for law in laws.values():
        assert (law.E, law.yield_stress, law.viscosity) == pytest.approx((3e4, 100.0, 10.0))
    jelly = read_scene(write(run, FILES["dreamphysics"]), run).laws[0]
    x = read_scene(write(run, FILES["dreamphysics"]), run).particles.x
    upper = np.asarray(x)[:, 2] > 1.0
    np.testing.assert_allclose(jelly.E, np.where(upper, 1e5, 5e4), rtol=1e-6)
    np.testing.assert_allclose(jelly.density, np.where(upper, 70, 200), rtol=1e-6)


@pytest.mark.parametrize(
    "change, expected",
    [
        (dict(material="metal", yield_stress=1e3), dict(yield_stress=np.sqrt(1.5) * 1e3)),
        (
            dict(material="metal", yield_stress=1e3, hardening=1, xi=0.1),
            dict(hardening=3 * 2e4 / 2.6 * 0.1),
        ),
        (dict(material="plasticine", yield_stress=1e3, softening=100.0), dict(softening=150 / (np.sqrt(1.5) * 1e3))),
        (dict(material="foam", yield_stress=1e3, plastic_viscosity=5.0), dict(yield_stress=1e3, viscosity=5.0)),
        (dict(material="newtonian", nu=0.25), dict(viscosity=8e3, bulk_modulus=2e4 / 1.5)),
        (dict(material="snow"), dict(E=2e4)),
    ],
)
def test_parameters_of_the_laws(run, change, expected):
    file = {k: v for k, v in FILES["physgaussian"].items() if k != "friction_angle"} | change
    law = read_scene(write(run, file), run, dialect="physgaussian").laws[0]
    for name, value in expected.items():
        assert float(getattr(law, name)) == pytest.approx(value), name


def test_released_laws_and_surfaces(run):
    slip = SURFACE | {"surface": "slip"}
    file = FILES["physgaussian"] | dict(material="metal", yield_stress=1e3, boundary_conditions=[slip])
    del file["friction_angle"]
    path = write(run, file)
    assert read_scene(path, run).scene.boundaries[0].kind == "slip"
    released = read_scene(path, run, variant="released")
    assert released.scene.boundaries[0].kind == "sticky" and released.laws[0].variant == "released"
    assert released.laws[0].yield_stress == 1e3


def test_the_box_of_the_simulation(run):
    """Longest side `scale` about (1, 1, 1); or, in MotionPhysics with grid_lim 1, a margin of a quarter below."""
    x = np.asarray(read_scene(write(run, FILES["physgaussian"]), run).gaussians.mean)
    np.testing.assert_allclose((x.min(0) + x.max(0)) / 2, 1.0, atol=1e-6)
    assert np.ptp(x, axis=0).max() == pytest.approx(0.6, rel=1e-5)
    x = np.asarray(read_scene(write(run, FILES["motionphysics"]), run).gaussians.mean)
    assert x.min() == pytest.approx(0.25 / 1.8, rel=1e-5) and x.max() == pytest.approx(1.25 / 1.8, rel=1e-5)
    turned = FILES["physgaussian"] | dict(rotation_degree=[90.0, 30.0], rotation_axis=[0, 2], sim_area=None)
    frame = read_scene(write(run, turned), run).frame
    c, s = np.cos(np.pi / 6), np.sin(np.pi / 6)
    expected = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]])
    np.testing.assert_allclose(frame.rotation, expected, atol=1e-12)


def test_filling_fills_the_ball_and_volumes_are_those_of_cells(run):
    setup = read_scene(write(run, FILES["physgaussian"]), run)
    radius = 0.4 * setup.frame.scale
    fill = np.asarray(setup.particles.x)[200:]
    assert len(fill) * (2 / 48 / 2) ** 3 == pytest.approx(4 / 3 * np.pi * radius**3, rel=0.15)
    assert np.linalg.norm(fill - 1.0, axis=1).max() < radius + 0.05
    np.testing.assert_allclose(setup.particles.volume, np.asarray(setup.particles.volume).mean(), rtol=1e-5)  # sand
    other = FILES["physgaussian"] | dict(material="jelly")
    other["particle_filling"] = {"max_particles_per_cell": 8, "n_grid": 48}
    assert len(read_scene(write(run, other), run).particles.x) == len(setup.particles.x)


def test_cameras(run):
    """A camera of the capture sees the scene as before; an orbit stands where the file's world says, and moves."""
    setup = read_scene(write(run, FILES["physflow"]), run)
    original = read_cameras(run)["0"]
    pixel, _ = original.project(ball().mean)
    again, _ = setup.camera.project(setup.gaussians.mean)
    np.testing.assert_allclose(again, pixel, atol=1e-2)
    orbit = read_scene(write(run, FILES["physgaussian"]), run)
    assert orbit.camera.R.shape == (3, 3, 3) and orbit.camera.width == 40
    frame = orbit.frame
    eye = frame.undo(np.asarray(orbit.camera.position))
    target = frame.undo([1.0, 1.0, 1.0])
    np.testing.assert_allclose(np.linalg.norm(eye - target, axis=1), 3.0, rtol=1e-4)
    np.testing.assert_allclose((eye - target)[:, 2], 3 * np.sin(np.radians(10)), rtol=1e-4)
    right = {k: v for k, v in FILES["physgaussian"].items() if k != "init_azimuthm"} | {"init_azimuth": 30.0}
    np.testing.assert_array_equal(read_scene(write(run, right), run).camera.R, orbit.camera.R)
    a, b = (eye - target)[0], (eye - target)[1]
    assert np.cross(a, b)[2] < 0  # clockwise from above
    assert moved(original, translation=(1.0, 0.0, 0.0)).position[0] == pytest.approx(1.0)


def test_point_files_select_and_hold(run):
    """moving_part_points.ply alone says what moves; with clean_object_points.ply it says what of the object does."""
    cloud = lambda x: splats.Gaussians.create(x, 0.01, color=0.5)
    x = np.asarray(ball().mean)
    formats.write(run / "moving_part_points.ply", cloud(x[x[:, 2] > 0.3]))
    file = {k: v for k, v in FILES["motionphysics"].items() if k != "sim_area"} | dict(boundary_conditions=[])
    some = read_scene(write(run, file), run)
    assert len(some.gaussians) == (x[:, 2] > 0.3).sum() and not some.scene.forces
    formats.write(run / "clean_object_points.ply", cloud(x))
    whole = read_scene(write(run, file), run)
    held = np.asarray(whole.scene.forces[0].members) > 0
    assert len(whole.gaussians) == 200 and 0 < held.sum() < 200 and (x[held][:, 2] < 0.3).all()
    assert len(read_scene(write(run, FILES["physgaussian"]), run).gaussians) == 200  # not a mask of this dialect


def simulate_with(force, seconds=0.1, x=((0.5, 0.5, 0.5), (0.55, 0.5, 0.5)), volume=1e-3):
    grid = mpm.Grid((0, 0, 0), (1, 1, 1), 0.1)
    particles = mpm.Particles.create(jnp.asarray(x, jnp.float32), jnp.asarray(volume))
    law = mpm.materials.FixedCorotated(density=100.0, E=10.0, nu=0.0)
    config = mpm.Config(grid, fps=1 / seconds, frames=1, substeps=50)
    return mpm.simulate(law, particles, mpm.Scene((0.0, 0.0, 0.0), (), (force,)), config, save=("x", "v"))


def test_a_drive_moves_its_particles_rigidly_and_then_lets_go():
    path = simulate_with(Drive((0.5, 0.0, 0.0), shape=shapes.Box((0.5, 0.5, 0.5), (0.2, 0.2, 0.2))))
    np.testing.assert_allclose(path.x[0, :, 0] - np.array([0.5, 0.55]), 0.05, rtol=1e-3)
    spin = simulate_with(
        Drive(angular_velocity=(0.0, 0.0, 2.0), center=(0.5, 0.5, 0.5)), x=((0.2, 0.5, 0.5), (0.8, 0.5, 0.5))
    )
    np.testing.assert_allclose(spin.x[0, 1] - 0.5, 0.3 * np.array([np.cos(0.2), np.sin(0.2), 0.0]), atol=2e-3)
    ended = simulate_with(Drive((0.5, 0.0, 0.0), end=0.0))
    np.testing.assert_allclose(ended.v[0], 0.0, atol=1e-6)
    with pytest.raises(ValueError, match="members"):
        simulate_with(Drive(members=jnp.ones(5)))


def test_a_force_on_each_accelerates_the_lighter_more():
    apart = ((0.3, 0.5, 0.5), (0.7, 0.5, 0.5))
    path = simulate_with(ForceOnEach((0.02, 0.0, 0.0), start=0.02, end=0.06), x=apart, volume=[1e-3, 2e-3])
    np.testing.assert_allclose(path.v[0, :, 0], [0.02 * 0.04 / 0.1, 0.02 * 0.04 / 0.2], rtol=1e-3)


@pytest.mark.parametrize(
    "content, message",
    [
        (dict(substep_dt=1e-4), "gives no E"),
        (dict(E=50), "could be in pascals"),
        (dict(E=-1.0), "greater than 0"),
        (dict(E=1.0, total_time=1, opt_frame_dt=1), "several dialects"),
    ],
)
def test_what_cannot_be_told_is_not_guessed(content, message):
    with pytest.raises(ValueError, match=message):
        detect(Section(content, "a.json"))


@pytest.mark.parametrize("value", [1, 0.0001, 3e-7])
def test_small_stiffness_is_scaled(value):
    assert detect(Section(dict(E=value), "a.json"))[0] == "dreamphysics"


BAD = [
    (dict(frcition_angle=30), "did you mean 'friction_angle'"),
    (dict(wind=3), "unknown key 'wind', remove it"),
    (dict(material="jello"), "material must be one of"),
    (dict(material="metal"), "needs yield_stress"),
    (dict(E="2e6"), "E must be a number"),
    (dict(E=float("nan")), "E must be a number"),
    (dict(nu=0.7), "nu must be a number at least 0 and at most 0.5"),
    (dict(nu=0.5), "nu"),
    (dict(density=0), "density"),
    (dict(g=[0, 0]), "g must hold 3"),
    (dict(g=9.8), "g must hold 3"),
    (dict(n_grid=5), "n_grid must be a whole number from 8"),
    (dict(n_grid=24.5), "whole number"),
    (dict(sim_area=[0, 1, 2]), "sim_area must hold 6"),
    (dict(sim_area=[1, 0, 0, 1, 0, 1]), "x0 < x1"),
    (dict(sim_area=[5, 6, 5, 6, 5, 6]), "they span"),
    (dict(opacity_threshold=1.0), "no Gaussian is more opaque"),
    (dict(rotation_degree=[30]), "must pair"),
    (dict(rotation_degree=[30], rotation_axis=[3]), "axes 0, 1 or 2"),
    (dict(scale=3.0), "lower scale"),
    (dict(frame_num=0), "frame_num"),
    (dict(frame_num=10**6), "from 1 to 100000"),
    (dict(substep_dt=0), "substep_dt"),
    (dict(E=1e12), "substeps per frame are needed"),
    (dict(pic_damping=0.5), "pic_damping"),
    (dict(default_camera_index=7), "has 1 cameras"),
    (dict(init_radius=0), "stay positive"),
    (dict(mpm_space_vertical_upward_axis=[0, 0, 0]), "must not be zero"),
    (dict(particle_filling={"n_grid": 24, "max_particles_num": 10}), "more than max_particles_num"),
    (dict(particle_filling={"max_partciels_per_cell": 1, "max_particles_per_cell": 1}), "one thing"),
    (dict(particle_filling=[1]), "expected an object"),
    (dict(additional_material_params=[dict(point=[1, 1, 1], size=[1, 1, 1])]), "lacks 'E'"),
    (dict(boundary_conditions={}), "list of objects"),
    (dict(boundary_conditions=[{}]), "lacks 'type'"),
    (dict(boundary_conditions=[{"type": "sdf"}]), "type must be one of"),
    (dict(boundary_conditions=[CUBOID | {"size": [1, 1, 0]}]), "half_size must be greater"),
    (dict(boundary_conditions=[CUBOID | {"point": [1, 1]}]), r"boundary_conditions\[0\]: point must hold 3"),
    (dict(boundary_conditions=[CUBOID | {"velocty": 1}]), "did you mean 'velocity'"),
    (dict(boundary_conditions=[SURFACE | {"surface": "cut"}]), "cut"),
    (
        dict(
            boundary_conditions=[dict(type="particle_impulse", force=[1, 0, 0], point=[0.1, 0.1, 0.1], size=[0.1] * 3)]
        ),
        "ForceOnEach: no particle lies inside",
    ),
    (dict(boundary_conditions=[SURFACE | {"friction": 0.5}]), "no friction"),
    (dict(boundary_conditions=[SURFACE | {"normal": [0, 0, 0]}]), "zero"),
    (dict(boundary_conditions=[SURFACE | {"end_time": -1}]), "end_time"),
]


@pytest.mark.parametrize("change, message", BAD, ids=[str(sorted(c)[0]) + str(i) for i, (c, _) in enumerate(BAD)])
def test_a_bad_file_is_refused_with_the_place_and_the_reason(run, change, message):
    path = write(run, FILES["physgaussian"] | change)
    with pytest.raises(ValueError, match=message) as error:
        read_scene(path, run, dialect="physgaussian")
    assert "scene.json" in str(error.value)


@pytest.mark.parametrize(
    "data, message",
    [
        (b"", "not JSON"),
        (b'{"E": 1', "not JSON"),
        (b"[1]", "expected an object"),
        (b'{"E": 1, "E": 2}', "occurs twice"),
        (b"\xff\xfe\x00", "not JSON"),
        (b'{"a":' * 50_000, "not JSON"),
    ],
)
def test_what_is_no_json_is_refused(tmp_path, data, message):
    (tmp_path / "scene.json").write_bytes(data)
    with pytest.raises(ValueError, match=message):
        read_scene(tmp_path / "scene.json", ball())


def test_the_door(run):
    path = write(run, FILES["physgaussian"])
    with pytest.raises(ValueError, match="give `model`"):
        read_scene(path)
    with pytest.raises(ValueError, match="dialect must be one of"):
        read_scene(path, run, dialect="physics3d")
    with pytest.raises(ValueError, match="variant must be"):
        read_scene(path, run, variant="paper")
    with pytest.raises(FileNotFoundError):
        read_scene(run / "no.json", run)
    with pytest.raises(FileNotFoundError):
        read_scene(path, run / "no.ply")
