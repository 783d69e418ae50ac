"""What every setting redoes: the first stage whose keys change with it. A new setting needs a row."""

import json
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from support.adapters import write
from support.bare_job import artifacts, configure, run_bare
from support.tiny_base import write_tiny_base

import recapture
from recapture.conf.describe import settings_of
from recapture.conf.load import load_config
from recapture.conf.schema import RecaptureConfig
from recapture.datasets.media.video import write_video
from recapture.flows.jobs import planned
from recapture.models.wan.checkpoint import read_config
from recapture.tasks.engine.planner import supposed

BY_ROUNDING = (  # redo nothing, and change the last bits
    "fill.speed.compile_blocks",
    "fill.speed.fused_layers",
    "fill.speed.batched_guidance",
    "fill.speed.merged_adapters",
    "fill.speed.chunked_vae",
)
NOTHING, ITEMS = "nothing", "other items"
WEIGHTS = Path(recapture.__file__).parent / "weights"
SCENES = "scenes://?count={}&seed=0&frames=5&height=32&width=32"
SWEPT = ("--transfer.start", "swept", "--mask.objects", "all")
MOTION = "scenes://?count=1&seed=5&frames=17&height=32&width=32"
SHORT = {  # in rows
    "WEIGHTS": str(WEIGHTS),
    "OF1": f"file: '{SCENES.format(1)}', file_format: clip",
    "OF2": f"file: '{SCENES.format(2)}', file_format: clip",
    "HOLES": "bound: {hole_share: 0.3}",
    "STRETCH": "bound: {stretch: 3}",
    "OB": "objects: [1]",
    "MOST": "angle_degrees: 90",
    "LEAD": "lead_seconds: 1",
    "SHAKEN": "smooth_seconds: 0",
    "SEEN": "max_unseen_share: 0.4",
    "TIMES": "[[0, 0], [0.1, 0.1]]",
    "KEYS": "[{at: 0}, {at: 1, phi: 3}]",
    "LATER": "{low: 15, high: 25}, {low: 25, high: 40}",
    "OTHER_MOTION": MOTION.replace("seed=5", "seed=6"),
}


@dataclass(frozen=True)
class Row:
    """A setting, its value, what it redoes, and where: further settings and the kind of job."""

    setting: str
    value: str
    redone: str
    among: tuple[str, ...] = ()
    job: str = "recapture"

    def __str__(self):
        return f"{self.setting}={self.value[:24]} {self.job} {' '.join(self.among)[:40]}"


def rows(job, *among):
    """Return a maker of rows for such jobs from `setting value redone` lines."""

    def made(lines):
        found = []
        for line in lines.strip().splitlines():
            setting, _, rest = line.strip().partition(" ")
            value, _, redone = rest.rpartition(" -> ")
            found.append(Row(setting, value, redone, among, job))
        return found

    return made


