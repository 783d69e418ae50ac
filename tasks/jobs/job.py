"""Jobs over a dataset's clips and trajectories: recapture, inpainting, preview."""

from __future__ import annotations

from collections import UserDict
from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import replace
from functools import partial

from recapture.conf.errors import UserError
from recapture.conf.schema import RecaptureConfig
from recapture.datasets.clips.clip import Clip, Rejected
from recapture.datasets.store.store import ArtifactStore
from recapture.tasks.clip.adapter_files import adapter_files
from recapture.tasks.clip.adapters import remarks_on
from recapture.tasks.clip.captions import CAPTION
from recapture.tasks.clip.clip_stage import ClipParams, ClipStage
from recapture.tasks.clip.source_cameras import estimated
from recapture.tasks.clip.trajectory_file import find_trajectory_files
from recapture.tasks.engine.planner import Planner, StagePlan, Track, supposed
from recapture.tasks.engine.stage import Item
from recapture.tasks.engine.summary import Failure
from recapture.tasks.jobs.baselines import CLASSICAL, BaselinesStage
from recapture.tasks.jobs.calibrate import CalibrateStage, calibration_of, calibration_plans, first_videos
from recapture.tasks.jobs.cameras import CamerasStage
from recapture.tasks.jobs.check import check_files_of_masks, misfits
from recapture.tasks.jobs.chosen_clips import chosen_clips
from recapture.tasks.jobs.deliver import DeliverEnlargedStage, DeliverStage
from recapture.tasks.jobs.enlarge import EnlargeStage
from recapture.tasks.jobs.fill import FillStage
from recapture.tasks.jobs.measure import MeasureBesideBaselinesStage, MeasureStage
from recapture.tasks.jobs.mlflow_record import JobRecord
from recapture.tasks.jobs.page import write_page
from recapture.tasks.jobs.preview import PreviewStage
from recapture.tasks.jobs.publish import publish
from recapture.tasks.jobs.publish_early import EarlyPublisher
from recapture.tasks.jobs.reference import check_reference
from recapture.tasks.jobs.render import RenderStage
from recapture.tasks.jobs.result_files import check_formats
from recapture.tasks.jobs.seeds import seeded
from recapture.tasks.jobs.set_distances import set_distances
from recapture.tasks.jobs.source_stages import captioned, filmed_stages, masked
from recapture.tasks.jobs.stage_resources import stage_resources
from recapture.tasks.jobs.still_camera import StillCameraStage
from recapture.tasks.jobs.summary import JobSummary


