"""Where the parameters and the clips of a Wan transformer live on a mesh: the tables for `jaxphys.sharding`.

Projections come in pairs: the first of a pair (queries, keys, values, the MLP's first layer) is cut along its outputs
over "tensor", the second (the attention's output, the MLP's second layer) along its inputs, so that one sum over the
devices per pair is all that "tensor" costs. The other side of each is cut over "fsdp". A head must be on one device, so
the heads are a multiple of the size of "tensor": 12, 24 or 40 in the published sizes.
"""

from __future__ import annotations

from jaxphys.sharding import BATCH_AXES, Rules

_FIRST = r"(?:q|k|v|k_img|v_img|first)"
_SECOND = r"(?:o|second)"
PARAMETERS: Rules = (
    (rf"blocks/\w+/{_FIRST}/kernel", (None, "fsdp", "tensor")),  # (layers, in, out)
    (rf"blocks/\w+/{_FIRST}/bias", (None, "tensor")),
    (rf"blocks/\w+/{_SECOND}/kernel", (None, "tensor", "fsdp")),
    (rf"blocks/\w+/{_SECOND}/bias", (None, "fsdp")),
    (r"blocks/\w+/norm_[qk](?:_img)?", (None, "tensor")),
    (r"blocks/modulation", (None, None, "fsdp")),
    (r"(?:text_embedding|time_embedding|img_emb/mlp)/first/kernel", ("fsdp", "tensor")),
    (r"(?:text_embedding|time_embedding|img_emb/mlp)/second/kernel", ("tensor", "fsdp")),
    (r"time_projection/kernel", ("fsdp", "tensor")),
    (r"head/kernel", ("fsdp", None)),
)
"""Parameters, their moments and their averages; what no row names is small and copied."""

CLIPS: Rules = (
    (r"(?:^|/)(?:clip|known|concat)", (BATCH_AXES, "seq")),  # (examples, frames, ...)
    (r".*", (BATCH_AXES,)),
)
"""A batch whose clips are called `clip`: examples over (data, fsdp), frames over seq."""
