"""Secondary figures of videos: what needs no weights always, the models with random ones where they are installed."""

import importlib.util
import json

import numpy as np
import pytest

from experiments import score_video
from experiments.configs.score_video import get_config
from jaxphys import media

WORDS = ("a", "red", "robot", "is", "dropped", "<|startoftext|>", "<|endoftext|>", "<unk>")


def config(**changes):
    values = get_config()
    values.update(changes)
    return values


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A video whose left half stands still and whose right half flickers."""
    video = np.full((6, 16, 32, 3), 0.5)
    video[::2, :, 16:] = 0.8
    path = tmp_path_factory.mktemp("video") / "compare.mp4"
    media.write_video(path, video, 10.0)
    return path


def test_parts_are_scored_apart_and_stillness_is_zero(clip, tmp_path):
    found = score_video.run([str(clip)], config(parts=2), tmp_path)
    assert found["compare_part_0_motion_score"] < 2.0 < 60.0 < found["compare_part_1_motion_score"] < 90.0
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["compare_part_1_motion_score"] == found["compare_part_1_motion_score"] and "device" in report


def test_bad_input_is_named(clip, tmp_path):
    for files, changes, match in (
        ([], {}, "give one video"),
        ([str(clip)], {"parts": 3}, "does not divide the width"),
        ([str(clip), str(clip)], {}, "two files are named compare.mp4"),
        ([str(clip)], {"clip": "nowhere"}, "config.prompt is empty"),
    ):
        with pytest.raises(ValueError, match=match):
            score_video.run(files, config(**changes), tmp_path)
    known = importlib.util.find_spec("torch") and importlib.util.find_spec("transformers")
    with pytest.raises(ValueError, match="holds no config.json" if known else "jaxphys\\[parity\\]"):
        score_video.run([str(clip)], config(prompt="a robot", clip="nowhere"), tmp_path)


def test_models_of_transformers_give_their_cosine(clip, tmp_path):
    """Random towers: CLIPSIM is the mean of transformers' own embeddings of the frames, one by one."""
    for package in ("torch", "transformers"):
        if importlib.util.find_spec(package) is None:
            pytest.skip("the parity extra is not installed")
    import tokenizers
    import torch
    import transformers

    text = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, vocab_size=len(WORDS))
    text |= dict(max_position_embeddings=12, bos_token_id=5, eos_token_id=6, pad_token_id=6)
    vision = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2)
    vision |= dict(image_size=16, patch_size=8)
    rule = tokenizers.models.WordLevel({w: k for k, w in enumerate(WORDS)}, unk_token="<unk>")
    words = tokenizers.Tokenizer(rule)
    words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    words = transformers.PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>", eos_token=WORDS[6])
    torch.manual_seed(0)
    small = dict(text_config=text, projection_dim=8)
    image = transformers.CLIPModel(transformers.CLIPConfig(vision_config=vision, **small))
    many = vision | dict(num_frames=4, mit_hidden_size=8, mit_intermediate_size=32, mit_num_attention_heads=2)
    video = transformers.XCLIPModel(
        transformers.XCLIPConfig(vision_config=many | dict(mit_num_hidden_layers=1), prompt_layers=1, **small)
    )
    for name, model in (("clip", image), ("video_text", video)):
        model.save_pretrained(tmp_path / name)
        words.save_pretrained(tmp_path / name)
    prompt = "a red robot is dropped <|endoftext|>"
    folders = {name: str(tmp_path / name) for name in ("clip", "video_text")}
    found = score_video.run([str(clip)], config(prompt=prompt, **folders), tmp_path)
    pixels = score_video.pixels_of(media.read_video(clip)[0], 16)
    with torch.no_grad():
        ids = words([prompt], return_tensors="pt").input_ids
        each = [image.eval()(input_ids=ids, pixel_values=frame[None]) for frame in pixels]
    expected = np.mean([torch.nn.functional.cosine_similarity(e.image_embeds, e.text_embeds).item() for e in each])
    assert found["compare_clipsim"] == pytest.approx(expected, abs=1e-5)
    assert -1.0 <= found["compare_overall_consistency"] <= 1.0
    with pytest.raises(ValueError, match="holds no XCLIPModel"):
        score_video.load("video_text", folders["clip"])
