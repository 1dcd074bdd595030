"""Words to materials, without a network.

>>> from jaxphys import language
>>> language.propose("a soft rubber robot drops and bounces").law
'fixed_corotated'
"""

from jaxphys.language.materials import Everyday, Range, load_table, simulated
from jaxphys.language.proposer import Proposal, propose

__all__ = ["Everyday", "Proposal", "Range", "load_table", "propose", "simulated"]
