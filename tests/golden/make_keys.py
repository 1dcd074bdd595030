"""Makes keys.json: name and shape of every tensor of every published size, from models on the meta device.

python tests/golden/make_keys.py WAN21 WAN22

needs the `parity` extra, and checkouts of github.com/Wan-Video/Wan2.1 (commit 9737cba) and Wan2.2 (commit 42bf4cf) for
the original names. Their model files are imported with empty stand-ins for packages that only running them would need.
"""

import importlib.util
import json
import re
import sys
import types
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection, UMT5Config, UMT5EncoderModel

LARGE = dict(dim=5120, ffn_dim=13824, num_heads=40, num_layers=40)
WAN = {  # name: (repository, model_type, sizes, channels in and out)
    "wan2.1-t2v-1.3b": (0, "t2v", dict(dim=1536, ffn_dim=8960, num_heads=12, num_layers=30), 16, 16),
    "wan2.1-t2v-14b": (0, "t2v", LARGE, 16, 16),
    "wan2.1-i2v-14b": (0, "i2v", LARGE, 36, 16),
    "wan2.2-t2v-a14b": (1, "t2v", LARGE, 16, 16),
    "wan2.2-i2v-a14b": (1, "i2v", LARGE, 36, 16),
    "wan2.2-ti2v-5b": (1, "ti2v", dict(dim=3072, ffn_dim=14336, num_heads=24, num_layers=30), 48, 48),
}
VAE22 = dict(
    base_dim=160, decoder_base_dim=256, z_dim=48, is_residual=True, in_channels=12, out_channels=12, patch_size=2
)
CLIP = dict(
    hidden_size=1280,
    intermediate_size=5120,
    num_hidden_layers=32,
    num_attention_heads=16,
    patch_size=14,
    projection_dim=1024,
)
UMT5 = dict(
    vocab_size=256384, d_model=4096, d_kv=64, d_ff=10240, num_layers=24, num_heads=64, feed_forward_proj="gated-gelu"
)
STACK = re.compile(
    r"^(blocks|encoder\.block|visual\.transformer|vision_model\.encoder\.layers|textual\.blocks)\.(\d+)\."
)


def module(checkout, name):
    """wan/modules/NAME.py of a checkout."""
    package = f"checkout_{abs(hash(checkout))}"
    if package not in sys.modules:
        sys.modules[package] = types.ModuleType(package)
        sys.modules[package].__path__ = [str(Path(checkout, "wan", "modules"))]
        for stand_in, names in (("attention", ["flash_attention"]), ("tokenizers", ["HuggingfaceTokenizer"])):
            sys.modules[f"{package}.{stand_in}"] = fake = types.ModuleType(stand_in)
            for attribute in names:
                setattr(fake, attribute, None)
    for absent in ("einops", "torchvision"):
        if absent not in sys.modules and importlib.util.find_spec(absent) is None:
            sys.modules[absent] = fake = types.ModuleType(absent)
            fake.__path__, fake.rearrange = [], None
            fake.transforms = sys.modules[f"{absent}.transforms"] = types.ModuleType(f"{absent}.transforms")
    torch.cuda.current_device = lambda: 0  # the default of an argument there
    return importlib.import_module(f"{package}.{name}")


def folded(model):
    """{name: shape}; equal layers are one line, "blocks.{40}.name"."""
    found, layers = {}, {}
    for name, value in model.state_dict().items():
        match = STACK.match(name)
        key = STACK.sub(r"\1.{}.", name)
        assert found.setdefault(key, list(value.shape)) == list(value.shape)
        if match:
            layers.setdefault(key, []).append(int(match[2]))
    for indices in layers.values():
        assert sorted(indices) == list(range(len(indices)))
    count = lambda key: key.replace("{}", f"{{{len(layers[key])}}}") if key in layers else key
    return {count(key): shape for key, shape in found.items()}


def models(checkouts):
    for name, (repository, kind, size, n_in, n_out) in WAN.items():
        has_branch = repository == 0 and kind == "i2v"
        yield (
            name,
            WanTransformer3DModel(
                num_attention_heads=size["num_heads"],
                ffn_dim=size["ffn_dim"],
                num_layers=size["num_layers"],
                in_channels=n_in,
                out_channels=n_out,
                text_dim=4096,
                image_dim=1280 if has_branch else None,
                added_kv_proj_dim=size["dim"] if has_branch else None,
            ),
            module(checkouts[repository], "model").WanModel(
                model_type=kind, in_dim=n_in, out_dim=n_out, cross_attn_norm=True, **size
            ),
        )
    original = module(checkouts[0], "vae").WanVAE_(96, 16, [1, 2, 4, 4], 2, [], [False, True, True])
    yield "wan2.1-vae", AutoencoderKLWan(), original
    original = module(checkouts[1], "vae2_2").WanVAE_(160, 256, 48, [1, 2, 4, 4], 2, [], [False, True, True])
    yield "wan2.2-vae", AutoencoderKLWan(**VAE22), original
    original = module(checkouts[0], "t5").T5Encoder(256384, 4096, 4096, 10240, 64, 24, 32, shared_pos=False)
    yield "umt5-xxl", UMT5EncoderModel(UMT5Config(**UMT5)), original
    original = module(checkouts[0], "clip").XLMRobertaCLIP()
    yield "clip-vit-h-14", CLIPVisionModelWithProjection(CLIPVisionConfig(**CLIP)), original


if __name__ == "__main__":
    with torch.device("meta"):
        keys = {
            name: {"diffusers": folded(theirs), "original": folded(original)}
            for name, theirs, original in models(sys.argv[1:])
        }
    lines = [f' "{name}": {json.dumps(both, separators=(",", ":"))}' for name, both in keys.items()]
    (Path(__file__).parent / "keys.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")
