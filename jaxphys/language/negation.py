"""How far a negation reaches: "not rubber or steel but wood", "neither", "rather than", "-free", "not very soft"."""

from __future__ import annotations

from jaxphys.language import vocabulary as v
from jaxphys.language.mentions import Mention, is_adjective, lexicon, phrase_at


def negated_tokens(tokens: list[str], mentions: list[Mention]) -> tuple[list[bool], set[int]]:
    """Which tokens a negation reaches, and the negating tokens themselves."""
    negated, markers = [False] * len(tokens), set()
    starts = {m.start: m for m in mentions}
    i = 0
    while i < len(tokens):
        if affirmed := phrase_at(tokens, i, v.AFFIRMATIONS):
            markers |= set(range(i, i + affirmed))
            i += affirmed
            continue
        length = phrase_at(tokens, i, v.NEGATION_PHRASES) or int(tokens[i] in v.NEGATIONS)
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
    if is_adjective(tokens, adjective) and adjective + 1 in starts and tokens[i] not in v.DETERMINERS:
        negated[adjective] = True  # "not very soft rubber" is rubber
        return adjective + 1
    passed = False
    while i < len(tokens):
        token, mention = tokens[i], starts.get(i)
        if mention and is_adjective(tokens, i) and (rest := mention.phrase.partition(" ")[2]) in lexicon():
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
        if token in v.SCOPE_ENDS or (phrase_at(tokens, i, (("it", "is"), ("made", "of"), ("made", "from"))) and passed):
            break
        if token in v.NEGATIONS or phrase_at(tokens, i, v.NEGATION_PHRASES):
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


def _list_goes_on(tokens: list[str], i: int) -> bool:
    """Whether the comma at i stands in a list that a later "or" or "nor" closes."""
    for token in tokens[i + 1 : i + 8]:
        if token in ("or", "nor"):
            return True
        if token in v.SCOPE_ENDS or token in v.NEGATIONS or token in v.PLACES:
            return False
    return False
