"""What a provider proposes for a prompt, and how it is shown."""

from __future__ import annotations

import dataclasses

from jaxphys.language.materials import CAPPING_RULE, UNITS, Range


@dataclasses.dataclass(frozen=True)
class Proposal:
    """What a material is proposed to be, and why."""

    material: str
    model: str  # 'elastic', 'viscoelastic', 'metal', 'plasticine', 'foam', 'sand', 'snow', 'water', '(non_)newtonian'
    law: str  # a key of mpm.materials.LAWS
    density: float  # kg/m^3
    means: dict[str, float]  # measured values, after the adjectives, SI units
    ranges: dict[str, Range]  # of the means and of the density
    simulated: dict[str, float]  # what a simulation can afford of the means (language.materials)
    confidence: float  # 0..1
    source: str  # of the measured values
    reasons: tuple[str, ...]  # the words that decided
    unknown: tuple[str, ...] = ()  # words that were not understood
    alternatives: tuple[str, ...] = ()  # other materials that the prompt may mean
    provider: str = "offline"
    refusals: tuple[str, ...] = ()  # why the answers of a provider asked before were not used

    def report(self) -> str:
        """The measured and the simulated value of every parameter, then the reasons, as text.

        >>> from jaxphys import language
        >>> for line in language.propose("steel").report().splitlines()[1:3]:
        ...     print(line)
                               measured        least     greatest    simulated
        E                       2.1e+11      1.9e+11      2.2e+11    4.427e+06 Pa
        """
        about = f"{self.material} ({self.model}, law {self.law})"
        lines = [f"{about}, confidence {self.confidence:.2f}, by {self.provider}"]
        lines.append(f"{'':18s} {'measured':>12s} {'least':>12s} {'greatest':>12s} {'simulated':>12s}")
        for name, mean in {**self.means, "density": self.density}.items():
            r = self.ranges[name]
            used = self.density if name == "density" else self.simulated[name]
            numbers = " ".join(f"{value:12.4g}" for value in (mean, r.lo, r.hi, used))
            lines.append(f"{name:18s} {numbers} {UNITS.get(name, '1')}")
        lines.append(f"source: {self.source}")
        lines.append(f"simulated: {CAPPING_RULE}")
        lines += [f"because {reason}" for reason in self.reasons]
        lines += [f"refused: {reason}" for reason in self.refusals]
        lines.append(f"not understood: {', '.join(self.unknown) or 'nothing'}")
        return "\n".join(lines)
