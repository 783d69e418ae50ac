"""Adapters of a base: their part of content keys, the check before a job, loading when they change."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recapture.conf.errors import UserError
from recapture.conf.schema import FillConfig
from recapture.datasets.store.artifact import Artifact
from recapture.models.wan.adapter_apply import AppliedAdapters, Wanted
from recapture.models.wan.adapter_change import AdapterError
from recapture.models.wan.adapter_file import FILE_NAME, open_adapter
from recapture.models.wan.adapter_fit import Fitted, fit, route
from recapture.models.wan.load import Base
from recapture.tasks.clip.adapter_files import Source, adapter_files, header, local_file, revision, scale_of
from recapture.tasks.clip.base_shapes import base_shapes
from recapture.tasks.engine.model_revision import once


def adapter_identity(config: FillConfig, clip_id: str) -> dict[str, Any]:
    """Return a clip's adapters as part of the content key: bytes, scales and transformers; empty without any.

    Raises UserError for adapters that the base does not take.
    """
    sources = adapter_files(config).of(clip_id)
    once(("adapters fit", sources), lambda: remarks_on(config, sources))
    found = []
    for source in sources:
        if scale := scale_of(source, header(source.path)):
            which = None if source.which == "both" else source.which
            found.append({"file": revision(source.path), "scale": scale, "transformer": which})
    return {"adapters": found} if found else {}


def remarks_on(config: FillConfig, sources: Sequence[Source]) -> tuple[str, ...]:
    """Return what a report should say of adapters, such as tensors that the base does not take.

    Only headers are read, so that a job can refuse before it begins. Raises UserError for adapters that the
    base does not take.
    """
    if not sources:
        return ()
    shapes = base_shapes(config)
    remarks: list[str] = []
    for source in sources:
        file = header(source.path)
        remarks += file.remarks
        try:
            parts = route(file, source.which, two=len(shapes) > 1)
            for transformer, part in parts.items():
                remarks += fit(file, part, shapes[transformer], transformer).remarks
        except AdapterError as error:
            raise UserError(f"fill.adapter: {str(error).replace(str(file.path), source.path)}") from None
    return tuple(remarks)


@dataclass(frozen=True)
class Made:
    """An adapter that a stage has stored."""

    artifact: Artifact
    file: str
    scale: float


class Adapters:
    """The adapters on a base, replaced when others are requested."""

    def __init__(self, base: Base) -> None:
        transformers = {"transformer": base.transformer, "transformer_2": base.transformer_2}
        self._applied = AppliedAdapters(
            {name: one for name, one in transformers.items() if one is not None}, merge=base.adapters_merged
        )
        self._carried: Any = ()
        self.report: list[dict[str, Any]] = []  # of each adapter: what was applied, and what was left out

    def use(
        self,
        sources: Sequence[Source],
        planned: Mapping[str, str] | None = None,
        made: Sequence[Made] = (),
    ) -> None:
        """Load these adapters and no others; none: the bare base.

        planned: path -> the revision that the job was planned with; made: adapters of artifacts beside them.
        Raises AdapterError for an adapter that does not fit or has been replaced since.
        """
        kept = tuple((one.artifact.key, one.file, one.scale) for one in made)
        if self._carried == (wanted := (*sources, *kept)):
            return
        self.use_none()
        with ExitStack() as stack:
            chosen = []
            for source in sources:
                file = open_adapter(stack.enter_context(local_file(source.path)))
                _check_unchanged(source.path, planned or {})
                if scale := scale_of(source, file):
                    chosen.append(Wanted(file, scale, source.which))
            for one in made:
                path = stack.enter_context(local_adapter(one.artifact, one.file))
                if one.scale:
                    chosen.append(Wanted(open_adapter(path), one.scale))
            fitted = self._applied.put(chosen)
        self.report = [_report(one) for one in fitted]
        self._carried = wanted

    def use_none(self) -> None:
        """Remove all adapters from the base."""
        self._applied.remove()
        self._carried, self.report = (), []

    def use_artifact(self, artifact: Artifact | None, scale: float) -> None:
        """Load the adapter that a training has stored, as `use` does for a file."""
        if artifact is None:
            self.use_none()
        elif self._carried != (wanted := (artifact.key, scale)):
            self.use_none()
            with local_adapter(artifact) as file:
                self._applied.put([Wanted(open_adapter(file), scale)])
            self._carried = wanted


@contextmanager
def local_adapter(artifact: Artifact, name: str = FILE_NAME) -> Iterator[Path]:
    """Provide a training's adapter as a local file within this context."""
    with tempfile.TemporaryDirectory(prefix="recapture-") as folder:
        path = Path(folder) / name
        path.write_bytes(artifact.read_bytes(name))
        yield path


def _check_unchanged(path: str, planned: Mapping[str, str]) -> None:
    if path in planned and revision(path) != planned[path]:
        raise AdapterError(f"lora: {path} has been replaced since the job was planned; start the job again")


def _report(fitted: Fitted) -> dict[str, Any]:
    return {
        "file": fitted.file.path.name,
        "transformer": fitted.transformer,
        "tensors": sum(len(change.keys) for change in fitted.changes),
        "left_out": {reason: list(keys) for reason, keys in fitted.left_out.items()},
    }
