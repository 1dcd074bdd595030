"""Default of the main job: the captured robot, and a prompt that says how it moves.

    python -m experiments.motionphysics --config=experiments/configs/motionphysics.py --workdir=runs/motionphysics
    ... --config.prompt="a rubber robot is dropped, it bounces low" --workdir=runs/low
    ... --config.prior=runs/prior/prior.safetensors

Hardware: two CPU cores. Time: preview within one minute, all within ten. Expected: the robot becomes softer than the
material table proposes, until it squashes as the prompt says; from the same start the opposite prompt ends stiffer.
"""

from ml_collections import ConfigDict

from experiments.configs import simulate


def get_config() -> ConfigDict:
    config = simulate.get_config()
    config.update(
        dict(
            prompt="a very soft rubber robot is dropped, it is squashed flat",
            seconds=1.25,
            image_pixels=256,
        )
    )
    own = dict(
        prior="shipped",  # what reads, with the package, or a safetensors of train_prior; empty: outcome words only
        parts=(),  # materials of parts: "x0,y0,z0,x1,y1,z1: prompt", a box [m, z up, before it is raised] and a prompt,
        # or "k: prompt" for the Gaussians to which the mask gives the number k
        mask="",  # .npy with one integer per Gaussian of the scene's file; 0: what config.prompt is about
        provider_url="",  # of an OpenAI-compatible endpoint, up to /chat/completions; empty: the offline table
        provider_model="",  # its model; the prompt's words go there, no picture does
        provider_key="OPENAI_API_KEY",  # variable of the environment that holds the key, if one is needed
        candidates=9,  # per class of material
        refinements=8,  # evaluations of the gradient, at most and at least 1
        unsure=0.6,  # below this confidence of the proposal its alternatives are candidates too
        classes=3,  # at most
        least_decades=1.5,  # the search spans at least this much on either side of the proposal
        particles=1024,  # of a candidate
        cells_per_metre=20,  # of a candidate, whose body is 0.34 m long (see experiments/motion_search.py)
        opposite=True,  # asks for the opposite, too, from the same start
        level=0.9,  # of the reported intervals
        seed=0,
    )
    config.update(own)
    return config
