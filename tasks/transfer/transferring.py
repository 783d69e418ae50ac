"""One motion transfer over references and targets: the plans of its stages, and its summary."""

from __future__ import annotations

from collections import UserDict
from collections.abc import Iterator, Sequence
from dataclasses import replace

from recapture.conf.schema import RecaptureConfig, TrajectoryConfig
from recapture.datasets.clips.clip import Clip
from recapture.datasets.store.store import ArtifactStore
from recapture.tasks.clip.clip_stage import ClipParams, ClipStage
from recapture.tasks.clip.trajectory_file import find_trajectory_files
from recapture.tasks.engine.planner import Planner, StagePlan, Track
from recapture.tasks.engine.stage import Item
from recapture.tasks.engine.summary import Failure
from recapture.tasks.jobs.ingest import frame_range
from recapture.tasks.jobs.publish import publish
from recapture.tasks.jobs.publish_early import EarlyPublisher
from recapture.tasks.transfer.chosen import Chosen, chosen
from recapture.tasks.transfer.deliver import deliver_motions
from recapture.tasks.transfer.mlflow_record import TransferRecord
from recapture.tasks.transfer.params import HeadsParams, ReferenceParams, TransferParams
from recapture.tasks.transfer.reference import used_frames
from recapture.tasks.transfer.result_params import ResultParams
from recapture.tasks.transfer.stages import TransferStages
from recapture.tasks.transfer.summary import DELIVERED_BY, FILMED_BY, MEASURED_BY, TransferSummary
from recapture.tasks.transfer.tune_stage import SPATIAL, MotionTuneStage
from recapture.tasks.tune.checkpoint import Checkpoint


