"""Bases beyond Fun-InP and I2V: what they are given, against diffusers' own pipelines where it has one."""

from dataclasses import replace

import pytest
import torch
from diffusers import WanImageToVideoPipeline, WanVACEPipeline
from PIL import Image
from support import tiny_base as tiny

from recapture.models.inverse.solvers import inverse_solver
from recapture.models.tuning.examples import check_trainable
from recapture.models.wan.check import check_model
from recapture.models.wan.conditioning import condition, grey_holes
from recapture.models.wan.load import load_base
from recapture.models.wan.packing import pack
from recapture.models.wan.reference import on_canvas
from recapture.models.wan.sampling import sample
from recapture.models.wan.schedulers import make_scheduler
from recapture.models.wan.tensor_files import CheckpointError
from recapture.models.wan.text import encode_text
from recapture.models.wan.vae import encode_video

NAMES = ("Wan2.1-FLF2V", "Wan2.1-VACE", "Wan2.1-Fun-Control", "Wan2.2-Fun-A14B-Control", "Wan2.2-TI2V-5B")


@pytest.fixture(scope="module")
def twins(tmp_path_factory):
    root = tmp_path_factory.mktemp("twins")
    return {name: load_base(tiny.write_published(root / name, name)) for name in NAMES}


@pytest.fixture()
def clip():
    """A random video [9, 3, 32, 64] and a mask; the first and the last frame are known."""
    draw = torch.Generator().manual_seed(5)
    visible = torch.ones(9, 32, 64, dtype=torch.bool)
    visible[1:8, 8:24, 40:] = False
    return torch.rand(9, 3, 32, 64, generator=draw) * 2 - 1, visible


def picture(frame):
    return Image.fromarray(((frame + 1) * 127.5).round().byte().permute(1, 2, 0).numpy())


def stock(cls, base, **more):
    names = ["tokenizer", "text_encoder", "vae", "transformer", "transformer_2"]
    if cls is WanImageToVideoPipeline:
        names += ["image_encoder", "image_processor"]
        more |= {"expand_timesteps": base.expand_timesteps}
    found = cls(**{name: getattr(base, name) for name in names}, boundary_ratio=base.boundary_ratio, **more)
    found.set_progress_bar_config(disable=True)
    return found


def sampled(base, conditioning, *, steps=3, name="unipc", **more):
    return sample(
        base,
        conditioning,
        encode_text(base, "a red box", "slowly"),
        scheduler=make_scheduler(name, 3.0),
        steps=steps,
        guidance_scale=4.0,
        generator=torch.Generator().manual_seed(11),
        **more,
    )


def stock_sampled(pipeline, base, steps=3, **given):
    text = encode_text(base, "a red box", "slowly")
    return pipeline(
        prompt_embeds=text.prompt,
        negative_prompt_embeds=text.negative,
        height=32,
        width=64,
        num_frames=9,
        num_inference_steps=steps,
        guidance_scale=4.0,
        generator=torch.Generator().manual_seed(11),
        output_type="latent",
        return_dict=False,
        **given,
    )[0]


def ends_known(video):
    visible = torch.zeros(9, 32, 64, dtype=torch.bool)
    visible[[0, -1]] = True
    return visible


def test_first_and_last_frame_equal_the_librarys_pictures_and_samples(twins, clip):
    base, (video, _) = twins["Wan2.1-FLF2V"], clip
    pipeline = stock(WanImageToVideoPipeline, base, scheduler=make_scheduler("unipc", 3.0))
    found = condition(base, video, ends_known(video))
    expected = pipeline.encode_image([picture(video[0]), picture(video[-1])], "cpu")
    assert found.image.shape == (2, 257, 24) and torch.allclose(found.image, expected, atol=1e-5)
    pictures = {"image": picture(video[0]), "last_image": picture(video[-1])}
    # to 8 bits, as the library takes pictures
    exact = ((video + 1) * 127.5).round() / 127.5 - 1
    ours = sampled(base, condition(base, exact, ends_known(video)))
    assert (ours - stock_sampled(pipeline, base, **pictures)).abs().max() < 2e-4
    batched = sampled(replace(base, guidance_batched=True), condition(base, exact, ends_known(video)))
    assert (ours - batched).abs().max() < 1e-4


def test_a_frame_that_is_not_seen_has_no_tokens(twins, clip):
    base, (video, visible) = twins["Wan2.1-FLF2V"], clip
    visible[-1] = False
    image = condition(base, video, visible).image
    assert image[0].any() and not image[1].any()
    assert not condition(replace(base, image_encoder=None), video, visible).image.any()


