"""Answers of a language model or a file: the JSON that is asked for, and why one is refused.

    {"proposal": {"material": "natural rubber", "model": "elastic",
                  "density_kg_m3": {"mean": 950, "lo": 900, "hi": 1000},
                  "parameters": {"E_Pa": {"mean": 2e6, "lo": 1e6, "hi": 5e6},
                                 "nu": {"mean": 0.48, "lo": 0.45, "hi": 0.495}},
                  "confidence": 0.8, "reasons": ["the tyre is black and treaded"]}}

Every key carries its unit, so that a value in GPa has no place to hide. Nothing of an answer is executed or trusted:
whatever a prompt talks a model into, only a proposal that is complete, in range and free of contradiction passes.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

from jaxphys.language.materials import Everyday, Range, simulated
from jaxphys.language.mentions import by_name, lexicon
from jaxphys.language.offline import excluded_materials
from jaxphys.language.proposal import Proposal

E, NU = ("E_Pa", 10.0, 2e12), ("nu", 0.0, 0.499)
# model -> (law, density range, parameters with the range that a measured value may have)
MODELS: dict[str, tuple[str, tuple[float, float], tuple[tuple[str, float, float], ...]]] = {
    "elastic": ("fixed_corotated", (1.0, 25e3), (E, NU)),
    "viscoelastic": (
        "viscoelastic",
        (1.0, 25e3),
        (E, NU, ("mu_N_Pa", 1.0, 1e12), ("lam_N_Pa", 0.0, 1e12), ("viscosity_Pa_s", 1e-3, 1e12)),
    ),
    "metal": (
        "metal",
        (500.0, 25e3),
        (("E_Pa", 1e9, 1e12), NU, ("yield_stress_Pa", 1e5, 1e10), ("hardening_Pa", 0.0, 1e11)),
    ),
    "plasticine": (
        "plasticine",
        (100.0, 5e3),
        (("E_Pa", 1e2, 1e10), NU, ("yield_stress_Pa", 1.0, 1e9), ("softening", 0.0, 1e3), ("damage", 0.0, 1e3)),
    ),
    "foam": (
        "foam",
        (1.0, 5e3),
        (("E_Pa", 1e2, 1e11), NU, ("yield_stress_Pa", 1.0, 1e9), ("viscosity_Pa_s", 0.1, 1e8), ("exponent", 0.2, 2.0)),
    ),
    "sand": (
        "sand",
        (50.0, 10e3),
        (("E_Pa", 1e5, 1e11), NU, ("friction_angle_degrees", 5.0, 70.0), ("cohesion_Pa", 0.0, 1e6)),
    ),
    "snow": (
        "snow",
        (20.0, 917.0),
        (
            ("E_Pa", 1e3, 1e9),
            NU,
            ("hardening", 0.0, 50.0),
            ("critical_compression", 1e-3, 0.5),
            ("critical_stretch", 1e-4, 0.5),
        ),
    ),
    "water": ("water", (500.0, 14e3), (("bulk_modulus_Pa", 1e8, 1e11),)),
    "newtonian": ("newtonian", (300.0, 25e3), (("bulk_modulus_Pa", 1e8, 1e12), ("viscosity_Pa_s", 1e-5, 1e8))),
    "non_newtonian": (
        "non_newtonian",
        (10.0, 5e3),
        (
            ("bulk_modulus_Pa", 1e4, 1e12),
            ("yield_stress_Pa", 1e-2, 1e6),
            ("viscosity_Pa_s", 1e-3, 1e7),
            ("exponent", 0.1, 1.0),
        ),
    ),
}
OPTIONAL = ("hardening_Pa", "cohesion_Pa", "softening", "damage")  # 0 where an answer leaves them out
# A table row may be modelled as another of its kin, never as something of another kind.
KIN = (
    ("elastic", "viscoelastic", "foam", "plasticine"),
    ("elastic", "metal"),
    ("sand", "snow", "plasticine"),
    ("water", "newtonian", "non_newtonian"),
    ("non_newtonian", "plasticine"),
)
WIDEST = 1e4  # a range with hi / lo beyond it says nothing
FARTHEST = 2.0  # decades that a named material may lie from its row of the table
LONGEST = 65_536  # characters


class Refusal(ValueError):
    """An answer that was not used, and why."""


def law_name(key: str) -> str:
    """The parameter of the law behind a key of an answer.

    >>> law_name("viscosity_Pa_s"), law_name("nu")
    ('viscosity', 'nu')
    """
    return re.sub(r"_(Pa_s|Pa|degrees)$", "", key)


def answer_schema() -> dict[str, Any]:
    """The JSON schema of an answer, in the dialect of strict structured outputs."""

    def obj(properties: dict[str, Any]) -> dict[str, Any]:
        return {
            "type": "object",
            "properties": properties,
            "required": list(properties),
            "additionalProperties": False,
        }

    value = obj({"mean": {"type": "number"}, "lo": {"type": "number"}, "hi": {"type": "number"}})
    variants = []
    for model, (_, _, parameters) in MODELS.items():
        variants.append(
            obj(
                {
                    "material": {"type": "string"},
                    "model": {"type": "string", "enum": [model]},
                    "density_kg_m3": value,
                    "parameters": obj({key: value for key, _, _ in parameters}),
                    "confidence": {"type": "number"},
                    "reasons": {"type": "array", "items": {"type": "string"}},
                }
            )
        )
    return obj({"proposal": {"anyOf": variants}})


def strict_json(text: str) -> Any:
    """JSON without NaN, infinity or repeated keys; one code fence around the whole is taken off.

    Raises:
        Refusal: it is not that.
    """
    if len(text) > LONGEST:
        raise Refusal(f"the answer has {len(text)} characters, at most {LONGEST} are read")
    fenced = re.fullmatch(r"\s*```(?:json)?\s*\n(.*)\n\s*```\s*", text, re.S)

    def constant(name: str):
        raise Refusal(f"the answer holds {name}, which is no JSON number")

    def unique(pairs):
        keys = [k for k, _ in pairs]
        twice = sorted({k for k in keys if keys.count(k) > 1})
        if twice:
            raise Refusal(f"the answer gives {twice} twice")
        return dict(pairs)

    try:
        return json.loads(fenced[1] if fenced else text, parse_constant=constant, object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        kind = "is empty" if not text.strip() else "is prose" if text.strip()[0] not in "{[" else "is not whole JSON"
        raise Refusal(f"the answer {kind} ({error.msg} at character {error.pos}): {_excerpt(text)}") from error
    except RecursionError as error:
        raise Refusal("the answer is nested too deeply") from error


def read_answer(text: str, prompt: str, provider: str) -> Proposal:
    """The proposal that an answer holds.

    Args:
        text: the raw answer.
        prompt: what was asked, for what it excludes.
        provider: who answered.

    Returns:
        The proposal, with the values that a simulation can afford added.

    Raises:
        Refusal: with the reason.
    """
    return check_answer(strict_json(text), prompt, provider)


def check_answer(answer: Any, prompt: str, provider: str) -> Proposal:
    """As `read_answer`, for an answer that is parsed already."""
    p = _object(_object(answer, "the answer", {"proposal"})["proposal"], "proposal", None)
    wanted = {"material", "model", "density_kg_m3", "parameters", "confidence", "reasons"}
    _object(p, "proposal", wanted)
    model = p["model"]
    if not isinstance(model, str) or model not in MODELS:
        raise Refusal(f"proposal.model is {_excerpt(model)}, expected one of {sorted(MODELS)}")
    law, density_bounds, parameters = MODELS[model]
    material = _text(p["material"], "proposal.material", 80)
    confidence = _number(p["confidence"], "proposal.confidence")
    if not 0 <= confidence <= 1:
        raise Refusal(f"proposal.confidence is {confidence:g}, expected 0 to 1")
    if not isinstance(p["reasons"], list) or not 1 <= len(p["reasons"]) <= 20:
        raise Refusal("proposal.reasons must be a list of 1 to 20 sentences")
    reasons = tuple(_text(r, "a reason", 500) for r in p["reasons"])
    density = _range(p["density_kg_m3"], "density_kg_m3", *density_bounds)
    given = _object(p["parameters"], "proposal.parameters", None)
    known = {key for key, _, _ in parameters}
    if extra := sorted(set(given) - known):
        raise Refusal(f"{model} has no parameters {extra}, expected {sorted(known)}")
    if missing := sorted(known - set(given) - set(OPTIONAL)):
        raise Refusal(f"{model} needs {missing}, which the answer leaves out")
    ranges = {law_name(key): _range(given[key], key, lo, hi) for key, lo, hi in parameters if key in given}
    row = _row(material)
    _consistent(material, model, ranges, row, prompt)
    means = {name: r.mean for name, r in ranges.items()}
    return Proposal(
        material=material,
        model=model,
        law=row.law if row and row.model == model else law,
        density=density.mean,
        means=means,
        ranges={**ranges, "density": density},
        simulated=simulated(law, density.mean, means),
        confidence=confidence,
        source=f"answer of {provider}, not measured",
        reasons=reasons,
        provider=provider,
    )


def _consistent(material: str, model: str, ranges: dict[str, Range], row: Everyday | None, prompt: str) -> None:
    """Refuses what contradicts itself, the table or the prompt."""
    if {"yield_stress", "E"} <= ranges.keys() and ranges["yield_stress"].mean >= ranges["E"].mean:
        raise Refusal(
            f"yield_stress {ranges['yield_stress'].mean:g} Pa is not below E {ranges['E'].mean:g} Pa: no solid yields "
            "there"
        )
    if row is None:
        return
    if row.name in excluded_materials(prompt):
        raise Refusal(f"the answer is {material}, which the prompt excludes")
    if model != row.model and not any({model, row.model} <= set(kin) for kin in KIN):
        raise Refusal(f"{material} is {row.model} by the table of materials, the answer models it as {model}")
    for name in ("E", "viscosity"):
        if name not in ranges or name not in row.parameters or row.model != model:
            continue
        mean, known = ranges[name].mean, row.parameters[name]
        off = max(math.log10(mean / known.hi), math.log10(known.lo / mean))
        if off > FARTHEST:
            raise Refusal(
                f"{name} of {material} is {mean:g} in the answer, measured are {known.lo:g} to {known.hi:g}: "
                f"{off:.1f} decades away, perhaps in another unit"
            )


def _row(material: str) -> Everyday | None:
    """The table's row for a name, where there is exactly that."""
    kind, names = lexicon().get(material.lower().strip(), ("", ()))
    return by_name()[names[0]] if kind == "material" else None


