"""Recapture: film ordinary single-camera videos again along new camera trajectories."""

__version__ = "0.1.0"