class Transfer:
    """A job: the stages of a motion transfer.

    Raises UserError without a reference or a target, and for settings with which nothing can be transferred.
    """

    def __init__(self, config: RecaptureConfig) -> None:
        self.config, self._stages = config, TransferStages(config)
        self._stages.check()
        self._chosen: Chosen = chosen(config)
        self.clips, self.rejected = self._chosen.clips, self._chosen.rejected
        self._files = find_trajectory_files(self._trajectories, config.store) if self._trajectories else {}
        self._record: TransferRecord | None = None
        self._results = list(self._transfers())
        self._tuned: list[Item[ReferenceParams]] = []
        self._delivered: list[StagePlan] = []
        wanted = self._filmed() if self._trajectories else self._results
        self.title = f"{config.dataset.name}: motion of {len(self._chosen.references)} references"
        self.summary = TransferSummary(
            config.dataset.name,
            clips=len(self._chosen.targets),
            references=len(self._chosen.references),
            videos=UserDict({one.name: self._clips_of(one) for one in wanted}),
            unreadable=len(self.rejected) * len(self._chosen.references) * config.transfer.samples,
            max_failure_share=config.execution.max_failure_share,
            failures=[Failure(clip.id, clip.stage, clip.error) for clip in self.rejected],
        )

    @property
    def expected(self) -> dict[str, int]:
        """Return stage -> how many items it has."""
        counts = {stage.name: len(self.clips) for stage in self._stages.of_clips()}
        adapter, results = self._by_adapter, len(self._results)
        counts |= {
            "heads": int(adapter and self.config.transfer.heads.wanted),
            "motion_examples": len(self._chosen.references),
            "motion_tune": len(self._chosen.references) * adapter,
            "transfer_base": len(self._bases()),
            "transfer": results,
            MEASURED_BY: results,
            DELIVERED_BY: results,
        }
        for stage in self._stages.filmed() if self._trajectories else ():
            number = len(self._trajectories) if stage.per_trajectory else 1
            counts[stage.name] = counts.get(stage.name, 0) + results * number
        return {name: count for name, count in counts.items() if count}

    def tracks(self, size: int) -> Iterator[Track]:
        """Yield all plans as one track: a result depends on items of two clips."""
        yield Track(0, self.plans(), clip_by_clip=False)

    def plans(self) -> Iterator[StagePlan]:
        """Yield the plans of all stages, to be carried out as StagePlan says."""
        planner, stages = Planner(), self._stages
        for stage in stages.of_clips():
            yield planner.plan(stage, self._of_clips(stage))
        references = self._references()
        if self._by_adapter and self.config.transfer.heads.wanted:
            yield planner.plan(stages.heads(), [HeadsParams(self.config.transfer.start)])
        yield planner.plan(stages.examples(), references)
        if self._by_adapter:
            yield from self._tune(planner, references)
        yield planner.plan(stages.transfer(alone=True), self._bases())
        yield planner.plan(stages.transfer(alone=False), self._results)
        yield planner.plan(stages.measure(), self._results)
        yield self._kept(planner.plan(stages.deliver(), self._results))
        for one in stages.filmed() if self._trajectories else ():
            plan = planner.plan(one, self._filmed() if one.per_trajectory else self._as_clips())
            yield self._kept(plan) if one.name == FILMED_BY else plan

    def publisher(self, store: ArtifactStore) -> EarlyPublisher:
        """Return what publishes results while the job runs."""
        return EarlyPublisher(DELIVERED_BY, MEASURED_BY, store, self._outputs)

    def open_record(
        self, run_id: str, destination: tuple[str | None, str | None], flow: str
    ) -> TransferRecord:
        """Open the job's runs in MLflow."""
        self._record = TransferRecord(self.config, run_id, destination, flow=flow)
        return self._record

    def deliver(self, store: ArtifactStore) -> None:
        """Write adapters and results to the outputs, and log the end of the job."""
        assert self._record is not None
        tuned = {item.name: store.open("motion_tune", item.key) for item in self._tuned}
        self.summary.adapters.update(deliver_motions(self._outputs, tuned))
        ready = []
        for plan in self._delivered:
            publish(plan.stage.name, plan.usable, self.summary.metrics, store, self._outputs)
            ready += plan.usable if plan.stage.name == DELIVERED_BY else []
        self._record.job(self.summary, ready, tuned, store)

    def _tune(self, planner: Planner, references: Sequence[ReferenceParams]) -> Iterator[StagePlan]:
        live = None if self._record is None else self._record.live(MotionTuneStage.version)
        plan = planner.plan(self._stages.tune(live), references)
        yield plan
        self._tuned = plan.usable
        if self._record is None:
            return
        store, stage = ArtifactStore(self.config.store), plan.stage.name
        for item in plan.usable:
            for name in (stage, f"{stage}-{SPATIAL}"):
                Checkpoint(self.config.store, name, item.key).forget()
        self._record.tuned(plan.outcomes, {item.name: store.open(stage, item.key) for item in plan.usable})

    def _kept(self, plan: StagePlan) -> StagePlan:
        self._delivered.append(plan)
        return plan

    def _of_clips(self, stage: ClipStage) -> list[ClipParams]:
        return [one for one in map(ClipParams, self.clips) if stage.takes(one)]

    def _references(self) -> list[ReferenceParams]:
        transfer = self.config.transfer
        heads = HeadsParams(transfer.start).name if self._by_adapter and transfer.heads.wanted else ""
        prompt = transfer.reference_prompt
        return [
            ReferenceParams(clip, clip.caption if prompt is None else prompt, heads)
            for clip in self._chosen.references
        ]

    def _transfers(self) -> Iterator[TransferParams]:
        """Yield the results: every reference on every target that it is for, from every seed."""
        transfer = self.config.transfer
        for reference, target in self._chosen.pairs:
            for seed in range(transfer.samples):
                frames = self._frames(reference)
                suffix = f"-{seed}" if transfer.samples > 1 else ""
                suffix += "" if frames == transfer.window else f"-{frames}f"
                yield TransferParams(
                    target,
                    reference,
                    target.caption if transfer.prompt is None else transfer.prompt,
                    seed,
                    frames,
                    suffix=suffix,
                    tuned=self._by_adapter,
                )

    def _bases(self) -> list[TransferParams]:
        """Return what the base is to make by itself, once for all references that it is shown nothing of."""
        alike = self.config.transfer.start != "swept"
        found = (one.of_base(shown_alike=alike) for one in self._results)
        return list({one.name: one for one in found}.values())

    def _as_clips(self) -> list[ResultParams]:
        return [self._result(one) for one in self._results]

    def _filmed(self) -> list[ResultParams]:
        return [
            replace(self._result(one), trajectory=along, file=self._files.get(along.label))
            for one in self._results
            for along in self._trajectories
        ]

    def _result(self, made: TransferParams) -> ResultParams:
        return ResultParams(replace(made.clip, frames=made.frames, caption=made.caption), transfer=made)

    def _frames(self, reference: Clip) -> int:
        """Return how many frames a reference's results have; one that is too short fails as an item."""
        try:
            read = len(frame_range(reference, self.config.ingest))
        except ValueError:  # as will its ingest
            read = 0
        return used_frames(read, self.config.transfer.window) or self.config.transfer.window

    @staticmethod
    def _clips_of(one: TransferParams | ResultParams) -> tuple[str, ...]:
        """Return the items whose drop leaves a result out."""
        made = one if isinstance(one, TransferParams) else one.made
        reference = () if made.reference is None else (made.reference.id,)
        return (made.name, made.clip.id, *reference)

    @property
    def _by_adapter(self) -> bool:
        return self.config.transfer.method == "adapter"

    @property
    def _trajectories(self) -> tuple[TrajectoryConfig, ...]:
        return self.config.trajectories if self.config.transfer.camera == "two_passes" else ()

    @property
    def _outputs(self) -> str:
        return f"{self.config.outputs.rstrip('/')}/{self.config.dataset.name}"
