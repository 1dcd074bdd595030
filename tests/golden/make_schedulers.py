"""Makes schedulers.npz with the schedulers of diffusers; needs the `parity` extra.

python tests/golden/make_schedulers.py
"""

from pathlib import Path

import numpy as np
import torch
from diffusers import (
    FlowMatchEulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler,
    UniPCMultistepScheduler,
)

CASES = (("unipc", 8, 5.0), ("unipc", 3, 3.0), ("unipc", 1, 3.0), ("euler", 8, 5.0), ("heun", 5, 3.0))


def scheduler(solver, shift):
    if solver == "unipc":
        return UniPCMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shift, solver_order=2
        )
    kind = FlowMatchEulerDiscreteScheduler if solver == "euler" else FlowMatchHeunDiscreteScheduler
    return kind(shift=shift)


def velocity(x, t):
    """The toy network of the test; t in [0, 1]."""
    return torch.sin(3.0 * x) + t * x + 0.3


arrays = {"noise": np.random.default_rng(0).normal(size=(2, 2, 3, 2)).astype(np.float32)}
for solver, steps, shift in CASES:
    sampler = scheduler(solver, shift)
    sampler.set_timesteps(steps)
    x, path = torch.from_numpy(arrays["noise"]), []
    for t in sampler.timesteps:
        x = sampler.step(velocity(x, float(t) / 1000.0), t, x).prev_sample
        path.append(x.numpy().copy())
    name = f"{solver}_{steps}_{shift:g}"
    arrays[f"{name}_times"] = sampler.timesteps.numpy().astype(np.float64) / 1000.0
    arrays[f"{name}_sigmas"] = sampler.sigmas.numpy().astype(np.float64)
    arrays[f"{name}_path"] = np.stack(path)
np.savez_compressed(Path(__file__).parent / "schedulers.npz", **arrays)
