"""What the evaluation of MotionPhysics looks like: answers against hidden values, and the scenes it fails on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments.motion_fields import Videos, restore
from experiments.motion_looks import paint_look
from experiments.motion_scenes import UNKNOWN, HeldOut
from experiments.report import write_json
from jaxphys.files import atomic_path
from jaxphys.media import write_image
from jaxphys.scenes.looks import paint

SHOWN = ("outcome_match", "posterior_frames", "reconstruction_coarse", "regression", "words_alone", "lmd_published")
JUDGED = ("outcome_match", "posterior_frames")  # whose failures are listed
EVERY = 3  # frames of a strip are that many apart


def scatter(rows: Sequence[dict], path: Path, near: float) -> None:
    """Answers to outcome captions of elastic scenes against the hidden stiffness, one panel per method."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    mine = [r for r in rows if r["asked"] == "outcome" and r["material"] == "elastic"]
    methods = [m for m in SHOWN if any(r["method"] == m for r in mine)]
    if not methods:
        return
    figure = Figure(figsize=(4 * min(len(methods), 3), 3.8 * -(-len(methods) // 3)), layout="constrained")
    FigureCanvasAgg(figure)
    for panel, method in zip(figure.subplots(-(-len(methods) // 3), min(len(methods), 3), squeeze=False).flat, methods):
        for like, label in ((True, "like the training clips"), (False, "new kinds")):
            own = [r for r in mine if r["method"] == method and (r["kind"] == "training") == like]
            panel.plot([r["target"] for r in own], [r["answer"] for r in own], "." if like else "x", ms=4, label=label)
        ends = np.array([r["target"] for r in mine])
        line = np.array([ends.min(), ends.max()])
        panel.plot(line, line, "k-", lw=0.8)
        panel.fill_between(line, line - near, line + near, color="k", alpha=0.08)
        panel.set(title=method, xlabel="hidden log10 E [Pa]", ylabel="answer")
        panel.legend(fontsize=7)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)


def failures(rows: Sequence[dict], near: float, most: int = 12) -> list[dict]:
    """The answers to outcome captions that are farthest off, worst first, of each method that is judged."""
    out = []
    for method in JUDGED:
        own = [r for r in rows if r["method"] == method and r["asked"] == "outcome" and r["error"] > near]
        own = [r for r in own if UNKNOWN[r["material"]] != "friction_angle" and r.get("seed", 0) == 0]
        out += sorted(own, key=lambda r: -r["error"])[:most]
    keys = ("method", "scene", "action", "shape", "target", "answer", "error", "interval_80")
    return [{key: row[key] for key in keys if key in row} for row in out]


def strips(found: Sequence[dict], scenes: dict[str, HeldOut], folder: Path) -> np.ndarray | None:
    """Frames of the hidden motion above those of the candidate nearest to the answer, for failures that were drawn."""
    out = []
    for row in found:
        path, held = folder / f"{row['scene']}.videos.npz", scenes[row["scene"]]
        if not path.exists():
            continue
        videos: Videos = restore(path, Videos)
        nearest = int(np.argmin(np.abs(np.linspace(*held.ends, videos.slopes.shape[1]) - row["answer"])))
        for maps in (videos.maps[0, -1], videos.maps[0, nearest]):
            video = np.asarray(paint(np.float32(maps) / 255.0, np.asarray(held.scene.view), paint_look(held)))
            out.append(np.concatenate(list(video[::EVERY]), 1))
        out.append(np.ones((4, *out[-1].shape[1:])))
    return np.concatenate(out, 0) if out else None


def write(rows: Sequence[dict], scenes: Sequence[HeldOut], said: dict[str, str], folder: Path, near: float) -> None:
    """answers.png, failures.png and failures.json in the folder.

    Args:
        rows: of the evaluation.
        scenes: held-out.
        said: the outcome caption of each scene, by its name.
        folder: of the evaluation.
        near: an answer farther off is a failure.
    """
    scatter(rows, folder / "answers.png", near)
    found = [{**row, "caption": said[row["scene"]]} for row in failures(rows, near)]
    write_json(folder / "failures.json", {"failures": found})
    sheet = strips(found, {h.name: h for h in scenes}, folder / "fields")
    if sheet is not None:
        write_image(folder / "failures.png", np.kron(np.clip(sheet, 0.0, 1.0), np.ones((2, 2, 1))))