VIDEO = ("--dataset.uri", "FOLDER/clips")
GIVEN = ("--depth.source", "given")
ONE = "[{name: a, preset: orbit_left}]"
TABLE = [
    *rows("recapture")("""
        dataset.name other -> nothing
        dataset.uri scenes://?count=2&seed=0&frames=5&height=32&width=32 -> other items
        dataset.uri scenes://?count=1&seed=0&frames=5&height=32&width=40 -> ingest
        dataset.kind scenes -> nothing
        dataset.where scene* -> nothing
        dataset.limit 9 -> nothing
        dataset.share 1/1 -> nothing
        store elsewhere -> nothing
        outputs elsewhere -> nothing
        state elsewhere -> nothing
        ingest.short_side 16 -> ingest
        ingest.short_side 64 -> nothing
        ingest.start_seconds 0.1 -> ingest
        ingest.start_seconds 0.001 -> nothing
        ingest.max_seconds 0.04 -> ingest
        ingest.max_seconds 60 -> nothing
        ingest.fov_degrees 90 -> nothing
        depth.source model -> depth
        depth.source given -> nothing
        depth.model FOLDER/other -> nothing
        depth.prediction metric -> nothing
        depth.batch 1 -> nothing
        depth.match_cameras false -> nothing
        depth.median_depth 2 -> nothing
        depth.edge_share 0.02 -> nothing
        depth.max_unknown_share 0.7 -> depth
        cameras.source given -> nothing
        cameras.least_confidence 0.5 -> nothing
        cameras.cuts refuse -> nothing
        render.break_ratio 0.1 -> render
        render.shell 1 -> render
        render.max_stretch 4 -> render
        render.chunk 3 -> nothing
        trajectories [{preset: static}] -> other items
        seed 1 -> fill
    """),
    *rows("recapture", *VIDEO)("""
        ingest.fov_degrees 90 -> ingest
        depth.source model -> nothing
        depth.model WEIGHTS/depth -> nothing
        depth.model FOLDER/other -> depth
        depth.prediction metric -> depth
        depth.batch 1 -> nothing
        depth.video.window 99 -> nothing
        depth.video.overlap 3 -> nothing
        depth.video.steps 9 -> nothing
        depth.video.max_side 64 -> nothing
        depth.video.precision float16 -> nothing
        depth.match_cameras false -> depth
        depth.median_depth 2 -> depth
        depth.edge_share 0.02 -> depth
        cameras.source estimate -> nothing
        cameras.source still -> cameras
        cameras.least_confidence 0.5 -> cameras
        cameras.cuts refuse -> cameras
        seed 1 -> fill
    """),
    *rows("recapture", *VIDEO, "--depth.model", "FOLDER/pipeline")("""
        depth.batch 1 -> depth
        depth.video.window 99 -> depth
        depth.video.overlap 3 -> depth
        depth.video.steps 9 -> depth
        depth.video.max_side 64 -> depth
        depth.video.precision float16 -> depth
        seed 1 -> depth
    """),
    *rows("recapture")("""
        caption.model embedded -> nothing
        caption.model FOLDER/captioner -> nothing
        caption.frames 2 -> nothing
    """),
    *rows("recapture", *VIDEO)("""
        caption.model embedded -> fill
        caption.empty error -> nothing
    """),
    *rows("recapture", *VIDEO, "--fill.method", "classical")("""
        caption.model embedded -> nothing
    """),
    *rows("recapture", *VIDEO, "--caption.model", "embedded")("""
        caption.model FOLDER/captioner -> caption
        caption.frames 2 -> nothing
        caption.prompt what? -> nothing
        caption.template {caption}, filmed -> caption
        caption.max_tokens 9 -> nothing
        caption.precision bfloat16 -> nothing
        caption.empty error -> caption
    """),
    *rows("recapture", *VIDEO, "--caption.model", "FOLDER/captioner")("""
        caption.model FOLDER/captioner2 -> nothing
        caption.frames 2 -> caption
        caption.prompt what? -> caption
        caption.max_tokens 9 -> caption
        caption.precision bfloat16 -> caption
    """),
    *rows("recapture", "--trajectories", ONE)("""
        trajectories[].name [{name: b, preset: orbit_left}] -> other items
        trajectories[].preset [{name: a, preset: orbit_right}] -> render
        trajectories[].preset [{name: a, preset: arc_left}] -> nothing
        trajectories[].angle_degrees [{name: a, preset: orbit_left, angle_degrees: 20}] -> nothing
        trajectories[].angle_degrees [{name: a, preset: orbit_left, angle_degrees: 30}] -> render
        trajectories[].mode [{name: a, preset: orbit_left, mode: direct}] -> render
        trajectories[].mode [{name: a, preset: orbit_left, mode: bullet_time}] -> render
        trajectories[].easing [{name: a, preset: orbit_left, easing: smooth}] -> render
        trajectories[].keyframes [{name: a, keyframes: [{at: 0, phi: 3}]}] -> render
        trajectories[].stabilise_seconds [{name: a, stabilise_seconds: 1}] -> render
        trajectories[].file [{name: a, file: FOLDER/five.npz}] -> render
    """),
    *rows("recapture", "--trajectories", "[{name: a, preset: dolly_in}]")("""
        trajectories[].distance [{name: a, preset: dolly_in, distance: 0.2}] -> nothing
        trajectories[].distance [{name: a, preset: dolly_in, distance: 0.3}] -> render
    """),
    *rows("recapture", "--trajectories", "[{name: a, preset: orbit_left, amount: auto}]")("""
        trajectories[].amount [{name: a, preset: orbit_left}] -> render
        trajectories[].angle_degrees [{name: a, preset: orbit_left, amount: auto, MOST}] -> nothing
        trajectories[].bound.hole_share [{name: a, preset: orbit_left, amount: auto, HOLES}] -> render
        trajectories[].bound.stretch [{name: a, preset: orbit_left, amount: auto, STRETCH}] -> render
    """),
    *rows("recapture", "--trajectories", "[{name: a, preset: left, subject: {objects: [1]}}]")("""
        trajectories[].subject.objects [{name: a, preset: left, subject: {objects: [2]}}] -> render
        trajectories[].subject.uri [{name: a, preset: left, subject: {uri: FOLDER/mask.png}}] -> render
        trajectories[].subject.box [{name: a, preset: left, subject: {box: [0, 0, 1, 1]}}] -> render
        trajectories[].subject.point [{name: a, preset: left, subject: {point: [0, 0]}}] -> render
        trajectories[].subject.framing [{name: a, preset: left, subject: {OB, framing: first}}] -> render
        trajectories[].subject.lead_seconds [{name: a, preset: left, subject: {OB, LEAD}}] -> render
        trajectories[].subject.smooth_seconds [{name: a, preset: left, subject: {OB, SHAKEN}}] -> render
        trajectories[].subject.max_unseen_share [{name: a, preset: left, subject: {OB, SEEN}}] -> nothing
    """),
    *rows("recapture", "--trajectories", "[{name: a, preset: left, subject: {point: [0, 0]}}]")("""
        trajectories[].subject.frame [{name: a, preset: left, subject: {point: [0, 0], frame: 1}}] -> render
    """),
    *rows("recapture", "--trajectories", "[{name: a, preset: left, subject: {uri: FOLDER/mask.png}}]")("""
        trajectories[].subject.uri [{name: a, preset: left, subject: {uri: FOLDER/same.png}}] -> nothing
    """),
    *rows("recapture", "--trajectories", "[{name: a, preset: left, time: {mode: reverse}}]")("""
        trajectories[].time.mode [{name: a, preset: left, time: {mode: bounce}}] -> render
        trajectories[].time.speed [{name: a, preset: left, time: {mode: reverse, speed: 1}}] -> nothing
        trajectories[].time.speed [{name: a, preset: left, time: {mode: reverse, speed: 2}}] -> render
    """),
    *rows("recapture", "--trajectories", "[{name: a, preset: left, time: {mode: freeze}}]")("""
        trajectories[].time.frame [{name: a, preset: left, time: {mode: freeze, frame: 1}}] -> render
        trajectories[].time.seconds [{name: a, preset: left, time: {mode: freeze, seconds: 1}}] -> render
        trajectories[].time.pairs [{name: a, preset: left, time: {mode: ramp, pairs: TIMES}}] -> render
    """),
    *rows("recapture", "--trajectories", "[{name: a, preset: static}]")("""
        trajectories[].mode [{name: a, preset: static, mode: direct}] -> nothing
        trajectories[].mode [{name: a, preset: static, mode: bullet_time}] -> render
        trajectories[].easing [{name: a, preset: static, easing: smooth}] -> nothing
    """),
    *rows("recapture", "--trajectories", "[{name: a, preset: left, mode: bullet_time}]")("""
        trajectories[].freeze_frame [{name: a, preset: left, mode: bullet_time, freeze_frame: 1}] -> render
    """),
    *rows("recapture", "--trajectories", "[{name: a, keyframes: KEYS}]")("""
        trajectories[].interpolation [{name: a, keyframes: KEYS, interpolation: linear}] -> render
    """),
    *rows("recapture", "--trajectories", "[{name: a, file: FOLDER/five.npz}]")("""
        trajectories[].file [{name: a, file: FOLDER/same.npz}] -> nothing
        trajectories[].file [{name: a, file: FOLDER/six.npz, fit_length: true}] -> render
        trajectories[].file_format [{name: a, file: FOLDER/five.npz, file_format: opencv}] -> nothing
        trajectories[].relative_to [{name: a, file: FOLDER/five.npz, relative_to: source}] -> nothing
        trajectories[].relative_to [{name: a, file: FOLDER/five.npz, relative_to: first}] -> render
        trajectories[].scale [{name: a, file: FOLDER/five.npz, scale: 2}] -> render
        trajectories[].fit_length [{name: a, file: FOLDER/five.npz, fit_length: true}] -> render
    """),
    *rows("recapture", "--trajectories", "[{name: a, OF2, file_camera: scene-000000}]")("""
        trajectories[].file_camera [{name: a, OF2, file_camera: scene-000001}] -> render
        trajectories[].file [{name: a, OF1, file_camera: scene-000000}] -> nothing
    """),
    *rows("recapture", "--mask.objects", "[1]")("""
        mask.uri FOLDER/mask.png -> mask
        mask.threshold 0.2 -> nothing
        mask.invert true -> nothing
        mask.objects [2] -> mask
        mask.dilate 3 -> mask
        mask.replace false -> nothing
        mask.replace true -> mask
        mask.outpaint.left 0.5 -> mask
        mask.outpaint.right 0.5 -> mask
        mask.outpaint.top 0.5 -> mask
        mask.outpaint.bottom 0.5 -> mask
        mask.keep_first_frame true -> mask
        mask.first_frame FOLDER/mask.png -> mask
        mask.prompt a ball -> mask
    """),
    *rows("recapture", "--mask.select.box", "[4, 4, 12, 12]")("""
        mask.select.box [4, 4, 12, 13] -> select
        mask.select.points [[8, 8]] -> select
        mask.select.background [[1, 1]] -> select
        mask.select.frame 1 -> select
        mask.select.prompts FOLDER/select.yaml -> select
        mask.select.model FOLDER/sam -> select
        mask.select.precision bfloat16 -> nothing
        mask.select.missing keep -> select
        mask.dilate 3 -> mask
    """),
    *rows("recapture", "--mask.select.box", "[4, 4, 12, 12]", "--mask.select.model", "FOLDER/sam")("""
        mask.select.words a ball -> select
        mask.select.precision bfloat16 -> select
    """),
    *rows("recapture", "--mask.uri", "FOLDER/mask.png")("""
        mask.uri FOLDER/same.png -> nothing
        mask.threshold 0.2 -> mask
        mask.invert true -> mask
    """),
    *rows("recapture", "--mask.outpaint.left", "0.5")("""
        mask.dilate 3 -> nothing
    """),
    *rows("recapture", "--mask.objects", "[1]", "--mask.first_frame", "FOLDER/mask.png")("""
        mask.keep_first_frame true -> nothing
        mask.replace true -> nothing
        mask.prompt a ball -> fill
        mask.prompts FOLDER/prompts.yaml -> fill
    """),
    *rows("recapture", "--fill.method", "classical")("""
        fill.method base -> fill
        fill.inpaint_radius 5 -> fill
        fill.propagate false -> fill
        fill.propagate_by frames -> fill
        fill.window 17 -> nothing
        fill.overlap 3 -> nothing
        fill.base FOLDER/other -> nothing
        fill.base_2 FOLDER/other -> nothing
        fill.base_parts FOLDER/other -> nothing
        fill.precision bfloat16 -> nothing
        fill.vae_precision bfloat16 -> nothing
        fill.steps 20 -> nothing
        fill.guidance_scale 3 -> nothing
        fill.negative_prompt blurry -> nothing
        fill.scheduler unipc -> nothing
        fill.shift 3 -> nothing
        fill.noise_scale 1 -> nothing
        fill.compositing none -> nothing
        fill.inverse.mask mask_encode -> nothing
        fill.adapter_scale 1 -> nothing
        mask.prompt a ball -> nothing
        seed 1 -> nothing
    """),
    *rows("recapture", "--fill.compositing", "feather")("""
        fill.feather 2 -> fill
        fill.feather 4 -> nothing
    """),
    *rows("recapture", "--fill.method", "base")("""
        fill.method inverse -> fill
        fill.inverse.mask mask_encode -> nothing
        fill.inverse.channel_mean false -> nothing
        fill.inverse.solver cg -> nothing
        fill.inverse.transition ddim -> nothing
        fill.inverse.eta 0.5 -> nothing
        fill.inverse.start 0.5 -> nothing
        fill.inverse.stop 0.9 -> nothing
        fill.inverse.mask_floor 0.5 -> nothing
        fill.scheduler unipc -> fill
    """),
    *rows("recapture")("""
        fill.method base -> fill
        fill.method classical -> fill
        fill.inpaint_radius 5 -> nothing
        fill.base WEIGHTS/base -> nothing
        fill.base FOLDER/base -> fill
        fill.base_2 FOLDER/base/transformer -> fill
        fill.base_parts WEIGHTS/base -> nothing
        fill.base_parts FOLDER/base -> fill
        fill.vae WEIGHTS/base/vae -> nothing
        fill.vae FOLDER/base/vae -> fill
        fill.text_encoder FOLDER/base/text_encoder -> fill
        fill.tokenizer FOLDER/base/tokenizer -> fill
        fill.image_encoder FOLDER/base/vae -> nothing
        fill.adapter FOLDER/adapter.safetensors -> fill
        fill.adapters [{path: FOLDER/adapter.safetensors}] -> fill
        fill.adapter_scale 1 -> nothing
        fill.precision bfloat16 -> fill
        fill.vae_precision bfloat16 -> fill
        fill.speed.compile_blocks true -> nothing
        fill.speed.compile_cache /code -> nothing
        fill.speed.fused_layers true -> nothing
        fill.speed.batched_guidance true -> nothing
        fill.speed.merged_adapters true -> nothing
        fill.speed.chunked_vae true -> nothing
        fill.memory offload -> nothing
        fill.speed.step_cache 0.1 -> fill
        fill.speed.max_loss 0.3 -> other items
        fill.speed.calibration 4 -> nothing
        fill.steps 20 -> fill
        fill.guidance_scale 0.5 -> nothing
        fill.guidance_scale 3 -> fill
        fill.negative_prompt blurry -> nothing
        fill.shift 3 -> fill
        fill.noise_scale 1 -> fill
        fill.compositing none -> fill
        fill.window 17 -> nothing
        fill.overlap 3 -> nothing
        fill.propagate false -> fill
        fill.propagate_by frames -> fill
        fill.packing.frames 2 -> fill
        fill.packing.spacing 2 -> nothing
        fill.packing.positions time_aligned -> nothing
        mask.prompt a ball -> fill
        seeds 2 -> fill
        measure.baselines false -> measure
        measure.chunk 9 -> nothing
        measure.seam_pixels 4 -> baselines
        measure.learned.lpips FOLDER/other -> baselines
        measure.learned.clip FOLDER/other -> baselines
        measure.learned.dino FOLDER/other -> baselines
        measure.learned.features null -> baselines
        deliver.crf 20 -> deliver
        deliver.side_by_side false -> deliver
        deliver.contact_sheet_frames 2 -> deliver
        deliver.page false -> deliver
        deliver.page_side 128 -> deliver
        deliver.codec h265 -> deliver
        deliver.bits 8 -> nothing
        deliver.bits 10 -> deliver
        deliver.chroma 444 -> deliver
        deliver.frames png -> deliver
        deliver.depth true -> deliver
        deliver.size source -> deliver
    """),
    *rows("recapture", "--deliver.frames", "exr")("""
        deliver.alpha true -> deliver
    """),
    *rows("recapture", "--fill.window", "5", "--fill.overlap", "0", *VIDEO)("""
        fill.window 9 -> fill
        fill.overlap 2 -> fill
        measure.chunk 3 -> baselines
    """),
    *rows("recapture", "--fill.precision", "bfloat16")("""
        fill.speed.attention cudnn -> nothing
    """),
    *rows("recapture", "--fill.guidance_scale", "3")("""
        fill.guidance_scale_2 2 -> fill
        fill.negative_prompt blurry -> fill
        fill.speed.guidance_interval [0, 0.6] -> fill
    """),
    *rows("recapture", "--seeds", "2")("""
        seeds 3 -> seeds
        seeds_chosen_by seam -> fill
        seed 1 -> seeds
    """),
    *rows("recapture", "--fill.speed.max_loss", "0.3")("""
        fill.speed.max_loss 0.2 -> nothing
        fill.speed.calibration 3 -> nothing
        fill.steps 20 -> calibrate
        fill.speed.compile_blocks true -> nothing
    """),
    *rows("recapture", "--fill.adapter", "FOLDER/adapter.safetensors")("""
        fill.adapter FOLDER/same.safetensors -> nothing
        fill.adapter_scale 1 -> fill
        fill.adapter_scale 0.7 -> nothing
    """),
    *rows("recapture", "--fill.adapters", "[{path: FOLDER/adapter.safetensors}]")("""
        fill.adapters[].path [{path: FOLDER/same.safetensors}] -> nothing
        fill.adapters[].scale [{path: FOLDER/adapter.safetensors, scale: 1}] -> fill
        fill.adapters[].transformer [{path: FOLDER/adapter.safetensors, transformer: both}] -> nothing
    """),
    *rows("recapture", "--fill.base", "FOLDER/vace")("""
        fill.reference source -> fill
        fill.reference FOLDER/mask.png -> fill
    """),
    *rows("recapture", "--fill.base", "FOLDER/vace", "--fill.reference", "FOLDER/mask.png")("""
        fill.reference FOLDER/same.png -> nothing
    """),
    *rows("recapture", "--fill.packing.frames", "2")("""
        fill.packing.frames 1 -> fill
        fill.packing.spacing 2 -> fill
        fill.packing.positions time_aligned -> fill
    """),
    *rows("recapture", "--fill.method", "inverse")("""
        fill.inverse.mask mask_encode -> fill
        fill.inverse.channel_mean false -> fill
        fill.inverse.solver ddnm -> fill
        fill.inverse.transition velocity -> fill
        fill.inverse.eta 0.5 -> fill
        fill.inverse.start 0.5 -> fill
        fill.inverse.stop 0.5 -> fill
        fill.inverse.mask_floor 0.5 -> fill
    """),
    *rows("recapture", "--fill.method", "inverse", "--fill.inverse.solver", "cg")("""
        fill.inverse.eta 0 -> nothing
    """),
    *rows("recapture", "--measure.learned.clip", "FOLDER/other")("""
        measure.learned.clip FOLDER/same -> nothing
    """),
    *rows("preview")("""
        deliver.crf 20 -> preview
        deliver.side_by_side false -> nothing
        deliver.contact_sheet_frames 2 -> preview
        deliver.page false -> preview
        deliver.page_side 128 -> preview
        fill.steps 20 -> nothing
        seed 1 -> nothing
    """),
    *rows("inpaint", "--mask.objects", "[1]")("""
        render.shell 1 -> render
        render.chunk 3 -> nothing
        trajectories [{preset: static}] -> nothing
        mask.dilate 3 -> mask
        fill.steps 20 -> fill
    """),
    *rows("train")("""
        tune.scope clip -> other items
        tune.start FOLDER/adapter.safetensors -> tune
        tune.scale 0.5 -> explore
        tune.touch_up_steps 7 -> nothing
        tune.workers 2 -> nothing
        tune.placement cluster -> nothing
        tune.checkpoint_seconds 1 -> nothing
        tune.timeout_seconds 9 -> nothing
        tune.register_model false -> nothing
        tune.curriculum.schedule auto -> explore
        tune.curriculum.rounds [{low: 5, high: 15, steps: 9}, LATER] -> tune
        tune.curriculum.rounds[].low [{low: 4, high: 15}, LATER] -> pairs
        tune.curriculum.rounds[].high [{low: 5, high: 16}, LATER] -> pairs
        tune.curriculum.rounds[].steps [{low: 5, high: 15, steps: 9}, LATER] -> tune
        tune.curriculum.threshold 25 -> pairs
        tune.curriculum.max_rounds 2 -> nothing
        tune.curriculum.limit 50 -> nothing
        tune.curriculum.stride 9 -> nothing
        tune.curriculum.tolerance 3 -> nothing
        tune.pairs.window 9 -> pairs
        tune.pairs.moves 2 -> pairs
        tune.pairs.held_out 2 -> pairs
        tune.pairs.masks 3 -> pairs
        tune.pairs.shares.point_cloud 0.6 -> pairs
        tune.pairs.shares.union 0.6 -> pairs
        tune.pairs.shares.edit 0.6 -> pairs
        tune.pairs.shares.prior 0.6 -> pairs
        tune.pairs.pitch_share 0.6 -> pairs
        tune.pairs.radius 0.2 -> pairs
        tune.pairs.direct_share 0.2 -> pairs
        tune.pairs.packed_share 0.2 -> pairs
        tune.cycle.moves 2 -> pairs
        tune.cycle.steps 9 -> pairs
        tune.cycle.depth model -> explore
        tune.cycle.pseudo_weight 0.5 -> pairs
        tune.cycle.full 27 -> nothing
        tune.cycle.source_share 0.5 -> tune
        tune.training.rank 8 -> tune
        tune.training.alpha 16 -> nothing
        tune.training.alpha 8 -> tune
        tune.training.rate 0.01 -> tune
        tune.training.weight_decay 0 -> tune
        tune.training.batch 4 -> tune
        tune.training.micro_batch 1 -> nothing
        tune.training.gradient_checkpointing true -> nothing
        tune.training.first_block 1 -> tune
        tune.training.warm_up 5 -> tune
        tune.training.clip 2 -> tune
        tune.training.ema 0.5 -> tune
        tune.training.validate_every 5 -> tune
        tune.training.patience 1 -> tune
        tune.training.log_every 1 -> nothing
        tune.training.sigma uniform -> tune
        tune.training.shift 3 -> tune
        tune.training.hole_weight 2 -> tune
        tune.training.caption_dropout 0.2 -> tune
        tune.explore.angles [20] -> other items
        tune.explore.steps 9 -> explore
        fill.speed.step_cache 0.1 -> nothing
        fill.speed.max_loss 0.3 -> nothing
        fill.precision bfloat16 -> pairs
        fill.vae_precision bfloat16 -> pairs
        fill.base WEIGHTS/base -> nothing
        fill.method classical -> nothing
        fill.steps 20 -> nothing
        fill.window 17 -> nothing
        fill.inpaint_radius 5 -> nothing
        fill.guidance_scale 3 -> explore
        fill.guidance_scale 0.5 -> nothing
        fill.negative_prompt blurry -> nothing
        fill.shift 3 -> explore
        fill.noise_scale 1 -> explore
        fill.compositing feather -> explore
        fill.propagate false -> explore
        fill.propagate_by frames -> explore
        fill.packing.frames 2 -> pairs
        fill.packing.positions time_aligned -> nothing
        render.chunk 3 -> nothing
        render.shell 1 -> pairs
        depth.prediction inverse -> nothing
        depth.model FOLDER/other -> nothing
        trajectories [{preset: static}] -> nothing
        seed 1 -> pairs
    """),
    *rows("train", "--fill.method", "base")("""
        fill.scheduler unipc -> explore
    """),
    *rows("train", "--fill.compositing", "feather")("""
        fill.feather 2 -> explore
    """),
    *rows("train", "--tune.scope", "both")("""
        tune.touch_up_steps 7 -> tune
    """),
    *rows("train", "--tune.curriculum.schedule", "auto")("""
        tune.curriculum.max_rounds 1 -> other items
        tune.curriculum.limit 20 -> other items
        tune.curriculum.stride 5 -> other items
        tune.curriculum.tolerance 1 -> other items
    """),
    *rows("train", "--tune.cycle.depth", "model")("""
        depth.prediction inverse -> explore
        depth.model FOLDER/other -> explore
        depth.model WEIGHTS/depth -> nothing
        depth.batch 1 -> nothing
        depth.match_cameras false -> nothing
        depth.median_depth 2 -> nothing
        depth.edge_share 0.02 -> nothing
        depth.video.steps 9 -> nothing
    """),
    *rows("train", "--tune.cycle.pseudo_weight", "0.5")("""
        tune.cycle.full 27 -> pairs
    """),
    *rows("train", "--tune.cycle.moves", "0")("""
        tune.cycle.source_share 0.5 -> nothing
        tune.cycle.steps 9 -> nothing
        tune.curriculum.threshold 25 -> nothing
        tune.scale 0.5 -> explore
    """),
    *rows("train", "--tune.pairs.held_out", "0")("""
        tune.training.validate_every 5 -> nothing
        tune.training.patience 1 -> nothing
    """),
    *rows("train", "--tune.start", "FOLDER/adapter.safetensors")("""
        tune.start FOLDER/same.safetensors -> nothing
        tune.training.rank 8 -> nothing
        tune.training.alpha 8 -> nothing
        tune.training.first_block 1 -> nothing
    """),
    *rows("train", "--fill.speed.compile_blocks", "true")("""
        tune.training.activation_budget 0.5 -> nothing
    """),
    *rows("transfer", "--transfer.reference", MOTION)("""
        transfer.reference OTHER_MOTION -> other items
        transfer.reference_where *scene* -> nothing
        transfer.reference_prompt a ball -> motion_examples
        transfer.prompt a ball -> transfer_base
        transfer.start text -> motion_examples
        transfer.method guided -> motion_examples
        transfer.camera two_passes -> other items
        transfer.window 13 -> motion_examples
        transfer.frame_rates any -> nothing
        transfer.samples 2 -> other items
        transfer.scale 0.5 -> transfer
        transfer.noise_scale 0.5 -> transfer_base
        transfer.dilate 9 -> nothing
        transfer.least_motion 1 -> motion_examples
        transfer.heads.rule half -> motion_tune
        transfer.heads.sigmas [0.5] -> nothing
        transfer.heads.rows 9 -> nothing
        transfer.sparse.kept 9 -> motion_tune
        transfer.sparse.kind latents -> nothing
        transfer.sparse.positions native -> nothing
        transfer.augment.copies 4 -> motion_examples
        transfer.augment.held_out 1 -> motion_examples
        transfer.augment.colour jitter -> motion_examples
        transfer.augment.light 0.1 -> motion_examples
        transfer.augment.shift 0.1 -> motion_examples
        transfer.augment.zoom 0.2 -> motion_examples
        transfer.spatial.steps 5 -> motion_examples
        transfer.training.steps 9 -> motion_tune
        transfer.training.batch 1 -> motion_tune
        transfer.training.rank 4 -> motion_tune
        transfer.training.targets q,k -> motion_tune
        transfer.training.rate 0.1 -> motion_tune
        transfer.training.motion_loss released -> motion_tune
        transfer.training.motion_weight 1 -> motion_tune
        transfer.training.weight_decay 0.1 -> motion_tune
        transfer.training.warm_up 5 -> motion_tune
        transfer.training.clip 2 -> motion_tune
        transfer.training.ema 0.5 -> motion_tune
        transfer.training.validate_every 5 -> motion_tune
        transfer.training.patience 1 -> motion_tune
        transfer.training.shift 5 -> motion_tune
        transfer.training.caption_dropout 0.2 -> motion_tune
        transfer.training.log_every 1 -> nothing
        transfer.guided.rate 0.1 -> nothing
        transfer.guided.anchor 1 -> nothing
        transfer.guided.until 0.5 -> nothing
        transfer.checkpoint_seconds 1 -> nothing
        transfer.timeout_seconds 9 -> nothing
        transfer.register_model false -> nothing
        trajectories [{preset: static}] -> nothing
        fill.steps 20 -> transfer_base
        fill.guidance_scale 3 -> transfer_base
        fill.noise_scale 1 -> nothing
        fill.method base -> nothing
        fill.speed.step_cache 0.1 -> nothing
        fill.adapter FOLDER/adapter.safetensors -> transfer_base
        fill.precision bfloat16 -> motion_examples
        mask.prompt a ball -> transfer_base
        depth.model FOLDER/other -> nothing
        deliver.crf 20 -> motion_deliver
        seed 1 -> motion_examples
    """),
    *rows("transfer", "--transfer.reference", MOTION, "--transfer.camera", "two_passes")("""
        transfer.scale 0.5 -> transfer
        trajectories [{preset: static}] -> other items
        depth.model FOLDER/other -> depth
        fill.noise_scale 1 -> fill
        deliver.codec h265 -> deliver
    """),
    *rows("transfer", "--transfer.reference", MOTION, "--transfer.heads.rule", "half")("""
        transfer.heads.rule chance -> motion_tune
        transfer.heads.sigmas [0.5] -> heads
        transfer.heads.rows 9 -> heads
    """),
    *rows("transfer", "--transfer.reference", MOTION, "--transfer.sparse.kept", "9")("""
        transfer.sparse.kept 13 -> motion_tune
        transfer.sparse.kind latents -> motion_tune
        transfer.sparse.kind frames -> motion_examples
        transfer.sparse.positions native -> nothing
    """),
    *rows("transfer", "--transfer.reference", MOTION, "--transfer.sparse", "{kept: 9, kind: frames}")("""
        transfer.sparse.positions native -> motion_tune
    """),
    *rows("transfer", "--transfer.reference", MOTION, "--transfer.augment", "{copies: 0, held_out: 0}")("""
        transfer.augment.shift 0.1 -> nothing
        transfer.training.patience 1 -> nothing
        transfer.training.validate_every 5 -> nothing
    """),
    *rows("transfer", "--transfer.reference", MOTION, "--transfer.spatial.steps", "5")("""
        transfer.spatial.steps 6 -> motion_tune
        transfer.spatial.scale 0.5 -> transfer
    """),
    *rows("transfer", "--transfer.reference", MOTION, "--transfer.training.motion_loss", "none")("""
        transfer.training.motion_weight 1 -> nothing
    """),
    *rows("transfer", "--transfer.reference", MOTION, "--transfer.method", "guided")("""
        transfer.guided.rate 0.1 -> transfer
        transfer.guided.anchor 1 -> transfer
        transfer.guided.until 0.5 -> transfer
        transfer.scale 0.5 -> nothing
        transfer.training.steps 9 -> nothing
        transfer.augment.copies 4 -> nothing
    """),
    *rows("transfer", "--transfer.reference", MOTION, *SWEPT)("""
        transfer.dilate 9 -> motion_examples
        transfer.frame_rates any -> transfer_base
        transfer.method explicit -> motion_examples
        mask.dilate 5 -> mask
    """),
    *(
        row
        for job in ("recapture", "train")
        for row in rows(job)("""
            execution.executor inline -> nothing
            execution.workers 3 -> nothing
            execution.ray_address auto -> nothing
            execution.resources {fill: {cpus: 2, gpus: 0.5}} -> nothing
            execution.resources.NAME.cpus {tune: {cpus: 2}} -> nothing
            execution.resources.NAME.gpus {depth: {gpus: 1}} -> nothing
            execution.shard 2 -> nothing
            execution.clips_in_flight 2 -> nothing
            execution.gigabytes_in_flight 0.5 -> nothing
            execution.attempts 1 -> nothing
            execution.timeout_seconds 9 -> nothing
            execution.max_failure_share 1 -> nothing
            tracking.enabled false -> nothing
            tracking.uri sqlite:///x.db -> nothing
            tracking.videos 0 -> nothing
        """)
    ),
]  # fmt: skip


