"""Writes jaxphys/body/assets/phymotion.json: the constants of the PhyMotion scores, from clean motion only.

    python -m experiments.calibrate_phymotion [FOLDER OF MOTIONS]

Rule. Per joint (both sides together): joint rate that 1 % and moment that 5 % of the samples of the calibration clips
exceed, jitter that one window in twenty exceeds; widening of a joint range and overlap of two capsules: what 0.5 % of
the samples exceed. Lengths and moments are those of a body with the leg `scores.LEG`.
Then per score: the value h that halves it is `MARGIN` times the value that 5 % of the calibration windows exceed, and
not less than `LEAST`, the accuracy of recovered poses. About three minutes on one core.
"""

from __future__ import annotations

import sys

import jax
import jax.numpy as jnp
import numpy as np

from experiments.configs.eval_phymotion import get_config
from experiments.phymotion_data import load, windows
from experiments.report import ROOT, provenance, write_json
from jaxphys.body import humanoid, so3
from jaxphys.body.limits import joint_ranges, swing_twist
from jaxphys.body.scores import MOVED, NAMES, clip_values, frame_values, from_table, measure, norm
from jaxphys.body.self_contact import candidates, clearance

VERSION = 3
POWER = 4.0
MARGIN = 3.0  # with POWER, a clean window at the 95th percentile scores 0.99
LEAST = {
    "angular_velocity": 0.0,
    "self_penetration": 0.005,
    "joint_limits": 0.05,
    "sliding": 0.08,
    "penetration": 0.02,
    "floating": 0.2,
    "balance": 0.03,
    "torque": 0.0,
    "ground_force": 0.1,
    "effort": 1.0,
}
FLOOR_RATE, FLOOR_MOMENT, FLOOR_JITTER = 4.0, 0.3, 0.015  # [rad/s], [N m/kg], [rad]: of joints that hardly move
NEUTRAL = dict(
    version=0,
    power=POWER,
    half=dict.fromkeys(NAMES, 1.0),
    rate_rad_s={},
    jitter_rad={},
    jitter_all_rad=1.0,
    moment_nm_kg={},
    range_allowance_rad={},
    overlap_m={},
)


def kind(name: str) -> str:
    return name.removeprefix("left_").removeprefix("right_")


def statistics(one, motion, ground, *, fps, constants):
    """What the tables are made of, for one window."""
    q = measure(one, motion, fps, constants, ground=ground)
    parent = q.dynamics.R[:, jnp.asarray([max(k, 0) for k in one.parents])]
    local = so3.log(so3.matmul(so3.transpose(parent), q.dynamics.R))
    axis, lower, upper = (jnp.asarray(a, local.dtype) for a in joint_ranges(one.names))
    x = swing_twist(local, axis)
    beyond = jnp.maximum(jnp.maximum(x - upper, lower - x), 0.0).at[:, 0].set(0.0)
    return dict(
        rate=norm(q.dynamics.angular_velocity),
        moment=q.moment_axes / q.size,
        jitter=q.jitter,
        beyond=beyond,
        overlap=jnp.maximum(-clearance(one, q.dynamics.R, q.dynamics.p), 0.0) / q.size,
    )


def per_window(function, groups, fps, constants):
    """Results of a function (skeleton, motion, ground) for every window of all groups, as a list."""
    rows = []
    for group in groups.values():
        mapped = jax.jit(
            lambda s, m, g: jax.lax.map(lambda a: function(*a, fps=fps, constants=constants), (s, m, g), batch_size=8)
        )
        out = jax.tree.map(np.asarray, mapped(group.skeleton, group.motion, jnp.asarray(group.ground)))
        rows += [jax.tree.map(lambda a, k=k: a[k], out) for k in range(len(group.clips))]
    return rows


def values(one, motion, ground, *, fps, constants):
    return clip_values(frame_values(measure(one, motion, fps, constants, ground=ground), constants))


