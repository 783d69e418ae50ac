"""Alias of recapture_dataset, for deployments registered as recapture.flows.recapture.recapture."""

from recapture.flows.recapture_dataset import recapture as recapture
