"""Which words of a prompt name a material or a thing.

A mention's score says how likely it is what the object is made of: 1 for a material that is plainly named, less for a
thing that is usually made of it; `language.roles` lowers it for where something lands or what it merely looks like.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import re
from importlib import resources

from jaxphys.language import vocabulary as v
from jaxphys.language.materials import Everyday, load_table

THING_SCORE, VAGUE_SCORE = 0.6, 0.7


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


def singulars(word: str) -> list[str]:
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
            phrase = next((p for s in singulars(last) if (p := " ".join([*first, s])) in lexicon()), None)
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
    stem = next((s for s in singulars(word) if s in v.VERB_OR_NOUN), None)
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
    if before in v.PLAIN_NOUNS and word != stem:
        return True
    noun_before = lexicon().get(before) is not None or any(s in lexicon() for s in singulars(before))
    if noun_before and lexicon().get(before, ("",))[0] == "material" and word == stem:
        return False
    if noun_before:
        return word != stem or after in v.PLACES
    return word != stem and before not in v.NEUTRAL and (after in v.DETERMINERS or after in v.PLACES)


def phrase_at(tokens: list[str], i: int, phrases: tuple[tuple[str, ...], ...]) -> int:
    """Length in tokens of the phrase of the list that starts at i, 0 where none does."""
    for words in phrases:
        if tokens[i] == words[0] and tuple(tokens[i : i + len(words)]) == words:
            return len(words)
    return 0


def is_adjective(tokens: list[str], i: int) -> bool:
    if i >= len(tokens):
        return False
    word = base_form(tokens[i])
    return word in v.STIFFNESS or word in v.VISCOSITY or word in v.DENSITY or word in v.STATE_WORDS
