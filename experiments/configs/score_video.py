"""Default of experiments/score_video.py.

    python -m experiments.score_video runs/demo/compare.mp4 --config.parts=2 \\
        --config.prompt="a soft robot is dropped" --config.clip=clip-vit-base-patch32 \\
        --config.video_text=xclip-base-patch32

Hardware: one CPU core. Time: seconds a video. Expected for the demo: both parts move (a motion score above 0.2). No
published weights were loaded by this project, so no figure of theirs is expected.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    return ConfigDict(
        dict(
            prompt="",  # what the videos should show
            clip="",  # folder of a CLIPModel with its tokenizer; empty: no CLIPSIM
            video_text="",  # folder of an XCLIPModel with its tokenizer; empty: no overall consistency
            parts=1,  # pictures side by side in every frame, scored apart; compare.mp4 of the main job has 2
        )
    )
