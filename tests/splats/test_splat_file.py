"""`.splat` files: exact where the format is, within its steps elsewhere; what it cannot hold is refused."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from jaxphys import splats
from jaxphys.splats import formats
from jaxphys.splats.splat_file import read_splat, write_splat


def gaussians(n=200, seed=0):
    rng = np.random.default_rng(seed)
    return splats.Gaussians.create(
        rng.normal(size=(n, 3)),
        np.exp(rng.normal(size=(n, 3)) - 3),
        quat=rng.normal(size=(n, 4)),
        opacity=rng.uniform(size=n),
        color=rng.uniform(size=(n, 3)),
    )


def axes(g):
    return np.asarray(splats.quat_to_matrix(g.quat), np.float64)


def angle(a, b):
    """Greatest angle between the orientations of two scenes [rad]."""
    trace = np.einsum("nij,nij->n", axes(a), axes(b))
    return float(np.arccos(np.clip((trace - 1) / 2, -1, 1)).max())


def test_round_trip_is_exact_or_within_the_steps_of_the_format(tmp_path):
    g = gaussians()
    write_splat(tmp_path / "a.splat", g)
    back = read_splat(tmp_path / "a.splat")
    assert (tmp_path / "a.splat").stat().st_size == 32 * len(g)
    np.testing.assert_array_equal(back.mean, g.mean)
    np.testing.assert_array_equal(back.scale, g.scale)
    np.testing.assert_allclose(back.opacity, g.opacity, atol=0.501 / 255)
    np.testing.assert_allclose(splats.sh_to_rgb(back.sh), splats.sh_to_rgb(g.sh), atol=0.501 / 255)
    assert angle(back, g) < 2.5 / 128  # four components, each off by at most half a step of 1/128, or a clipped one
    write_splat(tmp_path / "b.splat", back)
    again = read_splat(tmp_path / "b.splat")
    np.testing.assert_array_equal(again.opacity, back.opacity)
    np.testing.assert_allclose(again.sh, back.sh, atol=1e-6)


def test_the_layout_is_that_of_the_format(tmp_path):
    """Byte by byte, by hand."""
    g = splats.Gaussians.create([[1.0, 2.0, 3.0]], (0.1, 0.2, 0.3), quat=(0.0, 1.0, 0.0, 0.0), opacity=0.2, color=1.0)
    write_splat(tmp_path / "a.splat", g)
    data = (tmp_path / "a.splat").read_bytes()
    np.testing.assert_array_equal(np.frombuffer(data[:24], "<f4"), np.float32([1, 2, 3, 0.1, 0.2, 0.3]))
    assert list(data[24:]) == [255, 255, 255, 51, 128, 255, 128, 128]


@pytest.mark.parametrize(
    "data, message",
    [
        (bytes(31), "no multiple of 32"),
        (b"", "no Gaussians"),
        (bytes(12) + np.float32([1, np.nan, 1]).tobytes() + bytes([9] * 8), "scale of 1 Gaussians is not finite"),
        (bytes(12) + np.float32([1, -1, 1]).tobytes() + bytes([9] * 8), "negative"),
        (bytes(28) + bytes([128] * 4), "zero, no rotation"),
    ],
)
def test_damaged_files_are_refused(tmp_path, data, message):
    (tmp_path / "a.splat").write_bytes(data)
    with pytest.raises(ValueError, match=message):
        read_splat(tmp_path / "a.splat")


def test_what_the_format_cannot_hold_is_refused_and_nothing_is_written(tmp_path):
    g = gaussians(3)
    with pytest.raises(ValueError, match="view-dependent"):
        write_splat(tmp_path / "a.splat", dataclasses.replace(g, sh=jnp.zeros((3, 4, 3))))
    with pytest.raises(ValueError, match="quat"):
        write_splat(tmp_path / "a.splat", dataclasses.replace(g, quat=jnp.zeros((3, 4))))
    assert not list(tmp_path.iterdir())


def test_a_file_is_read_and_written_by_its_suffix(tmp_path):
    g = gaussians(5)
    run = tmp_path / "run" / "point_cloud"
    for name in ("a.ply", "a.splat", "a.sog", "sog/meta.json", "run/point_cloud/iteration_7/point_cloud.ply"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        formats.write(path, g)
        np.testing.assert_allclose(formats.read(path).mean, g.mean, rtol=1e-3, atol=1e-3)
    (run / "iteration_30").mkdir()
    formats.write(run / "iteration_30" / "point_cloud.ply", g.select(slice(0, 2)))
    assert len(formats.read(tmp_path / "run")) == 2  # the last iteration
    assert len(formats.read(tmp_path / "sog")) == 5
    with pytest.raises(ValueError, match="ksplat"):
        formats.read(tmp_path / "a.ksplat")
    with pytest.raises(ValueError, match="ksplat"):
        formats.write(tmp_path / "a.ksplat", g)
    with pytest.raises(ValueError, match="neither"):
        formats.read(run / "iteration_30")
