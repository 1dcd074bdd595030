"""The gradient of the PhyMotion reward on eight devices, under jax.pmap and on a mesh, is that of one device.

Eight virtual CPU devices, one clip of half a second each. The three programs are compiled apart and round differently:
float64 shows whether they compute the same, float32 what is left of that in use. Ten minutes on one core, all of it
compilation.
"""

from __future__ import annotations

import os

os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from jaxphys.body import Motion, humanoid
from jaxphys.body.scores import calibration
from jaxphys.methods.phymotion import score
from jaxphys.sharding import make_mesh


def run() -> dict:
    single = gradients()
    with jax.enable_x64(True):
        double = gradients()
    return {f"{key}_f32": value for key, value in single.items()} | double


def gradients() -> dict:
    count, frames, fps = 8, 15, 30.0
    body = humanoid()
    constants = calibration(body)
    rotation = 0.1 * jax.random.normal(jax.random.key(0), (count, frames, 24, 3))
    rotation = rotation.at[:, :, 0, 0].add(jnp.pi / 2)
    motions = Motion(rotation, jnp.zeros((count, frames, 3)).at[..., 2].set(1.0))

    def loss(motion: Motion):
        return -jnp.sum(jnp.log(score(body, motion, fps, constants, ground=0.0).scores))

    gradient = jax.grad(loss)
    one = jax.jit(lambda m: jax.lax.map(gradient, m))(motions)
    many = jax.pmap(gradient)(motions)
    split = NamedSharding(make_mesh(), PartitionSpec("data"))
    mesh = jax.jit(jax.vmap(gradient), in_shardings=(split,), out_shardings=split)(jax.device_put(motions, split))

    def error(tree) -> float:
        pairs = zip(jax.tree.leaves(tree), jax.tree.leaves(one))
        return max(
            float(np.max(np.abs(np.asarray(a) - np.asarray(b))) / np.max(np.abs(np.asarray(b)))) for a, b in pairs
        )

    return {
        "devices": jax.device_count(),
        "pmap_gradient_difference_relative": error(many),
        "mesh_gradient_difference_relative": error(mesh),
        "finite": int(all(bool(jnp.all(jnp.isfinite(a))) for a in jax.tree.leaves(many))),
    }


CHECKS = {
    "devices": ("==", 8),
    "pmap_gradient_difference_relative": ("<=", 1e-9),
    "mesh_gradient_difference_relative": ("<=", 1e-9),
    "pmap_gradient_difference_relative_f32": ("<=", 1e-4),
    "mesh_gradient_difference_relative_f32": ("<=", 1e-4),
    "finite": ("==", 1),
}
