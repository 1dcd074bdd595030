"""Default of the fitting job: an example whose answer is known.

    python -m experiments.fit --config=experiments/configs/fit.py --workdir=runs/fit
    ... --config.reference=my_tracks.npz --config.law=metal --workdir=runs/mine

Hardware: one CPU core. Time: two minutes. Expected: E and nu within 1 % of the true values, report.json says so.

A reference of tracks is an npz with `x` (1 + T, N, 3) [m], the particles at t = 0 first and NaN where one was not seen
later, and `fps`; it may hold `volume` [m^3] and `v` [m/s] at t = 0, () or (N, ...), and `part` (N,), the index of the
part of each particle. A reference video (mp4, gif) starts at t = 0 and needs `splat`, the object at t = 0, and a
camera.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    return ConfigDict(
        dict(
            reference="example",  # npz of tracks, mp4 or gif; "example" or "example_video": simulated from `truth`
            splat="",  # PLY of the object at t = 0, z up (video)
            cameras="",  # cameras.json or COLMAP folder (video); empty: the three numbers below
            camera="",  # name of the image in it
            eye_m=(0.6, -0.6, 0.4),
            target_m=(0.3, 0.25, 0.12),
            fov_degrees=45.0,
            image_pixels=48,  # the video is reduced to this width
            law="neo_hookean",
            known=ConfigDict(dict(density=1000.0)),
            unknown=ConfigDict(dict(E=(700.0, 2.4e5), nu=(0.0, 0.45))),  # lo, hi; "velocity" and "gravity" fit too
            by_part=(),  # unknowns with one value per part of the reference
            by_particle=(),  # unknowns with one value per particle
            smoothness=0.3,  # of fields: deviation of the unconstrained number between neighbours
            velocity_m_s=(0.4, 0.0, -2.0),  # of all particles where neither the reference nor `unknown` has it
            gravity_m_s2=(0.0, 0.0, -9.81),
            domain_m=(0.0, 0.0, 0.0, 0.5, 0.5, 0.4),  # lo, hi of the walls; empty: around the reference
            margin_m=0.3,  # around the reference where `domain_m` is empty; the floor is at its lowest point
            dx_m=0.05,
            walls="separate",  # kind of the walls: "sticky", "slip" or "separate" (with friction)
            friction=0.3,
            sigma=0.0,  # deviation of a coordinate [m] or a pixel; 0: 1 mm, 0.02
            method="gauss_newton",  # "gauss_newton" (forward mode) or "adam" (reverse mode: for many unknowns)
            starts=3,  # the first in the middle of the ranges
            seed=0,  # of the other starts
            bar=0.05,  # relative deviation above which an unknown counts as not shown by the scene
            adam_steps=300,
            learning_rate=0.1,
            truth=ConfigDict(dict(E=2e4, nu=0.3)),  # example only
            seconds=0.3,  # example only
            frames=10,  # example only
        )
    )