def write_adapter(path):
    """Write an adapter of the embedded base, as if it had been tuned here."""
    width = read_config(WEIGHTS / "base/transformer")["num_attention_heads"]
    width *= read_config(WEIGHTS / "base/transformer")["attention_head_dim"]
    name = "transformer.blocks.0.attn1.to_q"
    sides = {f"{name}.lora_A.weight": torch.ones(1, width), f"{name}.lora_B.weight": torch.ones(width, 1)}
    write(path, sides, recapture={"base": "embedded"})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Files that rows name: a clip without sidecars, and contents that only a key looks at."""
    root = tmp_path_factory.mktemp("redone")
    for name in ("other", "same", "pipeline"):
        (root / name).mkdir()
        (root / name / "config.json").write_text(json.dumps({"model_type": "dpt"}))
    (root / "pipeline/model_index.json").write_text("{}")
    (root / "select.yaml").write_text("scene-000000: {points: [[9, 9]]}")
    kinds = {"captioner": "smolvlm", "captioner2": "smolvlm", "sam": "sam3_video"}
    for name, kind in kinds.items():
        (root / name).mkdir()
        (root / name / "config.json").write_text(json.dumps({"model_type": kind}))
        for file in ("model.safetensors", "tokenizer.json"):
            (root / name / file).write_bytes(b"")
    write_tiny_base(root / "base")
    write_tiny_base(root / "vace", "vace")
    (root / "clips").mkdir()
    frames = np.random.default_rng(0).integers(0, 255, (6, 32, 48, 3), dtype=np.uint8)
    write_video(root / "clips/a.mp4", iter(frames), Fraction(25))
    picture = np.zeros((32, 32), dtype=np.uint8)
    picture[:8] = 255
    for name in ("mask", "same"):
        cv2.imwrite(str(root / f"{name}.png"), picture)
    for name, count in (("five", 5), ("same", 5), ("six", 6)):
        np.savez(root / f"{name}.npz", world_to_camera=np.broadcast_to(np.eye(4), (count, 4, 4)))
    for name in ("adapter", "same"):
        write_adapter(root / f"{name}.safetensors")
    (root / "prompts.yaml").write_text("scene-000000: a ball")
    return root


@cache
def keys(words, job):
    """Return the plans in their order, each as (stage, item) -> key."""
    config = load_config(arguments=["--dataset.uri", SCENES.format(1), *words])
    plans = supposed(planned(config, job).plans())
    return [{(plan.stage.name, item.name): item.key for item in plan.items} for plan in plans]


def first_redone(before, after):
    """Return the first stage of which an item has another key; else whether there are other items."""
    again = {item: key for plan in after for item, key in plan.items()}
    for plan in before:
        for (stage, name), key in plan.items():
            if again.get((stage, name), key) != key:
                return stage
    return NOTHING if {item for plan in before for item in plan} == set(again) else ITEMS


def words_of(row, folder):
    """Return the settings without and with the row's."""

    def written(text):
        for short, long in {**SHORT, "FOLDER": str(folder)}.items():
            text = text.replace(short, long)
        return text

    setting = row.setting.split("[]")[0].split(".NAME")[0]
    among = [written(word) for word in row.among]
    return among, [*among, f"--{setting}", written(row.value)]


