"""Default of the main job: the robot, dropped.

    python -m experiments.simulate --config=experiments/configs/simulate.py --workdir=runs/simulate
    ... --config.prompt="a robot made of wet sand" --workdir=runs/sand

Hardware: two CPU cores. Time: preview within one minute, all within five. Expected: the robot falls 0.45 m onto the
ground, squashes and rebounds; report.json ends with status_code 0.
"""

from pathlib import Path

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    return ConfigDict(
        dict(
            scene=str(Path(__file__).resolve().parent.parent / "assets" / "playbot_8k.ply"),  # splats, or a scene .json
            model="",  # splats (file or folder) that a .json of another project is about
            dialect="",  # of that .json; empty: detect it
            variant="default",  # "released": laws and colliders as the released codes compute them
            export=(),  # any of "ply" (a file per frame), "npz", "h5"
            prompt="a soft rubber robot drops and bounces",
            up="-y",  # up axis of the file: "-y" (3DGS captures) or "z"
            box=(),  # (x0, y0, z0, x1, y1, z1) [m, z up] that holds the object; empty: the highest connected cluster
            voxel_m=0.07,  # gaps narrower than this do not separate objects
            drop_m=0.45,  # the object is raised by this much
            dx_m=1 / 24,  # cell size
            margin_m=0.5,  # room beside and above the object
            friction=0.4,  # of the ground
            seconds=2.0,
            fps=24.0,
            chunk_frames=8,  # frames between two points of resumption
            image_pixels=384,
            azimuth_degrees=-65.0,  # where the camera stands, from the x axis
        )
    )