def _object(value: Any, name: str, keys: set[str] | None) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Refusal(f"{name} must be an object, got {_excerpt(value)}")
    if keys is not None and set(value) != keys:
        missing, extra = sorted(keys - set(value)), sorted(set(value) - keys)
        raise Refusal(f"{name} must have exactly the keys {sorted(keys)}: {missing} missing, {extra} unexpected")
    return value


def _number(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise Refusal(f"{name} must be a bare number in the unit that its key says, got {_excerpt(value)}")
    try:
        number = float(value)
    except OverflowError as error:
        raise Refusal(f"{name} is too large a number") from error
    if not math.isfinite(number):
        raise Refusal(f"{name} is not finite")
    return number


def _text(value: Any, name: str, longest: int) -> str:
    if not isinstance(value, str) or not value.strip() or len(value) > longest or not value.isprintable():
        raise Refusal(f"{name} must be 1 to {longest} printable characters, got {_excerpt(value)}")
    return value.strip()


def _range(value: Any, name: str, least: float, greatest: float) -> Range:
    _object(value, name, {"mean", "lo", "hi"})
    mean, lo, hi = (_number(value[k], f"{name}.{k}") for k in ("mean", "lo", "hi"))
    if not lo <= mean <= hi:
        raise Refusal(f"{name} needs lo <= mean <= hi, got {lo:g}, {mean:g}, {hi:g}")
    for key, number in (("lo", lo), ("mean", mean), ("hi", hi)):
        if not least <= number <= greatest:
            raise Refusal(f"{name}.{key} = {number:g} is outside [{least:g}, {greatest:g}]: wrong unit or wrong model")
    if lo > 0 and hi / lo > WIDEST:
        raise Refusal(f"{name} spans {lo:g} to {hi:g}, more than a factor of {WIDEST:g}: that says nothing")
    return Range(mean, lo, hi)


def _excerpt(value: Any) -> str:
    text = value if isinstance(value, str) else type(value).__name__
    text = "".join(c if c.isprintable() else " " for c in text[:60])
    return f"{text!r}" if isinstance(value, str) else f"a {text}"
