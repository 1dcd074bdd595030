"""From a prompt to mentions: which words name a material or a thing, in what role, and which are negated.

A mention's score says how likely it is what the object is made of: 1 for a material that is plainly named, less for a
thing that is usually made of it, for where something lands, what covers it or what it merely looks like.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import itertools
import re
from importlib import resources

from jaxphys.language import vocabulary as v
from jaxphys.language.materials import Everyday, load_table

THING_SCORE, VAGUE_SCORE = 0.6, 0.7
# What a role leaves of a score.
PLACE, COATING, LOOK, CONTAINER_CONTENT, CONTAINER, COMPOUND = 0.35, 0.45, 0.1, 0.3, 0.3, 0.5
CONTENTS = ("liquid", "paste", "granular", "snow")


@dataclasses.dataclass
class Mention:
    """A word or phrase that names a material, or a thing with what it is usually made of."""

    start: int
    end: int
    phrase: str
    materials: tuple[str, ...]  # the likeliest first
    kind: str  # "material" | "vague" | "thing" | "container"
    score: float
    negated: bool = False
    roles: tuple[str, ...] = ()

    def scale(self, factor: float, role: str) -> None:
        self.score *= factor
        self.roles += (role,)


@dataclasses.dataclass
class Reading:
    """A prompt, read."""

    tokens: list[str]
    mentions: list[Mention]
    negated: list[bool]  # per token
    used: set[int]  # tokens that a mention, a negation or a marker of a role uses


@functools.cache
def lexicon() -> dict[str, tuple[str, tuple[str, ...]]]:
    """Phrase -> (kind, materials); a material's own name comes before that of a thing.

    >>> lexicon()["trampoline"]
    ('thing', ('rubber', 'plastic'))
    """
    entries = {}
    text = (resources.files("jaxphys.language") / "assets" / "things.csv").read_text(encoding="utf-8")
    for row in csv.DictReader(text.splitlines(), delimiter=";"):
        for phrase in row["words"].split(","):
            entries[phrase] = (row["kind"], tuple(row["materials"].split("|")))
    for row in load_table():
        for phrase in row.words:
            entries[phrase] = ("vague" if phrase in v.VAGUE else "material", (row.name,))
    return entries


@functools.cache
def by_name() -> dict[str, Everyday]:
    return {row.name: row for row in load_table()}


def tokenize(prompt: str) -> list[str]:
    """Lower-case words and punctuation; a hyphenated word stays whole only where the vocabulary has it whole.

    >>> tokenize("A rubber-like, T-shirt!")
    ['a', 'rubber', '-like', ',', 't-shirt', '!']
    """
    text = prompt.lower().replace("’", "'").replace("–", " ; ").replace("—", " ; ").replace("_", " ")
    tokens = []
    for word in re.findall(r"[^\W\d_]+(?:['-][^\W\d_]+)*|[.,;:!?()]", text):
        word = "," if word in "()" else word.removesuffix("'s")
        if "-" not in word or word in lexicon() or word in v.STIFFNESS:
            tokens.append(word)
            continue
        head, _, last = word.rpartition("-")
        if word.startswith("non-"):
            tokens += ["non", *word[4:].split("-")]
        elif last in ("free", "less", "like") or last in v.LOOK_SUFFIXES:
            tokens += [*head.split("-"), f"-{last}"]
        else:
            tokens += word.split("-")
    return tokens


def _singulars(word: str) -> list[str]:
    forms = [word]
    if word.endswith("ies"):
        forms.append(word[:-3] + "y")
    if word.endswith("ves"):
        forms += [word[:-3] + "f", word[:-3] + "fe"]
    if word.endswith("es"):
        forms.append(word[:-2])
    if word.endswith("s") and not word.endswith("ss"):
        forms.append(word[:-1])
    return forms


def base_form(word: str) -> str:
    """An adjective without its comparison: softer, softest -> soft; else the word."""
    for ending in ("er", "est", "r", "st"):
        if word.endswith(ending):
            stem = word.removesuffix(ending)
            stem = stem.removesuffix("i") + "y" if stem.endswith("i") else stem
            if stem in v.ADJECTIVES:
                return stem
    return word


def find_mentions(tokens: list[str]) -> list[Mention]:
    """The longest phrases of the lexicon, left to right; words that act as verbs here are left out."""
    mentions, taken = [], set()
    for length in (4, 3, 2, 1):
        for i in range(len(tokens) - length + 1):
            span = range(i, i + length)
            if taken & set(span):
                continue
            *first, last = tokens[i : i + length]
            phrase = next((p for s in _singulars(last) if (p := " ".join([*first, s])) in lexicon()), None)
            if phrase is None or (length == 1 and _is_verb(tokens, i)):
                continue
            kind, materials = lexicon()[phrase]
            score = {"material": 1.0, "vague": VAGUE_SCORE}.get(kind, THING_SCORE)
            mentions.append(Mention(i, i + length, phrase, materials, kind, score))
            taken |= set(span)
    return sorted(mentions, key=lambda m: m.start)


def _is_verb(tokens: list[str], i: int) -> bool:
    """Whether a word that may be a noun or a verb (rock, lead, drop, can) is the verb here."""
    word = tokens[i]
    stem = next((s for s in _singulars(word) if s in v.VERB_OR_NOUN), None)
    if stem is None:
        return False
    before = tokens[i - 1] if i else ""
    after = tokens[i + 1] if i + 1 < len(tokens) else ""
    if before in v.MODALS:
        return after in v.DETERMINERS or before != "to" or after in v.NEUTRAL - v.PLACES
    if before in v.DETERMINERS or before in v.NEGATIONS or before in ("of", "like", "or", "with", "pure", "made"):
        return False
    if word == "can":
        return (base_form(before) not in v.NEUTRAL) and lexicon().get(before, ("",))[0] not in ("material", "vague")
    if before in ("", ",", ".", ";", "and", "then", "but"):
        return after in v.DETERMINERS or (word != stem and before in ("and", "then"))
    noun_before = lexicon().get(before) is not None or any(s in lexicon() for s in _singulars(before))
    if noun_before and lexicon().get(before, ("",))[0] == "material" and word == stem:
        return False
    if noun_before:
        return word != stem or after in v.PLACES
    return word != stem and before not in v.NEUTRAL and (after in v.DETERMINERS or after in v.PLACES)


def _phrase_at(tokens: list[str], i: int, phrases: tuple[tuple[str, ...], ...]) -> int:
    """Length in tokens of the phrase of the list that starts at i, 0 where none does."""
    for words in phrases:
        if tokens[i] == words[0] and tuple(tokens[i : i + len(words)]) == words:
            return len(words)
    return 0


def negated_tokens(tokens: list[str], mentions: list[Mention]) -> tuple[list[bool], set[int]]:
    """Which tokens a negation reaches, and the negating tokens themselves."""
    negated, markers = [False] * len(tokens), set()
    starts = {m.start: m for m in mentions}
    i = 0
    while i < len(tokens):
        if affirmed := _phrase_at(tokens, i, v.AFFIRMATIONS):
            markers |= set(range(i, i + affirmed))
            i += affirmed
            continue
        length = _phrase_at(tokens, i, v.NEGATION_PHRASES) or int(tokens[i] in v.NEGATIONS)
        length = length or int(tokens[i] in ("was", "were") and "now" in tokens[i:])
        if not length or i in starts:
            i += 1
            continue
        markers |= set(range(i, i + length))
        i = _negate_scope(tokens, starts, negated, i + length, single=tokens[i] == "non")
    for m in mentions:
        if m.end < len(tokens) and tokens[m.end] in ("-free", "-less"):
            negated[m.start : m.end] = [True] * (m.end - m.start)
            markers.add(m.end)
    return negated, markers


def _negate_scope(tokens: list[str], starts: dict[int, Mention], negated: list[bool], i: int, single: bool) -> int:
    """Marks the tokens from i to the end of the negation's scope; returns where that is."""
    adjective = i
    while adjective < len(tokens) and (tokens[adjective] in v.STRONGER or tokens[adjective] == "so"):
        adjective += 1
    if _is_adjective(tokens, adjective) and adjective + 1 in starts and tokens[i] not in v.DETERMINERS:
        negated[adjective] = True  # "not very soft rubber" is rubber
        return adjective + 1
    passed = False
    while i < len(tokens):
        token, mention = tokens[i], starts.get(i)
        if mention and _is_adjective(tokens, i) and (rest := mention.phrase.partition(" ")[2]) in lexicon():
            mention.start, mention.phrase, mention.materials = i + 1, rest, lexicon()[rest][1]  # "not dry sand" is sand
            negated[i] = True
            return mention.end
        if mention:
            negated[i : mention.end] = [True] * (mention.end - i)
            passed, i = True, mention.end
            if single:
                return i
            continue
        if token == "," and not _list_goes_on(tokens, i):
            break
        if token in v.SCOPE_ENDS or (
            _phrase_at(tokens, i, (("it", "is"), ("made", "of"), ("made", "from"))) and passed
        ):
            break
        if token in v.NEGATIONS or _phrase_at(tokens, i, v.NEGATION_PHRASES):
            break
        if passed and token == "and" and i + 1 < len(tokens) and tokens[i + 1] in v.DETERMINERS:
            break
        if passed and token not in ("and", "or", ",") and (token in v.PLACES or token in v.VERB_DEFAULTS):
            break
        if passed and token.endswith("s") and token in v.NEUTRAL and i + 1 not in starts:
            break
        negated[i] = True
        i += 1
    return i


