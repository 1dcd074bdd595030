"""What the viewer is given, and what it says where it is not installed."""

import sys

import numpy as np
import pytest

from experiments import view
from jaxphys import splats


def test_frames_of_a_folder_and_of_a_file(tmp_path, capsys):
    rng = np.random.default_rng(0)
    for k in range(2):
        g = splats.Gaussians.create(rng.normal(size=(5, 3)), (0.1, 0.2, 0.3), color=(2.0, 0.5, -1.0), opacity=0.5)
        splats.write_ply(tmp_path / f"frame_{k:04d}.ply", g)
    frames = view.frames_of(tmp_path, "-y")
    assert len(frames) == 2 and "2 frame(s), 5 Gaussians" in capsys.readouterr().out
    np.testing.assert_allclose(frames[1]["centers"][:, 2], -g.mean[:, 1], atol=1e-6)
    np.testing.assert_allclose(frames[1]["covariances"][0].diagonal(), [0.01, 0.09, 0.04], rtol=1e-4)
    np.testing.assert_allclose(frames[1]["rgbs"], np.broadcast_to([1.0, 0.5, 0.0], (5, 3)), atol=1e-6)
    assert frames[1]["opacities"].shape == (5, 1)
    assert len(view.frames_of(tmp_path / "frame_0000.ply", "z")) == 1
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="neither"):
        view.frames_of(tmp_path / "empty", "z")


def test_a_missing_viewer_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "viser", None)
    g = splats.Gaussians.create(np.zeros((3, 3)), 0.1, color=0.5)
    splats.write_ply(tmp_path / "a.ply", g)
    with pytest.raises(SystemExit, match="pip install"):
        view.main([str(tmp_path / "a.ply")])
