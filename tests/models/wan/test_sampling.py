from dataclasses import replace

import pytest
import torch
from diffusers import WanImageToVideoPipeline, WanPipeline, WanVACEPipeline
from PIL import Image

from recapture.models.wan.conditioning import condition
from recapture.models.wan.load import load_base
from recapture.models.wan.sampling import sample
from recapture.models.wan.schedulers import make_scheduler
from recapture.models.wan.text import Text, encode_text
from recapture.models.wan.vae import decode_latents

PROMPT, NEGATIVE = "  a red   box &amp; the blue ball, moves left ", "slowly"
SCHEDULERS = ["euler", "unipc", "dpm++"]


def generator(seed=11):
    return torch.Generator().manual_seed(seed)


def pipeline(cls, base, scheduler, **more):
    names = ["tokenizer", "text_encoder", "vae", "transformer", "transformer_2"]
    if cls is WanImageToVideoPipeline:
        names += ["image_encoder", "image_processor"]
    stock = cls(
        scheduler=scheduler,
        boundary_ratio=base.boundary_ratio,
        **{name: getattr(base, name) for name in names},
        **more,
    )
    stock.set_progress_bar_config(disable=True)
    return stock


def common(base, steps, guidance):
    # Embedded by the text-to-video pipeline: the others cannot clean a prompt where ftfy is not installed
    embedded = pipeline(WanPipeline, base, None).encode_prompt(
        PROMPT, NEGATIVE, max_sequence_length=base.text_length
    )
    return {
        "prompt_embeds": embedded[0],
        "negative_prompt_embeds": embedded[1],
        "height": 32,
        "width": 48,
        "num_frames": 9,
        "num_inference_steps": steps,
        "guidance_scale": guidance,
        "max_sequence_length": base.text_length,
        "generator": generator(),
        "return_dict": False,
    }


def ours(base, video, visible, name, *, steps=6, guidance=4.0, shift=3.0, **more):
    return sample(
        base,
        condition(base, video, visible),
        encode_text(base, PROMPT, NEGATIVE),
        scheduler=make_scheduler(name, shift),
        steps=steps,
        generator=generator(),
        guidance_scale=guidance,
        **more,
    )


@pytest.mark.parametrize("guidance", [1.0, 4.0])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_text_to_video_equals_the_stock_pipeline(bases, clip, name, guidance):
    base = bases["t2v"]
    stock = pipeline(WanPipeline, base, make_scheduler(name, 5.0))
    (expected,) = stock(**common(base, 6, guidance), output_type="latent")
    found = ours(base, *clip, name, guidance=guidance, shift=5.0)
    assert (found - expected).abs().max() <= 1e-5
    (frames,) = stock(**common(base, 6, guidance), output_type="pt")
    decoded = ((decode_latents(base.vae, found)[0] + 1) / 2).clamp(0, 1)
    assert (decoded - frames[0]).abs().max() <= 1e-5


@pytest.mark.parametrize("kind", ["inpaint", "i2v"])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_known_first_frame_equals_the_stock_image_to_video_pipeline(bases, clip, name, kind):
    base = bases[kind]
    picture = (torch.rand(32, 48, 3, generator=generator()) * 255).byte()
    video, visible = clip
    video[0] = (picture.float() / 255 * 2 - 1).permute(2, 0, 1)
    visible[1:] = False
    stock = pipeline(WanImageToVideoPipeline, base, make_scheduler(name, 3.0))
    image = Image.fromarray(picture.numpy())
    (expected,) = stock(image=image, **common(base, 6, 4.0), output_type="latent")
    assert (ours(base, video, visible, name) - expected).abs().max() <= 1e-5


@pytest.mark.parametrize("name", SCHEDULERS)
def test_vace_equals_the_stock_pipeline_for_a_hole_that_stands_still(bases, clip, name):
    base = bases["vace"]
    video, visible = clip
    visible = visible[4:5].expand(9, -1, -1)
    picture = (((video + 1) / 2) * 255).round().where(visible[:, None], torch.tensor(127.5))
    video = picture / 255 * 2 - 1
    frames = [Image.fromarray(f.permute(1, 2, 0).byte().numpy()) for f in picture]
    holes = [Image.fromarray((~v).byte().numpy() * 255).convert("RGB") for v in visible]
    stock = pipeline(WanVACEPipeline, base, make_scheduler(name, 3.0))
    # 8-bit pictures have no mid-grey: the library is shown 0.5 exactly, as our conditioning does
    prepared = stock.preprocess_conditions

    def grey(*args, **kwargs):
        shown, generate, references = prepared(*args, **kwargs)
        return shown * (generate < 0.5), generate, references

    stock.preprocess_conditions = grey
    (expected,) = stock(video=frames, mask=holes, **common(base, 6, 4.0), output_type="latent")
    assert (ours(base, video, visible, name) - expected).abs().max() <= 1e-5


