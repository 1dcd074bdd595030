"""Cameras from files: cameras.json and COLMAP agree with a projection written by hand; damage is refused."""

import json
import struct

import jax.numpy as jnp
import numpy as np
import pytest

from jaxphys import splats
from jaxphys.camera import Camera
from jaxphys.camera_files import moved, read_cameras, read_cameras_json, read_colmap

POINTS = np.random.default_rng(0).uniform(-0.5, 0.5, (20, 3))


def truth(name="b.png"):
    """A pose, as an angle about an axis, and what it projects the points to."""
    quat = np.array([0.8, 0.2, -0.4, 0.4])
    R = np.asarray(splats.quat_to_matrix(jnp.asarray(quat)), np.float64)
    t = np.array([0.1, -0.2, 3.0])
    x = POINTS @ R.T + t
    pixels = np.stack([500 * x[:, 0] / x[:, 2] + 320, 510 * x[:, 1] / x[:, 2] + 240], 1)
    return quat, R, t, pixels


def entry(**changes):
    _, R, t, _ = truth()
    camera = dict(id=0, img_name="b.png", width=640, height=480, fx=500.0, fy=510.0)
    return camera | dict(position=(-R.T @ t).tolist(), rotation=R.T.tolist()) | changes


def write_text(folder, model="PINHOLE", params=(500, 510, 320, 240), points="1.0 2.0 -1 3.0 4.0 7"):
    quat, _, t, _ = truth()
    numbers = " ".join(map(str, params))
    (folder / "cameras.txt").write_text(f"# CAMERA_ID\n3 {model} 640 480 {numbers}\n")
    pose = " ".join(map(str, [*quat, *t]))
    (folder / "images.txt").write_text(f"# IMAGE_ID\n1 {pose} 3 b.png\n{points}\n2 {pose} 3 a b.png\n\n")


def write_binary(folder, model=1, params=(500, 510, 320, 240)):
    quat, _, t, _ = truth()
    camera = struct.pack("<QiiQQ", 1, 3, model, 640, 480) + struct.pack(f"<{len(params)}d", *params)
    (folder / "cameras.bin").write_bytes(camera)
    out = struct.pack("<Q", 2)
    for k, name in ((1, b"b.png"), (2, b"a b.png")):
        out += struct.pack("<i7di", k, *quat, *t, 3) + name + b"\0" + struct.pack("<Q", k)
        out += struct.pack("<ddq", 1.0, 2.0, -1) * k
    (folder / "images.bin").write_bytes(out)


def assert_true(camera):
    pixel, depth = camera.project(jnp.asarray(POINTS))
    np.testing.assert_allclose(pixel, truth()[3], rtol=1e-4)
    assert (np.asarray(depth) > 0).all() and (camera.width, camera.height) == (640, 480)


def test_cameras_json(tmp_path):
    (tmp_path / "cameras.json").write_text(json.dumps([entry(), entry(img_name="c")]))
    cameras = read_cameras(tmp_path)
    assert list(cameras) == ["b.png", "c"] and list(read_cameras(tmp_path / "cameras.json")) == ["b.png", "c"]
    assert_true(cameras["b.png"])


@pytest.mark.parametrize("write", [write_text, write_binary])
def test_colmap(tmp_path, write):
    folder = tmp_path / "sparse" / "0"
    folder.mkdir(parents=True)
    write(folder)
    for path in (folder, tmp_path):
        cameras = read_cameras(path)
        assert list(cameras) == ["a b.png", "b.png"]
        for camera in cameras.values():
            assert_true(camera)


def test_one_focal_length_and_zero_distortion(tmp_path):
    write_text(tmp_path, "SIMPLE_RADIAL", (500, 320, 240, 0.0), points="")
    camera = read_colmap(tmp_path)["b.png"]
    assert float(camera.fx) == float(camera.fy) == 500 and float(camera.cy) == 240
    write_text(tmp_path, "OPENCV", (500, 510, 320, 240, 0.1, 0, 0, 0))
    with pytest.raises(ValueError, match="undistort"):
        read_colmap(tmp_path)
    write_text(tmp_path, "OPENCV_FISHEYE", (500, 510, 320, 240, 0, 0, 0, 0))
    with pytest.raises(ValueError, match="undistort"):
        read_colmap(tmp_path)


