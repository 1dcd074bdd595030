"""Repair of a faulty motion by the gradient of the PhyMotion reward.

    python -m experiments.repair_motion FILE --config=experiments/configs/repair_motion.py --workdir=runs/repair

Hardware: one CPU core. Time: about two minutes for a clip of 2 s, most of it compilation.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    return ConfigDict(
        dict(
            steps=100,
            rate_rad=0.002,  # rms length of a step of the turns
            rate_m=0.004,  # of the root
            keep=2.0,  # weight of staying close
            ground="estimate",  # or a height [m]
            frames=0,  # of the file, from its first; 0: all
            video=True,
        )
    )
