"""Errors that the user can fix."""

from __future__ import annotations


class UserError(ValueError):
    """An error that the user can fix, as its message says; shown without a traceback."""


class ConfigError(UserError):
    """The configuration cannot be used: the message names the setting and the way out."""