@pytest.mark.parametrize("setting", [one.name for one in settings_of(RecaptureConfig)])
def test_a_setting_redoes_the_stages_of_its_rows_and_nothing_before_them(setting, folder):
    own = [row for row in TABLE if row.setting == setting]
    assert own, f"{setting} is in no row: say what it redoes"
    wrong = []
    for row in own:
        before, after = (keys(tuple(words), row.job) for words in words_of(row, folder))
        if (redone := first_redone(before, after)) != row.redone:
            wrong.append(f"{row}: {redone}, not {row.redone}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("method", ["classical", "base", "inverse"])
def test_settings_that_redo_nothing_change_no_byte(method, folder, tmp_path):
    """All of them at once, against none of them."""
    among = {(), ("--fill.method", method)} if method != "classical" else {("--fill.method", method)}
    chosen = [
        row
        for row in TABLE
        if row.job == "recapture" and row.among in among and row.redone == NOTHING
        if not row.setting.startswith(("dataset", "store", "outputs", "state", "execution", "tracking"))
        if not (method == "inverse" and row.setting.startswith("fill.inverse"))
    ]
    common = ("--fill.method", method, "--fill.steps", "1", "--trajectories", ONE, "--depth.source", "given")
    others = {}
    for row in chosen:
        if row.setting not in ("fill.method", "fill.steps", "trajectories", "depth.source", *BY_ROUNDING):
            others.setdefault(row.setting, words_of(row, folder)[1][-2:])
    assert len(others) > 12
    made = []
    for name, words in (("plain", ()), ("other", [word for pair in others.values() for word in pair])):
        config = configure(tmp_path / name, *common, *words, count=1)
        outcomes = run_bare(config)
        assert {one.status for stage in outcomes.values() for one in stage} == {"ok"}
        made.append((artifacts(tmp_path / name), {one.item: one.metrics for one in outcomes["measure"]}))
    (plain, measured), (other, again) = made
    assert plain.keys() == other.keys()
    assert [name for name in plain if plain[name] != other[name] and not name.endswith("_SUCCESS")] == []
    assert measured == again
