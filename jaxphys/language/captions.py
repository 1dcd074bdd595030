"""Captions of clips: a closed vocabulary of what a clip shows, one value or "unspecified" per slot.

Property words ("soft", "syrupy") name a parameter, outcome words ("bounces high", "spreads out flat") name only what is
seen. Both are bins of a number, so a word can be made from a measurement and has a centre. A caption is read from and
written as a sentence; each value has several phrasings.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping

import numpy as np

NAMED: dict[str, dict[str, tuple[str, ...]]] = {
    "colour": {name: (name,) for name in ("red", "green", "blue", "yellow", "purple", "orange", "turquoise", "brown")},
    "shape": {
        "ball": ("ball", "sphere"),
        "block": ("block", "brick", "cube"),
        "rod": ("rod", "bar", "stick"),
        "plate": ("plate", "slab"),
        "ring": ("ring", "tyre"),
    },
    "action": {
        "dropped": ("is dropped", "falls"),
        "thrown": ("is thrown", "is tossed"),
        "poked": ("is poked", "is hit"),
        "stretched": ("is stretched", "is pulled"),
        "bent": ("is bent", "is flexed"),
        "poured": ("is poured", "pours"),
    },
    "material": {
        "elastic": ("rubber", "elastic material", "gel"),
        "metal": ("metal", "lead"),
        "sand": ("sand", "gravel"),
        "foam": ("foam", "sponge"),
        "plasticine": ("clay", "plasticine", "dough"),
        "newtonian": ("thick liquid", "syrup", "honey"),
        "non_newtonian": ("paste", "toothpaste", "ketchup"),
        "water": ("water", "thin liquid"),
    },
}
"""Slots whose values are names: value -> phrasings."""


@dataclasses.dataclass(frozen=True)
class Scale:
    """A slot whose values are bins of a number: values[i] lies between edges[i] and edges[i + 1].

    The number may lie beyond the outer edges, which serve for the centres.
    """

    values: dict[str, tuple[str, ...]]
    edges: tuple[float, ...]
    of: str  # what the number is, with its unit

    def word(self, number: float) -> str:
        """The value whose bin holds a number.

        >>> SCALES["stiffness"].word(4.5)
        'soft'
        """
        return list(self.values)[int(np.searchsorted(self.edges[1:-1], number, side="right"))]

    def centre(self, word: str) -> float:
        """The middle of a value's bin."""
        k = list(self.values).index(word)
        return 0.5 * (self.edges[k] + self.edges[k + 1])


SCALES: dict[str, Scale] = {
    # properties: log10 of parameters in SI units
    "stiffness": Scale(
        {
            "very_soft": ("very soft", "floppy"),
            "soft": ("soft", "squishy"),
            "medium": ("medium soft", "springy"),
            "firm": ("firm", "tight"),
            "stiff": ("stiff", "hard"),
        },
        (4.0, 4.4, 4.8, 5.2, 5.6, 6.0),
        "log10 Young's modulus [Pa]",
    ),
    "strength": Scale(
        {"weak": ("weak", "easily dented"), "tough": ("tough",), "strong": ("strong", "hardly dented")},
        (2.5, 3.4, 4.2, 5.0),
        "log10 yield stress [Pa]",
    ),
    "viscosity": Scale(
        {"runny": ("runny",), "flowing": ("slow flowing",), "sticky": ("sticky", "very viscous")},
        (0.0, 0.8, 1.6, 2.4),
        "log10 viscosity [Pa s]",
    ),
    "friction": Scale(
        {"slippery": ("slippery", "round grained"), "loose": ("loose",), "rough": ("rough", "sharp grained")},
        (15.0, 25.0, 35.0, 45.0),
        "friction angle [degree]",
    ),
    "weight": Scale(
        {"light": ("light", "lightweight"), "heavy": ("heavy", "dense")}, (2.9, 3.15, 3.4), "log10 density [kg/m^3]"
    ),
    # outcomes: measured on the motion, see scenes/outcomes.py
    "squash": Scale(
        {
            "keeps": ("keeps its height", "hardly squashes"),
            "little": ("squashes a little", "gets a bit lower"),
            "half": ("squashes a lot", "gets much lower"),
            "flat": ("is squashed flat", "collapses"),
        },
        (0.0, 0.1, 0.25, 0.5, 1.0),
        "greatest loss of height over the first height",
    ),
    "rebound": Scale(
        {
            "none": ("stays down", "does not bounce"),
            "low": ("bounces low", "rebounds a little"),
            "half": ("bounces halfway up",),
            "high": ("bounces high", "rebounds high"),
        },
        (0.0, 0.08, 0.25, 0.5, 1.0),
        "rise of the centre after its lowest point over its fall before",
    ),
    "bounces": Scale(
        {"never": ("without leaving the ground",), "once": ("once",), "often": ("again and again", "several times")},
        (-0.5, 0.5, 1.5, 2.5),
        "times that it leaves the ground",
    ),
    "spread": Scale(
        {
            "keeps": ("keeps its width", "does not spread"),
            "little": ("spreads a little",),
            "wide": ("spreads wide",),
            "far": ("spreads far and thin", "runs all over the ground"),
        },
        (0.9, 1.1, 1.4, 2.0, 3.0),
        "last width over the first",
    ),
    "wobble": Scale(
        {"still": ("is still at once", "does not wobble"), "short": ("wobbles briefly",), "long": ("wobbles long",)},
        (0.0, 0.1, 0.25, 0.5),
        "seconds until its height keeps within 5 % of the first height",
    ),
    "flow": Scale(
        {"fast": ("runs out fast", "splashes"), "slow": ("flows slowly",), "creeps": ("creeps",)},
        (0.0, 0.15, 0.3, 0.6),
        "seconds from touching the ground to half of the spread",
    ),
}
"""Slots whose values are bins."""