def _is_adjective(tokens: list[str], i: int) -> bool:
    if i >= len(tokens):
        return False
    word = base_form(tokens[i])
    return word in v.STIFFNESS or word in v.VISCOSITY or word in v.DENSITY or word in v.STATE_WORDS


def _list_goes_on(tokens: list[str], i: int) -> bool:
    """Whether the comma at i stands in a list that a later "or" or "nor" closes."""
    for token in tokens[i + 1 : i + 8]:
        if token in ("or", "nor"):
            return True
        if token in v.SCOPE_ENDS or token in v.NEGATIONS or token in v.PLACES:
            return False
    return False


def read(prompt: str) -> Reading:
    """Finds mentions, negations and roles.

    >>> [(m.phrase, round(m.score, 2), m.negated) for m in read("a steel ball, not rubber, on sand").mentions]
    [('steel', 1.0, False), ('ball', 0.3, False), ('rubber', 1.0, True), ('sand', 0.35, False)]
    """
    tokens = tokenize(prompt)
    mentions = find_mentions(tokens)
    negated, used = negated_tokens(tokens, mentions)
    for m in mentions:
        m.negated = negated[m.start]
        used |= set(range(m.start, m.end))
    _mark_compounds(tokens, mentions)
    _mark_roles(tokens, mentions, used)
    return Reading(tokens, mentions, negated, used)


