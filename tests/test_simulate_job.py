"""The main job in its smallest form: all files, resumption, refusal of nonsense with nothing left behind."""

import json

import numpy as np
import pytest

from experiments import simulate
from experiments.configs.simulate import get_config
from jaxphys import media, splats
from jaxphys.scenes.export import read_motion


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


@pytest.mark.long
def test_a_scene_file_is_simulated_and_exported(tmp_path):
    """Two objects of two laws, one of them a splat from a y-down file; and files for other programs."""
    scene = {
        "format": "jaxphys-scene",
        "version": 1,
        "objects": [
            {"name": "drop", "shape": {"type": "sphere", "center_m": [0.4, 0, 0.6], "radius_m": 0.2}, "spacing_m": 0.1}
            | {"material": {"law": "water", "density": 1000, "bulk_modulus": 1e4}},
            {"name": "robot", "splats": "robot.ply", "up": "-y", "select": {"cluster_voxel_m": 0.07}}
            | {"scale": 0.3, "material": {"law": "neo_hookean", "density": 1000, "E": 1e4, "nu": 0.3}},
        ],
        "grid": {"dx_m": 0.125, "margin_m": 0.3},
        "time": {"seconds": 0.15, "fps": 20},
        "boundaries": [{"type": "walls"}],
        "camera": {"azimuth_degrees": 20, "width": 96, "height": 64},
    }
    (tmp_path / "scene.json").write_text(json.dumps(scene))
    whole = splats.read_ply(get_config().scene)
    splats.write_ply(tmp_path / "robot.ply", whole.select(slice(0, None, 8)))
    config = small()
    config.update(dict(scene=str(tmp_path / "scene.json"), image_pixels=48, export=("ply", "npz", "h5")))
    report = simulate.run(config, tmp_path / "job")
    assert report["objects"] == ["drop", "robot"] and report["laws"] == ["water", "neo_hookean"]
    video, fps = media.read_video(tmp_path / "job" / "video.mp4")
    assert video.shape == (4, 32, 48, 3) and fps == 20
    assert len(list((tmp_path / "job" / "ply").glob("frame_*.ply"))) == 3
    last = splats.read_ply(tmp_path / "job" / "ply" / "frame_0002.ply")
    motion = read_motion(tmp_path / "job" / "motion.h5")
    n = report["gaussians"]
    np.testing.assert_allclose(motion["x"][-1, :n], last.mean[:n], atol=1e-5)
    fell = motion["x"][-1, :, 2].mean() - report["center_start_m"]
    assert fell == pytest.approx(-0.5 * 9.81 * 0.15**2, rel=0.2)
    np.testing.assert_array_equal(read_motion(tmp_path / "job" / "motion.npz")["x"], motion["x"])
    preview = media.read_image(tmp_path / "job" / "preview.png")
    blue = np.array([60, 90, 200]) / 255  # the domain's box
    assert (np.abs(preview - blue).max(-1) < 0.01).any()


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(export=("obj",)), "config.export"),
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