PROPERTIES = ("stiffness", "strength", "viscosity", "friction", "weight")
OUTCOMES = ("squash", "rebound", "bounces", "spread", "wobble", "flow")
SLOTS: dict[str, dict[str, tuple[str, ...]]] = NAMED | {name: scale.values for name, scale in SCALES.items()}
"""All slots: value -> phrasings. The number of a value counts from 1; 0 is "unspecified"."""

_ORDER = ("weight", "stiffness", "strength", "friction", "viscosity", "colour", "material", "shape", "action")
_PLAIN = frozenset("a an the of it its and then that which made from one onto on to floor ground as , . ;".split())


def check(caption: Mapping[str, str]) -> None:
    """Raises ValueError when a slot or a value does not exist."""
    for slot, value in caption.items():
        if slot not in SLOTS:
            raise ValueError(f"caption: there is no slot {slot!r}; slots are {', '.join(SLOTS)}")
        if value not in SLOTS[slot]:
            raise ValueError(f"caption: {slot} is one of {', '.join(SLOTS[slot])}, got {value!r}")


def tokens(caption: Mapping[str, str]) -> np.ndarray:
    """Number of the value in each slot, 0 where the caption does not say: (len(SLOTS),) int32.

    >>> int(tokens({"colour": "green"})[0]), int(tokens({}).sum())
    (2, 0)
    """
    check(caption)
    numbers = [1 + list(values).index(caption[slot]) if slot in caption else 0 for slot, values in SLOTS.items()]
    return np.asarray(numbers, np.int32)


def from_tokens(numbers) -> dict[str, str]:
    """The caption of `tokens`.

    >>> from_tokens(tokens({"shape": "ball", "squash": "flat"}))
    {'shape': 'ball', 'squash': 'flat'}
    """
    pairs = zip(SLOTS.items(), np.asarray(numbers).tolist(), strict=True)
    return {slot: list(values)[number - 1] for (slot, values), number in pairs if number}


def say(caption: Mapping[str, str], rng: np.random.Generator | None = None) -> str:
    """A sentence with this meaning.

    Args:
        caption: slot -> value.
        rng: chooses among phrasings; None: the first of each.

    >>> say({"stiffness": "soft", "material": "elastic", "shape": "ball", "action": "dropped", "rebound": "high"})
    'a soft rubber ball is dropped, it bounces high'
    """
    check(caption)

    def phrase(slot):
        options = SLOTS[slot][caption[slot]]
        return options[0 if rng is None else int(rng.integers(len(options)))]

    first = [phrase(slot) for slot in _ORDER if slot in caption]
    rest = [phrase(slot) for slot in OUTCOMES if slot in caption]
    head = " ".join(["a", *first]) if first else ""
    tail = f"it {' and '.join(rest)}" if rest else ""
    return ", ".join(part for part in (head, tail) if part)


_PHRASES = sorted(
    (
        (phrase, slot, value)
        for slot, values in SLOTS.items()
        for value, options in values.items()
        for phrase in options
    ),
    key=lambda entry: -len(entry[0]),
)


def parse(text: str) -> tuple[dict[str, str], list[str]]:
    """The caption that a sentence means, and the words that are not in the vocabulary.

    Longer phrases are read before shorter ones ("very soft" before "soft").

    Raises:
        ValueError: the sentence gives two values for one slot.

    >>> parse("A very soft rubber ball is dropped near Paris")
    ({'shape': 'ball', 'action': 'dropped', 'material': 'elastic', 'stiffness': 'very_soft'}, ['near', 'paris'])
    """
    left, found = " " + re.sub(r"[^a-z0-9]+", " ", text.lower()) + " ", {}
    for phrase, slot, value in _PHRASES:
        if f" {phrase} " in left:
            left = left.replace(f" {phrase} ", " | ")
            if found.setdefault(slot, value) != value:
                raise ValueError(f"caption {text!r} gives two values for {slot}: {found[slot]} and {value}; keep one")
    unknown = [word for word in left.split() if word not in _PLAIN and word != "|"]
    return {slot: found[slot] for slot in SLOTS if slot in found}, unknown
