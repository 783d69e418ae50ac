"""The types of settings, read from the annotations of their models."""

from __future__ import annotations

from collections.abc import Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel


def members(annotation: Any) -> tuple[Any, ...]:
    """Return the alternatives of a union, without what Annotated adds to them."""
    if get_origin(annotation) in (Union, UnionType):
        return tuple(member for one in get_args(annotation) for member in members(one))
    if get_origin(annotation) is Annotated:
        return members(get_args(annotation)[0])
    return (annotation,)


def is_only(annotation: Any, kind: type) -> bool:
    """Return whether a setting holds values of this type, and at most null besides."""
    found = set(members(annotation))
    return kind in found and found <= {kind, NoneType}


def is_text(annotation: Any) -> bool:
    """Return whether a setting holds text or one of given words, and at most null besides."""
    kinds = {str if is_word(member) else member for member in members(annotation)}
    return str in kinds and kinds <= {str, NoneType}


def is_word(member: Any) -> bool:
    """Return whether an alternative is a choice of words."""
    return get_origin(member) is Literal and all(isinstance(word, str) for word in get_args(member))


def is_number(annotation: Any) -> bool:
    """Return whether a setting holds numbers, and at most null besides."""
    return is_only(annotation, int) or is_only(annotation, float)


def section_of(annotation: Any) -> type[BaseModel] | None:
    """Return the section among the alternatives of an annotation."""
    found = (one for one in members(annotation) if isinstance(one, type) and issubclass(one, BaseModel))
    return next(found, None)


def entries_of(annotation: Any) -> Any:
    """Return the annotation of the entries of a list or mapping, None for anything else."""
    for member in members(annotation):
        if get_origin(member) is dict:
            return get_args(member)[1]
        if get_origin(member) is tuple:
            return get_args(member)[0]
    return None


def annotation_at(model: type[BaseModel], path: Sequence[str | int]) -> Any:
    """Return the annotation of a setting such as ("fill", "window"), None where there is none."""
    annotation: Any = model
    for part in path:
        section = section_of(annotation)
        if section is not None and part in section.model_fields:
            annotation = section.model_fields[str(part)].annotation
        elif (annotation := entries_of(annotation)) is None:
            return None
    return annotation


def type_name(annotation: Any) -> str:
    """Return a type in words: `int | null`, `base | inverse | classical`, `list of float`."""
    return " | ".join(dict.fromkeys(_name(member) for member in members(annotation)))


def _name(member: Any) -> str:
    if member is NoneType:
        return "null"
    if get_origin(member) is Literal:
        return " | ".join(map(str, get_args(member)))
    if get_origin(member) is dict:
        return f"mapping of name to {type_name(get_args(member)[1])}"
    if get_origin(member) is tuple:
        return f"list of {type_name(get_args(member)[0])}"
    if isinstance(member, type) and issubclass(member, BaseModel):
        return "section"
    return str(getattr(member, "__name__", member))
