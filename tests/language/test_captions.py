"""Captions: what is said is what is read, words and numbers agree."""

import numpy as np
import pytest

from jaxphys.language import captions


def random_caption(rng):
    return {slot: str(rng.choice(list(values))) for slot, values in captions.SLOTS.items() if rng.random() < 0.6}


def test_every_sentence_means_its_caption():
    rng = np.random.default_rng(0)
    for _ in range(500):
        caption = random_caption(rng)
        assert captions.parse(captions.say(caption, rng)) == (caption, [])
        assert captions.from_tokens(captions.tokens(caption)) == caption


def test_every_phrase_means_one_value():
    phrases = [p for values in captions.SLOTS.values() for options in values.values() for p in options]
    assert len(set(phrases)) == len(phrases)


def test_a_word_names_the_bin_around_its_centre():
    for scale in captions.SCALES.values():
        assert len(scale.edges) == len(scale.values) + 1
        for word in scale.values:
            assert scale.word(scale.centre(word)) == word


def test_unknown_words_are_returned_and_contradictions_refused():
    assert captions.parse("a soft zebra")[1] == ["zebra"]
    with pytest.raises(ValueError, match="two values for stiffness"):
        captions.parse("a soft stiff ball")
    with pytest.raises(ValueError, match="no slot"):
        captions.tokens({"colr": "red"})
    with pytest.raises(ValueError, match="colour is one of"):
        captions.tokens({"colour": "mauve"})
