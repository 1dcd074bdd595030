"""Video diffusion: denoisers of the Wan family, their video autoencoders and their text and image encoders."""

from jaxphys.diffusion.protocol import Condition, Denoiser, hold, impose

__all__ = ["Condition", "Denoiser", "hold", "impose"]
