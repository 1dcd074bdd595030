"""Training of the prior: captions come in their kinds."""

import jax
import jax.numpy as jnp
import numpy as np

from experiments.train_prior import asked
from jaxphys.diffusion.prior import Text
from jaxphys.language import captions
from jaxphys.scenes import clips


def test_a_caption_names_properties_or_outcomes_or_both_and_never_loses_what_the_picture_shows():
    text = Text(jnp.ones(len(captions.SLOTS), jnp.int32), jnp.zeros(len(clips.SCALARS)))
    told = jax.vmap(lambda k: asked(text, k))(jax.random.split(jax.random.key(0), 2000))
    said = {slot: np.asarray(told.tokens[:, n] > 0) for n, slot in enumerate(captions.SLOTS)}
    properties, outcomes = said["stiffness"], said["squash"]
    assert all((said[slot] == properties).all() for slot in captions.PROPERTIES)
    assert all((said[slot] == outcomes).all() for slot in captions.OUTCOMES)
    assert all(said[slot].all() for slot in captions.NAMED)
    shares = [(properties & ~outcomes).mean(), (outcomes & ~properties).mean(), (properties & outcomes).mean()]
    np.testing.assert_allclose(shares, [0.4, 0.3, 0.3], atol=0.04)
    hidden = np.isnan(told.scalars)
    law = np.asarray([name in clips.LAW_SCALARS for name in clips.SCALARS])
    np.testing.assert_allclose(hidden.mean(0), np.where(law, 0.5, 0.0), atol=0.04)
    assert (hidden[:, law].all(1) == hidden[:, law].any(1)).all()
