"""Pictures, videos and plots: what people look at. Nothing here needs a display."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from jaxphys.files import atomic_path

_IMAGES = (".png", ".jpg", ".jpeg")
_VIDEOS = (".mp4", ".gif")
_SLACK = 1e-3  # rounding of a renderer; less than a third of one 8-bit step


def write_video(path: str | os.PathLike, video, fps: float) -> None:
    """Writes a video as mp4 (H.264, high quality) or as an endlessly repeating gif, by the suffix of `path`.

    H.264 needs an even width and height: an odd edge is repeated once, so the file is up to one pixel larger.

    Args:
        path: ends in .mp4 or .gif; the folder must exist.
        video: (T, H, W, 3) float in [0, 1].
        fps: frames per second; a gif stores hundredths of a second per frame.

    Raises:
        ValueError: wrong shape, dtype or range, NaN, an unknown suffix, a missing folder; no file is left behind.
    """
    path = _checked_path(path, _VIDEOS)
    frames = _to_bytes(video, "video", 4)
    if not (np.isfinite(fps) and fps > 0):
        raise ValueError(f"fps must be a positive number, got {fps}")
    import imageio.v2 as imageio

    with atomic_path(path) as temporary:
        if path.suffix.lower() == ".gif":
            imageio.mimwrite(temporary, list(frames), duration=1000.0 / fps, loop=0)
            return
        even = [(0, 0), (0, frames.shape[1] % 2), (0, frames.shape[2] % 2), (0, 0)]
        options = dict(fps=fps, codec="libx264", quality=9, macro_block_size=1, pixelformat="yuv420p")
        with imageio.get_writer(temporary, **options) as writer:
            for frame in np.pad(frames, even, mode="edge"):
                writer.append_data(frame)


def read_video(path: str | os.PathLike) -> tuple[np.ndarray, float]:
    """Reads a video (T, H, W, 3) float32 in [0, 1] and its frames per second.

    Raises:
        ValueError: the file cannot be decoded, or has no frames.
        FileNotFoundError: no such file.
    """
    path = _existing(path)
    import imageio.v2 as imageio

    try:
        with imageio.get_reader(path) as reader:
            meta = reader.get_meta_data()
            frames = [np.asarray(frame)[..., :3] for frame in reader.iter_data()]
    except Exception as error:  # each plug-in has its own exceptions
        raise ValueError(f"{path}: cannot be read as a video ({error})") from error
    if not frames:
        raise ValueError(f"{path}: the video has no frames")
    fps = meta["fps"] if "fps" in meta else 1000.0 / meta["duration"] if meta.get("duration") else float("nan")
    return np.stack(frames).astype(np.float32) / 255.0, float(fps)


def write_image(path: str | os.PathLike, image) -> None:
    """Writes one picture as png or jpg.

    Args:
        path: ends in .png, .jpg or .jpeg.
        image: (H, W, 3), or (H, W) for a mask or a normalised depth; float in [0, 1].

    Raises:
        ValueError: as `write_video`.
    """
    path = _checked_path(path, _IMAGES)
    array = np.asarray(image)
    pixels = _to_bytes(array[..., None].repeat(3, -1) if array.ndim == 2 else array, "image", 3)
    from PIL import Image

    with atomic_path(path) as temporary:
        Image.fromarray(pixels).save(temporary, quality=95)


def read_image(path: str | os.PathLike) -> np.ndarray:
    """Reads a picture (H, W, 3) float32 in [0, 1]; transparency is dropped.

    Raises:
        ValueError: the file cannot be decoded.
        FileNotFoundError: no such file.
    """
    path = _existing(path)
    from PIL import Image

    try:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
    except OSError as error:
        raise ValueError(f"{path}: cannot be read as a picture ({error})") from error
    return pixels.astype(np.float32) / 255.0


def plot_series(
    path: str | os.PathLike,
    x,
    series: Mapping[str, object],
    xlabel: str,
    ylabel: str,
    *,
    title: str = "",
    log_y: bool = False,
) -> None:
    """Plots named curves over x and writes them as png, pdf or svg.

    Args:
        x: (T,).
        series: label -> (T,). NaN leaves a gap in a curve.
        xlabel, ylabel: with the unit, for example "time [s]".

    Raises:
        ValueError: no series, lengths that differ, an unknown suffix, a missing folder.
    """
    path = _checked_path(path, (".png", ".pdf", ".svg"))
    x = np.asarray(x)
    curves = {label: np.asarray(y) for label, y in series.items()}
    if x.ndim != 1 or not curves:
        raise ValueError(f"x must have shape (T,) and series at least one entry, got {x.shape} and {list(curves)}")
    for label, y in curves.items():
        if y.shape != x.shape:
            raise ValueError(f"series {label!r} must have the shape of x, {x.shape}, got {y.shape}")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for label, y in curves.items():
        axes.plot(x, y, label=label)
    axes.set(xlabel=xlabel, ylabel=ylabel, title=title, yscale="log" if log_y else "linear")
    axes.grid(alpha=0.3)
    if len(curves) > 1:
        axes.legend()
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150)


def _checked_path(path, suffixes) -> Path:
    path = Path(path)
    if path.suffix.lower() not in suffixes:
        raise ValueError(f"{path}: unknown suffix {path.suffix!r}; use one of {', '.join(suffixes)}")
    return path


def _existing(path) -> Path:
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    return path


def _to_bytes(values, name: str, ndim: int) -> np.ndarray:
    """Checked conversion of [0, 1] floats to 8-bit pixels."""
    values = np.asarray(values)
    shape = "(T, H, W, 3)" if ndim == 4 else "(H, W, 3)"
    if values.ndim != ndim or values.shape[-1] != 3 or 0 in values.shape:
        raise ValueError(f"{name} must have shape {shape}, none of them zero, got {values.shape}")
    # bfloat16 is a float for NumPy's purposes but not for its type tree
    if values.dtype.kind in "iubcO":
        raise ValueError(f"{name} must be float in [0, 1], got {values.dtype}; divide 8-bit pixels by 255")
    values = values.astype(np.float32)
    if not np.isfinite(values).all():
        raise ValueError(
            f"{name} holds NaN or infinity: what made it has failed (a Rendering says why: call its check())"
        )
    low, high = float(values.min()), float(values.max())
    if low < -_SLACK or high > 1 + _SLACK:
        raise ValueError(f"{name} must lie in [0, 1], got [{low:.4g}, {high:.4g}]; clip it, or divide by its range")
    return np.round(np.clip(values, 0.0, 1.0) * 255.0).astype(np.uint8)
