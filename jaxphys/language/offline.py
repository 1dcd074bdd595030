"""The offline provider: which words of a prompt decide the material, what they change, and what it did not understand.

Deterministic and without a network. The mention with the greatest score names the material (`language.reading`); a
negated one excludes it; adjectives of state replace it (molten glass, wet sand); adjectives of stiffness, thickness,
weight and warmth move its values inside the measured range of that material: a very soft rubber is the softest rubber.
"""

from __future__ import annotations

import itertools

from jaxphys.language import vocabulary as v
from jaxphys.language.materials import FLUIDS, Everyday, simulated
from jaxphys.language.mentions import Mention, base_form, by_name
from jaxphys.language.proposal import Proposal
from jaxphys.language.reading import Reading, read

STIFF_PARAMETERS = ("E", "mu_N", "lam_N", "yield_stress", "cohesion")
LONGEST = 2000  # characters of a prompt
RIGID, SOFT = 5e9, 1e5  # Pa: above the one 'soft' and below the other 'hard' contradicts the material


def propose_offline(prompt: str) -> Proposal:
    """The material that a prompt names or suggests, from the table of everyday materials.

    Args:
        prompt: plain words.

    Returns:
        A `Proposal`; `confidence` is low where the prompt contradicts itself, leaves a choice or names no material.

    Raises:
        ValueError: the prompt is empty, too long, or excludes everything it names or could be taken to mean.

    >>> propose_offline("not rubber but a heavy honey").material
    'honey'
    """
    if not isinstance(prompt, str) or not prompt.strip():
        raise ValueError(
            "propose: the prompt is empty; say what the object is made of, for example 'a soft rubber duck'"
        )
    if len(prompt) > LONGEST:
        raise ValueError(f"propose: the prompt has {len(prompt)} characters, at most {LONGEST} are read; shorten it")
    reading = read(prompt)
    banned, reasons = _excluded(reading)
    candidates = _candidates(reading, banned)
    table = by_name()
    if candidates:
        score, row, mention = candidates[0]
        role = f", {mention.roles[-1]}" if mention.roles else ""
        verb = "names" if mention.kind in ("material", "vague") else "is usually made of"
        decided = [f"'{mention.phrase}' {verb} {row.name}{role}"]
        confidence = min(0.9, score) if mention.kind in ("material", "vague") else min(0.6, score)
    else:
        mention = None
        row, why, confidence, token = _by_behaviour(reading, banned)
        decided = [why]
        reading.used.add(token)
    rivals = [(s, r, m) for s, r, m in candidates[1:] if r.category != row.category and s >= 0.75 * candidates[0][0]]
    if rivals:
        confidence = min(confidence, 0.5)
        decided += [f"'{m.phrase}' also names {r.name}, not used" for _, r, m in rivals]
    said = _said_of(reading, mention)
    row, changed = _in_state(row, reading, said) if mention else (row, [])
    decided += changed
    contradictions = _contradictions(row, reading, said, candidates, changed)
    if contradictions:
        confidence = min(confidence, 0.4)
    doubts = [w for w in reading.tokens if w in v.DOUBT_WORDS]
    if doubts:
        confidence = min(confidence, 0.5)
        decided.append(f"'{doubts[0]}' leaves it open")
    unknown = _unknown(reading)
    confidence *= max(0.6, 0.9 ** len(unknown))
    density, means, moved = _adjusted(row, reading, said)
    alternatives = [r.name for _, r, m in candidates if r.name != row.name]
    alternatives += [n for _, _, m in candidates for n in m.materials if n != row.name and n not in banned]
    return Proposal(
        material=row.name,
        model=row.model,
        law=row.law,
        density=density,
        means=means,
        ranges={**row.parameters, "density": row.density},
        simulated=simulated(row.law, density, means),
        confidence=confidence,
        source=row.source,
        reasons=(*decided, *reasons, *contradictions, *moved),
        unknown=unknown,
        alternatives=tuple(n for n in dict.fromkeys(alternatives) if n in table),
    )


def excluded_materials(prompt: str) -> set[str]:
    """Names of the materials that a prompt rules out.

    >>> sorted(excluded_materials("a spoon without copper or lead"))
    ['copper', 'lead']
    """
    return _excluded(read(prompt))[0]


