"""Default of experiments/score_motion.py.

    python -m experiments.score_motion tests/data/body/motions/02_01.npz --workdir=runs/score
    python -m experiments.score_motion hmr4d_results.pt --config.fps=30

Hardware: one CPU core. Time: half a minute to compile, then about two seconds per second of motion, most of it for the
video. Expected for the walk above: a total above 0.9.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    return ConfigDict(
        dict(
            fps=0.0,  # frames per second of the files; 0: as they say, and an error where they do not
            up="",  # axis of the files that points up, such as "y" or "-z"; empty: found out
            unit_m=0.0,  # length unit of the files; 0: found out
            height_m=0.0,  # stature; 0: from the legs of the recording, or 1.75
            mass_kg=0.0,  # 0: by a body mass index of 24.5 kg/m^2
            asf="",  # skeleton of AMC files; empty: the one beside each
            smpl_model="",  # the user's own SMPL model (.npz), for the proportions of SMPL and GVHMR files
            ground="estimate",  # "estimate", "none", or a height such as "0.0" [m]
            variant="default",  # or "paper"
            video=True,
            image_pixels=480,
            azimuth_degrees=-55.0,  # where the camera stands, from the x axis
        )
    )
