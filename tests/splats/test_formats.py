"""Splat files: exact round trips, every dialect of the header, and damaged files."""

import dataclasses
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from jaxphys.splats import Gaussians, read_ply, write_ply

ROBOT = Path(__file__).parents[2] / "experiments" / "assets" / "playbot_8k.ply"
FIELDS = [f.name for f in dataclasses.fields(Gaussians)]


def columns(count=4, n=6, seed=0):
    """What a file stores: logit, logarithm, a quaternion that is not normalised."""
    rng = np.random.default_rng(seed)
    names = ["x", "y", "z", "f_dc_0", "f_dc_1", "f_dc_2"] + [f"f_rest_{i}" for i in range(3 * count - 3)]
    names += ["opacity", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"]
    return {name: (2 * rng.normal(size=n)).astype(np.float32) for name in names}


def ply(table, form="binary_little_endian", kind="float", extra=""):
    n = len(next(iter(table.values())))
    header = f"ply\nformat {form} 1.0\ncomment made by a test\nelement vertex {n}\n"
    header += "".join(f"property {kind} {name}\n" for name in table) + extra + "end_header\n"
    data = np.stack(list(table.values()), -1)
    if form == "ascii":
        body = "\n".join(" ".join(repr(float(v)) for v in row) for row in data).encode() + b"\n"
    else:
        order = "<" if form == "binary_little_endian" else ">"
        body = data.astype(order + ("f4" if kind == "float" else "f8")).tobytes()
    return header.encode() + body


def read(tmp_path, data: bytes):
    path = tmp_path / "scene.ply"
    path.write_bytes(data)
    return read_ply(path)


def assert_same(a, b):
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)


@pytest.mark.parametrize("count", [1, 4, 9, 16])
def test_values_and_round_trip(tmp_path, count):
    table = columns(count, n=200)
    g = read(tmp_path, ply(table))
    assert g.sh.shape == (200, count, 3) and g.mean.dtype == jnp.float32
    np.testing.assert_array_equal(g.mean[:, 1], table["y"])
    np.testing.assert_allclose(g.opacity, 1 / (1 + np.exp(-table["opacity"])), rtol=1e-6)
    np.testing.assert_allclose(g.scale[:, 2], np.exp(table["scale_2"]), rtol=1e-6)
    np.testing.assert_array_equal(g.quat[:, 0], table["rot_0"])
    np.testing.assert_array_equal(g.sh[:, 0, 1], table["f_dc_1"])
    if count > 1:  # channel-major: all of red, then green, then blue
        np.testing.assert_array_equal(g.sh[:, 2, 0], table["f_rest_1"])
        np.testing.assert_array_equal(g.sh[:, 1, 2], table[f"f_rest_{2 * (count - 1)}"])
    write_ply(tmp_path / "again.ply", g)
    assert_same(read_ply(tmp_path / "again.ply"), g)


def test_byte_orders_ascii_doubles_and_property_order_agree(tmp_path):
    table = columns()
    expected = read(tmp_path, ply(table))
    assert_same(read(tmp_path, ply(table, "binary_big_endian")), expected)
    assert_same(read(tmp_path, ply(table, "ascii")), expected)
    assert_same(read(tmp_path, ply(table, kind="double")), expected)
    shuffled = {name: table[name] for name in sorted(table, reverse=True)}
    assert_same(read(tmp_path, ply(shuffled)), expected)
    normals = {"nx": np.ones(6), "confidence": np.ones(6)} | table
    assert_same(read(tmp_path, ply(normals)), expected)
    head, body = ply(table).split(b"end_header\n")
    assert_same(read(tmp_path, head.replace(b"\n", b"\r\n") + b"end_header\r\n" + body), expected)


def test_other_elements_are_passed_over(tmp_path):
    table = columns()
    data = ply(table)
    before = b"element camera 2\nproperty float f\nproperty uchar k\nelement vertex"
    head, body = data.replace(b"element vertex", before, 1).split(b"end_header\n")
    assert_same(read(tmp_path, head + b"end_header\n" + bytes(10) + body), read(tmp_path, data))


def test_extreme_opacity_survives(tmp_path):
    g = Gaussians.create(np.zeros((3, 3)), scale=(1e-6, 1.0, 1e3), color=0.5, opacity=[0.0, 0.5, 1.0])
    write_ply(tmp_path / "a.ply", g)
    np.testing.assert_array_equal(read_ply(tmp_path / "a.ply").opacity, [0.0, 0.5, 1.0])


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda d: b"obj" + d[3:], "not a PLY"),
        (lambda d: d[:200], "end_header"),
        (lambda d: d[:-1], "truncated"),
        (lambda d: d.replace(b"float opacity", b"float density"), "lack opacity"),
        (lambda d: d.replace(b"f_rest_8", b"g_rest_8"), "8 f_rest"),
        (lambda d: d.replace(b"float scale_1", b"float scale_0"), "scale_0 twice"),
        (lambda d: d.replace(b"float rot_3", b"quad rot_3"), "quad rot_3"),
        (lambda d: d.replace(b"element vertex", b"element points"), "no element 'vertex'"),
        (lambda d: d.replace(b"element vertex 6", b"element vertex 0"), "no Gaussians"),
        (lambda d: d.replace(b"binary_little", b"binary_middle"), "binary_middle"),
        (lambda d: d.replace(b"property float x", b"property list uchar int i\nproperty float x"), "list"),
        (lambda d: d[:-4] + np.float32(np.nan).tobytes(), "quat of 1 Gaussians is not finite .first: vertex 5"),
        (lambda d: d[:-16] + bytes(16), "zero"),
    ],
)
def test_damaged_files_are_refused(tmp_path, damage, message):
    with pytest.raises(ValueError, match=message):
        read(tmp_path, damage(ply(columns())))


@pytest.mark.parametrize("damage", [lambda d: d[:-40], lambda d: d[:-5] + b"oops\n", lambda d: d[:-3] + b" 1\n"])
def test_damaged_ascii_is_refused(tmp_path, damage):
    with pytest.raises(ValueError, match=r"scene\.ply"):
        read(tmp_path, damage(ply(columns(), "ascii")))


@pytest.mark.parametrize(
    "name, value", [("mean", np.nan), ("scale", 0.0), ("opacity", 1.01), ("quat", 0.0), ("sh", np.inf)]
)
def test_a_refused_write_leaves_the_old_file_alone(tmp_path, name, value):
    good = Gaussians.create(np.zeros((2, 3)), scale=0.1, color=0.5)
    path = tmp_path / "scene.ply"
    write_ply(path, good)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=name):
        write_ply(path, dataclasses.replace(good, **{name: getattr(good, name).at[0].set(value)}))
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
    with pytest.raises(ValueError, match="folder"):
        write_ply(tmp_path / "missing" / "a.ply", good)


def test_real_asset_round_trips(tmp_path):
    g = read_ply(ROBOT)
    assert len(g) == 8406 and g.degree == 2
    write_ply(tmp_path / "robot.ply", g)
    assert_same(read_ply(tmp_path / "robot.ply"), g)