class ClipJob:
    """A job: stages over the clips of a dataset, in order, and their summary."""

    def __init__(
        self,
        config: RecaptureConfig,
        stages: Sequence[ClipStage],
        clips: Sequence[Clip],
        rejected: Sequence[Rejected] = (),
    ) -> None:
        self.config, self.clips, self.rejected = config, clips, rejected
        needed = any(estimated(config.cameras, clip) for clip in clips)
        self.stages = [stage for stage in stages if needed or not isinstance(stage, CamerasStage)]
        self.title = f"{config.dataset.name}: {len(clips)} clips"
        self._last: list[StagePlan] = []  # the plans of the last stage
        self._ready: dict[int, list[Item]] = {}  # shard of clips -> the items of the last stage that exist
        self._notes: tuple[str, ...] = ()  # items that are known to fail
        self._fill = config.fill  # after a calibration, what it chose
        filmed = any(stage.per_trajectory for stage in stages)
        self._files = find_trajectory_files(config.trajectories, config.store) if filmed else {}
        # Every clip, including unreadable ones, is expected to give one video per trajectory.
        self.summary = JobSummary(
            config.dataset.name,
            clips=len(clips),
            videos=UserDict({one.name: one.clip_id for one in self.params(stages[-1])}),
            unreadable=len(rejected) * len(config.trajectories),
            failures=[Failure(clip.id, clip.stage, clip.error) for clip in rejected],
            max_failure_share=config.execution.max_failure_share,
            last_stage=stages[-1].name,
        )

    @classmethod
    def of(cls, config: RecaptureConfig, stages: Sequence[ClipStage]) -> ClipJob:
        """Scan the dataset and return the job.

        Raises UserError if it cannot be read, no clip remains, or it is certain that nothing can be made.
        """
        job = cls(config, stages, *chosen_clips(config))
        job.check()
        return job

    def check(self) -> None:
        """Raise UserError if a setting is known to fail every item, before any work is done.

        The keys of one clip are made: they ask for every model, adapter and file that the settings name.
        """
        if self.config.mask.given:
            check_files_of_masks(self.config, self.clips)
        filmed = [stage for stage in self.stages if stage.per_trajectory]
        self._notes = misfits(self.params(filmed[0]), self.config.ingest) if filmed else ()
        one = copy(self)
        one.clips = self.clips[:1]
        supposed(one.plans())

    @property
    def expected(self) -> dict[str, int]:
        """Return stage -> how many items it has."""
        counts = {stage.name: len(self.params(stage)) for stage in self.stages}
        return {name: count for name, count in counts.items() if count}

    def plans(self) -> Iterator[StagePlan]:
        """Yield the plans of each stage for all clips, to be carried out as StagePlan says."""
        yield from self._calibration()
        yield from self._clip_plans()

    def tracks(self, size: int) -> Iterator[Track]:
        """Yield the plans of `size` clips after those of the `size` clips before them.

        A calibration comes first, and is carried out before the next track is asked for.
        """
        if any(isinstance(stage, CalibrateStage) for stage in self.stages):
            yield Track(0, self._calibration(), clip_by_clip=False)
        for number, start in enumerate(range(0, len(self.clips), size)):
            shard = copy(self)
            shard.clips, shard._last = self.clips[start : start + size], []
            if number:
                shard._notes = ()
            yield Track(number, shard._clip_plans(), close=partial(self._close, number, shard))

    def _clip_plans(self) -> Iterator[StagePlan]:
        """Yield the plans of all stages but the calibration; fills are as it chose."""
        planner = Planner()
        stages = [stage for stage in self.stages if not isinstance(stage, CalibrateStage)]
        if self._fill is not self.config.fill:
            stages = [
                replace(one, config=self._fill) if isinstance(one, FillStage) else one for one in stages
            ]
        for stage in stages:
            params = self.params(stage)
            for plan in planner.waves(stage, params) if params else ():
                if stage is stages[0]:
                    plan.notes += self._notes
                if stage is stages[-1]:
                    self._last.append(plan)
                yield plan

    def _calibration(self) -> Iterator[StagePlan]:
        """Yield the plans of a job's first videos up to the calibration, if it has one; take its choice.

        Without its outcomes, in `recapture plan`, fills are exact.
        """
        done = yield from calibration_plans(self.stages, self.params)
        if done is not None:
            found = calibration_of(*done)
            self.summary.calibrated(found, done[1])
            if found is not None:
                self._fill = found.settled(self.config.fill)

    def _close(self, number: int, shard: ClipJob) -> None:
        """Keep of a shard's plans only what is delivered at the end."""
        ready = (item for plan in shard._last for item in plan.usable)
        self._ready[number] = [replace(item, inputs={}) for item in ready]

    def params(self, stage: ClipStage) -> list[ClipParams]:
        """Return the parameters of a stage's items, clip by clip."""
        along = self.config.trajectories if stage.per_trajectory else (None,)
        found = any(isinstance(one, CamerasStage) for one in self.stages)
        has = {clip.id for clip in self.clips if found and estimated(self.config.cameras, clip)}
        params = [
            ClipParams(clip, one, self._files.get(one.label) if one else None, clip.id in has)
            for clip in self.clips
            for one in along
            if clip.id in has or not isinstance(stage, CamerasStage)
        ]
        params = [one for one in params if stage.takes(one)]
        if isinstance(stage, CalibrateStage):
            return first_videos(params, stage.config.speed.calibration)
        return params

    def open_record(self, run_id: str, destination: tuple[str | None, str | None], flow: str) -> JobRecord:
        """Open the job's runs in MLflow."""
        self._flow, self._run_id = flow, run_id
        self._record = JobRecord(self.config, run_id, destination, flow=flow, clips=self.clips)
        return self._record

    def publisher(self, store: ArtifactStore) -> EarlyPublisher:
        """Return what publishes results while the job runs."""
        measured_by = [stage.name for stage in self.stages if stage.name == "measure"]
        return EarlyPublisher(self.stages[-1].name, next(iter(measured_by), None), store, self._outputs)

    def deliver(self, store: ArtifactStore) -> None:
        """Publish the artifacts of the last stage, and log the end of the job."""
        stage = self.stages[-1].name
        ready = [item for number in sorted(self._ready) for item in self._ready[number]]
        publish(stage, ready, self.summary.metrics, store, self._outputs)
        if self.config.measure.learned.features is not None:
            self.summary.distances = set_distances(store, self.summary.measured)
        self._record.job(self.summary, stage, ready, store)
        wanted = self.params(self.stages[-1])
        page = write_page(self.config, self.summary, wanted, ready, self._flow, self._run_id)
        if page is not None:
            self._record.run.text(page, "index.html")

    @property
    def _outputs(self) -> str:
        return f"{self.config.outputs.rstrip('/')}/{self.config.dataset.name}"


