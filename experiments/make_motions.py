"""Reads the clips of the body benchmark from their original files and stores them as motions of our skeleton.

    python -m experiments.make_motions --raw=FOLDER --out=tests/data/body/motions

FOLDER holds `cmu_mocap` (ASF/AMC, BVH, keyframes, npz) and `deepmimic_motions`; NOTICE names their sources. Writes one
npz per clip, for `jaxphys.body.motion_files.read`, and index.json with the errors of inverse kinematics. Five minutes
on one core; recordings of 120 frames per second are stored at 60. Computed in float64, so the same on every machine to
the digits stored.
"""

from __future__ import annotations

import sys
from pathlib import Path

import jax
import numpy as np
from absl import app, flags
from tqdm import tqdm

from experiments.report import write_json
from jaxphys.body import motion_files

MOCAP_FPS, SITES_FPS = 120.0, 30.0  # of the CMU database, and of MuJoCo MPC's keyframes, whose files do not say
# Frames that are kept, of those at the stored rate; all where a clip is not named.
KEPT = {
    "03_02": slice(26, None),  # the right arm jumps by half a metre at frame 25
    "05_01": slice(1, None),  # the first frame is a T-pose
    "deepmimic_dance_spin": slice(0, 118),  # the last frames jump
    "deepmimic_roll": slice(0, 118),
}
SECOND = slice(None, None, 2)


def sources(raw: Path) -> dict[str, tuple[Path, dict]]:
    """Clip -> file and the arguments of `read`."""
    cmu, found = raw / "cmu_mocap", {}
    for path in sorted((cmu / "raw" / "asfamc").glob("*.amc.gz")):
        found[path.name.split(".")[0]] = (path, dict(fps=MOCAP_FPS, frames=SECOND))
    for path in sorted((cmu / "raw" / "bvh").glob("*.bvh.gz")):
        found[path.name.split(".")[0]] = (path, {} if path.name.startswith("05_01") else dict(frames=SECOND))
    for path in sorted((cmu / "raw" / "mjpc_keyframes").glob("*.xml.gz")):
        clip = path.name.split("-")[-1].removesuffix("_poses.xml.gz")
        found[f"{clip}_mjpc"] = (path, dict(fps=SITES_FPS))
    for path in sorted((cmu / "npz").glob("amp_*.npz")):
        # all but the backflip hold every frame twice
        found[path.stem] = (path, {} if path.stem == "amp_backflip" else dict(frames=SECOND))
    for path in sorted((raw / "deepmimic_motions").glob("humanoid3d_*.txt")):
        found[path.stem.replace("humanoid3d", "deepmimic")] = (path, {})
    for name, (_, options) in found.items():
        if name in KEPT:
            step = options.get("frames", slice(None)).step or 1
            start, stop = (None if k is None else step * k for k in (KEPT[name].start, KEPT[name].stop))
            options["frames"] = slice(start, stop, step)
    if not found:
        raise ValueError(f"{raw} holds neither cmu_mocap nor deepmimic_motions: pass the folder that holds them")
    return found


def run(raw: str | Path, out: str | Path) -> dict[str, dict]:
    """Writes all clips; returns what index.json says."""
    out, index = Path(out), {}
    todo = sources(Path(raw))
    out.mkdir(parents=True, exist_ok=True)
    with jax.enable_x64(True):
        for name, (path, options) in tqdm(todo.items(), desc="retarget", unit="clip", file=sys.stdout):
            clip = motion_files.read(path, **options)
            motion_files.write(out / f"{name}.npz", clip)
            assert clip.error_m is not None  # all hold positions
            index[name] = dict(
                source=path.name,
                frames=clip.motion.frames,
                fps=round(clip.fps, 3),
                height_m=round(clip.height, 4),
                rms_mm=round(1e3 * float(np.sqrt(np.mean(clip.error_m**2))), 1),
                worst_frame_mm=round(1e3 * float(clip.error_m.max()), 1),
            )
    write_json(out / "index.json", index)
    return index


def main(_) -> None:
    index = run(flags.FLAGS.raw, flags.FLAGS.out)
    for name, row in index.items():
        print(
            f"{name:28s} {row['frames']:5d} frames {row['rms_mm']:5.1f} mm rms, {row['worst_frame_mm']:5.1f} mm worst"
        )


if __name__ == "__main__":
    flags.DEFINE_string("raw", None, "folder with cmu_mocap and deepmimic_motions", required=True)
    flags.DEFINE_string("out", "tests/data/body/motions", "where the clips are written")
    app.run(main)
