"""The job that scores motion files, in its smallest form: all files written, bad ones named, nothing half done."""

import json
from pathlib import Path

import numpy as np
import pytest

from experiments import score_motion
from experiments.configs.score_motion import get_config
from jaxphys import media
from jaxphys.body import motion_files

MOTIONS = Path(__file__).parent / "data" / "body" / "motions"


def small(**changes):
    config = get_config()
    config.update(dict(image_pixels=64) | changes)
    return config


def start_of(name: str, frames: int, folder: Path) -> Path:
    """The first frames of a stored motion, as a file of its own."""
    clip = motion_files.read(MOTIONS / f"{name}.npz", frames=slice(0, frames))
    motion_files.write(folder / f"{name}.npz", clip)
    return folder / f"{name}.npz"


def test_job_scores_what_it_can_and_names_the_rest(tmp_path, capsys):
    walk = start_of("02_01", 40, tmp_path)
    broken = tmp_path / "nan.npz"
    np.savez(broken, rotation=np.full((9, 24, 3), np.nan), translation=np.zeros((9, 3)), fps=30.0)
    short = tmp_path / "short.npz"
    np.savez(short, rotation=np.zeros((1, 24, 3)), translation=np.zeros((1, 3)), fps=30.0)
    with pytest.raises(ValueError, match=r"(?s)nan\.npz.*NaN.*short\.npz: 1 frame"):
        score_motion.run([broken, walk, short], small(), tmp_path / "runs")
    folder = tmp_path / "runs" / "02_01"
    report = json.loads((folder / "report.json").read_text())
    assert 0.8 < report["total"] <= 1.0 and report["fps"] == 60.0 and "device" in report
    assert report["axis_contact"] <= 1.0 and report["score_sliding"] > 0.5 and report["confidence"] > 0.0
    frames = json.loads((folder / "frames.json").read_text())
    assert len({len(v) for v in frames.values()}) == 1 and frames["time_s"][1] == pytest.approx(1 / 30)
    video, fps = media.read_video(folder / "video.mp4")
    assert video.shape == (len(frames["time_s"]), 64, 64, 3) and fps == 30.0
    for name in ("kinematic.png", "contact.png", "dynamic.png", "force.png"):
        assert (folder / name).stat().st_size > 0
    assert not (tmp_path / "runs" / "nan").exists() and not (tmp_path / "runs" / "short").exists()
    assert "sliding" in capsys.readouterr().out


@pytest.mark.parametrize(
    "files, changes, message",
    [
        ([], {}, "one motion file or more"),
        (["a.npz"], dict(ground="floor"), "config.ground"),
        (["none.bvh"], {}, "no such file"),
        ([MOTIONS / "02_01.npz"], dict(fps=-1.0), "fps must be one positive number"),
        ([MOTIONS / "02_01.npz"], dict(variant="best"), "variant"),
    ],
)
def test_nonsense_is_refused_before_anything_is_written(tmp_path, files, changes, message):
    with pytest.raises(ValueError, match=message):
        score_motion.run(files, small(**changes), tmp_path / "runs")
    assert not (tmp_path / "runs").exists()
