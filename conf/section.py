"""The base of every part of the configuration: frozen, and strict about its keys."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from recapture.conf.annotations import members

Name = Annotated[str, Field(min_length=1, max_length=80, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]

EMBEDDED = "embedded"  # the models that ship with the package
SAMPLE = "sample://"  # the dataset that ships with the package


class Section(BaseModel):
    """A frozen part of the configuration that refuses unknown keys."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, protected_namespaces=(), allow_inf_nan=False
    )

    @field_validator("*", mode="before")
    @classmethod
    def _means_what_it_says(cls, value: Any, field: ValidationInfo) -> Any:
        """Refuse what YAML reads as another type: yes for a number, 2024 or no for text."""
        taken = members(cls.model_fields[str(field.field_name)].annotation)
        if isinstance(value, bool) and bool not in taken and {int, float} & set(taken):
            raise ValueError("it must be a number, and YAML reads this as true or false")
        if isinstance(value, bool | int | float | date) and str in taken and type(value) not in taken:
            raise ValueError(f"it must be text, and YAML reads this as {type(value).__name__}; quote it")
        return value

    def flat(self) -> dict[str, Any]:
        """Return every setting as `section.key`, as MLflow's parameters show them."""
        return dict(_flatten("", self.model_dump(mode="json")))

    def keyed(self) -> dict[str, Any]:
        """Return the settings that enter content keys: all that can change a result, as it is used."""
        return self.model_dump(mode="json")


def _flatten(prefix: str, value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        pairs = value.items()
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        pairs = {str(i): inner for i, inner in enumerate(value)}.items()
    else:
        return [(prefix, value)]
    return [pair for key, inner in pairs for pair in _flatten(f"{prefix}.{key}" if prefix else key, inner)]