def _excluded(reading: Reading) -> tuple[set[str], list[str]]:
    """Names of the materials that negated words exclude, and the reasons."""
    banned, reasons = set(), []
    for m in reading.mentions:
        if not m.negated or m.kind not in ("material", "vague"):
            continue
        groups = v.GROUPS.get(m.phrase, ())
        names = {row.name for row in by_name().values() if row.category in groups} | set(m.materials)
        banned |= names
        reasons.append(f"'{m.phrase}' is negated and excludes {' and '.join(groups) or m.materials[0]}")
    for i, word in enumerate(reading.tokens):
        if reading.negated[i] and i not in reading.used and word in v.VERB_DEFAULTS:
            banned.add(v.VERB_DEFAULTS[word][0])
            reasons.append(f"'{word}' is negated and speaks against {v.VERB_DEFAULTS[word][0]}")
    return banned, reasons


def _candidates(reading: Reading, banned: set[str]) -> list[tuple[float, Everyday, Mention]]:
    """What is named and not excluded, the likeliest first, earlier words before later ones."""
    found = []
    for m in reading.mentions:
        name = next((n for n in m.materials if n not in banned), None)
        if not m.negated and name:
            found.append((m.score, by_name()[name], m))
    return sorted(found, key=lambda c: (-round(c[0], 6), c[2].start))


def _by_behaviour(reading: Reading, banned: set[str]) -> tuple[Everyday, str, float, int]:
    """What adjectives, then verbs, suggest where nothing is named: (row, reason, confidence, the deciding token)."""
    table = by_name()
    words = [base_form(w) for w in reading.tokens]
    sources = (
        (v.ADJECTIVE_DEFAULTS, False, 0.4),
        (v.OPPOSITES, True, 0.3),
        (v.VERB_DEFAULTS, False, 0.3),
    )
    for defaults, negated, confidence in sources:
        for i, word in enumerate(words):
            if word in defaults and reading.negated[i] is negated:
                name = next((n for n in defaults[word] if n not in banned), None)
                if name:
                    shown = f"'not {word}'" if negated else f"'{word}'"
                    return table[name], f"no material is named; {shown} suggests {name}", confidence, i
    name = next((n for n in v.LAST_RESORT if n not in banned), None)
    if name is None:
        raise ValueError("propose: the prompt excludes every material it names; say what the object is made of")
    return table[name], f"no material is named and no word suggests one; {name} is assumed", 0.1, len(words)


def _said_of(reading: Reading, mention: Mention | None) -> list[int]:
    """The tokens that may describe the chosen mention: not negated, and not in front of the name of something else."""
    chosen = []
    for i in range(len(reading.tokens)):
        nxt = next((m for m in reading.mentions if m.end > i), None)
        if reading.negated[i]:
            continue
        if nxt and mention and all(_describes(reading, k) for k in range(i + 1, nxt.start)):
            chain = [nxt]
            for m in reading.mentions:
                if m.start == chain[-1].end:
                    chain.append(m)
            if mention not in chain:
                continue
        chosen.append(i)
    return chosen


def _describes(reading: Reading, i: int) -> bool:
    """Whether a token between an adjective and a noun leaves the two together."""
    word = reading.tokens[i]
    breaks = word in v.PLACES or word in v.DETERMINERS or word in v.SCOPE_ENDS or word in v.VERB_DEFAULTS
    return not breaks and word not in (",", "and", "or", "of", "with", "as", "like", "than")


def _in_state(row: Everyday, reading: Reading, said: list[int]) -> tuple[Everyday, list[str]]:
    """The row after adjectives of state: molten, frozen, wet, dry, fired, crushed, boiled, whipped."""
    for word in (reading.tokens[i] for i in said):
        state = v.STATE_WORDS.get(word)
        if state:
            becomes = v.STATES[state].get(row.name) or v.STATES[state].get(row.category)
            if becomes and becomes != row.name:
                return by_name()[becomes], [f"'{word}' turns {row.name} into {becomes}"]
    return row, []


