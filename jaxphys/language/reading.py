"""A prompt, read: tokens, mentions with their scores, and what is negated."""

from __future__ import annotations

import dataclasses

from jaxphys.language.mentions import Mention, find_mentions, tokenize
from jaxphys.language.negation import negated_tokens
from jaxphys.language.roles import mark_compounds, mark_roles


@dataclasses.dataclass
class Reading:
    """A prompt, read."""

    tokens: list[str]
    mentions: list[Mention]
    negated: list[bool]  # per token
    used: set[int]  # tokens that a mention, a negation or a marker of a role uses


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
    mark_compounds(tokens, mentions)
    mark_roles(tokens, mentions, used)
    return Reading(tokens, mentions, negated, used)
