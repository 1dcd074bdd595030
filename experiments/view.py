r"""Looks at a splat or at a simulated motion in the browser (needs the extra `viewer`).

    python -m experiments.view experiments/assets/playbot_8k.ply --up=-y
    python -m experiments.view runs/simulate/ply

A folder of frame_*.ply (`--config.export="('ply',)"` of the main job) is played as a motion: a slider, a button and the
frame rate are in the panel. The page is served on --host and --port until Ctrl-C; on a machine without a display give
--host=0.0.0.0 and open the page from another one.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from jaxphys import splats
from jaxphys.scenes import survey
from jaxphys.scenes.native import UPS


def frames_of(path: Path, up: str) -> list[dict[str, np.ndarray]]:
    """Centres, covariances, colours and opacities of every frame, z up.

    Raises:
        ValueError: a folder without frames, or what the reader of the file refuses.
    """
    files = sorted(path.glob("frame_*.ply")) if path.is_dir() else []
    frames = []
    for file in tqdm(files or [path], desc="read", unit="frame", file=sys.stdout):
        g = splats.read(file)
        if up != "z":
            g = g.transform(rotation=UPS[up])
        frames.append(
            dict(
                centers=np.asarray(g.mean),
                covariances=np.asarray(g.covariance()),
                rgbs=np.clip(np.asarray(splats.sh_to_rgb(g.sh)), 0.0, 1.0),
                opacities=np.asarray(g.opacity)[:, None],
            )
        )
    print(f"{len(frames)} frame(s), {len(frames[0]['centers'])} Gaussians; {survey(g).describe()}")
    return frames


def serve(frames: list[dict[str, np.ndarray]], host: str, port: int, fps: float) -> Any:
    """A server that shows the frames, and one call of which advances the motion."""
    try:
        import viser
    except ImportError:
        raise ValueError("the viewer is not installed: pip install 'jaxphys[viewer]'") from None
    server = viser.ViserServer(host=host, port=port)
    server.scene.set_up_direction("+z")
    handles = [
        server.scene.add_gaussian_splats(f"/frame_{k}", **frame, visible=k == 0) for k, frame in enumerate(frames)
    ]
    slider = server.gui.add_slider("frame", 0, max(1, len(frames) - 1), 1, 0, disabled=len(frames) == 1)
    playing = server.gui.add_checkbox("play", len(frames) > 1)
    rate = server.gui.add_slider("frames per second", 1, 60, 1, min(60, max(1, round(fps))))
    shown = [0]

    def show(k: int) -> None:
        handles[shown[0]].visible = False
        handles[k].visible = True
        shown[0] = k

    slider.on_update(lambda _: show(min(int(slider.value), len(frames) - 1)))

    def advance() -> None:
        if playing.value and len(frames) > 1:
            slider.value = (shown[0] + 1) % len(frames)
        time.sleep(1.0 / rate.value)

    return server, advance


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path, help="a splat file, or a folder of frame_*.ply")
    parser.add_argument("--up", choices=tuple(UPS), default="z", help="the file's axis that points up")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--fps", type=float, default=24.0)
    options = parser.parse_args(argv)
    try:
        _, advance = serve(frames_of(options.path, options.up), options.host, options.port, options.fps)
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"error: {error}")
    print(f"open http://{options.host}:{options.port}, stop with Ctrl-C", flush=True)
    try:
        while True:
            advance()
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