def _contradictions(
    row: Everyday, reading: Reading, said_of: list[int], candidates: list, changed: list[str]
) -> list[str]:
    """Adjectives that do not fit the material or one another."""
    said = {base_form(reading.tokens[i]): i for i in said_of}
    found = []

    def clash(words, condition: bool, what: str) -> None:
        word = next((w for w in said if w in words), None)
        if condition and word:
            found.append(f"'{word}' contradicts {row.name}, which {what}")

    fluid = row.law in FLUIDS
    E = 0.0 if fluid else row.parameters["E"].mean
    clash(v.SOFT, E > RIGID and row.category not in ("fabric", "paper"), f"has {E:.2g} Pa")
    clash(v.HARD, not fluid and E < SOFT and row.category not in ("foam",), f"has {E:.2g} Pa")
    clash(v.HARD | {"solid"}, row.category == "liquid", "is a liquid")
    clash(v.FLOWING, not fluid and not changed, "does not flow")
    clash(v.BRITTLE, fluid or row.category in ("rubber", "gel", "dough", "granular"), "does not break like that")
    clash(v.STRETCHY, row.category in ("glass", "ceramic", "stone", "granular", "liquid", "ice"), "does not stretch")
    clash({"dry"}, row.category == "liquid", "is wet")
    clash({"heavy", "weighty"}, row.density.mean < 100, f"has {row.density.mean:g} kg/m^3")
    clash({"light", "lightweight", "airy"}, row.density.mean > 7000, f"has {row.density.mean:g} kg/m^3")
    soft, hard = (next((w for w in said if w in words), None) for words in (v.SOFT, v.HARD))
    if soft and hard:
        found.append(f"'{soft}' and '{hard}' contradict one another")
    best = candidates[0][0] if candidates else 0.0
    named = sorted((m.start, r.category, m) for s, r, m in candidates if s >= 0.75 * best and m.kind == "material")
    adjacent = [(a, b) for (_, x, a), (_, y, b) in itertools.pairwise(named) if a.end == b.start and x != y]
    adjacent = [(a, b) for a, b in adjacent if a.materials[0] not in v.FLAVOURS]
    found += [f"'{a.phrase}' and '{b.phrase}' name two materials for one object" for a, b in adjacent]
    if "made of" in (candidates[0][2].roles if candidates else ()):
        named = [m for s, r, m in candidates[1:] if s >= 1 and r.category != row.category and not m.roles]
        named = [m for m in named if m.phrase not in v.OBJECT_WORDS and m.kind == "material"]
        found += [f"'{m.phrase}' contradicts what it is said to be made of, {row.name}" for m in named]
    excluded = {m.phrase for m in reading.mentions if m.negated}
    found += [
        f"'{m.phrase}' is both named and negated" for m in reading.mentions if not m.negated and m.phrase in excluded
    ]
    return found


def _adjusted(row: Everyday, reading: Reading, said: list[int]) -> tuple[float, dict[str, float], list[str]]:
    """Density and means after the adjectives, with the reasons; the word that already chose the row moves nothing."""
    moves = {"stiffness": 0.0, "viscosity": 0.0, "density": 0.0}
    reasons, tokens = [], reading.tokens
    warm = row.category in ("dough", "liquid", "paste", "gel")
    for i in said:
        word = base_form(tokens[i])
        if i in reading.used:
            continue
        power = 1.0
        for before in reversed(tokens[max(0, i - 2) : i]):
            power *= v.STRONGER.get(before, 1.0)
        means_that = {"stiffness": v.STIFFNESS.get(word, 0.0), "density": v.DENSITY.get(word, 0.0)}
        means_that["viscosity"] = v.VISCOSITY.get(word, 0.0)
        if warm and word in v.WARMTH:
            means_that["stiffness"] = means_that["viscosity"] = v.WARMTH[word]
        fluid = row.law in FLUIDS
        if fluid or (word in v.INHERENT and row.category in ("gel", "foam", "dough", "food", "tissue")):
            means_that["stiffness"] = 0.0
        else:
            means_that["viscosity"] = 0.0
        for what, move in means_that.items():
            if move:
                moves[what] += move * power
                reasons.append(f"'{word}' moves the {what} {'up' if move > 0 else 'down'} in its range")
    moves = {what: max(-1.0, min(1.0, move)) for what, move in moves.items()}
    means = {}
    for name, r in row.parameters.items():
        by = "stiffness" if name in STIFF_PARAMETERS else "viscosity" if name == "viscosity" else None
        if name == "yield_stress" and row.law in FLUIDS:
            by = "viscosity"
        means[name] = r.at(moves[by]) if by and moves[by] else r.mean
    return row.density.at(moves["density"]) if moves["density"] else row.density.mean, means, reasons


def _unknown(reading: Reading) -> tuple[str, ...]:
    """Words in none of the lists."""
    unknown = []
    for i, token in enumerate(reading.tokens):
        word = token.lstrip("-")
        plain = {word, word.removesuffix("s"), word.removesuffix("ly"), base_form(word)}
        if i not in reading.used and word.strip(",.;:!?") and not plain & v.UNDERSTOOD:
            unknown.append(word)
    return tuple(dict.fromkeys(unknown))
