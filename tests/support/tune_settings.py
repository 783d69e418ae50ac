"""Settings of tuning with the configuration's defaults."""

from dataclasses import replace

from recapture.conf.tune import TrainingConfig
from recapture.models.tuning.step import Settings
from recapture.tasks.tune.train_adapter import settings_of


def settings(**changes) -> Settings:
    return replace(settings_of(TrainingConfig(), steps=2000, seed=0), **changes)


OBJECTIVE = settings().objective