def tables(rows, names) -> dict:
    """The per-joint tables from the statistics of all windows."""
    skeleton = humanoid()
    every = {k: np.concatenate([r[k] for r in rows]) for k in ("rate", "moment", "beyond", "overlap")}
    jitter = np.stack([r["jitter"] for r in rows])
    out = dict(rate_rad_s={}, jitter_rad={}, moment_nm_kg={}, jitter_all_rad=0.0, range_allowance_rad={}, overlap_m={})
    for name in dict.fromkeys(map(kind, names[1:])):
        both = [k for k, n in enumerate(names) if kind(n) == name]
        out["rate_rad_s"][name] = round(max(float(np.percentile(every["rate"][:, both], 99)), FLOOR_RATE), 2)
        moment = np.percentile(np.abs(every["moment"][:, both]).reshape(-1, 3), 95, axis=0)
        out["moment_nm_kg"][name] = [round(max(float(v), FLOOR_MOMENT), 3) for v in moment]
        out["jitter_rad"][name] = round(max(float(np.percentile(jitter[:, both], 95)), FLOOR_JITTER), 4)
        allowance = np.percentile(every["beyond"][:, both].reshape(-1, 3), 99.5, axis=0)
        out["range_allowance_rad"][name] = [round(float(v), 3) for v in allowance]
    geometric = np.exp(np.mean(np.log(jitter[:, list(MOVED)] + 1e-4), -1))
    out["jitter_all_rad"] = round(float(np.percentile(geometric, 95)), 4)
    mask = candidates(skeleton)
    deepest = np.percentile(every["overlap"], 99.5, axis=0)
    for i, j in np.argwhere(mask):
        a, b = (names[skeleton.capsule_body[k]] for k in (i, j))
        if deepest[i, j] > 1e-3:
            swap = {"left": "right", "right": "left"}
            mirror = [
                "_".join([swap.get(n.split("_", 1)[0], n.split("_", 1)[0]), *n.split("_", 1)[1:]]) for n in (a, b)
            ]
            twin = out["overlap_m"].pop("|".join(mirror), out["overlap_m"].pop("|".join(reversed(mirror)), 0.0))
            out["overlap_m"][f"{a}|{b}"] = round(max(float(deepest[i, j]), twin), 4)
    return out


def main(argv: list[str]) -> None:
    config = get_config()
    folder = argv[0] if argv else config.motions
    clips = load(folder, config.fps, config.calibration, config.excluded, config.skip_seconds)
    groups = windows(clips, (config.window_frames, config.short_frames), config.windows_per_clip)
    skeleton = humanoid()
    rows = per_window(statistics, groups, config.fps, from_table(NEUTRAL, skeleton))
    table = NEUTRAL | tables(rows, skeleton.names) | dict(version=VERSION)
    x = np.stack(per_window(values, groups, config.fps, from_table(table, skeleton)))
    bound = np.percentile(x, 95, axis=0)
    table["half"] = {n: float(f"{max(MARGIN * bound[k], LEAST[n]):.3g}") for k, n in enumerate(NAMES)}
    about = dict(
        rule=f"half = max({MARGIN} x 95th percentile over calibration windows, least); see calibrate_phymotion.py",
        clips=[c.name for c in clips],
        windows=len(x),
        percentile_95={n: float(f"{bound[k]:.3g}") for k, n in enumerate(NAMES)},
        median={n: float(f"{np.median(x[:, k]):.3g}") for k, n in enumerate(NAMES)},
        commit=provenance()["commit"],
    )
    write_json(ROOT / "jaxphys/body/assets/phymotion.json", table | {"provenance": about})
    for k, n in enumerate(NAMES):
        print(f"{n:17s} median {np.median(x[:, k]):8.4g}  95 % {bound[k]:8.4g}  half {table['half'][n]:8.4g}")


if __name__ == "__main__":
    main(sys.argv[1:])
