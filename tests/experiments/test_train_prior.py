"""Training of the prior: captions come in their kinds, and compete in one word."""

import jax
import jax.numpy as jnp
import numpy as np

from experiments.train_prior import NUMBERS, TOLD_APART, asked, rivals
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


def test_rival_captions_differ_in_one_word_whose_number_is_not_given():
    said = {"material": "elastic", "action": "dropped", "stiffness": "soft", "weight": "heavy", "squash": "half"}
    text = Text(jnp.asarray(captions.tokens(said)), jnp.zeros(len(clips.SCALARS)))
    told = jax.vmap(lambda k: rivals(text, 3, k))(jax.random.split(jax.random.key(0), 1500))
    tokens, hidden = np.asarray(told.tokens), np.isnan(np.asarray(told.scalars))
    names, counts = list(captions.SLOTS), dict.fromkeys(said, 0)
    for words, unknown in zip(tokens, hidden):
        (slot,) = np.flatnonzero((words != words[0]).any(0))
        values = words[:, slot]
        counts[names[slot]] += 1
        assert values[0] == text.tokens[slot] and len(set(values.tolist())) == 3
        assert 1 <= values.min() and values.max() <= len(captions.SLOTS[names[slot]])
        assert (unknown == unknown[0]).all()
        assert all(unknown[0, clips.SCALARS.index(n)] for n in NUMBERS.get(names[slot], ()))
        assert not unknown[:, clips.SCALARS.index("density")].any()
    assert counts["weight"] == counts["action"] == 0 and "weight" not in TOLD_APART
    shares = [counts[slot] / 1500 for slot in ("material", "stiffness", "squash")]
    np.testing.assert_allclose(shares, [0.2, 0.6, 0.2], atol=0.04)
    alone = (tokens[:, 0] > 0).sum(1) <= 3  # what a picture shows, and the word in question
    assert 0.4 < alone.mean() < 0.75
