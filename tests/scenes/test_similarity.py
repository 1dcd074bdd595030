"""A denser body that is as much stiffer, stronger and more viscous moves alike; its words and numbers follow."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxphys.language import captions
from jaxphys.scenes import clips
from jaxphys.scenes.similarity import resample, shifted

SMALL = clips.World(pixels=16, frames=4, particles=64, dx=1 / 8)
NUMBER = {name: k for k, name in enumerate(clips.SCALARS)}


def denser(law, factor):
    """The law with its density and whatever has the unit of a stress times a factor."""
    of_stress = ("E", "yield_stress", "viscosity", "density", "bulk_modulus")
    return dataclasses.replace(
        law, **{f.name: getattr(law, f.name) * factor for f in dataclasses.fields(law) if f.name in of_stress}
    )


OFTEN = ("foam", "non_newtonian")  # with the most numbers; the others in the long run


@pytest.mark.parametrize("material", [m if m in OFTEN else pytest.param(m, marks=pytest.mark.long) for m in clips.LAW])
def test_a_shift_is_another_material_of_the_same_motion(material):
    scene = clips.draw_scene(np.random.default_rng(3), SMALL, material, "dropped", "ball")
    low = scene.x - np.float32([0.0, 0.0, scene.x[:, 2].min() - 0.02])
    scene = dataclasses.replace(scene, x=low, v=scene.v - np.float32([0.0, 0.0, 1.5]))
    other = dataclasses.replace(scene, law=denser(scene.law, np.float32(10**0.3)))
    steps = clips.substeps(scene, SMALL, "dropped")
    assert steps == clips.substeps(other, SMALL, "dropped")
    moved = jax.jit(lambda s: clips.simulate_scene(s, SMALL, "dropped", steps).x)
    x, alike = np.asarray(moved(scene)), np.asarray(moved(other))
    assert np.ptp(x[..., 2], axis=1).min() < 0.95 * np.ptp(low[:, 2])  # it lands and is deformed
    np.testing.assert_allclose(alike, x, atol=2e-5)  # [m]
    unlike = moved(dataclasses.replace(scene, law=dataclasses.replace(other.law, density=scene.law.density)))
    assert np.abs(np.asarray(unlike) - x).max() > 3e-4  # without the density it is another motion

    said = {"material": material} | clips.property_words(material, scene.law)
    tokens, scalars = shifted(captions.tokens(said), np.asarray(clips.scalars(scene)), 0.3)
    np.testing.assert_allclose(scalars, clips.scalars(other), atol=1e-5)
    assert captions.from_tokens(tokens) == {"material": material} | clips.property_words(material, other.law)


def test_what_clips_are_drawn_from_stays_as_it_is():
    count, rng = 20_000, np.random.default_rng(0)
    said = captions.tokens({"material": "elastic", "stiffness": "soft", "weight": "light", "squash": "half"})
    numbers = np.full((count, len(clips.SCALARS)), np.nan, np.float32)
    density, E = np.log10(clips.DENSITY), np.log10(clips.RANGES["elastic"]["E"])
    numbers[:, NUMBER["density"]], numbers[:, NUMBER["E"]] = rng.uniform(*density, count), rng.uniform(*E, count)
    numbers[:, NUMBER["size"]] = 0.3
    keys = jax.random.split(jax.random.key(0), count)
    tokens, moved = jax.device_get(jax.vmap(resample, (None, 0, 0))(jnp.asarray(said), numbers, keys))
    for name, ends in (("density", density), ("E", E)):
        shares = np.histogram(moved[:, NUMBER[name]], bins=10, range=(ends[0] - 1e-5, ends[1] + 1e-5))[0] / count
        np.testing.assert_allclose(shares, 0.1, atol=0.01)  # four standard errors
    shift = moved - numbers
    np.testing.assert_allclose(shift[:, NUMBER["E"]], shift[:, NUMBER["density"]], atol=2e-6)
    assert shift[:, NUMBER["E"]].std() > 0.1 and (shift[:, NUMBER["size"]] == 0.0).all()
    assert np.isnan(moved[:, NUMBER["viscosity"]]).all()
    slots = list(captions.SLOTS)
    for slot, name in (("stiffness", "E"), ("weight", "density")):
        scale = captions.SCALES[slot]
        right = [1 + list(scale.values).index(scale.word(v)) for v in moved[:200, NUMBER[name]]]
        assert tokens[:200, slots.index(slot)].tolist() == right and len(set(right)) == len(scale.values)
    assert (tokens[:, slots.index("squash")] == said[slots.index("squash")]).all()
    assert (tokens[:, slots.index("viscosity")] == 0).all()


def test_sand_keeps_its_angle_and_stays_within_its_range_of_stiffness():
    said = captions.tokens({"material": "sand", "friction": "loose", "weight": "heavy"})
    scene = clips.draw_scene(np.random.default_rng(0), SMALL, "sand", "dropped", "ball")
    numbers = np.asarray(clips.scalars(scene), np.float32)
    keys = jax.random.split(jax.random.key(1), 500)
    tokens, moved = jax.device_get(jax.vmap(resample, (None, None, 0))(jnp.asarray(said), numbers, keys))
    assert (moved[:, NUMBER["friction_angle"]] == numbers[NUMBER["friction_angle"]]).all()
    low, high = np.log10(clips.RANGES["sand"]["E"])
    stiffness = moved[:, NUMBER["E"]]
    assert low - 1e-5 <= stiffness.min() and stiffness.max() <= high + 1e-5 and np.ptp(stiffness) > 0.1
    friction = list(captions.SLOTS).index("friction")
    assert (tokens[:, friction] == said[friction]).all()
