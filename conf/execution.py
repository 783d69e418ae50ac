"""The settings of how a job is carried out and recorded; none of them enters a content key."""

from __future__ import annotations

import difflib
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from recapture.conf.section import Section

STAGES = (
    *(
        "ingest",
        "caption",
        "depth",
        "cameras",
        "select",
        "mask",
        "render",
        "calibrate",
        "seeds",
        "fill",
        "enlarge",
        "baselines",
        "measure",
        "deliver",
        "preview",
    ),
    *("pairs", "tune", "explore"),
    *("heads", "motion_examples", "motion_tune", "transfer_base", "transfer"),
    *("motion_measure", "motion_deliver"),
)


class StageResources(Section):
    """What one worker of a stage occupies."""

    cpus: float = Field(1.0, gt=0, description="CPUs per worker.")
    gpus: float = Field(0.0, ge=0, description="GPUs per worker; may be a fraction of one.")

    @model_validator(mode="after")
    def _parts_of_one_gpu(self) -> Self:
        if self.gpus > 1 and not self.gpus.is_integer():
            raise ValueError(f"gpus is {self.gpus:g}; only one GPU can be shared: use a whole number above 1")
        return self


class ExecutionConfig(Section):
    """How the work is distributed; never part of a content key."""

    executor: Literal["ray", "inline"] = Field(
        "ray", description="ray: parallel workers; inline: one item after another in this process."
    )
    workers: int | None = Field(
        None, ge=1, description="Workers per stage; null: as many as the cluster has room for."
    )
    ray_address: str | None = Field(
        None,
        min_length=1,
        description="Address of a Ray cluster; auto: the one this machine belongs to; null: RAY_ADDRESS, "
        "else "
        "start Ray here.",
    )
    resources: dict[str, StageResources] = Field(
        default_factory=dict,
        description="Resources of a worker, by stage name; with none at all, on a machine with a GPU, fill "
        "takes 0.8 of it, and depth and render 0.2.",
    )
    shard: int = Field(256, ge=1, description="Clips per Prefect task.")
    clips_in_flight: int | None = Field(
        None,
        ge=1,
        description="Most clips that are begun and not finished; null: twice as many as the workers take, "
        "where clips that only lighter workers still need do not count.",
    )
    gigabytes_in_flight: float | None = Field(
        None,
        gt=0,
        description="No clip is begun if unfinished ones would write more than this to the store, going by "
        "finished ones; null: a quarter of the free space of a local disk, no limit elsewhere.",
    )
    attempts: int = Field(3, ge=1, le=20, description="Attempts at an item before it is quarantined.")
    timeout_seconds: float = Field(
        1800.0,
        gt=0,
        description="Seconds without a finished frame, window, step or file until an item is stopped.",
    )
    max_failure_share: float = Field(
        0.2, ge=0, le=1, description="The job fails if a larger share of its videos is missing."
    )

    @field_validator("resources")
    @classmethod
    def _stages_exist(cls, resources: dict[str, StageResources]) -> dict[str, StageResources]:
        for name in resources:
            if name not in STAGES:
                near = difflib.get_close_matches(name, STAGES, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"stages are {', '.join(STAGES)}"
                raise ValueError(f"no stage is called {name!r}; {hint}")
        return resources


class TrackingConfig(Section):
    """The record of each job in MLflow."""

    enabled: bool = Field(True, description="Whether to record jobs in MLflow.")
    uri: str | None = Field(
        None, min_length=1, description="MLflow tracking URI; null: SQLite in the state folder."
    )
    videos: int = Field(8, ge=0, description="Maximum number of videos and contact sheets per job.")
