"""The CPU-sized prior: 16 frames of 32x32 pixels.

    python -m experiments.train_prior --config=experiments/configs/train_prior.py --config.clips=runs/clips \\
        --workdir=runs/prior

Hardware: four CPU cores, two to three hours (0.2 to 0.4 s a step). Expected: held_out_loss in report.json is
below a tenth of the first loss.
GPU size: --config.width=256 --config.layers=8 --config.patch=2,8,8 --config.batch=256 on clips of 64 pixels.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    return ConfigDict(
        dict(
            clips="runs/clips",
            seed=0,
            start="",  # weights that are trained further, with their own sizes; empty: random ones
            reads=False,  # True: it learns to tell captions apart (`caption_loss`) in place of drawing clips
            patch=(4, 8, 8),
            width=160,
            layers=5,
            heads=4,
            rounded=True,  # products in bfloat16, for CPUs with AMX; elsewhere False: the gain was measured there only
            steps=27_000,
            batch=36,  # divides among 2, 3 or 4 cores
            learning_rate=1.5e-3,
            warmup_steps=500,
            ema_decay=0.9995,
            checkpoint_every=1000,
        )
    )
