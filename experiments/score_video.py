r"""How well videos show their prompt, by published models: secondary figures, for weights that the user has.

    python -m experiments.score_video runs/demo/compare.mp4 --config.parts=2 --config.prompt="a soft robot is dropped" \
        --config.clip=clip-vit-base-patch32 --config.video_text=xclip-base-patch32

    CLIPSIM             mean over the frames of cos(CLIP(frame), CLIP(prompt))             (Wu et al. 2021, "GODIVA")
    overall consistency cos of a video encoder and its text encoder                        (Huang et al. 2024, "VBench")
    motion score        mean change between neighbouring frames; needs no weights          [1/255]

The models are those of transformers (extra `parity`), from folders. VBench's encoder is ViCLIP; the one here is X-CLIP,
so its numbers compare videos with one another and not with VBench's tables. Neither model knows physics.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import sys
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from absl import app, flags
from ml_collections import config_flags

from experiments.report import write_report
from jaxphys import media
from jaxphys.diffusion.image import PRESETS

TOWERS = {"clip": "CLIPModel", "video_text": "XCLIPModel"}  # config field -> class of transformers


def load(field: str, folder: str) -> tuple[Any, Any]:
    """A two-tower model and its tokenizer from a folder.

    Raises:
        ValueError: transformers is missing, or the folder does not hold such a model.
    """
    for package in ("torch", "transformers"):
        if importlib.util.find_spec(package) is None:
            raise ValueError(f"config.{field} needs {package}: pip install 'jaxphys[parity]'")
    import transformers

    if not (Path(folder) / "config.json").is_file():
        raise ValueError(
            f"config.{field}: {folder} holds no config.json; give a folder with a {TOWERS[field]} and its tokenizer, "
            "for example from: hf download openai/clip-vit-base-patch32 --local-dir clip-vit-base-patch32"
        )
    given: dict[str, Any] = dict(local_files_only=True)
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **given)
        model, about = getattr(transformers, TOWERS[field]).from_pretrained(folder, output_loading_info=True, **given)
    except (OSError, ValueError, RuntimeError) as error:
        raise ValueError(f"config.{field}: {folder} holds no {TOWERS[field]} with its tokenizer ({error})") from error
    if about["missing_keys"]:  # transformers would leave these random
        raise ValueError(f"config.{field}: {folder} holds no {TOWERS[field]}: {len(about['missing_keys'])} keys lack")
    return model.eval(), tokenizer


def pixels_of(video: np.ndarray, size: int) -> Any:
    """Frames (T, 3, size, size) as CLIP was trained on them: shorter side resized, the middle taken, standardised."""
    import torch

    prepare = dataclasses.replace(PRESETS["clip-vit-h-14"], size=size, patch=size).prepare
    frames = np.stack([np.asarray(prepare(jnp.asarray(f, jnp.float32))) for f in video])
    return torch.from_numpy(frames.transpose(0, 3, 1, 2).copy())


def cosine(field: str, towers: tuple[Any, Any], video: np.ndarray, prompt: str) -> float:
    """Cosine of video and prompt: mean over the frames, or of as many, evenly taken, as the encoder sees at once.

    Args:
        field: of `TOWERS`.
        towers: model and tokenizer.
        video: (T, H, W, 3) in [0, 1].
        prompt: words; what is longer than the model reads is cut off.
    """
    import torch

    model, tokenizer = towers
    vision = model.config.vision_config
    longest = model.config.text_config.max_position_embeddings
    words = tokenizer([prompt], return_tensors="pt", truncation=True, max_length=longest)
    words = {k: words[k] for k in ("input_ids", "attention_mask")}
    if field == "video_text":
        video = video[np.linspace(0, len(video) - 1, vision.num_frames).round().astype(int)]
    pixels = pixels_of(video, vision.image_size)
    with torch.no_grad():
        if field == "video_text":
            logits = model(**words, pixel_values=pixels[None]).logits_per_video
        else:
            logits = model(**words, pixel_values=pixels).logits_per_image
        return float((logits / model.logit_scale.exp()).mean())


def motion(video: np.ndarray) -> float:
    """Mean change between neighbouring frames [1/255].

    >>> motion(np.stack([np.zeros((2, 2, 3)), np.ones((2, 2, 3))]))
    255.0
    """
    return float(255.0 * np.abs(np.diff(video, axis=0)).mean()) if len(video) > 1 else 0.0


def run(files: list[str], config, workdir: str | Path) -> dict[str, float]:
    """Scores every file, and each part of it; writes report.json.

    Raises:
        ValueError: no file, no prompt for a model, a part count that does not divide a width, or a model is not there.
    """
    if not files:
        raise ValueError("give one video or more: python -m experiments.score_video FILE...")
    asked = [field for field in TOWERS if config[field]]
    if asked and not config.prompt.strip():
        raise ValueError(f"config.prompt is empty: {', '.join(asked)} need the words that the videos should show")
    videos = {}
    for file in files:
        video = media.read_video(file)[0]
        if config.parts < 1 or video.shape[2] % config.parts:
            raise ValueError(
                f"config.parts = {config.parts} does not divide the width of {file}, {video.shape[2]} pixels"
            )
        for k, part in enumerate(np.split(video, config.parts, axis=2)):
            name = Path(file).stem + (f"_part_{k}" if config.parts > 1 else "")
            if name in videos:
                raise ValueError(
                    f"two files are named {Path(file).name}: figures go by that name, so score one at a time"
                )
            videos[name] = part
    figures: dict[str, float] = {f"{name}_motion_score": motion(video) for name, video in videos.items()}
    for field in asked:
        towers, name = load(field, config[field]), {"clip": "clipsim", "video_text": "overall_consistency"}[field]
        for part, video in videos.items():
            figures[f"{part}_{name}"] = cosine(field, towers, video, config.prompt)
    for field in TOWERS:
        if field not in asked:
            print(f"NO WEIGHTS (config.{field} is empty): skipped")
    print("\n".join(f"{key:40s} {value:.4f}" for key, value in figures.items()))
    write_report(workdir, prompt=config.prompt, **{field: config[field] for field in asked}, **figures)
    return figures


def main(argv) -> None:
    try:
        run(argv[1:], flags.FLAGS.config, flags.FLAGS.workdir)
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    config_flags.DEFINE_config_file("config", str(Path(__file__).parent / "configs" / "score_video.py"))
    flags.DEFINE_string("workdir", "runs/score_video", "where report.json is written")
    app.run(main)