def _mark_compounds(tokens: list[str], mentions: list[Mention]) -> None:
    """In "chocolate cake" the last word is the object; in "rubber brick" and "steel ball" the first says of what."""
    table = by_name()
    for m, after, third in zip(mentions, mentions[1:], [*mentions[2:], None]):
        between = tokens[m.end : after.start]
        if m.negated or any(base_form(w) not in v.STIFFNESS and w not in v.COLOURS for w in between):
            continue
        row, other = table[m.materials[0]], table[after.materials[0]]
        is_named, other_named = m.kind in ("material", "vague"), after.kind in ("material", "vague")
        is_object = after.phrase in v.OBJECT_WORDS or other.category in v.OBJECT_CATEGORIES
        flavour = row.name in v.FLAVOURS or row.category in ("food", "tissue")
        if m.phrase in v.LIKE_TOYS and other.category == "tissue":
            after.scale(COMPOUND, "a toy")
        elif is_named and other_named:
            if m.kind == "vague":
                continue
            if is_object and not (flavour and (other.category in ("food", "foam", "dough") or other.name == "bread")):
                if row.category not in ("liquid", "paste") or other.category == "tissue":
                    after.scale(COMPOUND, "an object")
                    continue
            if third is None or third.start != after.end or third.kind in ("material", "vague"):
                m.scale(0.8, "a modifier")
        elif is_named and after.kind == "container" and (row.category in CONTENTS or flavour) and m.kind != "vague":
            m.scale(CONTAINER_CONTENT, "what is kept in it")
        elif is_named and flavour and (other.category == "food" or other.name in ("cake", "bread", "noodle")):
            m.scale(CONTAINER_CONTENT, "a flavour")
            after.score = max(after.score, 0.9)
        elif is_named:
            after.scale(COMPOUND, "an object")
        elif not other_named:
            m.scale(COMPOUND, "a modifier")


