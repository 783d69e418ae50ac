"""The feature network as a part of pre-training: what is trained, and what is left when it is finished."""

from __future__ import annotations

import torch

from recapture.conf.pretrain import PretrainConfig
from recapture.datasets.scenes.words import caption_words
from recapture.models.metrics.feature_net import FeatureNet
from recapture.models.pretraining.features import FeatureLearner, FeatureTask, build_feature_task
from recapture.models.training.parallel import Workers
from recapture.tasks.pretrain.data import SceneMixture
from recapture.tasks.pretrain.feature_data import FeatureClips
from recapture.tasks.pretrain.finished_weights import FinishedWeights


def feature_learner(config: PretrainConfig, stream: SceneMixture, workers: Workers) -> FeatureLearner:
    """Return the learner with its initial weights; every worker draws clips of its own."""
    seed = workers.seed(config.seed)
    clips = FeatureClips(
        *(stream, caption_words(), seed),
        *(config.features_clips, config.features_epoch, config.features_side),
    )
    return FeatureLearner(_new_task(config, stream.device), clips, seed, config.features_batch)


def finished_features(
    config: PretrainConfig, weights: FinishedWeights, device: torch.device | str
) -> FeatureNet:
    """Return the trained network, without the tasks that it was trained by."""
    task = _new_task(config, device)
    task.load_state_dict(weights.read("features"))
    return task.net.requires_grad_(False).eval()


def _new_task(config: PretrainConfig, device: torch.device | str) -> FeatureTask:
    return build_feature_task(config.seed, len(caption_words()), device, **config.feature_network)