def test_a_moved_camera_sees_the_moved_scene_alike():
    camera = Camera.look_at((0.3, -2.0, 0.5), (0.0, 0.0, 0.1), width=64, height=48)
    R = np.asarray(splats.Y_DOWN_TO_Z_UP)
    other = moved(camera, R, (1.0, 2.0, 3.0), 2.5)
    pixel, depth = camera.project(jnp.asarray(POINTS))
    pixel2, depth2 = other.project(jnp.asarray(2.5 * POINTS @ R.T + [1.0, 2.0, 3.0]))
    np.testing.assert_allclose(pixel2, pixel, atol=1e-3)
    np.testing.assert_allclose(depth2, 2.5 * np.asarray(depth), rtol=1e-5)


@pytest.mark.parametrize(
    "content, message",
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("{}", "list of cameras"),
        ("[]", "list of cameras"),
        ("[3]", "camera 0 lacks img_name"),
        (json.dumps([{k: v for k, v in entry().items() if k != "fx"}]), "lacks fx"),
        (json.dumps([entry(rotation=[1, 2])]), "rotation 3x3"),
        (json.dumps([entry(rotation=np.zeros((3, 3)).tolist())]), "not orthogonal"),
        (json.dumps([entry(rotation=np.diag([1, 1, -1]).tolist())]), "determinant"),
        (json.dumps([entry(fx=-1)]), "positive"),
        (json.dumps([entry(fx=float("nan"))]), "not finite"),
        (json.dumps([entry(width=float("inf"))]), "one each"),
        (json.dumps([entry(), entry()]), "occurs twice"),
    ],
)
def test_a_damaged_cameras_json_is_refused(tmp_path, content, message):
    (tmp_path / "cameras.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        read_cameras_json(tmp_path / "cameras.json")


@pytest.mark.parametrize(
    "name, change, message",
    [
        ("cameras.bin", lambda d: d[:-1], "truncated"),
        ("cameras.bin", lambda d: d[:12] + struct.pack("<i", 99) + d[16:], "model number 99"),
        ("cameras.bin", lambda d: struct.pack("<Q", 2**60) + d[8:], "truncated"),
        ("images.bin", lambda d: d[:-1], "truncated"),
        ("images.bin", lambda d: d[:80], "truncated"),
        ("images.bin", lambda d: bytes(8), "no image"),
        ("images.bin", lambda d: d[:12] + bytes(32) + d[44:], "no rotation"),
        ("images.bin", lambda d: d.replace(struct.pack("<i", 3) + b"b.", struct.pack("<i", 4) + b"b."), "camera 4"),
    ],
)
def test_a_damaged_model_is_refused(tmp_path, name, change, message):
    write_binary(tmp_path)
    (tmp_path / name).write_bytes(change((tmp_path / name).read_bytes()))
    with pytest.raises(ValueError, match=message):
        read_colmap(tmp_path)


def test_a_damaged_text_model_and_empty_folders_are_refused(tmp_path):
    with pytest.raises(ValueError, match="neither"):
        read_cameras(tmp_path)
    (tmp_path / "cameras.txt").write_text("1 PINHOLE 640 480 1 2 3 4\n")
    with pytest.raises(ValueError, match=r"images\.txt"):
        read_cameras(tmp_path)
    write_text(tmp_path, params=(500,))
    with pytest.raises(ValueError, match="1 parameters"):
        read_cameras(tmp_path)
    write_text(tmp_path)
    (tmp_path / "images.txt").write_text("1 x y z\n\n")
    with pytest.raises(ValueError, match="two lines"):
        read_cameras(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_cameras(tmp_path / "nowhere.json")