@pytest.mark.parametrize("name", SCHEDULERS)
def test_two_transformers_equal_the_stock_pipeline(bases, clip, name):
    wan22 = bases["wan22"]
    video, visible = clip
    visible[1:] = False
    visible[0] = True
    video[0] = torch.round((video[0] + 1) * 127.5) / 127.5 - 1
    picture = ((video[0] + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
    stock = pipeline(WanImageToVideoPipeline, wan22, make_scheduler(name, 3.0))
    arguments = common(wan22, 6, 4.0) | {"guidance_scale_2": 2.0}
    (expected,) = stock(image=Image.fromarray(picture), **arguments, output_type="latent")
    found = ours(wan22, video, visible, name, guidance_scale_2=2.0)
    assert (found - expected).abs().max() <= 1e-5
    one = ours(replace(wan22, transformer_2=None, boundary_ratio=None), video, visible, name)
    assert (found - one).abs().max() > 1e-3


def test_one_timestep_a_token_equals_the_stock_pipeline(bases, clip):
    base = replace(bases["t2v"], expand_timesteps=True)
    stock = pipeline(WanPipeline, base, make_scheduler("unipc", 3.0), expand_timesteps=True)
    (expected,) = stock(**common(base, 6, 4.0), output_type="latent")
    nothing = torch.zeros_like(clip[1])  # a first frame that is known would be given, as to TI2V
    assert (ours(base, clip[0], nothing, "unipc") - expected).abs().max() <= 1e-5


@pytest.mark.parametrize("kind", ["t2v", "i2v"])
def test_prompts_are_embedded_as_in_the_stock_pipeline(bases, kind):
    base = bases[kind]
    stock = pipeline(WanPipeline, base, None)
    long = " ".join(["a green wall"] * 300)
    for prompt in (PROMPT, "", "unknownword", long):
        expected = stock.encode_prompt(prompt, NEGATIVE, max_sequence_length=base.text_length)
        found = encode_text(base, prompt, NEGATIVE)
        assert found.prompt.shape == (1, base.text_length, 32)
        assert torch.equal(found.prompt, expected[0]) and torch.equal(found.negative, expected[1])
    assert base.text_length == (512 if kind == "i2v" else 16)
    assert encode_text(base, PROMPT, None).negative is None


class KnowsNothing:
    """v - d / sigma with d = 0 everywhere, as a solver without a single known latent computes it."""

    def correct(self, latents, velocity, step):
        clean = latents - step.sigma * velocity
        return velocity - 0.0 * (torch.zeros_like(clean) - clean) / step.sigma


class KnowsAll:
    """Moves every clean estimate to a given measurement."""

    def __init__(self, measured):
        self.measured, self.steps = measured, []

    def correct(self, latents, velocity, step):
        self.steps.append(step)
        clean = latents - step.sigma * velocity
        return velocity - (self.measured - clean) / step.sigma


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_solver_that_knows_nothing_changes_no_bit(bases, bases_bf16, clip, name, dtype):
    base = (bases if dtype == "float32" else bases_bf16)["inpaint"]
    plain = ours(base, *clip, name)
    assert torch.equal(ours(base, *clip, name, solver=KnowsNothing()), plain)
    assert plain.dtype == torch.float32


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_solver_that_knows_all_arrives_at_the_measurement(bases, bases_bf16, clip, name, dtype):
    base = (bases if dtype == "float32" else bases_bf16)["inpaint"]
    measured = torch.randn(1, 16, 3, 4, 6, generator=generator(2))
    solver = KnowsAll(measured)
    found = ours(base, *clip, name, steps=10, solver=solver)
    assert (found - measured).abs().max() < 1e-5
    assert [s.index for s in solver.steps] == list(range(10)) and {s.count for s in solver.steps} == {10}
    sigmas = [s.sigma for s in solver.steps]
    assert sigmas == sorted(sigmas, reverse=True) and sigmas[-1] > 0 and solver.steps[-1].next_sigma == 0
    assert [s.next_sigma for s in solver.steps[:-1]] == sigmas[1:]


def test_the_preview_sees_every_step_and_ends_at_the_result(bases, clip):
    seen = []
    found = ours(bases["inpaint"], *clip, "euler", on_step=lambda step, clean: seen.append((step, clean)))
    assert [step.index for step, _ in seen] == list(range(6))
    # Euler's last step lands on the clean estimate
    assert torch.allclose(seen[-1][1], found, atol=1e-5)
    assert (seen[0][1] - found).abs().max() > 1e-2


def test_the_seed_alone_decides_the_noise(bases, clip):
    base, (video, visible) = bases["inpaint"], clip
    given, text = condition(base, video, visible), encode_text(base, PROMPT, None)

    def run(seed, **more):
        torch.rand(5)  # the global generator plays no part
        return sample(
            base,
            given,
            text,
            scheduler=make_scheduler("unipc", 3.0),
            steps=3,
            generator=generator(seed),
            **more,
        )

    assert torch.equal(run(1), run(1))
    assert not torch.equal(run(1), run(2))
    noise = torch.randn(1, 16, 3, 4, 6, generator=generator(1))
    assert torch.equal(run(1), run(2, latents=noise))


@pytest.mark.parametrize("change", ["text", "video", "visible", "guidance"])
@pytest.mark.parametrize("name", ["inpaint", "vace"])
def test_every_input_matters(bases, clip, name, change):
    base, (video, visible) = bases[name], clip
    scheduler = make_scheduler("unipc", 3.0)

    def run(prompt, clip_video, clip_visible, scale):
        given, text = condition(base, clip_video, clip_visible), encode_text(base, prompt, "")
        return sample(
            base, given, text, scheduler=scheduler, steps=3, generator=generator(), guidance_scale=scale
        )

    other = {
        "text": ("a blue room", video, visible, 3.0),
        "video": ("a ball", -video, visible, 3.0),
        "visible": ("a ball", video, visible.roll(1, 2), 3.0),
        "guidance": ("a ball", video, visible, 5.0),
    }[change]
    assert (run("a ball", video, visible, 3.0) - run(*other)).abs().max() > 1e-4


def test_bfloat16_stays_near_float32(bases, bases_bf16, clip):
    exact, coarse = (ours(b["inpaint"], *clip, "unipc") for b in (bases, bases_bf16))
    error = (exact - coarse).pow(2).mean().sqrt() / exact.std()
    assert 0 < error < 0.05


def test_guidance_without_a_negative_prompt_and_no_steps_are_refused(bases, clip):
    base, (video, visible) = bases["inpaint"], clip
    given, text = condition(base, video, visible), encode_text(base, PROMPT, None)
    with pytest.raises(ValueError, match="negative prompt"):
        sample(
            base,
            given,
            text,
            scheduler=make_scheduler("unipc", 3.0),
            steps=2,
            generator=generator(),
            guidance_scale=2.0,
        )
    with pytest.raises(ValueError, match="0 steps"):
        sample(base, given, text, scheduler=make_scheduler("unipc", 3.0), steps=0, generator=generator())


def test_an_image_branch_is_not_given_fewer_text_tokens_than_it_counts_on(bases, clip):
    base = bases["i2v"]
    short = Text(encode_text(base, PROMPT, None).prompt[:, :16])
    with pytest.raises(ValueError, match="512 text tokens, not 16"):
        sample(
            base,
            condition(base, *clip),
            short,
            scheduler=make_scheduler("unipc", 3.0),
            steps=2,
            generator=generator(),
        )


def test_a_base_without_text_encoder_takes_embeddings(bases, folders, tmp_path, clip):
    import shutil

    folder = shutil.copytree(folders["inpaint"], tmp_path / "base")
    shutil.rmtree(folder / "text_encoder")
    shutil.rmtree(folder / "tokenizer")
    bare = load_base(folder)
    with pytest.raises(ValueError, match="without text encoder"):
        encode_text(bare, PROMPT)
    text = Text(encode_text(bases["inpaint"], PROMPT, None).prompt)
    given = condition(bare, *clip)
    arguments = {"scheduler": make_scheduler("unipc", 3.0), "steps": 2, "generator": generator()}
    assert sample(bare, given, text, **arguments).isfinite().all()
