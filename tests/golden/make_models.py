"""Makes models.npz and transformer.pth with the models of diffusers and transformers; needs the `parity` extra.

python tests/golden/make_models.py
"""

import types
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKLWan, WanImageToVideoPipeline, WanTransformer3DModel
from seeded import tensor
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModel, UMT5Config, UMT5EncoderModel

DIT = dict(
    patch_size=(1, 2, 2),
    num_attention_heads=2,
    attention_head_dim=16,
    in_channels=4,
    out_channels=4,
    text_dim=24,
    freq_dim=32,
    ffn_dim=64,
    num_layers=2,
    rope_max_seq_len=32,
)
VAE = dict(dim_mult=[1, 2, 4, 4], temperal_downsample=[False, True, True])
VAE21 = dict(VAE, base_dim=4, z_dim=4, num_res_blocks=1, latents_mean=[0.0] * 4, latents_std=[1.0] * 4)
VAE22 = dict(
    VAE,
    base_dim=4,
    decoder_base_dim=6,
    z_dim=6,
    num_res_blocks=2,
    is_residual=True,
    in_channels=12,
    out_channels=12,
    patch_size=2,
    scale_factor_spatial=16,
    latents_mean=[0.0] * 6,
    latents_std=[1.0] * 6,
)
UMT5 = dict(
    vocab_size=100,
    d_model=32,
    d_kv=8,
    d_ff=64,
    num_layers=2,
    num_heads=4,
    dropout_rate=0.0,
    feed_forward_proj="gated-gelu",
)
CLIP = dict(
    hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4, image_size=28, patch_size=14
)


def seeded(model, seed):
    """The model with its weights from `tensor`."""
    with torch.no_grad():
        for name, value in model.named_parameters():
            value.copy_(torch.from_numpy(tensor(name, value.shape, seed)))
    return model.eval()


def given(name, *shape, seed):
    return torch.from_numpy(tensor(f"input {name}", shape, seed))


def first(x):
    """(1, C, T, H, W) -> (T, H, W, C)"""
    return x[0].permute(1, 2, 3, 0).numpy()


def transformers(seed):
    text = torch.nn.functional.pad(given("text", 1, 9, 24, seed=seed), (0, 0, 0, 503))
    model, x = seeded(WanTransformer3DModel(**DIT), seed), given("clip", 1, 4, 3, 8, 12, seed=seed)
    yield "dit", first(model(x, torch.tensor([937.0]), text).sample)
    times = torch.tensor([0.0, 125.0, 937.0]).repeat_interleave(24)[None]
    yield "dit_times", first(model(x, times, text).sample)
    model = seeded(WanTransformer3DModel(**DIT | dict(in_channels=12, image_dim=20, added_kv_proj_dim=32)), seed)
    x, image = given("clip with image", 1, 12, 3, 8, 8, seed=seed), given("image features", 1, 257, 20, seed=seed)
    yield "dit_image", first(model(x, torch.tensor([500.0]), text, image).sample)


def autoencoders(seed):
    for name, config, size in (("vae21", VAE21, 16), ("vae22", VAE22, 32)):
        model = seeded(AutoencoderKLWan(**config), seed)
        video = 0.5 * given("video", 1, 3, 9, size, size, seed=seed)
        posterior = model.encode(video).latent_dist
        yield f"{name}_mean", first(posterior.mean)
        yield f"{name}_log_variance", first(posterior.logvar)
        latents = 0.5 * given("latents", 1, config["z_dim"], 3, 2, 2, seed=seed)
        yield f"{name}_video", first(model.decode(latents).sample)


def image_conditions(seed):
    """The method of the pipeline that makes channels of an image, with what it reads of the pipeline."""
    vae = seeded(AutoencoderKLWan(**VAE21 | dict(latents_mean=[0.1, 0.2, 0.3, 0.4], latents_std=[2.0] * 4)), seed)
    config = types.SimpleNamespace(expand_timesteps=False)
    pipeline = types.SimpleNamespace(vae=vae, vae_scale_factor_temporal=4, vae_scale_factor_spatial=8, config=config)
    image = 0.5 * given("image", 1, 3, 16, 16, seed=seed)
    _, channels = WanImageToVideoPipeline.prepare_latents(pipeline, image, 1, 4, 16, 16, 9, torch.float32, "cpu")
    yield "image_channels", first(channels)


def encoders(seed):
    model = seeded(UMT5EncoderModel(UMT5Config(**UMT5)), seed)
    ids = torch.from_numpy(np.random.RandomState(seed).randint(2, 100, (1, 200)))
    mask = (torch.arange(200) < 150).long()[None]
    yield "text_ids", ids[0].numpy()
    yield "text", (model(ids, mask).last_hidden_state * mask[..., None])[0].numpy()
    distance = torch.arange(-511, 512)
    attention = model.encoder.block[0].layer[0].SelfAttention
    yield "text_buckets", attention._relative_position_bucket(distance).numpy()
    model = seeded(CLIPVisionModel(CLIPVisionConfig(**CLIP, hidden_act="gelu")), seed)
    out = model(given("pixels", 1, 3, 28, 28, seed=seed), output_hidden_states=True)
    yield "image", out.hidden_states[-2][0].numpy()
    picture = np.random.RandomState(seed).randint(64, 192, (41, 60, 3)).astype(np.uint8)
    size = dict(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
    pixels = CLIPImageProcessor(**size)(picture, return_tensors="np")["pixel_values"][0]
    yield "image_picture", picture
    yield "image_pixels", pixels.transpose(1, 2, 0)


def compute(seed):
    """All arrays, by name."""
    with torch.no_grad():
        return {
            name: value
            for part in (transformers, autoencoders, image_conditions, encoders)
            for name, value in part(seed)
        }


if __name__ == "__main__":
    folder = Path(__file__).parent
    np.savez_compressed(folder / "models.npz", **compute(0))
    small = DIT | dict(num_attention_heads=1, attention_head_dim=12, ffn_dim=8, text_dim=4, freq_dim=4)
    torch.save(seeded(WanTransformer3DModel(**small), 0).bfloat16().state_dict(), folder / "transformer.pth")
