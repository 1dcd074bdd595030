"""The native scene format: several objects by box, mask, points, cluster and file; what each key means; refusals."""

import json

import numpy as np
import pytest

from jaxphys import mpm, scenes, splats
from jaxphys.scenes.scene_files import read_scene
from jaxphys.splats import formats

BASE = {"format": "jaxphys-scene", "version": 1, "time": {"seconds": 0.1, "fps": 20}, "grid": {"dx_m": 0.1}}
RUBBER = {"law": "neo_hookean", "density": 1000.0, "E": 2e4, "nu": 0.3}
SAND = {"law": "sand", "density": 1600.0, "E": 2e4, "nu": 0.3, "friction_angle": 35.0}
SPHERE = {"type": "sphere", "center_m": [0, 0, 1], "radius_m": 0.3}


def shell(center, n=400, radius=0.3):
    rng = np.random.default_rng(0)
    d = rng.normal(size=(n, 3))
    points = center + radius * d / np.linalg.norm(d, axis=1, keepdims=True)
    return splats.Gaussians.create(points, 0.04, color=(0.8, 0.3, 0.1), opacity=0.9)


def write(folder, **changes):
    path = folder / "scene.json"
    path.write_text(json.dumps(BASE | changes))
    return path


def ball(name="ball", **changes):
    return {"name": name, "splats": "two.ply", "spacing_m": 0.05, "material": RUBBER} | changes


@pytest.fixture
def folder(tmp_path):
    """Two balls and a floor in one file, z up; the masks that tell them apart; one ball in a y-down file."""
    floor = scenes.floor((0.0, 0.0), 0.0, 1.2, tiles=2)
    both = splats.concatenate([shell((-0.5, 0, 0.7)), shell((0.5, 0, 0.8)), floor])
    formats.write(tmp_path / "two.ply", both)
    labels = np.repeat([1, 2, 0], [400, 400, len(floor)])
    np.save(tmp_path / "labels.npy", labels)
    np.save(tmp_path / "left.npy", labels == 1)
    formats.write(tmp_path / "points.ply", shell((0.5, 0, 0.8)))
    down = shell((0, 0, 1.5)).transform(rotation=np.asarray(splats.Y_DOWN_TO_Z_UP).T)
    formats.write(tmp_path / "down.splat", down)
    return tmp_path


def test_two_objects_of_two_materials_and_what_stays(folder):
    left = ball("left", select={"box_m": [[-1, -1, 0.3], [0, 1, 1.2]]})
    right = ball("right", select={"points": "points.ply", "radius_m": 1e-4}, material=SAND, velocity_m_s=[0, 1, 0])
    third = {
        "name": "third",
        "splats": "down.splat",
        "up": "-y",
        "spacing_m": 0.05,
        "material": {"prompt": "a soft rubber ball"},
    }
    ground = {"type": "ground", "height_m": 0.0, "friction": 0.4}
    setup = read_scene(write(folder, objects=[left, right, third], boundaries=[ground]))
    assert [p.name for p in setup.parts] == ["left", "right", "third"]
    assert [p.gaussians for p in setup.parts] == [slice(0, 400), slice(400, 800), slice(800, 1200)]
    assert [type(law).__name__ for law in setup.laws[:2]] == ["NeoHookean", "Sand"]
    assert len(setup.still) == 144 and np.asarray(setup.still.mean)[:, 2].max() < 0.1
    x, v = np.asarray(setup.particles.x), np.asarray(setup.particles.v)
    material = np.asarray(setup.particles.material)
    np.testing.assert_allclose(x[:1200], setup.gaussians.mean, atol=1e-6)
    assert (material[:1200] == np.repeat([0, 1, 2], 400)).all() and set(material[1200:]) == {0, 1, 2}
    assert (x[material == 0, 0] < 0).all() and (x[material == 1, 0] > 0).all() and (x[material == 2, 2] > 1.1).all()
    assert (v[material == 1] == [0, 1, 0]).all() and not v[material != 1].any()
    for part in setup.parts:
        assert part.volume == pytest.approx(4 / 3 * np.pi * 0.027, rel=0.08)
    path = mpm.simulate(setup.laws, setup.particles, setup.scene, setup.config, save=("x",))
    assert np.isfinite(path.x).all() and path.x.shape[0] == 2
    assert any("third: rubber" in note for note in setup.notes)


@pytest.mark.parametrize(
    "select, side",
    [
        ({"mask": "left.npy"}, -1),
        ({"mask": "labels.npy", "label": 2}, 1),
        ({"cluster_voxel_m": 0.15}, 1),
        ({"points": "points.ply", "radius_m": 0.01, "opacity_above": 0.5}, 1),
    ],
)
def test_every_way_to_select(folder, select, side):
    setup = read_scene(write(folder, objects=[ball(select=select)]))
    assert len(setup.gaussians) == 400 and (np.sign(np.asarray(setup.gaussians.mean)[:, 0]) == side).all()
    assert len(setup.still) == 544
    assert read_scene(write(folder, objects=[ball(select=select, keep_rest=False)])).still is None


