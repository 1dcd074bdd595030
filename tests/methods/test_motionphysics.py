"""Guidance against closed forms and finite differences, the posterior against oracles."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxphys.camera import Camera
from jaxphys.diffusion.prior import PriorConfig, Text
from jaxphys.diffusion.protocol import Condition, hold
from jaxphys.diffusion.sample import Experts
from jaxphys.diffusion.vae import VaeConfig
from jaxphys.methods.motion_heads import Head, Heads, see, with_student
from jaxphys.methods.motion_posterior import (
    balanced,
    caption_posterior,
    class_probabilities,
    estimate,
    even_prior,
    log_likelihoods,
    posterior_of,
)
from jaxphys.methods.motion_released import last_substep, released_update
from jaxphys.methods.motionphysics import (
    AppearanceNoise,
    GuidanceConfig,
    Guide,
    Prompt,
    guidance,
    pilot_window,
    recipe,
)
from jaxphys.splats import Gaussians, deform, render

T, SHAPE = 4, (4, 3, 2, 3)
KEY = jax.random.key(7)


@dataclasses.dataclass(frozen=True)
class Oracle:
    """Finds the clip that the text names, whatever it is shown."""

    def init(self, key):
        return jax.random.uniform(key, (2, *SHAPE), minval=-1.0)

    def velocity(self, params, x, t, cond, *, taps=()):
        x, t, free = hold(x, t, cond)
        t = t.reshape(-1, 1, 1, 1)
        v = (x - jnp.einsum("c,c...->...", cond.text[0], params)) / jnp.where(t > 0, t, 1.0)
        return v if free is None else free * v


@dataclasses.dataclass(frozen=True)
class Smooth:
    """A random smooth network: every frame depends on every frame, on time and on the text."""

    def init(self, key):
        return jax.random.normal(key, (T, T + 2))

    def velocity(self, params, x, t, cond, *, taps=()):
        x, t, free = hold(x, t, cond)
        mixed = jnp.einsum("st,thwc->shwc", params[:, :T], x) + params[:, T, None, None, None] * cond.text.sum()
        v = jnp.tanh(mixed + (params[:, T + 1] * t)[:, None, None, None])
        return v if free is None else free * v


def texts(word):
    return jax.nn.one_hot(jnp.array([word]), 2)


def prompt(word=0, without=None):
    return Prompt(Condition(texts(word)), without)


def clip(seed=0):
    return jax.random.uniform(jax.random.key(seed), SHAPE)


def value(guide, video, text, config, key=KEY):
    return guidance(guide, video, text, config, key=key)[0]


def drawn(config, aux):
    draws = jax.random.normal(KEY, (config.draws, 1 + clip().size), clip().dtype)
    return [(t, d[1:].reshape(SHAPE)) for t, d in zip(aux["time"], draws)]


@pytest.mark.parametrize(("space", "cfg", "known"), [("x0", 1.0, 0), ("eps", 7.0, 0), ("x0", 7.0, 1)])
def test_sds_gradient_is_the_weighted_velocity_difference(space, cfg, known):
    denoiser = Smooth()
    guide = Guide(denoiser.init(jax.random.key(1)))
    config = GuidanceConfig("sds", denoiser, cfg=cfg, space=space, known=known, draws=2)
    text = prompt(0, 0.3 * texts(1))
    (_, aux), gradient = jax.value_and_grad(guidance, 1, has_aux=True)(guide, clip(), text, config, key=KEY)
    z, wanted = 2 * clip() - 1, 0.0
    mask = jnp.where(jnp.arange(T) < known, 1.0, 0.0)
    for t, noise in drawn(config, aux):
        x = (1 - t) * z + t * noise
        v, silent = (
            denoiser.velocity(guide.denoiser, x, t, Condition(c, known=z, mask=mask)) for c in (texts(0), text.without)
        )
        difference = (silent + cfg * (v - silent) - (noise - z)).at[:known].set(0.0) * T / (T - known)
        wanted += 2.0 * (t if space == "x0" else 1 - t) * difference / z.size / 2  # dz/dvideo = 2, mean of two draws
    np.testing.assert_allclose(gradient, wanted, rtol=2e-4, atol=1e-6)
    _, tangent = jax.jvp(lambda v: value(guide, v, text, config), (clip(),), (clip(3),))
    np.testing.assert_allclose(tangent, jnp.vdot(gradient, clip(3)), rtol=1e-4, atol=1e-6)


CONFIGS = {
    "sds_x0": dict(kind="sds", cfg=3.0),
    "sds_eps": dict(kind="sds", space="eps", cfg=3.0),
    "mds": dict(kind="mds", space="eps", cfg=3.0, draws=2),
    "lmd_identity": dict(kind="lmd", huber=0.1),
    "lmd_difference": dict(kind="lmd", head="difference", huber=0.1),
    "lmd_dct": dict(kind="lmd", head="dct", huber=0.1, known=1),
    "lmd_learned": dict(kind="lmd", head="learned", huber=0.1, cfg=3.0),
    "reconstruction": dict(kind="reconstruction", known=1, window=(0.8, 0.98), draws=2),
    "reference": dict(kind="reference"),
    "contrast": dict(kind="contrast", known=1, window=(0.6, 0.95), draws=2),
}


def agrees(f, x, direction, bar=1e-6):
    exact = jnp.vdot(jax.grad(f)(x), direction)
    off = [abs((f(x + h * direction) - f(x - h * direction)) / (2 * h) - exact) for h in 10.0 ** np.arange(-6, -2)]
    assert abs(exact) > 1e-6 and min(off) < bar * abs(exact), (float(exact), [float(e) for e in off])


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.long
def test_gradients_through_the_denoiser_agree_with_finite_differences(name, float64):
    options = dict(CONFIGS[name])
    denoiser = None if options["kind"] == "reference" else Smooth()
    config = GuidanceConfig(denoiser=denoiser, gradient="through", **options)
    heads = trained_heads() if config.head == "learned" else None
    guide = Guide(Smooth().init(jax.random.key(1)), heads=heads, reference=clip(5))
    text = Prompt(Condition(texts(0)), 0.3 * texts(1), 0.3 * texts(1)[None])
    f = jax.jit(lambda video: value(guide, video, text, config))
    agrees(f, clip(), clip(2).at[0].set(0.0))  # the first frame is given, or that of the still clip


@pytest.mark.long
def test_gradients_of_the_student_agree_with_finite_differences(float64):
    heads = trained_heads()
    config = GuidanceConfig("lmd", Smooth(), head="learned", huber=0.1)
    params = Smooth().init(jax.random.key(1))
    flat, back = jax.flatten_util.ravel_pytree(heads.student)
    f = jax.jit(lambda w: value(Guide(params, heads=with_student(heads, back(w))), clip(), prompt(), config))
    agrees(f, flat, jax.random.normal(jax.random.key(3), flat.shape))
    teacher = jax.grad(lambda h: value(Guide(params, heads=h), clip(), prompt(), config), allow_int=True)(heads).teacher
    assert all(not leaf.any() for leaf in jax.tree.leaves(teacher))


def trained_heads():
    heads = Heads.init(T, jax.random.key(4), jnp.asarray(1.0).dtype)
    noise = jax.random.normal(jax.random.key(5), heads.student.contract.shape)
    return with_student(heads, dataclasses.replace(heads.student, contract=noise))


def test_reconstruction_is_zero_for_what_the_denoiser_finds():
    config = recipe("reconstruction", Oracle(), known=1)
    guide = Guide(Oracle().init(jax.random.key(1)))
    same, other = 0.5 * (guide.denoiser + 1.0)
    (loss, aux), gradient = jax.value_and_grad(guidance, 1, has_aux=True)(guide, same, prompt(0), config, key=KEY)
    assert loss < 1e-11 and jnp.abs(gradient).max() < 1e-6
    np.testing.assert_allclose(aux["clean"], guide.denoiser[0], atol=2e-6)
    loss, gradient = jax.value_and_grad(value, 1)(guide, other, prompt(0), config)
    apart = guide.denoiser[1] - guide.denoiser[0]
    np.testing.assert_allclose(loss, 0.5 * (apart[1:] ** 2).mean(), rtol=1e-4)
    np.testing.assert_allclose(gradient[1:], 2 * apart[1:] / apart[1:].size, rtol=1e-3, atol=1e-6)
    assert not gradient[0].any()  # given


def test_contrast_pulls_from_what_all_captions_expect_towards_the_text():
    params = Oracle().init(jax.random.key(1))
    z = params[0] + 0.45 * (params[1] - params[0])
    config = recipe("contrast", Oracle(), known=1, window=(0.6, 0.95))
    text = Prompt(Condition(texts(0)), rivals=texts(1)[None])
    (loss, aux), gradient = jax.value_and_grad(guidance, 1, has_aux=True)(
        Guide(params), 0.5 * (z + 1), text, config, key=KEY
    )
    snr = (0.4 / 0.6) ** 2 - (0.05 / 0.95) ** 2  # the error of an oracle does not depend on t
    words = jax.nn.softmax(jnp.stack([-0.5 * snr * jnp.sum((z - p)[1:] ** 2) for p in params]))
    np.testing.assert_allclose(aux["words"], words, rtol=1e-3)
    np.testing.assert_allclose(loss, -jnp.log(words[0]), rtol=1e-3)
    np.testing.assert_allclose(gradient[1:], 2 * snr * words[1] * (params[1] - params[0])[1:], rtol=1e-3, atol=1e-6)
    assert not gradient[0].any()  # given
    found = caption_posterior(Guide(params), 0.5 * (z + 1)[None], captioned(), config, draws=2, key=KEY)
    np.testing.assert_allclose(aux["words"], found.words[0], atol=1e-3)


def test_mds_is_silent_on_a_clip_without_motion():
    guide = Guide(Smooth().init(jax.random.key(1)))
    still = jnp.broadcast_to(clip()[:1], SHAPE)
    config = GuidanceConfig("mds", Smooth(), space="eps")
    loss, gradient = jax.value_and_grad(value, 1)(guide, still, prompt(), config)
    assert loss < 1e-12 and jnp.abs(gradient).max() < 1e-7
    assert value(guide, clip(), prompt(), config) > 1e-3


def test_guidance_extrapolates_from_no_text_and_runs_the_expert_of_the_time():
    params = Oracle().init(jax.random.key(1))
    text = prompt(0, texts(1))
    find = lambda params, **o: guidance(Guide(params), clip(), text, GuidanceConfig("lmd", Oracle(), **o), key=KEY)[1][
        "clean"
    ]
    np.testing.assert_allclose(find(params, cfg=3.0), params[1] + 3.0 * (params[0] - params[1]), atol=1e-4)
    experts = Experts(params, -params, 0.9)
    np.testing.assert_allclose(find(experts, window=(0.91, 0.99)), params[0], atol=1e-5)
    np.testing.assert_allclose(find(experts, window=(0.5, 0.89)), -params[0], atol=1e-5)


def test_a_reference_is_followed():
    guide = Guide(reference=clip(1))
    gradient = jax.grad(value, 1)(guide, clip(), None, GuidanceConfig("reference", known=1))
    np.testing.assert_allclose(gradient[1:], 4 * (clip() - clip(1))[1:] / clip()[1:].size, rtol=1e-4, atol=1e-7)
    assert value(guide, clip(1), None, GuidanceConfig("reference")) == 0.0


def test_windows():
    params = Oracle().init(jax.random.key(1))
    config = GuidanceConfig("lmd", Oracle(), window=(0.9, 0.98), last_window=(0.1, 0.18), draws=8)
    for progress, low in ((0.0, 0.9), (0.5, 0.5), (1.0, 0.1)):
        time = guidance(Guide(params, progress=progress), clip(), prompt(), config, key=KEY)[1]["time"]
        steps = jnp.floor((time - low) / 0.01)
        np.testing.assert_array_equal(steps, jnp.arange(8))  # one in each eighth
    a, b = clip(), clip(1)
    low, high = pilot_window(a, b, known=1, strong=4.0, weak=0.5)
    distance = jnp.linalg.norm((a - b)[1:])
    for t, wanted in ((low, 4.0), (high, 0.5)):
        np.testing.assert_allclose((1 - t) * distance / t, wanted, rtol=1e-5)
    assert pilot_window(a, b) > pilot_window(a, 0.5 * (a + b))  # the more they differ, the more noise


def test_a_new_head_is_the_identity_and_learns_by_its_rate():
    heads = Heads.init(T, jax.random.key(0))
    np.testing.assert_array_equal(see("learned", clip(), heads.student), clip())
    guide, text = Guide(Smooth().init(jax.random.key(1)), heads=heads), prompt()
    plain, learned = (GuidanceConfig("lmd", Smooth(), head=head) for head in ("identity", "learned"))
    np.testing.assert_allclose(value(guide, clip(), text, plain), value(guide, clip(), text, learned), rtol=1e-6)
    gradient = jax.grad(
        lambda s: value(dataclasses.replace(guide, heads=with_student(heads, s)), clip(), text, learned)
    )(heads.student)
    assert jnp.abs(gradient.contract).max() > 1e-6
    after = heads.learn(gradient, rate=0.1, decay=0.75)
    step = after.student.contract - heads.student.contract
    np.testing.assert_allclose(step, -0.1 * jnp.sign(gradient.contract), atol=2e-4)  # the first step of Adam
    np.testing.assert_allclose(after.teacher.contract, 0.25 * step, atol=1e-6)


def test_heads_see_motion():
    u, still = clip(), jnp.broadcast_to(clip(1)[:1], SHAPE)
    for kind in ("difference", "dct"):
        np.testing.assert_allclose(see(kind, u + still), see(kind, u), atol=1e-5)
    # the transform keeps lengths but for the mean
    np.testing.assert_allclose((see("dct", u) ** 2).sum(), ((u - u.mean(0)) ** 2).sum(), rtol=1e-5)


def test_group_norm_as_published():
    head = trained_heads().student
    h = np.einsum("kt,thwc->khwc", head.expand, jax.nn.silu(clip())) + head.expand_bias[:, None, None, None]
    h = np.stack([(a - a.mean()) / np.sqrt(a.var() + 1e-5) for a in h.reshape(32, 2, *SHAPE[1:])]).reshape(h.shape)
    np.testing.assert_allclose(
        head(clip()), clip() + np.einsum("tk,khwc->thwc", head.contract, jax.nn.silu(h)), atol=1e-4
    )


@pytest.mark.long
def test_appearance_noise_changes_colours_and_nothing_else():
    rng = np.random.default_rng(0)
    mean = rng.normal(0, 0.3, (6, 3))
    scene = Gaussians.create(mean, 0.1, sh=rng.normal(0, 0.3, (6, 4, 3)))
    camera = Camera.look_at((0.0, -2.0, 0.5), (0.0, 0.0, 0.0), width=16, height=16)
    kernels = deform(scene, scene.mean, jnp.broadcast_to(jnp.eye(3), (6, 3, 3)))
    clean = render(kernels, camera).image
    none = AppearanceNoise.draw(scene.sh, KEY, 0.0, 0.0)
    np.testing.assert_allclose(render(none.apply(kernels, camera), camera).image, clean, atol=1e-5)
    noise = AppearanceNoise.draw(scene.sh, KEY)
    changed = noise.apply(kernels, camera)
    assert jnp.abs(render(changed, camera).image - clean).max() > 0.01
    np.testing.assert_array_equal(changed.mean, kernels.mean)
    np.testing.assert_array_equal(changed.cov, kernels.cov)
    many = AppearanceNoise.draw(jnp.zeros((2000, 4, 3)), KEY)
    np.testing.assert_allclose((many.sh.std(), many.view.std()), (0.2, 0.1), rtol=0.05)


@pytest.mark.long
def test_the_small_prior_and_a_latent_model():
    config = PriorConfig(slots=(2,), scalars=1, frames=4, pixels=8, patch=(2, 4, 4), width=12, layers=1, heads=2)
    params = config.init(KEY)
    text = config.condition(params, Text(jnp.array([1]), jnp.array([0.5])))
    silent = config.condition(params, config.nothing()).text
    video = jax.random.uniform(KEY, config.shape)
    use = recipe("sds", config.dit, floor=config.min_time, known=1, cfg=2.0)
    loss, gradient = jax.jit(jax.value_and_grad(value, 1), static_argnums=3)(
        Guide(params["dit"]), video, Prompt(text, silent), use
    )
    assert jnp.isfinite(loss) and jnp.isfinite(gradient).all() and gradient[1:].any() and not gradient[0].any()

    vae = VaeConfig(3, base=4, mean=(0.0,) * 3, std=(1.0,) * 3, multipliers=(1, 1), temporal=(True,))
    encoder, video = vae.init(KEY), jax.random.uniform(KEY, (7, 4, 4, 3))
    latent = vae.encode(encoder, video)
    assert latent.shape == (4, 2, 2, 3)
    guide = Guide(Smooth().init(KEY), encoder=encoder, heads=Heads.init(4, KEY))
    use = recipe("lmd", Smooth(), encode=vae.encode)
    gradient = jax.grad(value, 1)(guide, video, prompt(0, texts(1)), use)
    pull = jax.grad(lambda z: value(guide, 0.5 * (z + 1), prompt(0, texts(1)), dataclasses.replace(use, encode=None)))
    wanted = jax.vjp(lambda v: vae.encode(encoder, v), video)[1](pull(latent))[0]
    np.testing.assert_allclose(gradient, wanted, rtol=1e-3, atol=1e-7)


def captioned():
    return Condition(jnp.stack([texts(0), texts(1)]))


@pytest.mark.parametrize("known", [0, 2])
def test_the_posterior_of_an_oracle(known):
    params = Oracle().init(jax.random.key(1))
    mix = jnp.array([0.1, 0.45, 0.8])[:, None, None, None, None]
    z = params[0] + mix * (params[1] - params[0])
    config = GuidanceConfig("reconstruction", Oracle(), window=(0.6, 0.95), known=known)
    out = caption_posterior(Guide(params), 0.5 * (z + 1), captioned(), config, levels=5, draws=2, batch=2, key=KEY)
    # the error of an oracle does not depend on t, so the rule in SNR is exact
    snr = (0.4 / 0.6) ** 2 - (0.05 / 0.95) ** 2
    wanted = jnp.stack([-0.5 * snr * ((z - p)[:, known:] ** 2).sum((1, 2, 3, 4)) for p in params], 1)
    np.testing.assert_allclose(out.log_likelihood, wanted, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(out.words, jax.nn.softmax(wanted), atol=1e-3)
    np.testing.assert_allclose(out.words.sum(1), 1.0, rtol=1e-6)
    np.testing.assert_allclose(out.candidates.sum(0), 1.0, rtol=1e-6)
    assert out.words.argmax(1).tolist() == [0, 0, 1] and out.candidates.argmax(0).tolist() == [0, 2]
    assert out.confidence[0] > out.confidence[1] and (out.error < 1e-3).all()


def test_noise_is_common_and_its_error_lowers_the_confidence():
    params = Smooth().init(jax.random.key(1))
    words = Condition(jnp.stack([texts(0), 0.3 * texts(1)]))
    config = GuidanceConfig("reconstruction", Smooth(), window=(0.6, 0.95))
    out = caption_posterior(Guide(params), jnp.stack([clip(), clip()]), words, config, draws=3, key=KEY)
    np.testing.assert_allclose(out.log_likelihood[0], out.log_likelihood[1], rtol=1e-6)
    assert (out.error > 0).all()
    sure, unsure = (posterior_of(jnp.array([[[2.0 - s, 0.0]], [[2.0 + s, 0.0]]])) for s in (0.0, 3.0))
    np.testing.assert_allclose(sure.confidence, jax.nn.sigmoid(2.0), rtol=1e-6)
    np.testing.assert_allclose(unsure.error, 3.0, rtol=1e-6)  # deviation 3 sqrt(2) over sqrt(2) draws
    # the mean of the logistic function over that error, by quadrature
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    exact = (weights / weights.sum()) @ np.asarray(jax.nn.sigmoid(2.0 + 3.0 * nodes))
    np.testing.assert_allclose(unsure.confidence, exact, atol=0.02)
    np.testing.assert_allclose(
        posterior_of(jnp.array([[[2.0, 0.0]]] * 2), temperature=2.0).confidence, jax.nn.sigmoid(1.0), rtol=1e-6
    )


def test_a_failed_candidate_has_no_share():
    samples = jnp.log(jnp.array([[[0.9, 0.1], [jnp.nan, 0.5], [0.3, 0.7]]] * 2))
    out = posterior_of(samples)
    np.testing.assert_allclose(out.candidates, [[0.75, 0.125], [0.0, 0.0], [0.25, 0.875]], rtol=1e-5)
    np.testing.assert_allclose(out.confidence, [0.9, 0.0, 0.7], rtol=1e-5)
    nothing = posterior_of(jnp.full((2, 2, 2), jnp.nan), prior=jnp.array([1.0, 3.0]))
    np.testing.assert_allclose(nothing.candidates, [[0.25, 0.25], [0.75, 0.75]])


def test_balanced_words_are_all_as_likely_and_know_no_offset_of_a_caption():
    ladder = 4.0 * jnp.linspace(0.0, 2.0, 7)[:, None] * jnp.arange(3.0) - 4.0 * jnp.arange(3.0) ** 2
    prior = jnp.array([1.0, 1.0, 1.0, 2.0, 1.0, 0.0, 0.0])
    shift = jnp.array([0.0, 30.0, -7.0])  # what reads every candidate of a scene alike
    read = [jax.nn.log_softmax(s, -1) for s in (ladder, ladder + shift)]
    out, off = (balanced(log_words, prior=prior) for log_words in read)
    np.testing.assert_allclose(prior @ jnp.exp(out) / 6.0, 1.0 / 3.0, atol=1e-5)
    np.testing.assert_allclose(jnp.exp(out).sum(1), 1.0, rtol=1e-5)
    np.testing.assert_allclose(off, out, atol=1e-3)
    # odds of two captions between two candidates are evidence, and stay
    odds = lambda p: p[0, 1] + p[4, 2] - p[0, 2] - p[4, 1]
    np.testing.assert_allclose(odds(out), odds(read[0]), rtol=1e-4)
    assert (read[1].argmax(1) == 1).all() and sorted(set(out.argmax(1).tolist())) == [0, 1, 2]
    np.testing.assert_allclose(jnp.exp(balanced(read[0])).mean(0), 1.0 / 3.0, atol=1e-5)
    refused(balanced, read[0], prior=jnp.zeros(7), match="prior must be at least 0")
    refused(balanced, read[0], prior=jnp.ones(3), match="prior must have shape")
    refused(balanced, read[0][0], match=r"\(K, C\)")


def test_a_caption_that_no_candidate_shows_goes_to_the_least_bad_and_never_to_a_failed_one():
    samples = jnp.array([[[0.0, -400.0], [0.0, -300.0], [jnp.nan, 0.0]]] * 2)
    found = posterior_of(samples).candidates[:, 1]
    np.testing.assert_array_equal(np.round(found, 6), [0.0, 1.0, 0.0])  # in plain numbers both are 0 / 0
    all_failed = posterior_of(jnp.full((2, 2, 2), jnp.nan), prior=jnp.array([3.0, 1.0]))
    np.testing.assert_allclose(all_failed.candidates[:, 0], [0.75, 0.25])


def test_estimates_from_weights():
    grid = jnp.linspace(-6.0, 6.0, 241)
    pair = jnp.stack([grid, 1.0 - 2.0 * grid], 1)
    out = estimate(jnp.exp(-0.5 * (grid - 0.5) ** 2), pair, level=0.8)
    np.testing.assert_allclose(out.mean, [0.5, 0.0], atol=1e-3)
    np.testing.assert_allclose(out.covariance, [[1.0, -2.0], [-2.0, 4.0]], atol=5e-3)
    np.testing.assert_allclose([out.low[0], out.high[0]], [0.5 - 1.2816, 0.5 + 1.2816], atol=5e-3)
    classes = ["metal", "sand", "sand", "foam"]
    assert class_probabilities(even_prior(classes), classes) == pytest.approx({n: 1 / 3 for n in classes})


def test_the_released_direction_and_step():
    step = lambda k, state: state[0] + 0.1 * (state[1] - 0.1 * k * state[0])
    state, pull = (clip()[0, 0], clip(1)[0, 0]), clip(2)[:, 0]
    wanted = -0.01 * jnp.vdot(pull.sum(0), state[0])
    np.testing.assert_allclose(last_substep(step, jnp.array(2.0), state, pull), wanted, rtol=1e-5)
    assert released_update(jnp.zeros(3), jnp.ones(3), 1.0, -1.0, 1.0).tolist() == [0.0] * 3
    assert released_update(jnp.zeros(2), jnp.array([0.0, 9.0]), 1.0, -0.25, 1.0).tolist() == [0.5, -0.25]


def refused(call, *args, match, **options):
    with pytest.raises(ValueError, match=match):
        call(*args, **options)


def test_bad_input_is_refused():
    make = GuidanceConfig
    refused(make, "ism", Oracle(), match="kind must be one of")
    refused(make, "sds", match="needs a denoiser")
    refused(make, "reference", Oracle(), match="reference takes none")
    refused(make, "sds", Oracle(), window=(0.9, 0.1), match="window must be")
    refused(make, "lmd", Oracle(), space="eps", match="for sds and mds")
    refused(make, "sds", Oracle(), head="dct", match="is for lmd")
    refused(make, "reconstruction", Oracle(), cfg=2.0, match="conditional only")
    refused(make, "sds", Oracle(), draws=0, match="draws must be")
    guide, text = Guide(Oracle().init(KEY)), prompt()
    call = lambda config, guide=guide, text=text, video=clip(): value(guide, video, text, config)
    refused(call, make("sds", Oracle(), cfg=2.0), match="Prompt.without")
    refused(call, make("sds", Oracle()), video=clip()[0], match="must have shape")
    refused(call, make("sds", Oracle()), text=None, match="needs a prompt")
    refused(call, make("sds", Oracle(), known=4), match="none of the 4 frames")
    refused(call, make("lmd", Oracle(), head="learned"), match="Heads.init")
    refused(call, make("sds", Oracle(), last_window=(0.1, 0.2)), match="progress")
    refused(call, make("reference"), match="Guide.reference")
    refused(call, make("reference"), guide=Guide(reference=clip()[:2]), match="like sizes")
    held = Prompt(Condition(texts(0), known=clip(), mask=jnp.zeros(4)))
    refused(call, make("sds", Oracle(), known=1), text=held, match="already holds frames")
    refused(call, make("sds", Oracle()), text=prompt(0, jnp.zeros((2, 2))), match="shape of the text")
    refused(call, make("contrast", Oracle()), match="Prompt.rivals")
    refused(pilot_window, clip(), clip(), match="apart")
    refused(Head.init(3, KEY), clip(), match="made for 3 latent frames")
    refused(see, "flow", clip(), match="a head is one of")
    good = make("reconstruction", Oracle())
    videos = clip()[None]
    refused(caption_posterior, guide, videos, Condition(texts(0)), good, key=KEY, match=r"\(C, L, D\)")
    refused(caption_posterior, guide, videos, captioned(), good, draws=1, key=KEY, match="draws n >= 2")
    refused(caption_posterior, guide, videos, captioned(), good, temperature=0.0, key=KEY, match="temperature must be")
    refused(log_likelihoods, guide, videos, captioned(), good, draws=0, key=KEY, match="draws at least 1")
    refused(caption_posterior, guide, clip(), captioned(), good, key=KEY, match="videos must have")
    refused(caption_posterior, guide, videos, captioned(), good, prior=jnp.zeros(1), key=KEY, match="prior must be")
    refused(caption_posterior, guide, videos, captioned(), make("sds", Oracle(), cfg=2.0), key=KEY, match="cfg 1")
    refused(estimate, jnp.ones(2), jnp.ones((3, 1)), match="needs weights")
    refused(released_update, jnp.zeros(2), jnp.zeros(3), 1.0, 0.0, 1.0, match="one gradient per value")
    refused(last_substep, lambda u, s: s, jnp.ones(()), clip()[0, 0], clip(), match="dL/dx must have")
