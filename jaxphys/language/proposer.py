"""`propose`: words, and a picture, to a material and its parameters."""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any, Protocol

from jaxphys.language.answers import Refusal
from jaxphys.language.proposal import Proposal
from jaxphys.language.providers import Offline


class Provider(Protocol):
    """Who answers: `Offline`, `File`, `OpenAI`, or anything with a name that answers or raises `Refusal`."""

    name: str

    def ask(self, prompt: str, image: Any) -> Proposal: ...


class FallbackWarning(UserWarning):
    """A provider's answer was refused and the offline table was used."""


def propose(prompt: str, image: Any = None, provider: Provider | None = None) -> Proposal:
    """The material, its model and its parameters with ranges, for a prompt.

    An answer that is malformed, out of range or contradictory is refused; the offline table then answers, a
    `FallbackWarning` says so, and `Proposal.refusals` holds the reason.

    Args:
        prompt: plain words.
        image: picture of the object for providers that look at one: a path, or an array (H, W, 3) in [0, 1].
        provider: who is asked; by default the offline table, which needs no network.

    Returns:
        A `Proposal`.

    Raises:
        ValueError: the prompt is empty, or excludes everything it could mean; the image cannot be read.

    >>> propose("a duck of very soft rubber").model
    'elastic'
    """
    offline = Offline()
    fallback = offline.ask(prompt, image)  # checks the prompt too, before anyone is asked
    if provider is None or isinstance(provider, Offline):
        return fallback
    try:
        return provider.ask(prompt, image)
    except Refusal as refusal:
        reason = f"{provider.name}: {refusal}"
        warnings.warn(f"{reason}; the offline table answers instead", FallbackWarning, stacklevel=2)
        return dataclasses.replace(fallback, provider=f"offline, after {provider.name}", refusals=(reason,))