def write_cube(path, half=0.25):
    corners = [[x, y, z] for x in (-half, half) for y in (-half, half) for z in (-half, half)]
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    lines = ["v {} {} {}".format(*c) for c in corners] + ["f " + " ".join(str(i + 1) for i in q) for q in quads]
    path.write_text("\n".join(lines) + "\n")


def test_meshes_and_shapes(folder):
    write_cube(folder / "cube.obj")
    cube = {"name": "cube", "mesh": "cube.obj", "material": RUBBER, "spacing_m": 0.03, "color": [1, 0, 0]}
    cube |= {"translation_m": [0, 0, 1], "rotation_degrees": [0, 0, 45], "scale": 2.0}
    drop = {"name": "drop", "shape": SPHERE | {"center_m": [2, 0, 1]}, "spacing_m": 0.04}
    drop |= {"material": {"law": "water", "density": 1000.0, "bulk_modulus": 1e5}}
    setup = read_scene(write(folder, objects=[cube, drop]))
    assert setup.parts[0].volume == pytest.approx(1.0, rel=0.03) and setup.still is None
    assert setup.parts[1].volume == pytest.approx(4 / 3 * np.pi * 0.027, rel=0.03)
    x = np.asarray(setup.gaussians.mean)[setup.parts[0].gaussians]
    np.testing.assert_allclose(x.mean(0), [0, 0, 1], atol=0.01)
    assert np.abs(x[:, 0]).max() == pytest.approx(np.sqrt(0.5), abs=0.04)
    np.testing.assert_allclose(setup.particles.volume.sum(), sum(p.volume for p in setup.parts), rtol=1e-4)
    coarse = read_scene(write(folder, objects=[cube | {"spacing_m": 0.3, "rotation_degrees": [0, 0, 0]}]))
    assert any("by its surface" in note for note in coarse.notes)


def test_forces_boundaries_time_and_camera(folder):
    boundaries = [
        {"type": "walls", "kind": "sticky"},
        {"type": "ground", "height_m": 0.1, "kind": "slip"},
        {
            "type": "collider",
            "shape": {"type": "box", "center_m": [0, 0, 0], "half_size_m": [1, 1, 0.1]},
            "friction": 0.2,
        }
        | {"velocity_m_s": [0, 0, 0.1], "start_s": 0.01, "end_s": 0.05},
        {"type": "collider", "shape": {"type": "capsule", "start_m": [0, 0, 0], "end_m": [1, 0, 0], "radius_m": 0.1}},
        {"type": "collider", "shape": {"type": "half_space", "point_m": [0, 0, 0], "normal": [0, 0, 1]}},
    ]
    rod = {"type": "cylinder", "center_m": [0, 0, 1], "axis": [0, 0, 1], "half_height_m": 0.3, "radius_m": 0.3}
    pushes = [
        {"type": "impulse", "impulse_N_s": [0, 0, 1], "start_s": 0.01},
        {"type": "force", "force_N": [0, 0, 1], "shape": SPHERE},
        {"type": "acceleration", "acceleration_m_s2": [0, 0, 1]},
        {"type": "drag", "wind_m_s": [1, 0, 0], "rate_1_s": 2.0},
        {"type": "release", "direction": [0, 0, 1], "start_s": 0.0, "end_s": 0.05, "layers": 2},
        {"type": "drive", "velocity_m_s": [1, 0, 0], "shape": rod, "end_s": 0.02},
    ]
    camera = {"eye_m": [0, -3, 1], "target_m": [0, 0, 1], "fov_degrees": 40, "width": 64, "height": 48}
    thing = {"name": "a", "shape": SPHERE, "material": RUBBER}
    time = {"seconds": 0.1, "fps": 20, "substeps": 50}
    grid = {"dx_m": 0.1, "lo_m": [-1, -1, 0], "hi_m": [1, 1, 2]}
    file = dict(objects=[thing], boundaries=boundaries, forces=pushes, camera=camera, time=time, grid=grid)
    setup = read_scene(write(folder, **file, gravity_m_s2=[0, 0, -1.6], rpic_damping=0.2, _note="a comment"))
    assert len(setup.scene.boundaries) == 5 and len(setup.scene.forces) == 6
    assert setup.config.substeps == 50 and setup.config.frames == 2 and setup.config.rpic_damping == 0.2
    assert setup.scene.gravity == (0, 0, -1.6) and setup.config.grid.hi == (1, 1, 2)
    assert (setup.camera.width, setup.camera.height) == (64, 48)
    assert {r.kind for r in setup.regions} == {"boundary", "force", "domain"}
    path = mpm.simulate(setup.laws, setup.particles, setup.scene, setup.config, save=("x",))
    assert np.isfinite(path.x).all()
    text = setup.describe()
    assert "up is +z" in text and "g = 1.6" in text and "a: neo_hookean" in text


