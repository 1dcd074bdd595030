"""Differentiable material point method."""

from jaxphys.mpm import forces, materials, parameters
from jaxphys.mpm.boundary import Collider, Walls
from jaxphys.mpm.simulate import simulate
from jaxphys.mpm.stability import resolve_substeps, time_step_limits
from jaxphys.mpm.state import Config, Grid, Particles, Scene, SimulationError, State, Status, Trajectory

__all__ = [
    "Collider",
    "Config",
    "Grid",
    "Particles",
    "Scene",
    "SimulationError",
    "State",
    "Status",
    "Trajectory",
    "Walls",
    "forces",
    "materials",
    "parameters",
    "resolve_substeps",
    "simulate",
    "time_step_limits",
]
