"""Quality of the prior.

    python -m experiments.eval_prior --config=experiments/configs/eval_prior.py --workdir=runs/prior_eval

Hardware: four CPU cores, about fifty minutes.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    return ConfigDict(
        dict(
            prior="runs/prior/prior.safetensors",
            reader="",  # weights that read captions back; empty: those of `prior`
            clips="runs/clips",
            steps=16,  # of the sampler
            samples=256,
            judge_steps=10_000,
            read_back_clips=200,
            noise_low=0.6,
            noise_high=0.98,
            noise_levels=8,
            noise_draws=4,
            candidates=17,
            fitted_scenes=40,
        )
    )
