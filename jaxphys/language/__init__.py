"""Words to materials: a table of everyday materials, and providers that read a prompt.

>>> from jaxphys import language
>>> language.propose("a soft rubber robot drops and bounces").law
'fixed_corotated'
"""

from jaxphys.language.answers import Refusal, answer_schema
from jaxphys.language.materials import CAPPING_RULE, Everyday, Range, load_table, simulated
from jaxphys.language.proposal import Proposal
from jaxphys.language.proposer import FallbackWarning, Provider, propose
from jaxphys.language.providers import File, Offline, OpenAI

__all__ = [
    "CAPPING_RULE",
    "Everyday",
    "FallbackWarning",
    "File",
    "Offline",
    "OpenAI",
    "Proposal",
    "Provider",
    "Range",
    "Refusal",
    "answer_schema",
    "load_table",
    "propose",
    "simulated",
]
