"""Errors that the user can fix."""

from __future__ import annotations


class UserError(ValueError):
    """Something that the user can fix; the message says what and how, and no traceback is shown."""


class ConfigError(UserError):
    """The configuration cannot be used; the message says where and what to do."""
