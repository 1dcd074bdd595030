"""Which method finds the value that a caption means? Held-out scenes, stored candidates, all methods beside each other.

    python -m experiments.eval_motionphysics --config=experiments/configs/eval_motionphysics.py \\
        --config.clips=runs/clips --config.prior=runs/prior/prior.safetensors \\
        --config.reader=runs/prior_captions/prior.safetensors --workdir=runs/motionphysics_eval

Hardware: all CPU cores that the process may use. Time: 70 minutes on four AMD EPYC cores. Candidates by Taichi are
one more gap of the scenes that python -m experiments.bench.peer_clips has made them for. Without a prior
(--config.prior="") what needs one is skipped by name; --config.loop_scenes=0 leaves the loop out. Expected: report.json
and rows.json; a rerun goes on after the last scene.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    materials = ("metal", "sand", "foam", "plasticine", "newtonian", "non_newtonian", "water")
    others = {f"training_{material}": 8 for material in materials}
    return ConfigDict(
        dict(
            prior="",  # safetensors of train_prior, for guidance; empty: no method that needs one
            reader="",  # those of train_prior_captions, for posteriors; empty: the weights of `prior`
            clips="runs/clips",  # folder of make_clips, for the regression; empty: none
            candidates=17,
            pixels=32,  # these four as in make_clips
            frames=16,
            particles=512,
            dx_m=1 / 16,
            processes=0,  # 0: one per core
            scenes=ConfigDict(  # kind_material -> how many
                dict(
                    training_elastic=160,
                    flat_elastic=24,
                    hollow_elastic=160,
                    shape_elastic=24,
                    splat_elastic=24,
                    fast_elastic=24,
                    obstacle_elastic=24,
                    two_elastic=24,
                    **others,
                )
            ),
            asked=ConfigDict(  # kind_material -> of how many of these the prior is asked
                dict(
                    training_elastic=48,
                    flat_elastic=0,
                    hollow_elastic=24,
                    shape_elastic=4,
                    splat_elastic=4,
                    fast_elastic=4,
                    obstacle_elastic=4,
                    two_elastic=0,
                    **others,
                )
            ),
            first_seed=ConfigDict(  # kind_material -> of how many the reader is asked with the first seed at least
                dict(
                    training_elastic=160,
                    hollow_elastic=160,
                    **others,
                )
            ),
            # of guidance by the prior; the reader's is the contrast
            methods=("sds", "mds", "lmd_published", "lmd_tuned", "reconstruction", "reference"),
            property_scenes=20,  # elastic scenes that are asked for every stiffness word
            class_scenes=8,  # of each material, for the decision between materials
            class_candidates=4,  # of each of the eight materials in such a scene
            pair_scenes=4,  # of metal and of plasticine, for stiffness and yield stress at once
            pair_candidates=7,  # along each of the two
            gap_scenes=6,  # elastic, for the domain gaps
            loop_scenes=10,  # elastic training-like scenes with the simulator in the loop
            loop_steps=40,
            window_low=0.6,  # noise range of the posterior and the reconstruction, fixed before any figure was seen
            window_high=0.98,
            other_windows=((0.3, 0.8), (0.3, 0.98), (0.85, 0.98)),  # what the fixed one is worth, beside it
            window_scenes=20,  # elastic training-like scenes that are asked in these
            known=4,  # first frames that are given
            levels=5,
            draws=2,
            seeds=(0, 1, 2),  # of elastic scenes like the training clips; elsewhere the first alone
        )
    )