@pytest.mark.parametrize("size", [(32, 64), (24, 24), (88, 32)])
def test_a_reference_of_any_size_and_a_mask_equal_the_librarys(twins, clip, size):
    base, (video, visible) = twins["Wan2.1-VACE"], clip
    visible = visible[5:6].expand(9, -1, -1)  # the library looks at one frame in four
    reference = torch.rand(3, *size, generator=torch.Generator().manual_seed(1)) * 2 - 1
    exact = picture(reference)
    shown = ((reference + 1) * 127.5).round() / 127.5 - 1
    pipeline = stock(WanVACEPipeline, base, scheduler=make_scheduler("unipc", 3.0))
    _, _, canvases = pipeline.preprocess_conditions(
        None, None, exact, 1, 32, 64, 9, torch.float32, torch.device("cpu")
    )
    assert (on_canvas(shown, 32, 64) - canvases[0][0]).abs().max() < 1e-6
    grey, hole = grey_holes(video, visible), (~visible).float()[None, None].expand(1, 3, -1, -1, -1)
    latents = pipeline.prepare_video_latents(
        grey.transpose(0, 1)[None], hole, canvases, None, torch.device("cpu")
    )
    expected = torch.cat([latents, pipeline.prepare_masks(hole, canvases)], dim=1)
    found = condition(base, video, visible, shown)
    assert found.latent_shape == (16, 4, 4, 8) and found.leading == 1
    assert (found.control - expected).abs().max() <= 1e-6


def test_a_reference_of_odd_sides_keeps_its_shape():
    """The library first shrinks it to multiples of 8, which would stretch 20 x 31 to 16 x 24."""
    canvas = on_canvas(-torch.ones(3, 20, 31), 32, 64)
    dark = (canvas[0] < 0).nonzero()
    assert (dark.min(0).values.tolist(), dark.max(0).values.tolist()) == ([0, 7], [31, 55])


def test_sampling_beside_a_reference_equals_the_librarys_and_drops_it(twins, clip):
    base, (video, visible) = twins["Wan2.1-VACE"], clip
    visible = visible[5:6].expand(9, -1, -1)
    exact = ((video + 1) * 127.5).round() / 127.5 - 1
    pipeline = stock(WanVACEPipeline, base, scheduler=make_scheduler("unipc", 3.0))
    masks = [Image.fromarray((~one).byte().mul(255).numpy()) for one in visible]
    grey = torch.where(visible[:, None], exact, exact.new_full((), 255 / 127.5 / 2 - 1))
    expected = stock_sampled(
        pipeline,
        base,
        video=[picture(one) for one in grey],
        mask=masks,
        reference_images=[picture(exact[2])],
    )
    ours = sampled(base, condition(base, exact, visible, exact[2]))
    assert ours.shape == (1, 16, 3, 4, 8) and expected.shape == (1, 16, 4, 4, 8)
    # the library's grey is a level of 8 bits off ours, and its reactive part is not exactly grey
    alone = sampled(base, condition(base, exact, visible))
    assert (ours - expected[:, :, 1:]).abs().max() < 0.02 < (ours - alone).abs().max()


@pytest.mark.parametrize(("solver", "scheduler"), [("replacement", "unipc"), ("repaint", "euler")])
def test_solvers_see_the_clip_behind_the_reference(twins, clip, solver, scheduler):
    """With everything known the latents are the measured ones, whatever is sampled before them."""
    base, (video, _) = twins["Wan2.1-VACE"], clip
    whole = torch.ones(9, 32, 64, dtype=torch.bool)
    make = inverse_solver(kind="min_pool", solver=solver, seed=0, channel_mean=True)
    found = sampled(
        base, condition(base, video, whole, video[3]), name=scheduler, solver=make(base, video, whole)
    )
    assert (found[0] - encode_video(base.vae, video)).abs().max() < 1e-3


def test_a_reference_is_refused_by_other_bases_and_beside_packed_frames(twins, clip):
    video, visible = clip
    with pytest.raises(ValueError, match=r"reference picture is for VACE, and this base is inpaint"):
        condition(twins["Wan2.1-FLF2V"], video, visible, video[0])
    base = twins["Wan2.1-VACE"]
    given = condition(base, video, visible, video[0])
    with pytest.raises(ValueError, match="beside a reference picture"):
        pack(base, given, video[:1], [0], generator=torch.Generator())


def test_control_is_the_render_and_a_whole_first_frame(twins, clip):
    base, (video, visible) = twins["Wan2.1-Fun-Control"], clip
    found = condition(base, video, visible)
    grey = torch.where(visible[:, None], video, torch.tensor(0.0))
    assert found.channels.shape == (1, 32, 3, 2 * 2, 8) and found.image.shape == (1, 257, 24)
    assert torch.equal(found.channels[0, :16], encode_video(base.vae, grey))
    assert torch.equal(found.channels[0, 16:, :1], encode_video(base.vae, video[:1]))
    assert not found.channels[0, 16:, 1:].any()
    visible[0, 0, 0] = False
    assert not condition(base, video, visible).channels[0, 16:].any()


