"""The main job in its smallest form: the parameter moves for a reason, both ways, and a rerun goes on."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import motion_parts, motion_proposals, motion_search, motionphysics, simulate
from experiments.configs.motionphysics import get_config
from experiments.motion_fields import Field
from jaxphys import language, mpm, splats
from jaxphys.diffusion.prior import PriorConfig
from jaxphys.diffusion.prior_files import save_prior
from jaxphys.language import captions
from jaxphys.scenes import clips
from jaxphys.scenes.outcomes import Outcomes

WORLD = clips.World(pixels=16, frames=8, particles=64, dx=1 / 8)


def cube(proposal, **changes):
    axis = np.linspace(0.05, 0.95, 10)
    points = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    options = dict(drop=0.3, least=1.0, seed=0) | changes
    return motion_search.small_scene(points, 1.0, proposal, 1.0, WORLD, **options)


def test_a_small_image_moves_as_the_body_does():
    """Equal Froude number: the same motion, times the scale and slower by its root."""
    small = cube(language.propose("jelly"))
    s = small.scale
    assert s == pytest.approx(0.34 / 0.9) and float(np.ptp(small.scene.x, axis=0).max()) < 0.35
    large = small.own_law(small.start)
    config = WORLD.config(small.substeps(WORLD, np.array([small.start])))
    own = mpm.simulate(
        small.law(small.start), small.particles(small.scene), mpm.Scene((0, 0, -9.81), _floor(1.0)), config
    )
    grid = mpm.Grid(tuple(np.array(config.grid.lo) / s), tuple(np.array(config.grid.hi) / s), config.grid.dx / s)
    slower = mpm.Config(grid, fps=config.fps * s**0.5, frames=config.frames, substeps=config.substeps)
    particles = mpm.Particles.create(small.scene.x / s, small.volumes / s**3)
    there = mpm.simulate(large, particles, mpm.Scene((0, 0, -9.81), _floor(s)), slower)
    np.testing.assert_allclose(there.x * s, own.x, atol=2e-4)


def _floor(s):
    w = WORLD.half_width / s
    return (mpm.Walls((-w, -w, 0.0), (w, w, 2.0 * WORLD.height / s), friction=0.4),)


def test_classes_ranges_and_words():
    sure = motion_proposals.classes_of("a jelly robot", 0.6, 3)
    assert [p.model for p, _ in sure] == ["elastic"] and sure[0][1] == 1.0
    unsure = motion_proposals.classes_of("a robot", 0.7, 3)
    assert len(unsure) == 2 and {p.model for p, _ in unsure} == {"elastic", "metal"}
    assert sum(w for _, w in unsure) == pytest.approx(1.0)
    small = cube(language.propose("a block of wet sand"))
    assert small.unknown == "friction_angle" and small.linear and small.ends == (19.0, 49.0)
    with pytest.raises(ValueError, match="ask for fewer"):
        motion_search.small_scene(np.zeros((3, 3)), 1.0, language.propose("jelly"), 1.0, WORLD, drop=0, least=1, seed=0)


def test_the_posterior_of_a_class_is_the_proposal_times_the_score():
    small, grid = cube(language.propose("jelly")), np.linspace(0, 1, 5)
    grid = small.ends[0] + (small.ends[1] - small.ends[0]) * grid
    table = np.zeros((5, 6))
    table[:, 0] = [0.9, 0.7, 0.4, 0.15, 0.05]  # the softer, the flatter
    field = Field(grid, table, np.zeros(5, int), 0.0)
    soft, _ = motion_search.belief_of(small, field, {"squash": "flat"})
    stiff, _ = motion_search.belief_of(small, field, {"squash": "keeps"})
    silent, evidence = motion_search.belief_of(small, field, {"shape": "ball"})
    assert soft.median < silent.median - 0.2 and stiff.median > silent.median + 0.4
    assert silent.median == pytest.approx(small.start, abs=0.02) and evidence == pytest.approx(0.0, abs=1e-9)
    heard, _ = motion_search.belief_of(small, field, {}, np.array([-50.0, -50.0, -50.0, 0.0, -50.0]))
    assert heard.median == pytest.approx(grid[3], abs=0.1)
    broken = Field(grid, table, np.ones(5, int), 0.0)
    with pytest.raises(ValueError, match="no candidate"):
        motion_search.belief_of(small, broken, {"squash": "flat"})


def test_refinement_ends_where_the_posterior_is_greatest(monkeypatch):
    small = cube(language.propose("jelly"))
    grid = np.linspace(*small.ends, 9)
    table = np.zeros((9, 6))
    table[:, 0] = np.linspace(0.9, 0.1, 9)
    heard = -8.0 * (grid - small.start - 0.3) ** 2
    belief, _ = motion_search.belief_of(small, Field(grid, table, np.zeros(9, int), 0.0), {"squash": "half"}, heard)

    def simulated(small, world, u, steps):
        return Outcomes(jnp.interp(u, grid, table[:, 0]), *5 * [jnp.float32(0.0)]), jnp.int32(0)

    monkeypatch.setattr(motion_search, "outcomes_at", simulated)
    by_prior = lambda u: jnp.interp(u, grid, heard)
    call = motion_search.misfit(small, WORLD, {"squash": "half"}, by_prior)
    path = motion_search.refine(call, small.ends[0], small.ends, 40)
    answer, mode = min(path, key=lambda p: p[1])[0], belief.values[np.argmax(belief.weights)]
    assert abs(answer - mode) < 0.05 and abs(mode - small.start) > 0.1
    lo, hi = belief.densest(0.5)
    assert lo <= answer <= hi


class Model(BaseHTTPRequestHandler):
    """A language model on loopback that takes everything for a foam, and counts its questions."""

    asked: ClassVar[list] = []
    values: ClassVar[dict] = {"E_Pa": 1e5, "nu": 0.2, "yield_stress_Pa": 4e3, "viscosity_Pa_s": 30.0, "exponent": 1.0}
    proposal: ClassVar[dict] = {
        "material": "flurb",
        "model": "foam",
        "density_kg_m3": {"mean": 100, "lo": 80, "hi": 120},
        "parameters": {name: dict.fromkeys(("mean", "lo", "hi"), v) for name, v in values.items()},
        "confidence": 0.9,
        "reasons": ["it sounds soft"],
    }

    def do_POST(self):
        self.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": json.dumps({"proposal": self.proposal})},
            "finish_reason": "stop",
        }
        body = json.dumps({"id": "1", "choices": [choice]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


def test_a_language_model_is_asked_once_and_its_answer_is_kept(tmp_path, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    Model.asked.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Model)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    config = tiny(provider_url=f"http://127.0.0.1:{server.server_port}/v1", provider_model="small")
    path = tmp_path / "proposals.json"
    ((proposal, weight),) = motion_proposals.proposals_of(["a flurb"], config, path)[0]
    server.shutdown()
    server.server_close()
    assert (proposal.model, weight, proposal.means["yield_stress"]) == ("foam", 1.0, 4e3)
    assert len(Model.asked) == 1 and Model.asked[0]["model"] == "small"
    ((again, _),) = motion_proposals.proposals_of(["a flurb"], config, path)[0]  # nobody listens any more
    assert again == proposal and "openai small" in again.provider and len(Model.asked) == 1
    with pytest.warns(language.FallbackWarning, match="offline table answers instead"):
        ((other, _), *_) = motion_proposals.proposals_of(["a jelly"], tiny(**_endpoint(config)), tmp_path / "b.json")[0]
    assert other.model == "elastic" and other.refusals
    path.write_text('{"classes": [[{"weight": 1.0}]]}')
    with pytest.raises(ValueError, match="delete it to ask again"):
        motion_proposals.proposals_of(["a flurb"], config, path)
    with pytest.raises(ValueError, match="go together"):
        motion_proposals.provider_of(tiny(provider_url="http://127.0.0.1/v1"))


def _endpoint(config):
    return {"provider_url": config.provider_url, "provider_model": config.provider_model}


def two_blocks(path):
    """A splat of two blocks side by side, z up, and the number of each of its Gaussians."""
    axis = np.linspace(0.0, 0.3, 5)
    block = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    x = np.concatenate([block, block + [0.6, 0.0, 0.0]])
    n = len(x)
    gaussians = splats.Gaussians(
        mean=np.float32(x),
        scale=np.full((n, 3), 0.03, np.float32),
        quat=np.tile(np.float32([1, 0, 0, 0]), (n, 1)),
        opacity=np.full(n, 0.9, np.float32),
        sh=np.zeros((n, 1, 3), np.float32),
    )
    splats.write_ply(path, gaussians)
    return np.repeat([0, 4], len(block))


def test_two_objects_by_mask_and_by_box(tmp_path):
    path, mask = tmp_path / "two.ply", tmp_path / "mask.npy"
    numbers = two_blocks(path)
    np.save(mask, numbers)
    scene = dict(scene=str(path), up="z", box=(-0.1, -0.1, -0.1, 1.0, 0.4, 0.4))
    config = tiny(**scene, mask=str(mask), parts=("4: wet sand",))
    parsed = motion_parts.parse_parts(config)
    assert parsed == [(4, "wet sand")]
    job = motion_parts.split(simulate.prepare(config), [4], config)
    part = np.asarray(job.setup.particles.material)
    assert [p.gaussians for p in job.setup.parts] == [slice(0, 125), slice(125, 250)]
    # also the particles that fill the blocks belong to the block that they are in
    np.testing.assert_array_equal(part, np.asarray(job.setup.particles.x)[:, 0] > 0.45)
    boxed = tiny(**scene, parts=("0.45,-1,-1,2,1,1: wet sand",))
    other = motion_parts.split(simulate.prepare(boxed), [motion_parts.parse_parts(boxed)[0][0]], boxed)
    np.testing.assert_array_equal(other.setup.particles.material, part)
    points, index, volume = motion_parts.body_points(job, 1)
    assert volume == pytest.approx(sum(p.volume for p in job.setup.parts))
    np.testing.assert_array_equal(index == 0, points[:, 0] > 0.45)

    def refused(match, parts=("4: wet sand",), content=None, **changes):
        if content is not None:
            np.save(mask, content)
        config = tiny(**scene | {"mask": str(mask), "parts": parts} | changes)
        with pytest.raises(ValueError, match=match):
            places = [place for place, _ in motion_parts.parse_parts(config)]
            motion_parts.split(simulate.prepare(config), places, config)

    refused("number 5 of config.mask holds nothing .* numbers \\[0, 4\\]", parts=("4: sand", "5: jelly"))
    refused("expected .* or", parts=("sand's: sand",))
    refused("a colon and a prompt", parts=("4",))
    refused("one prompt", parts=("4: sand", "4: jelly"))
    refused("config.mask is empty", mask="")
    refused("no entry of config.parts", parts=("0,0,0,1,1,1: sand",))
    refused("lower < upper", parts=("0,0,0,1,-1,1: sand",), mask="")
    refused("holds nothing of the object", parts=("7,7,7,8,8,8: sand",), mask="")
    refused("nothing is left", parts=("-9,-9,-9,9,9,9: sand",), mask="")
    refused("\\[2\\] of config.mask have no prompt", content=np.where(np.arange(250) == 7, 2, numbers))
    refused("one integer per Gaussian", content=numbers[1:])
    refused("one integer per Gaussian", content=numbers + 0.5)
    refused("at least 0", content=numbers - 4)
    mask.write_text("4")
    refused("cannot be read")
    refused("cannot be read", mask=str(tmp_path / "none.npy"))


def tiny(**changes):
    config = get_config()
    config.update(dict(dx_m=1 / 8, seconds=4 / 24, chunk_frames=4, image_pixels=32, drop_m=0.1, margin_m=0.3))
    config.update(dict(candidates=3, refinements=2, particles=64, cells_per_metre=8, prior=""))
    config.update(changes)
    return config


@pytest.mark.long
def test_the_job_answers_both_prompts_and_goes_on_where_it_was(tmp_path, capsys):
    first = motionphysics.run(tiny(), tmp_path)
    said = capsys.readouterr().out
    assert "NO PRIOR" in said and "outcome words alone decide" in said
    assert first["prompt_answer"] < first["opposite_answer"]  # squashed flat; keeps its height
    assert first["prompt_low"] <= first["prompt_answer"] <= first["prompt_high"]
    assert first["prompt_judge"] == "outcome words"
    assert first["prompt_proposed"] == first["opposite_proposed"]
    for name in ("preview.png", "posterior.png", "path.png", "compare.mp4", "compare.png"):
        assert (tmp_path / name).stat().st_size > 0, name
    kept = {p.name: p.stat().st_mtime_ns for p in tmp_path.glob("*.npz")}
    (tmp_path / "after" / "chunk_000.npz").unlink()
    again = motionphysics.run(tiny(), tmp_path)
    assert kept == {p.name: p.stat().st_mtime_ns for p in tmp_path.glob("*.npz")}
    assert again["prompt_answer"] == first["prompt_answer"] and again["after_squash"] == first["after_squash"]
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["candidates_seconds"] >= 0 and "device" in report
    with pytest.raises(ValueError, match="differs in"):
        motionphysics.run(tiny(prompt="jelly"), tmp_path)


@pytest.mark.long
def test_parts_have_their_own_material_and_a_prior_reads_what_is_no_outcome(tmp_path):
    slots = tuple(len(v) for v in captions.SLOTS.values())
    sizes = dict(frames=8, pixels=16, patch=(4, 8, 8), width=12, layers=1, heads=2)
    prior = PriorConfig(slots=slots, scalars=len(clips.SCALARS), **sizes)
    path, ones = tmp_path / "prior.safetensors", np.ones(len(clips.SCALARS))
    save_prior(path, prior.init(jax.random.key(0)), prior, 0 * ones, ones)
    head = "-9,-9,0.9,9,9,9: wet sand that spreads wide"
    config = tiny(prompt="a very soft rubber robot is dropped", parts=(head,), prior=str(path))
    found = motionphysics.run(config, tmp_path / "out")
    assert found["prompt_judge"] == "prior" and found["prompt_unknown"] == "E"
    assert found["part_1_judge"] == "outcome words" and found["part_1_unknown"] == "friction_angle"
    assert np.isfinite(found["prompt_answer"]) and "opposite_answer" not in found
