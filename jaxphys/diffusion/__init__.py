"""Video diffusion: denoisers of the Wan family, their video autoencoders and their text and image encoders."""

from jaxphys.diffusion.conditions import image_channels, known_first
from jaxphys.diffusion.dit import WanConfig
from jaxphys.diffusion.image import ImageConfig
from jaxphys.diffusion.protocol import Condition, Denoiser, hold, impose
from jaxphys.diffusion.text import TextConfig, tokenize
from jaxphys.diffusion.vae import VaeConfig
from jaxphys.diffusion.weights import load, save

__all__ = [
    "Condition",
    "Denoiser",
    "ImageConfig",
    "TextConfig",
    "VaeConfig",
    "WanConfig",
    "hold",
    "image_channels",
    "impose",
    "known_first",
    "load",
    "save",
    "tokenize",
]
