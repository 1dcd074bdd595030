"""Writes gvhmr_like.pt by torch itself: the layout of a GVHMR result (hmr4d_results.pt), with made-up numbers.

Run by hand, with torch installed: python tests/golden/make_gvhmr.py
"""

from pathlib import Path

import torch

FRAMES = 5


def main() -> None:
    generator = torch.Generator().manual_seed(0)
    pose = 0.1 * torch.randn(FRAMES, 63, generator=generator)
    person = dict(
        body_pose=pose,
        global_orient=torch.zeros(FRAMES, 3),
        transl=torch.tensor([[0.1 * t, 1.2, 0.0] for t in range(FRAMES)]),
        betas=torch.full((FRAMES, 10), 0.1),
    )
    camera = torch.eye(3).expand(FRAMES, 3, 3)
    outputs = dict(static_conf_logits=torch.zeros(1, FRAMES, 6))
    result = dict(smpl_params_global=person, smpl_params_incam=dict(person), K_fullimg=camera, net_outputs=outputs)
    torch.save(result, Path(__file__).with_name("gvhmr_like.pt"))


if __name__ == "__main__":
    main()
