"""The type of a tree is part of its structure, and a tree is rebuilt without its checks."""

import itertools

import jax
import pytest

from jaxphys.mpm.materials import LAWS
from jaxphys.pytree import pytree, static


@pytree
class Metres:
    value: float
    sign: str = static(default="+")

    def __post_init__(self):
        if self.value < 0:
            raise ValueError("negative")

    def read(self):
        return self.value


@pytree
class Feet:
    value: float
    sign: str = static(default="+")

    def read(self):
        return 0.3048 * self.value


def test_types_with_the_same_fields_are_different_structures():
    """A cache keyed by structure would otherwise run one class's program on the other's numbers, now and then."""
    a, b = jax.tree.structure(Metres(1.0)), jax.tree.structure(Feet(1.0))
    assert a != b and a == jax.tree.structure(Metres(2.0)) and a != jax.tree.structure(Metres(1.0, "-"))
    read = jax.jit(lambda length: length.read())
    assert [float(read(kind(1.0))) for kind in (Metres, Feet)] == pytest.approx([1.0, 0.3048])


def test_every_law_is_its_own_structure():
    blank = {name: object.__new__(law) for name, law in LAWS.items()}
    for law in blank.values():
        for field in law.__dataclass_fields__:
            object.__setattr__(law, field, "default")
    for a, b in itertools.combinations(blank, 2):
        assert jax.tree.structure(blank[a]) != jax.tree.structure(blank[b]), (a, b)


def test_rebuilt_without_checks():
    with pytest.raises(ValueError, match="negative"):
        Metres(-1.0)
    assert jax.tree.map(lambda a: -a, Metres(1.0)).value == -1.0
    assert jax.grad(lambda m: -m.value)(Metres(1.0)).value == -1.0
    assert jax.tree_util.keystr(jax.tree_util.tree_leaves_with_path(Metres(1.0))[0][0]) == ".value"
