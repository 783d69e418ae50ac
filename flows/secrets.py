"""Flows that show no credentials: neither in the parameters that Prefect stores, nor in logs and errors."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from prefect import Flow

from recapture.conf.redact import (
    clean_error,
    clean_logs,
    remember_credentials,
    without_credentials_inside,
)

F = TypeVar("F", bound=Flow[..., Any])
R = TypeVar("R")


def keeping_secrets(flow: F) -> F:
    """Return the flow, whose stored parameters, logs and errors hold no credentials.

    The function itself gets its parameters as they were given. Parameters that a deployment stores are the
    user's own: they are in Prefect before this runs.
    """
    serialize = flow.serialize_parameters

    def serialized(parameters: dict[str, Any]) -> dict[str, Any]:
        stored: dict[str, Any] = without_credentials_inside(serialize(parameters))
        return stored

    flow.serialize_parameters = serialized  # type: ignore[method-assign]
    flow.fn = clean_errors(flow.fn)
    return flow


def clean_errors(function: Callable[..., R]) -> Callable[..., R]:
    """Return the function, whose logs and errors hold no credentials of its arguments."""

    @functools.wraps(function)
    def called(*arguments: Any, **settings: Any) -> R:
        clean_logs()
        remember_credentials(*map(repr, [*arguments, *settings.values()]))
        try:
            return function(*arguments, **settings)
        except BaseException as error:
            clean_error(error)
            raise

    # Prefect would look up the names of types in this module.
    called.__signature__ = inspect.signature(function, eval_str=True)  # type: ignore[attr-defined]
    return called
