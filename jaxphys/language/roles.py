"""What a mention is to the object: its material, an object of another material, where it lands, what it looks like.

Each role scales the mention's score.
"""

from __future__ import annotations

import itertools

from jaxphys.language import vocabulary as v
from jaxphys.language.mentions import Mention, base_form, by_name, is_adjective, phrase_at, singulars

# role -> (what it is called in the reasons, what it leaves of a score)
ROLES = {
    "place": ("where it happens", 0.35),
    "coating": ("what covers or fills it", 0.45),
    "with": ("what comes with it", 0.6),
    "look": ("its look", 0.1),
    "like": ("what it is like", 0.75),
    "as": ("how much it is so", 0.55),
    "simile": ("how much it is so", 0.1),
    "behaves": ("what it behaves like", 0.95),
    "hit": ("what it hits", 0.5),
    "made in": ("made of", 1.0),
    "object": ("an object", 0.5),
    "modifier": ("a modifier", 0.5),
    "weak modifier": ("a modifier", 0.8),
    "content": ("what is kept in it", 0.3),
    "flavour": ("a flavour", 0.3),
    "measure": ("a measure of it", 0.3),
    "depicted": ("what it depicts", 0.1),
    "actor": ("who acts", 0.8),
}
MADE_OF_BONUS = {"thing": 0.2, "container": 0.2}  # else 0.5
CONTENTS = ("liquid", "paste", "granular", "snow")  # categories of what a container holds
INTRODUCTIONS = (("behaves", v.BEHAVES), ("look", v.LOOKS), ("made of", v.MADE_OF), ("coating", v.COATINGS))
PAUSES = v.SCOPE_ENDS | {",", "and", "or", "not"}


def give(mention: Mention, role: str) -> None:
    name, factor = ROLES[role]
    mention.score *= factor
    mention.roles += (name,)


def mark_compounds(tokens: list[str], mentions: list[Mention]) -> None:
    """In "chocolate cake" the last word is the object; in "rubber brick" and "steel ball" the first says of what."""
    table = by_name()
    for m, after, third in zip(mentions, mentions[1:], [*mentions[2:], None]):
        between = tokens[m.end : after.start]
        loose = {base_form(w) for w in between} - v.STIFFNESS.keys() - v.COLOURS - {"-like"}
        if m.negated or loose:
            continue
        row, other = table[m.materials[0]], table[after.materials[0]]
        named, other_named = (x.kind in ("material", "vague") for x in (m, after))
        flavour = row.name in v.FLAVOURS or row.category in ("food", "tissue")
        edible = other.category == "food" or other.name in ("cake", "bread", "noodle")
        if m.phrase in v.LIKE_TOYS and other.category == "tissue":
            give(after, "object")
        elif named and other_named:
            if m.kind == "vague":
                continue
            is_object = after.phrase in v.OBJECT_WORDS or other.category in v.OBJECT_CATEGORIES
            flavoured = flavour and (edible or other.category in ("foam", "dough"))
            wets = row.category in ("liquid", "paste") and other.category != "tissue"
            if is_object and not flavoured and not wets:
                give(after, "object")
            elif third is None or third.start != after.end or third.kind in ("material", "vague"):
                give(m, "weak modifier")
        elif named and after.kind == "container" and (row.category in CONTENTS or flavour) and m.kind != "vague":
            give(m, "content")
        elif named and flavour and edible:
            give(m, "flavour")
            after.score = max(after.score, 0.9)
        elif named:
            give(after, "object")
        elif not other_named:
            give(m, "modifier")


def mark_roles(tokens: list[str], mentions: list[Mention], used: set[int]) -> None:
    """Gives the roles that the words around a mention tell, and adds those words to `used`."""
    for m, after in itertools.pairwise(mentions):
        _mark_pair(tokens, m, after)
    starts = {m.start for m in mentions if m.kind == "material"}
    for m in mentions:
        following = tokens[m.end : m.end + 2]
        first, second = [*following, "", ""][:2]
        if first == "-like":
            used.add(m.end)
            give(m, "like")
        elif first.lstrip("-") in v.LOOK_SUFFIXES or first in v.COLOURS - {"dark"}:
            used.add(m.end)
            give(m, "look")
        elif first in v.SIMILE_ADJECTIVES and m.end + 1 in starts:
            give(m, "simile")
        elif first in v.COAT_SUFFIXES and second and second not in v.PLACES | {"with"}:
            give(m, "coating")
        start, role = _introduced(tokens, mentions, m)
        if role == "made of":
            m.score += MADE_OF_BONUS.get(m.kind, 0.5)
            m.roles += (role,)
        elif role:
            give(m, role)
        if role:
            used.add(start)


def _mark_pair(tokens: list[str], m: Mention, after: Mention) -> None:
    """Roles in "a block of jelly", "a glass full of water", "a statue of a horse", "a hand squeezes a ball"."""
    gap = tokens[m.end : after.start]
    full = gap[:2] == ["full", "of"]
    if (full or gap[:1] == ["of"]) and len(gap) <= 3 and not m.negated:
        nouns = singulars(tokens[m.end - 1])
        bare = not full and after.kind == "material" and not v.DETERMINERS & set(gap)
        if bare or any(n in v.MEASURES for n in nouns) or m.kind == "container":
            give(m, "measure")
        if any(n in v.IMAGES for n in nouns) and after.kind == "thing":
            give(after, "depicted")
    living = m.kind == "thing" and by_name()[m.materials[0]].category == "tissue"
    if living and len(gap) > 1 and not v.SCOPE_ENDS & set(gap) and "and" not in gap:
        give(m, "actor")


def _introduced(tokens: list[str], mentions: list[Mention], m: Mention) -> tuple[int, str | None]:
    """What introduces the noun phrase of a mention: (its token, role)."""
    inside = {i: other for other in mentions for i in range(other.start, other.end)}
    shaped = by_name()[m.materials[0]].category in v.SHAPED
    for i in range(m.start - 1, max(-1, m.start - 9), -1):
        for role, phrases in INTRODUCTIONS:
            for begin in range(max(0, i - 2), i + 1):
                if (n := phrase_at(tokens, begin, phrases)) and i < begin + n <= m.start:
                    return begin, role
        token = tokens[i]
        if token == "in" and i == m.start - 1 and shaped and m.kind == "material":
            return i, "made in"
        if token in v.HITS and shaped and any(other.end <= i for other in mentions):
            return i, "hit"
        if token in ("like", "with"):
            return i, token
        if token == "as":
            return i, "as" if "as" in tokens[max(0, i - 3) : i] or is_adjective(tokens, i - 1) else None
        if token == "of" and i - 1 in inside and i == m.start - 1:
            continue  # "onto a pile of sand": the pile's own role is the sand's
        if token in v.PLACES and not (token == "to" and tokens[i + 1] in v.VERB_DEFAULTS):
            alone = i == 0 and "," not in tokens and len(mentions) == 1
            return i, None if alone else "place"
        if token in PAUSES:
            return i, _shared_role(inside.get(i - 1)) if token in ("and", "or") else None
        if i in inside and token not in v.COLOURS and tokens[i + 1] != "of":
            gap = range(inside[i].end, m.start)
            if gap and not all(is_adjective(tokens, k) or tokens[k] in v.DETERMINERS for k in gap):
                return i, None
    return m.start, None


def _shared_role(before: Mention | None) -> str | None:
    """The role of "steel" in "onto glass and steel"."""
    if before is None or before.negated or not before.roles:
        return None
    return next((role for role in ("place", "coating") if ROLES[role][0] == before.roles[-1]), None)