def test_control_with_a_mask_is_control_and_the_librarys_first_frame(twins, clip):
    base, (video, _) = twins["Wan2.2-Fun-A14B-Control"], clip
    first = torch.zeros(9, 32, 64, dtype=torch.bool)
    first[0] = True
    pipeline = stock(WanImageToVideoPipeline, base, scheduler=None)
    _, expected = pipeline.prepare_latents(
        video[:1], 1, 16, 32, 64, 9, torch.float32, torch.device("cpu"), torch.Generator()
    )
    found = condition(base, video, first)
    assert found.channels.shape == (1, 36, 3, 4, 8) and found.image is None
    assert (found.channels[:, 16:] - expected).abs().max() <= 1e-6
    assert torch.equal(found.channels[0, :16], encode_video(base.vae, grey_holes(video, first)))


@pytest.mark.parametrize("name", ["Wan2.1-Fun-Control", "Wan2.2-Fun-A14B-Control"])
def test_control_models_take_packed_frames(twins, clip, name):
    base, (video, visible) = twins[name], clip
    given = pack(base, condition(base, video, visible), video[3:4], [3], generator=torch.Generator())
    assert given.channels.shape[1:3] == (32 if name.startswith("Wan2.1") else 36, 4)
    assert torch.equal(given.channels[:, :16, -1:], encode_video(base.vae, video[3:4])[None])
    assert sampled(base, given, steps=2).shape == (1, 16, 3, 4, 8)


def test_a_branch_for_reference_pictures_is_left_out(tmp_path, caplog):
    folder = tiny.write_published(tmp_path, "Wan2.1-Fun-Control")
    plain = load_base(folder).transformer.state_dict()
    extra = {"ref_conv.weight": torch.ones(24, 16, 2, 2), "ref_conv.bias": torch.ones(24)}
    tiny.edit_weights(folder / "transformer", lambda tensors: tensors.update(extra))
    found = load_base(folder).transformer.state_dict()
    assert found.keys() == plain.keys() and all(torch.equal(found[key], plain[key]) for key in plain)
    assert "reference picture is left out" in caplog.text
    report = check_model(folder)
    assert "control (Fun-Control)" in report.what and not report.faults


def test_ti2v_is_given_the_first_frame_as_the_library_gives_it(twins, clip):
    base, (video, _) = twins["Wan2.2-TI2V-5B"], clip
    assert (base.layout, base.side_multiple, base.latent_shape(9, 32, 64)) == ("t2v", 32, (48, 3, 2, 4))
    first = torch.zeros(9, 32, 64, dtype=torch.bool)
    first[0] = True
    pipeline = stock(WanImageToVideoPipeline, base, scheduler=make_scheduler("unipc", 3.0))
    _, latents, mask = pipeline.prepare_latents(
        video[:1], 1, 48, 32, 64, 9, torch.float32, torch.device("cpu"), torch.Generator()
    )
    found = condition(base, video, first).first
    assert (found.latents - latents).abs().max() <= 1e-6
    assert torch.equal(found.known, mask[0, 0, 0] == 0)
    exact = ((video + 1) * 127.5).round() / 127.5 - 1
    ours = sampled(base, condition(base, exact, first))
    expected = stock_sampled(pipeline, base, image=picture(video[0]))
    assert (ours - expected).abs().max() < 2e-4
    assert (ours[:, :, :1] - condition(base, exact, first).first.latents).abs().max() < 1e-5


def test_ti2v_knows_tokens_away_from_holes_alone(twins):
    base, draw = twins["Wan2.2-TI2V-5B"], torch.Generator().manual_seed(0)
    video, visible = torch.rand(1, 3, 96, 160, generator=draw), torch.ones(1, 96, 160, dtype=torch.bool)
    visible[0, 40, 70] = False  # token (1, 2) of 3 x 5
    found = condition(base, video, visible).first
    tokens = torch.ones(3, 5, dtype=torch.bool)
    tokens[:, 1:4] = False
    assert torch.equal(found.known, tokens.repeat_interleave(2, 0).repeat_interleave(2, 1))
    assert condition(base, video, torch.zeros_like(visible)).first is None


def test_a_side_that_does_not_fit_the_strides_is_refused_with_the_multiple(twins):
    base = twins["Wan2.2-TI2V-5B"]
    visible = torch.ones(9, 48, 64, dtype=torch.bool)
    with pytest.raises(ValueError, match="48x64 pixels are no multiples of 32; pad the frames"):
        condition(base, torch.zeros(9, 3, 48, 64), visible)


@pytest.mark.parametrize("name", ["Wan2.1-FLF2V", "Wan2.1-Fun-Control"])
def test_tuning_refuses_what_it_does_not_know(twins, name):
    with pytest.raises(ValueError, match="not supported"):
        check_trainable(twins[name])


def test_channels_of_no_known_layout_are_still_refused(tmp_path):
    folder = tiny.write_tiny_base(tmp_path, "inpaint", in_channels=40)
    with pytest.raises(CheckpointError, match="takes 40 channels, which is no known layout"):
        load_base(folder)
