"""3D Gaussian splats: read and write them, deform them with a simulation, render them, differentiate the picture.

>>> from jaxphys import camera, splats
>>> scene = splats.Gaussians.create([[0.0, 0.0, 0.0]], scale=0.2, color=(1.0, 0.5, 0.0))
>>> view = camera.Camera.look_at((0.0, -2.0, 0.5), (0.0, 0.0, 0.0), width=17, height=17)
>>> splats.render(scene, view).image.shape
(17, 17, 3)
"""

from jaxphys.splats.deform import deform
from jaxphys.splats.formats import read, read_ply, write, write_ply
from jaxphys.splats.gaussians import Y_DOWN_TO_Z_UP, Gaussians, Kernels, concatenate, quat_to_matrix
from jaxphys.splats.harmonics import evaluate_sh, rgb_to_sh, rotate_sh, sh_to_rgb
from jaxphys.splats.rasterize import CapacityError, RenderInfo, Rendering, plan_capacity, render, render_video

__all__ = [
    "Y_DOWN_TO_Z_UP",
    "CapacityError",
    "Gaussians",
    "Kernels",
    "RenderInfo",
    "Rendering",
    "concatenate",
    "deform",
    "evaluate_sh",
    "plan_capacity",
    "quat_to_matrix",
    "read",
    "read_ply",
    "render",
    "render_video",
    "rgb_to_sh",
    "rotate_sh",
    "sh_to_rgb",
    "write",
    "write_ply",
]
