"""The fitting job: all files, the true values, and the same result after a kill at any moment."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments import fit, fit_inputs
from experiments.configs.fit import get_config
from jaxphys import media, splats
from jaxphys.scenes import identify, search

ROOT = Path(__file__).resolve().parent.parent
SMALL = dict(dx_m=0.1, frames=3, seconds=0.12, starts=2, image_pixels=16)


def small(**changes):
    config = get_config()
    config.update(SMALL | changes)
    return config


def job(workdir, *options):
    flags = [f"--config.{name}={value}" for name, value in SMALL.items()]
    command = [sys.executable, "-m", "experiments.fit", "--config=experiments/configs/fit.py", f"--workdir={workdir}"]
    return subprocess.Popen(
        [*command, *flags, *options], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def numbers(workdir):
    report = json.loads((workdir / "report.json").read_text())
    return {k: v for k, v in report.items() if k not in ("seconds", "date", "commit")}


@pytest.mark.parametrize("kills", [(3,), pytest.param((2, 4, 6), marks=pytest.mark.long)], ids=["once", "often"])
def test_a_killed_job_goes_on_to_the_identical_result(kills, tmp_path, capsys):
    config = small(starts=1)
    fit.run(config, tmp_path / "whole")
    whole = capsys.readouterr().out
    assert "E: predicted relative deviation" in whole and "NOT IDENTIFIABLE" not in whole
    killed, path = tmp_path / "killed", tmp_path / "killed" / "fit.npz"
    moments = [0]
    for least in kills:
        process = job(killed, "--config.starts=1")
        while process.poll() is None:
            if path.exists() and search.restore(path)[0].evaluations >= least:
                os.kill(process.pid, signal.SIGKILL)
                break
            time.sleep(0.005)
        process.communicate()
        assert process.returncode == -signal.SIGKILL, "the job ended before it could be killed"
        moments.append(search.restore(path)[0].evaluations)
    fit.run(config, killed)
    total = search.restore(path)[0].evaluations
    assert moments == sorted(set(moments)) and moments[1] >= kills[0] and moments[-1] < total
    assert numbers(killed) == numbers(tmp_path / "whole")
    one, other = (search.restore(tmp_path / name / "fit.npz")[0] for name in ("whole", "killed"))
    np.testing.assert_array_equal(one.history, other.history)
    report = numbers(killed)
    for name in ("E", "nu"):
        assert report[f"{name}_relative_error"] < max(0.02, 4 * report[f"{name}_relative_sigma"])
    for name in ("cost.png", "parameters.png", "compare.mp4"):
        assert (killed / name).stat().st_size > 0


def own_tracks(folder):
    """The example as a file with gaps, and a velocity that is not known."""
    config = small()
    made = fit_inputs.example(config)
    x = np.concatenate([np.asarray(made.particles.x)[None], made.x])
    x[2, 5:9] = np.nan
    volume = np.asarray(made.particles.volume)
    np.savez(folder / "tracks.npz", x=x, fps=made.fps, volume=volume, v=np.asarray(made.particles.v))
    config.reference = str(folder / "tracks.npz")
    config.unknown.velocity = (-4.0, 4.0)
    config.starts = 1
    return config


def test_own_tracks_with_gaps_fit_the_truth(tmp_path):
    problem, shapes, fps = fit_inputs.prepare(own_tracks(tmp_path))
    assert shapes == {"E": (), "nu": (), "velocity": (3,)} and fps == pytest.approx(25.0)
    assert int(np.isnan(np.asarray(problem.seen.x)).sum()) == 12
    truth = {"E": 2e4, "nu": 0.3, "velocity": np.asarray(problem.particles.v[0])}
    r, failed = jax.jit(identify.residuals)(problem, identify.encode(problem, truth), problem.seen.frames)
    seen = np.isfinite(np.asarray(problem.seen.x)).sum()
    assert not failed and 0.8 < float(np.sum(np.square(r))) / seen < 1.2  # what is left is the example's noise


@pytest.mark.long
def test_own_tracks_with_gaps_and_an_unknown_velocity(tmp_path):
    report = fit.run(own_tracks(tmp_path), tmp_path / "job")
    assert report["unknowns"] == 5 and "E_relative_error" not in report
    assert abs(report["velocity[2]_fitted"] + 2.0) < 0.1


@pytest.mark.long
def test_adam_goes_down_and_resumes(tmp_path):
    config = small(method="adam", adam_steps=12)
    report = fit.run(config, tmp_path)
    with np.load(tmp_path / "fit.npz") as stored:
        costs = stored["costs"]
    assert costs.shape == (12, 2) and report["gradient_evaluations"] == 24
    assert costs[-1].min() < 0.7 * costs[2].min()  # the first step sees the first third of the frames only
    again = fit.run(config, tmp_path)
    assert again["E_fitted"] == report["E_fitted"]


def test_fields_have_one_value_per_particle_and_a_prior():
    problem, shapes, _ = fit_inputs.prepare(small(by_particle=("E",)))
    assert shapes == {"E": (64,), "nu": ()} and problem.pairs.shape[1] == 2
    start = fit.random_starts(problem, shapes, 2, 0)[1]
    assert start["E"].shape == (64,) and float(np.ptp(start["E"])) == 0.0


@pytest.mark.long
def test_own_video(tmp_path):
    """The example as files: a splat, an mp4 and a camera."""
    config = small(reference="example_video")
    made = fit_inputs.example(config)
    splats.write_ply(tmp_path / "block.ply", made.gaussians)
    still = np.asarray(splats.render(made.gaussians, made.camera).image)[None]
    media.write_video(tmp_path / "seen.mp4", np.clip(np.concatenate([still, made.images]), 0, 1), made.fps)
    config.update(dict(reference=str(tmp_path / "seen.mp4"), splat=str(tmp_path / "block.ply"), starts=1))
    problem, shapes, fps = fit_inputs.prepare(config)
    assert problem.seen.image.shape == (3, 16, 16, 3) and fps == pytest.approx(made.fps, rel=1e-3)
    assert shapes == {"E": (), "nu": ()}


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(reference="nowhere.npz"), "no such file"),
        (dict(reference="example_other"), "example_video"),
        (dict(law="jam"), "'jam' is unknown, choose one of"),
        (dict(method="guess"), "gauss_newton"),
        (dict(starts=0), "at least 1"),
        (dict(by_particle=("velocity",)), "parameters of the law"),
        (dict(by_part=("E",)), "needs the array `part`"),
        (dict(unknown=dict(E=(1e3, 1e2))), "lo < hi"),
        (dict(unknown=dict(E=(1e3,))), "lo, hi"),
        (dict(cameras="nowhere.json", reference="example_video"), "nowhere.json"),
    ],
)
def test_nonsense_is_refused_before_anything_is_written(tmp_path, change, message):
    config = small(**change)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        fit.run(config, tmp_path / "job")
    assert not (tmp_path / "job").exists()


@pytest.mark.parametrize(
    "arrays, message",
    [
        (dict(x=np.zeros((3, 4, 3))), "fps"),
        (dict(x=np.zeros((3, 4)), fps=10.0), "shape"),
        (dict(x=np.full((3, 4, 3), np.nan), fps=10.0), "finite"),
        (dict(x=np.full((3, 4, 3), 0.2), fps=-1.0), "positive"),
    ],
)
def test_damaged_tracks_are_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "tracks.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        fit.run(small(reference=str(tmp_path / "tracks.npz")), tmp_path / "job")
    (tmp_path / "tracks.npz").write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(ValueError, match="cannot be read"):
        fit.run(small(reference=str(tmp_path / "tracks.npz")), tmp_path / "job")
