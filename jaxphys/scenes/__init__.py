"""Splats and particles joined: scene files, selection, filling, drawing, export."""

from jaxphys.scenes.bind import Binding, bind, select_box, select_component
from jaxphys.scenes.draw import drawing_gradient, floor, frame_kernels, suggest_camera
from jaxphys.scenes.preview import draw_regions, first_camera, preview
from jaxphys.scenes.scene_files import read_scene
from jaxphys.scenes.setup import Frame, Part, Region, Setup
from jaxphys.scenes.survey import Survey, survey

__all__ = [
    "Binding",
    "Frame",
    "Part",
    "Region",
    "Setup",
    "Survey",
    "bind",
    "draw_regions",
    "drawing_gradient",
    "first_camera",
    "floor",
    "frame_kernels",
    "preview",
    "read_scene",
    "select_box",
    "select_component",
    "suggest_camera",
    "survey",
]
