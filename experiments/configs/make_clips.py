"""Clips for the CPU-sized prior.

    python -m experiments.make_clips --config=experiments/configs/make_clips.py --workdir=runs/clips
    ... --config.clips=36000                           the set that the weights that read were trained on last
    ... --config.pixels=64 --config.clips=50000        the set of the GPU-sized prior

Hardware: all CPU cores that the process may use. Time: 0.21 (AMD EPYC) to 0.48 core-seconds
a clip (Intel Xeon), 12 to 31 minutes on four cores.
Expected: report.json with refused_count near 0.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    return ConfigDict(
        dict(
            seed=0,
            clips=12000,
            clips_per_shard=64,
            pixels=32,
            particles=512,
            materials=dict(  # share of each material
                elastic=0.3,
                metal=0.1,
                sand=0.1,
                foam=0.1,
                plasticine=0.1,
                newtonian=0.1,
                non_newtonian=0.1,
                water=0.1,
            ),
        )
    )
