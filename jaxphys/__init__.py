"""jaxphys: differentiable physics, rendering and video guidance as pure JAX functions."""

__version__ = "0.1.0"
