"""Which of the eight materials does a prompt mean? Decided by its outcome words, by the prior, and by both.

Every material stands in the same scene with laws drawn from its ranges, none of them the hidden one, simulated and
drawn once. A class is as likely as its candidates are on average, so that one whose simulations failed loses nothing:

    p(class) ~ mean over its candidates of p(words | candidate)

The main job asks this only where the proposal is unsure, and of the proposal's classes, weighed by its confidence.

By outcomes the words are those measured on the hidden motion, and the material word is not looked at: what is shown is
how far the motion alone tells the class. By the prior the word is the material's, read in the candidates' pictures.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from experiments import motion_guided as guided
from experiments.configs.motionphysics import get_config
from experiments.motion_fields import Drawn, Field, draw_laws, restore, store
from experiments.motion_looks import in_colour_alone
from experiments.motion_proposals import classes_of
from experiments.motion_scenes import HeldOut, blind
from jaxphys import language
from jaxphys.diffusion.prior_files import Prior
from jaxphys.language import captions
from jaxphys.methods.motion_outcomes import compare
from jaxphys.methods.motion_posterior import balanced, even_prior
from jaxphys.scenes import clips
from jaxphys.scenes.outcomes import Outcomes

MATERIALS = tuple(clips.LAW)


def labels(count: int) -> np.ndarray:
    """Number in `MATERIALS` of each candidate, for `count` of every material."""
    return np.repeat(np.arange(len(MATERIALS)), count)


def candidates_of(folder: Path, held: HeldOut, world: clips.World, count: int) -> Drawn:
    """The stored candidates of all materials, made where they are missing."""
    path = folder / f"{held.name}.classes.npz"
    if not path.exists():
        rng = np.random.default_rng([held.number, 99])
        names = [MATERIALS[k] for k in labels(count)]
        store(path, draw_laws(held, world, [(clips.LAW[m], clips.draw_law(rng, m)) for m in names]))
    return restore(path, Drawn)


def average(score: np.ndarray, sound: np.ndarray, count: int) -> np.ndarray:
    """Probability of each material: the mean score of its sound candidates over the sum of these means (8,)."""
    kept = np.where(sound, score, 0.0).reshape(-1, count).sum(1)
    mean = kept / np.maximum(sound.reshape(-1, count).sum(1), 1)
    total = mean.sum()
    return mean / total if total > 0.0 else np.full(len(mean), 1.0 / len(mean))


def by_outcomes(held: HeldOut, drawn: Drawn, field: Field, count: int, softness: float = 0.5) -> np.ndarray:
    """Probability of each material by the outcome words of the hidden motion (8,).

    The edges of the words are soft: a few candidates stand for the whole range of a material.
    """
    said = held.outcome_caption(field.true_outcomes())
    words = {slot: word for slot, word in said.items() if slot in captions.OUTCOMES}
    match = compare(
        Outcomes(*np.asarray(drawn.outcomes.T, np.float32)), words, valid=drawn.codes == 0, softness=softness
    )
    return average(np.asarray(match.score, np.float64), drawn.codes == 0, count)


def by_prior(
    prior: Prior, held: HeldOut, drawn: Drawn, count: int, *, draws: int, **options: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Probability of each material by the prompt's material word, read by the prior in the candidates (8,).

    Second, where every material word is as likely as any other, all candidates together: see `balanced`.
    """
    sound = drawn.codes == 0
    weights = even_prior([MATERIALS[k] for k in labels(count)[sound]])
    shown = in_colour_alone(held, drawn.maps[:, sound], draws)
    found = guided.read_material(prior, blind(held), shown, weights, **options)
    said, shares = list(captions.NAMED["material"]).index(held.material), []
    for words in (found.words, np.exp(balanced(np.log(np.maximum(found.words, 1e-30)), prior=weights))):
        score = np.zeros(len(sound))
        score[sound] = words[:, said]
        shares.append(average(score, sound, count))
    return shares[0], shares[1]


def by_proposal(sentence: str) -> np.ndarray:
    """1 for the material that the offline table reads in the words, which may name it: a look-up (8,)."""
    model = language.propose(sentence).model
    return np.array([float(m == model) for m in MATERIALS])


def by_job(sentence: str, evidence: np.ndarray) -> np.ndarray:
    """What the main job decides: the proposal where it is sure, else its few classes, weighed by the evidence (8,)."""
    job = get_config()
    classes = classes_of(sentence, job.unsure, job.classes)
    weights = np.array([sum(w for p, w in classes if p.model == m) for m in MATERIALS])
    if len(classes) > 1:
        weights = weights * evidence
    return weights / max(weights.sum(), 1e-30)


def decision(held: HeldOut, judge: str, shares: np.ndarray) -> dict:
    """A row of the report."""
    best = MATERIALS[int(np.argmax(shares))]
    share = float(shares[MATERIALS.index(held.material)])
    about = {"scene": held.name, "material": held.material, "judge": judge, "class": best, "share": share}
    return about | {"right": best == held.material, "shares": [float(s) for s in shares]}


def from_words(held: HeldOut, sentence: str, found: list[dict]) -> list[dict]:
    """The rows of one scene that read its sentence; the last of `decisions` knows most of the motion."""
    evidence = np.array(found[-1]["shares"])
    judges = {"proposal": by_proposal(sentence), "job": by_job(sentence, evidence)}
    return [decision(held, judge, shares) for judge, shares in judges.items()]


def decisions(folder: Path, held: HeldOut, field: Field, prior: Prior | None, config, world: clips.World) -> list[dict]:
    """The rows of one scene: by outcomes, and with a prior by it and by both."""
    count = config.class_candidates
    drawn = candidates_of(folder, held, world, count)
    measured = by_outcomes(held, drawn, field, count)
    rows = [decision(held, "outcomes", measured)]
    if prior is not None:
        options = dict(window=(config.window_low, config.window_high), known=1, levels=config.levels)
        heard, even = by_prior(prior, held, drawn, count, draws=config.draws, seed=config.seeds[0], **options)
        rows += [decision(held, "prior", heard), decision(held, "prior_balanced", even)]
        both = heard * (measured + 1e-3)
        rows.append(decision(held, "prior_and_outcomes", both / both.sum()))
    return rows


def figures(rows: list[dict]) -> dict[str, float]:
    """Share of right decisions and mean probability of the true class, of all and of each material, by judge."""
    out = {}
    for judge in dict.fromkeys(r["judge"] for r in rows):
        own = [r for r in rows if r["judge"] == judge]
        for material in (None, *dict.fromkeys(r["material"] for r in own)):
            some = [r for r in own if material in (None, r["material"])]
            name = f"class_{judge}" + (f"_{material}" if material else "")
            out[f"{name}_right"] = float(np.mean([r["right"] for r in some]))
            out[f"{name}_share"] = float(np.mean([r["share"] for r in some]))
        out[f"class_{judge}_scenes_count"] = len({r["scene"] for r in own})
    return out
