"""The offline proposer: which words of a prompt decide the material, and what it did not understand."""

from __future__ import annotations

import dataclasses
import re

from jaxphys.language.materials import Everyday, Range, load_table, simulated

# Factors on (stiffness and yield stress, viscosity, density).
ADJECTIVES = {
    "soft": (0.25, 0.5, 1.0),
    "squishy": (0.15, 0.5, 1.0),
    "floppy": (0.1, 1.0, 1.0),
    "wobbly": (0.2, 1.0, 1.0),
    "bouncy": (0.5, 1.0, 1.0),
    "elastic": (0.5, 1.0, 1.0),
    "stiff": (4.0, 2.0, 1.0),
    "hard": (4.0, 2.0, 1.0),
    "firm": (2.0, 1.5, 1.0),
    "rigid": (10.0, 2.0, 1.0),
    "solid": (1.0, 1.0, 1.0),
    "thick": (1.0, 4.0, 1.0),
    "viscous": (1.0, 4.0, 1.0),
    "sticky": (1.0, 3.0, 1.0),
    "thin": (1.0, 0.25, 1.0),
    "runny": (1.0, 0.25, 1.0),
    "heavy": (1.0, 1.0, 2.0),
    "light": (1.0, 1.0, 0.5),
    "lightweight": (1.0, 1.0, 0.5),
}
STRONGER = {"very": 2.0, "extremely": 3.0, "super": 2.0, "slightly": 0.5, "somewhat": 0.5}
# A prompt that names no material but says how it behaves.
DEFAULTS = {
    "bouncy": "rubber",
    "squishy": "jelly",
    "wobbly": "jelly",
    "floppy": "jelly",
    "runny": "milk",
    "rigid": "plastic",
}
NEGATIONS = ("not", "no", "without", "isn't", "never", "non")
ACTIONS = frozenset(
    "drop drops dropped dropping fall falls falling bounce bounces bouncing thrown throw throws poke "
    "poked pushed push pours poured "
    "pour melts melting collapses collapse squash squashes stretch stretched bends bend rolls roll lands "
    "land hits hit shakes "
    "spins slides flows flow spreads crumbles breaks shatters wobbles onto down up floor ground".split()
)
FILLERS = frozenset(
    "a an the of and or on in to with made from its it is that this like as then which at by for into over under very "
    "extremely super slightly somewhat but one two piece".split()
)


@dataclasses.dataclass(frozen=True)
class Proposal:
    """What a material is proposed to be, and why."""

    material: str
    law: str  # a key of mpm.materials.LAWS
    density: float  # kg/m^3
    means: dict[str, float]  # measured values, after the adjectives, SI units
    ranges: dict[str, Range]
    simulated: dict[str, float]  # what a simulation can afford of them (language.materials)
    confidence: float  # 0..1
    source: str  # of the measured values
    reasons: tuple[str, ...]  # the words that decided
    unknown: tuple[str, ...]  # words that it did not understand


def propose(prompt: str) -> Proposal:
    """The material that a prompt names, from the table of everyday materials. Deterministic, no network.

    The longest phrase wins; a material after "not" or "no" is excluded; adjectives scale stiffness, viscosity and
    density.

    Args:
        prompt: plain words.

    Returns:
        A `Proposal`; `confidence` is low when no material was named and a word for behaviour or nothing at all decided.

    Raises:
        ValueError: the prompt is empty, or excludes every material it names and nothing else decides.

    >>> propose("not rubber but a heavy honey").material
    'honey'
    """
    if not isinstance(prompt, str) or not prompt.strip():
        raise ValueError(
            "propose: the prompt is empty; say what the object is made of, for example 'a soft rubber duck'"
        )
    words = re.findall(r"[a-z]+(?:['-][a-z]+)*", prompt.lower())
    rows = {phrase: row for row in load_table() for phrase in row.words}
    found, excluded, used = [], [], set()
    for length in (3, 2, 1):
        for i in range(len(words) - length + 1):
            phrase = " ".join(words[i : i + length])
            row = rows.get(phrase)
            if row is None and length == 1:
                row = rows.get(phrase.removesuffix("s"))
            if row is None or used & set(range(i, i + length)):
                continue
            used |= set(range(i, i + length))
            before = [w for w in words[max(0, i - 3) : i] if w not in ("a", "an", "the", "made", "of", "any")]
            (excluded if before[-1:] and before[-1] in NEGATIONS else found).append((i, phrase, row))
    found.sort(key=lambda hit: hit[0])
    reasons = [f"'{phrase}' excludes {row.name}" for _, phrase, row in excluded]
    banned = {row.name for *_, row in excluded}
    found = [hit for hit in found if hit[2].name not in banned]
    if found:
        _, phrase, row = found[0]
        reasons.insert(0, f"'{phrase}' names {row.name}")
        confidence = 0.9 if len({hit[2].name for hit in found}) == 1 else 0.5
        reasons += [f"also names {hit[2].name} (not used)" for hit in found[1:] if hit[2].name != row.name]
    else:
        row, reason, confidence = _by_behaviour(words, banned)
        reasons.insert(0, reason)
    density, means, adjectives = _adjusted(row, words)
    known = used | {i for i, w in enumerate(words) if w in ADJECTIVES or w in ACTIONS or w in FILLERS or w in NEGATIONS}
    unknown = tuple(w for i, w in enumerate(words) if i not in known)
    ranges = {name: row.parameters[name].scaled(means[name] / row.parameters[name].mean) for name in means}
    return Proposal(
        material=row.name,
        law=row.law,
        density=density,
        means=means,
        ranges=ranges,
        simulated=simulated(row.law, density, means),
        confidence=confidence,
        source=row.source,
        reasons=(*reasons, *adjectives),
        unknown=unknown,
    )


def _by_behaviour(words: list[str], banned: set[str]) -> tuple[Everyday, str, float]:
    table = {row.name: row for row in load_table()}
    for word in words:
        name = DEFAULTS.get(word)
        if name and name not in banned:
            return table[name], f"no material is named; '{word}' suggests {name}", 0.4
    name = next((n for n in ("rubber", "jelly", "plastic") if n not in banned), None)
    if name is None:
        raise ValueError("propose: the prompt excludes every material it names; say what the object is made of")
    return table[name], f"no material is named; {name} is assumed", 0.1


def _adjusted(row: Everyday, words: list[str]) -> tuple[float, dict[str, float], list[str]]:
    stiffness = viscosity = mass = 1.0
    reasons = []
    for i, word in enumerate(words):
        if word not in ADJECTIVES or (i and words[i - 1] in NEGATIONS):
            continue
        power = STRONGER.get(words[i - 1], 1.0) if i else 1.0
        factors = [f**power for f in ADJECTIVES[word]]
        stiffness, viscosity, mass = stiffness * factors[0], viscosity * factors[1], mass * factors[2]
        reasons.append(
            f"'{word}' scales stiffness by {factors[0]:.3g}, viscosity by {factors[1]:.3g}, density by {factors[2]:.3g}"
        )
    factor = {"E": stiffness, "yield_stress": stiffness, "mu_N": stiffness, "lam_N": stiffness, "viscosity": viscosity}
    means = {name: r.mean * factor.get(name, 1.0) for name, r in row.parameters.items()}
    return row.density * mass, means, reasons
