"""Eight materials recovered from a noisy video of one camera within 15 %, from a decade off, three seeds each.

Scenes, true values, noise and starts: experiments/recovery.py; the video has 48 x 48 pixels. Every fit is stored after
each step under runs/recovery_video, so a rerun goes on. The bars
were set before the first fit. Two hours on one core.
"""

from experiments import recovery

CHECKS = {
    "worst_relative_error": ("<=", 0.15),
    "worst_predicted_sigma": ("<=", 0.15),
    "most_particles": ("<=", 2000),
    "most_substeps": ("<=", 800),
}


def run() -> dict:
    return recovery.table("video", seeds=(0, 1, 2), folder="recovery_video")
