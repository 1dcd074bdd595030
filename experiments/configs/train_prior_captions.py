"""The second half of the CPU-sized prior's training: it learns to tell captions apart.

    python -m experiments.train_prior --config=experiments/configs/train_prior_captions.py --config.clips=runs/clips \\
        --config.start=runs/prior/prior.safetensors --workdir=runs/prior_captions

Hardware: four CPU cores, 0.5 s a step (AMD EPYC) to 0.9 s, one to two hours. Expected: loss in metrics.jsonl falls from
1.3, worse than a guess among three, and held_out_caption_loss ends near 0.4; what it yields draws no more
(held_out_loss). The shipped weights began at those of an earlier training: see their card.
"""

from ml_collections import ConfigDict

from experiments.configs import train_prior


def get_config() -> ConfigDict:
    config = train_prior.get_config()
    config.update(
        dict(
            start="runs/prior/prior.safetensors",
            reads=True,
            rounded=False,
            steps=8_500,
            batch=32,
            learning_rate=4e-4,
            warmup_steps=100,
            ema_decay=0.998,
            checkpoint_every=250,
        )
    )
    return config