GOOD = {"name": "a", "shape": SPHERE, "material": RUBBER}
BAD = [
    (dict(version=2), "version must be 1"),
    (dict(format="other"), "format must be one of"),
    (dict(objects=[]), "names no objects"),
    (dict(objects=[GOOD, GOOD]), "two objects have one name"),
    (dict(objects=[GOOD | {"name": 3}]), "name must be a text"),
    (dict(objects=[GOOD | {"mesh": "a.obj"}]), "needs one of splats, mesh or shape"),
    (dict(objects=[GOOD | {"scale": 2.0}]), "placed by its own keys"),
    (dict(objects=[GOOD | {"fill": False}]), "fill: false is for splats"),
    (dict(objects=[GOOD | {"colour": [1, 0, 0]}]), "did you mean 'color'"),
    (dict(objects=[GOOD | {"shape": SPHERE | {"radius_m": 0}}]), "radius must be one number greater than 0"),
    (dict(objects=[GOOD | {"shape": {"type": "cone"}}]), "type must be one of"),
    (dict(objects=[GOOD | {"material": {"law": "jelly"}}]), "law must be one of"),
    (dict(objects=[GOOD | {"material": RUBBER | {"E": "soft"}}]), "outside|unknown|must be|variant|number"),
    (dict(objects=[GOOD | {"material": RUBBER | {"nu": 0.6}}]), "nu"),
    (dict(objects=[GOOD | {"material": {"law": "water", "density": 1e3}}]), "missing bulk_modulus"),
    (dict(objects=[GOOD | {"material": {"prompt": " "}}]), "empty"),
    (dict(objects=[GOOD | {"spacing_m": 1e-5}]), "voxels"),
    (dict(objects=[GOOD | {"material": RUBBER | {"E": 1e12}}]), "substeps per frame are needed"),
    (dict(objects=[ball(select={"box_m": [[5, 5, 5], [6, 6, 6]]})]), "the scene spans"),
    (dict(objects=[ball(select={"box_m": [[1, 1, 1], [0, 0, 0]]})]), "lower corner first"),
    (dict(objects=[ball(select={"box_m": 3})]), "lower corner first"),
    (dict(objects=[ball(select={"mask": "labels.npy"})]), "give the one as `label`"),
    (dict(objects=[ball(select={"mask": "labels.npy", "label": 9})]), "selects no Gaussian"),
    (dict(objects=[ball(select={"mask": "two.ply"})]), "not a .npy file"),
    (dict(objects=[ball(select={"mask": "short.npy"})]), "one truth value or whole number per Gaussian"),
    (dict(objects=[ball(select={"points": "points.ply"})]), "lacks 'radius_m'"),
    (dict(objects=[ball(select={"name": "x"})]), "unknown key 'name'"),
    (dict(objects=[ball("a"), ball("b")]), "belong to an earlier object"),
    (dict(objects=[ball(up="x")]), "up must be one of"),
    (dict(objects=[GOOD | {"spacing_m": 0.1}], grid={"dx_m": 1e-5}), "more than 1e9"),
    (dict(objects=[GOOD], grid={"dx_m": 0.1, "lo_m": [0, 0, 0], "hi_m": [0, 1, 1]}), "grid: needs lo < hi"),
    (dict(objects=[GOOD], time={"seconds": 1}), "lacks 'fps'"),
    (dict(objects=[GOOD], time={"seconds": 1e9, "fps": 1e9}), "more than 100000"),
    (dict(objects=[GOOD], time={"seconds": 1, "fps": 20, "substeps": 1}), "use substeps="),
    (dict(objects=[GOOD], boundaries=[{"type": "floor"}]), "type must be one of"),
    (dict(objects=[GOOD], boundaries=[{"type": "ground", "height_m": 0, "kind": "sticky", "friction": 1}]), "friction"),
    (dict(objects=[GOOD], forces=[{"type": "release", "direction": [0, 0, 1]}]), "lacks 'end_s'"),
    (dict(objects=[GOOD], forces=[{"type": "drag", "rate_1_s": -1}]), "rate_1_s must be a number at least 0"),
    (dict(objects=[GOOD], camera={"eye_m": [0, 0, 1], "target_m": [0, 0, 1]}), "do not define a view"),
    (dict(objects=[GOOD], gravity=[0, 0, -9]), "did you mean 'gravity_m_s2'"),
]


@pytest.mark.parametrize("change, message", BAD, ids=[f"bad{i}" for i in range(len(BAD))])
def test_a_bad_file_is_refused_with_the_place_and_the_reason(folder, change, message):
    np.save(folder / "short.npy", np.ones(3, bool))
    with pytest.raises(ValueError, match=message):
        read_scene(write(folder, **change))


def test_files_that_are_not_there(folder):
    for thing in (
        ball(splats="no.ply"),
        {"name": "a", "mesh": "no.obj", "material": RUBBER},
        ball(select={"mask": "no.npy"}),
    ):
        with pytest.raises(FileNotFoundError):
            read_scene(write(folder, objects=[thing]))
    with pytest.raises(ValueError, match="names its splats itself"):
        read_scene(write(folder, objects=[GOOD]), folder / "two.ply")
