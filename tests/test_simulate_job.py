"""The main job in its smallest form: all files, resumption, refusal of nonsense with nothing left behind."""

import json

import numpy as np
import pytest

from experiments import simulate
from experiments.configs.simulate import get_config
from jaxphys import media


def small():
    config = get_config()
    config.update(dict(dx_m=1 / 8, seconds=4 / 24, chunk_frames=2, image_pixels=32, drop_m=0.1, margin_m=0.3))
    return config


def test_job_writes_everything_and_resumes(tmp_path):
    first = simulate.run(small(), tmp_path)
    video, fps = media.read_video(tmp_path / "video.mp4")
    assert video.shape == (5, 32, 32, 3) and fps == 24
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["material"] == "rubber" and report["simulated_E"] > 0 and "device" in report
    for name in ("preview.png", "energy.png", "momentum.png"):
        assert (tmp_path / name).stat().st_size > 0
    last = tmp_path / "chunk_001.npz"
    whole = np.load(last)["x"]
    last.unlink()
    again = simulate.run(small(), tmp_path)
    np.testing.assert_array_equal(np.load(last)["x"], whole)
    assert again["center_lowest_m"] == first["center_lowest_m"]
    other = small()
    other.prompt = "jelly"
    with pytest.raises(ValueError, match="differs in \\['prompt'\\]"):
        simulate.run(other, tmp_path)


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(prompt=" "), "empty"),
        (dict(up="x"), "config.up"),
        (dict(voxel_m=0.5), "one piece"),
        (dict(box=(5.0, 5.0, 5.0, 6.0, 6.0, 6.0)), "the scene spans"),
    ],
)
def test_nonsense_is_refused_before_anything_is_written(tmp_path, change, message):
    config = small()
    config.update(change)
    with pytest.raises(ValueError, match=message):
        simulate.run(config, tmp_path / "job")
    assert not (tmp_path / "job").exists()


def test_a_broken_file_is_refused(tmp_path):
    config = small()
    config.scene = str(tmp_path / "broken.ply")
    (tmp_path / "broken.ply").write_bytes(b"ply\nformat binary_little_endian 1.0\nelement vertex 10\nend_header\n")
    with pytest.raises(ValueError):
        simulate.run(config, tmp_path / "job")
    assert not (tmp_path / "job").exists()
