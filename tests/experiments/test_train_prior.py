"""Training of the prior: captions come in their kinds, and compete in one word."""

import hashlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from experiments import train_prior
from experiments.configs.train_prior import get_config
from experiments.eval_prior import UNKNOWN_NUMBERS
from experiments.report import write_json
from experiments.train_prior import SHARE, asked, rivals
from jaxphys.diffusion.prior import Text
from jaxphys.diffusion.prior_files import load_prior
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
        assert all(unknown[0, clips.SCALARS.index(n)] for n in UNKNOWN_NUMBERS.get(names[slot], ()))
        assert not unknown[:, clips.SCALARS.index("density")].any()
    assert counts["weight"] == counts["action"] == 0 and "weight" not in SHARE
    shares = [counts[slot] / 1500 for slot in ("material", "stiffness", "squash")]
    np.testing.assert_allclose(shares, [2 / 6, 3 / 6, 1 / 6], atol=0.04)
    alone = (tokens[:, 0] > 0).sum(1) <= 3  # what a picture shows, and the word in question
    assert 0.4 < alone.mean() < 0.75


def clips_folder(folder, frames=4, pixels=16):
    rng = np.random.default_rng(0)
    said = {"material": "elastic", "action": "dropped", "stiffness": "soft", "squash": "half"}
    arrays = {
        "maps": rng.integers(0, 255, (32, frames, pixels, pixels, 3), np.uint8),
        "tokens": np.repeat(captions.tokens(said)[None], 32, 0),
        "scalars": rng.normal(size=(32, len(clips.SCALARS))).astype(np.float32),
        "outcomes": np.zeros((32, len(captions.OUTCOMES)), np.float32),
        "view": np.repeat(np.float32([[30.0, 15.0, 1.1]]), 32, 0),
    }
    folder.mkdir()
    save_file(arrays, folder / "clips_00000.safetensors")
    digest = hashlib.sha256((folder / "clips_00000.safetensors").read_bytes()).hexdigest()
    write_json(folder / "manifest.json", {"shards": [{"file": "clips_00000.safetensors", "sha256": digest}]})
    return str(folder)


@pytest.mark.long
def test_training_goes_on_from_weights_and_reports_both_losses(tmp_path):
    config = get_config()
    config.update(dict(clips=clips_folder(tmp_path / "clips"), width=24, layers=1, heads=2, steps=3, batch=8))
    config.update(dict(rounded=False, warmup_steps=1))
    first = train_prior.run(config, str(tmp_path / "first"))
    config.update(dict(start=str(tmp_path / "first" / "prior.safetensors"), reads=True, width=99))
    second = train_prior.run(config, str(tmp_path / "second"))
    assert second["parameters_count"] == first["parameters_count"]  # the sizes are those of the weights
    assert all(np.isfinite(found[f"held_out_{k}loss"]) for found in (first, second) for k in ("", "caption_"))
    a, b = (load_prior(tmp_path / name / "prior.safetensors") for name in ("first", "second"))
    np.testing.assert_array_equal(a.mean, b.mean)
    assert not np.array_equal(a.params["words"], b.params["words"])
    config.clips = clips_folder(tmp_path / "larger", pixels=24)
    with pytest.raises(ValueError, match=r"draws 4 frames of 16 pixels, the clips of .*larger have 4 of 24"):
        train_prior.run(config, str(tmp_path / "third"))