def recapture_stages(config: RecaptureConfig) -> list[ClipStage]:
    """Return the stages of a recapture job in order; if a mask is given, it is warped along."""
    render = RenderStage(config.render, resources=stage_resources(config, "render"))
    return masked(config, [*captioned(config, filmed_stages(config)), render, *_fill_stages(config)])


def inpaint_stages(config: RecaptureConfig) -> list[ClipStage]:
    """Return the stages of an inpainting job in order: the cameras stay, the mask makes the holes."""
    if not config.mask.given:
        raise UserError("nothing is to be redrawn; set mask.uri, mask.objects, mask.select or mask.outpaint")
    render = StillCameraStage(render=config.render, resources=stage_resources(config, "render"))
    return masked(config, [*captioned(config, filmed_stages(config)), render, *_fill_stages(config)])


def preview_stages(config: RecaptureConfig) -> list[ClipStage]:
    """Return the stages of a preview in order: no model fills the holes."""
    render = RenderStage(config.render, resources=stage_resources(config, "render"))
    preview = PreviewStage(config.deliver, resources=stage_resources(config, "preview"))
    return masked(config, [*filmed_stages(config), render, preview])


def _fill_stages(config: RecaptureConfig) -> list[ClipStage]:
    check_formats(config.deliver)
    check_reference(config.fill)
    remarks_on(config.fill, adapter_files(config.fill).shared)  # raises UserError before the first stage runs
    given = (config.fill, config.seed, config.render, config.ingest.short_side)
    calibrate = "calibrate" if "calibrate" in config.execution.resources else "fill"
    resources, also = stage_resources(config, calibrate), (CAPTION,)
    return [
        *([CalibrateStage(*given, resources=resources, also=also)] if config.fill.speed.max_loss else []),
        *seeded(FillStage(*given, resources=stage_resources(config, "fill"), also=also), config),
        *_measure_stages(config),
        *_deliver_stages(config),
    ]


def _deliver_stages(config: RecaptureConfig) -> list[ClipStage]:
    """Return the stages that make the files of a result, at the working size or at the clip's own."""
    resources = stage_resources(config, "deliver")
    if config.deliver.size == "working":
        return [DeliverStage(config.deliver, resources=resources, also=(CAPTION,))]
    enlarge = EnlargeStage(config.fill, config.render, resources=stage_resources(config, "enlarge"))
    return [enlarge, DeliverEnlargedStage(config.deliver, resources=resources, also=(CAPTION,))]


def _measure_stages(config: RecaptureConfig) -> list[ClipStage]:
    """Return the stages that measure: the result alone, or beside baselines, which know nothing of it."""
    resources = stage_resources(config, "measure")
    also = () if config.measure.learned.clip is None else (CAPTION,)  # CLIP compares videos with it
    if not config.measure.baselines:
        return [MeasureStage(config.measure, config.render, resources=resources, also=also)]
    classical = config.fill.method != CLASSICAL  # else the result itself is this baseline
    of_baselines = stage_resources(config, "baselines")
    return [
        BaselinesStage(config.measure, config.render, classical, resources=of_baselines, also=also),
        MeasureBesideBaselinesStage(config.measure, config.render, resources=resources, also=also),
    ]
