"""Splats and particles joined: selection, filling, drawing."""

from jaxphys.scenes.bind import Binding, bind, select_box, select_component
from jaxphys.scenes.draw import drawing_gradient, floor, frame_kernels, suggest_camera

__all__ = [
    "Binding",
    "bind",
    "drawing_gradient",
    "floor",
    "frame_kernels",
    "select_box",
    "select_component",
    "suggest_camera",
]
