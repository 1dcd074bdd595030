"""Who proposes the materials of a job: the offline table, or a language model behind an endpoint, asked once.

Proposals are kept in the workdir, so that a rerun goes on with the answers that its candidates were made from.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from experiments.report import write_json
from jaxphys import language

Classes = list[tuple[language.Proposal, float]]
"""Proposals with the weights of their classes."""


def provider_of(config) -> language.Provider:
    """The provider that `config.provider_url` and `config.provider_model` name; both empty: the offline table.

    Raises:
        ValueError: only one of them is given, or the address is none.
    """
    if bool(config.provider_url) != bool(config.provider_model):
        raise ValueError(
            "config: provider_url and provider_model go together, got "
            f"{config.provider_url!r} and {config.provider_model!r}; leave both empty for the offline table"
        )
    if not config.provider_url:
        return language.Offline()
    return language.OpenAI(config.provider_url, config.provider_model, key_variable=config.provider_key)


def classes_of(prompt: str, unsure: float, most: int, provider: language.Provider | None = None) -> Classes:
    """The proposal and its weight; where it is unsure, other classes share what it leaves.

    The others are its alternatives, or, where a language model names none, what the offline table would say.

    Args:
        prompt: words.
        unsure: confidence below which other classes are asked for.
        most: classes, at most.
        provider: None: the offline table.
    """
    first = language.propose(prompt, provider=provider)
    if first.confidence >= unsure or most < 2:
        return [(first, 1.0)]
    found, models = [first], {first.model}
    table = language.propose(prompt)
    others = (language.propose(name) for name in first.alternatives or table.alternatives)
    for other in (table, *others):
        if other.model not in models and len(found) < most:
            found.append(other)
            models.add(other.model)
    if len(found) == 1:
        return [(first, 1.0)]
    rest = (1.0 - first.confidence) / (len(found) - 1)
    return [(p, first.confidence if p is first else rest) for p in found]


def proposals_of(prompts: list[str], config, path: Path) -> list[Classes]:
    """The classes of every prompt, from the file of an earlier run where there is one.

    Raises:
        ValueError: the file is damaged.
    """
    provider = provider_of(config)
    if not path.exists():
        found = [classes_of(prompt, config.unsure, config.classes, provider) for prompt in prompts]
        entries = [[{"weight": w, "proposal": dataclasses.asdict(p)} for p, w in classes] for classes in found]
        write_json(path, {"classes": entries})
    try:
        entries = json.loads(path.read_text())["classes"]
        return [[(_restored(e["proposal"]), float(e["weight"])) for e in classes] for classes in entries]
    except (KeyError, TypeError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} holds no proposals ({error!r}); delete it to ask again") from error


def _restored(values: dict) -> language.Proposal:
    """A proposal from what JSON has made of it."""
    ranges = {name: language.Range(**r) for name, r in values["ranges"].items()}
    lists = {k: tuple(v) for k, v in values.items() if isinstance(v, list)}
    return language.Proposal(**values | lists | {"ranges": ranges})
