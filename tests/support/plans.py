"""Plans of whole jobs, as if every item could be made, and shards run without Prefect."""

from recapture.datasets.store.store import ArtifactStore
from recapture.tasks.engine.planner import supposed
from recapture.tasks.engine.run_stage import RunContext, run_stage
from recapture.tasks.engine.survey import survey
from recapture.tasks.jobs.job import ClipJob, recapture_stages


class Planned:
    """The plans of a job by stage; several plans of one stage count as one."""

    def __init__(self, job, plans):
        self.job, self.clips, self.rejected = job, job.clips, job.rejected
        self.stages = {}
        for plan in plans:
            self.stages.setdefault(plan.stage.name, []).append(plan)

    def stage(self, name):
        """The stage itself."""
        return self.stages[name][0].stage

    def items(self, name):
        """All items of a stage."""
        return [item for plan in self.stages[name] for item in plan.items]

    def keys(self, name):
        return {item.name: item.key for item in self.items(name)}


def planned(config, stages=recapture_stages):
    """The plans of a job over clips in which every item can be made."""
    job = ClipJob.of(config, stages(config))
    return Planned(job, supposed(job.plans()))


def as_it_stands(config, stages=recapture_stages):
    """The plans of a job over clips as a run would find them."""
    job = ClipJob.of(config, stages(config))
    store = ArtifactStore(config.store)
    return Planned(job, [one.plan for one in survey(job.plans(), store, config.dataset.name)])


def run_items(stage, items, store, executor, *, dataset="set", run_id="run", shard=0, complete=None, **more):
    """Run a shard of a stage; `more` are fields of its context."""
    context = RunContext(store, executor, dataset, run_id, **more)
    return run_stage(stage, items, context, shard=shard, complete=complete)