def _mark_roles(tokens: list[str], mentions: list[Mention], used: set[int]) -> None:
    for m, after in itertools.pairwise(mentions):
        full = tokens[m.end : m.end + 2] == ["full", "of"]
        if (full or tokens[m.end : m.end + 1] == ["of"]) and after.start - m.end <= 3 and not m.negated:
            noun = _singulars(tokens[m.end - 1])
            bare = not full and after.kind == "material" and not v.DETERMINERS & set(tokens[m.end : after.start])
            if bare or any(n in v.MEASURES for n in noun) or m.kind == "container":
                m.scale(CONTAINER, "a measure of it")
            if any(n in v.IMAGES for n in noun) and after.kind == "thing":
                after.scale(LOOK, "what it depicts")
    for m, after in itertools.pairwise(mentions):
        acts = m.kind == "thing" and by_name()[m.materials[0]].category == "tissue" and after.start > m.end + 1
        if acts and not any(token in v.SCOPE_ENDS or token == "and" for token in tokens[m.end : after.start]):
            m.scale(0.8, "who acts")
    for m in mentions:
        following = tokens[m.end : m.end + 2]
        next_starts = any(other.start == m.end + 1 and other.kind == "material" for other in mentions)
        if following[:1] == ["-like"]:
            used.add(m.end)
            m.scale(0.8, "what it is like")
        elif following and (following[0].lstrip("-") in v.LOOK_SUFFIXES or following[0] in v.COLOURS - {"dark"}):
            used.add(m.end)
            m.scale(LOOK, "its look")
        elif following and following[0] in v.SIMILE_ADJECTIVES and next_starts:
            m.scale(LOOK, "how much it is so")
        elif len(following) == 2 and following[0] in v.COAT_SUFFIXES and following[1] not in v.PLACES | {"with"}:
            m.scale(COATING, "what covers or fills it")
        start, role = _introduced(tokens, mentions, m)
        if role is None:
            continue
        used |= set(range(start, start + 1))
        if role == "made of":
            m.score += 0.5 if m.kind != "thing" else 0.2
            m.roles += (role,)
        elif role == "like":
            m.scale(0.75, "what it is like")
        elif role == "as":
            m.scale(0.55, "how much it is so")
        elif role == "behaves":
            m.scale(0.95, "what it behaves like")
        elif role == "look":
            m.scale(LOOK, "its look")
        elif role == "made in":
            m.roles += ("made of",)
        elif role == "hit":
            m.scale(COMPOUND, "what it hits")
        elif role == "coating":
            m.scale(COATING, "what covers or fills it")
        elif role == "with":
            m.scale(0.6, "what comes with it")
        else:
            m.scale(PLACE, "where it happens")


def _introduced(tokens: list[str], mentions: list[Mention], m: Mention) -> tuple[int, str | None]:
    """What introduces the noun phrase of a mention: (its token, role)."""
    lists = (("behaves", v.BEHAVES), ("look", v.LOOKS), ("made of", v.MADE_OF), ("coating", v.COATINGS))
    inside = {i: other for other in mentions for i in range(other.start, other.end)}
    for i in range(m.start - 1, max(-1, m.start - 9), -1):
        for role, phrases in lists:
            for begin in range(max(0, i - 2), i + 1):
                if (n := _phrase_at(tokens, begin, phrases)) and i < begin + n <= m.start:
                    return begin, role
        token = tokens[i]
        if (
            token == "in"
            and i == m.start - 1
            and by_name()[m.materials[0]].category in v.SHAPED
            and m.kind == "material"
        ):
            return i, "made in"
        if token in v.HITS and by_name()[m.materials[0]].category in v.SHAPED and any(o.end <= i for o in mentions):
            return i, "hit"
        if token == "like":
            return i, "like"
        if token == "as" and i + 1 < m.start:
            return i, "as"
        if token in ("with",):
            return i, "with"
        if token == "of" and i and i - 1 in inside and i == m.start - 1:
            continue  # "onto a pile of sand": the pile's own role is the sand's
        if token in v.PLACES and not (token == "to" and tokens[i + 1] in v.VERB_DEFAULTS):
            return i, None if _begins_with_place(tokens, i) and len(mentions) == 1 else "place"
        if token in (".", ";", ":", ",", "!", "?", "but", "and", "or", "not") or token in v.SCOPE_ENDS:
            if token in ("and", "or") and i - 1 in inside and not inside[i - 1].negated:
                role = inside[i - 1].roles[-1:] if inside[i - 1].roles else ()
                same = {"where it happens": "place", "what covers or fills it": "coating"}
                return i, same.get(role[0]) if role else None
            return i, None
        if i in inside and inside[i] is not m and token not in v.COLOURS and tokens[i + 1] != "of":
            if tokens[inside[i].end : m.start] and not all(
                _is_adjective(tokens, k) or tokens[k] in v.DETERMINERS for k in range(inside[i].end, m.start)
            ):
                return i, None
    return m.start, None


def _begins_with_place(tokens: list[str], i: int) -> bool:
    return i == 0 and "," not in tokens
