"""Law of the judge of clips: its convolution is XLA's."""

import jax
import numpy as np
import pytest
from jax import lax

from experiments.clip_classifier import convolved


@pytest.mark.parametrize("frames, stride", [(4, 1), (5, 2)])
def test_convolution_is_that_of_xla(frames, stride):
    x = jax.random.normal(jax.random.key(0), (frames, 8, 8, 3))
    kernel = jax.random.normal(jax.random.key(1), (3, 3, 3, 3, 5))
    strides = (stride, 2, 2)
    peer = lax.conv_general_dilated(x[None], kernel, strides, "SAME", dimension_numbers=("NDHWC", "DHWIO", "NDHWC"))
    np.testing.assert_allclose(convolved(x, kernel, strides), peer[0], atol=2e-5)
