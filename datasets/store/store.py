"""The artifact store: what a stage made of an item, under its content key, on any fsspec storage.

Layout: {root}/objects/{stage}/{key[:2]}/{key}/FILE, with meta.json written last as the commit marker. It
holds the size and sha256 of every file, and the metrics; without it an artifact does not exist, whatever else
is in the folder. Writers of one key write the same bytes, so two at once do no harm.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from recapture.datasets.store.artifact import META, Artifact
from recapture.datasets.store.errors import ArtifactError
from recapture.datasets.store.parts import Parts
from recapture.datasets.store.storage import check_plain, open_filesystem, raising_storage_faults, remove_tree
from recapture.datasets.store.writer import ArtifactWriter

REQUESTS = 16  # concurrent ones to storage over a network


class ArtifactStore:
    """Artifacts below one fsspec URL (a local path, s3://bucket/prefix, memory://name)."""

    def __init__(self, root: str) -> None:
        self.root = root
        self._filesystem, self._base = open_filesystem(root)

    def create(self, stage: str, key: str) -> ArtifactWriter:
        """Return a context manager that commits the artifact on a clean exit and leaves nothing otherwise."""
        folder, parts = self._folder(stage, key), Parts(self, stage, key)
        return ArtifactWriter(self._filesystem, folder, stage, key, parts)

    def exists(self, stage: str, key: str) -> bool:
        """Return whether the artifact is committed and each of its files has the promised size."""
        return self._whole(stage, key) is not None

    def whole(self, stage: str, keys: Iterable[str]) -> dict[str, Artifact]:
        """Return the artifacts for which `exists` is true, opened, by their keys."""
        wanted = list(dict.fromkeys(keys))
        if not getattr(self._filesystem, "async_impl", False):
            found = [self._whole(stage, key) for key in wanted]
        else:
            with ThreadPoolExecutor(REQUESTS) as requests:
                found = list(requests.map(lambda key: self._whole(stage, key), wanted))
        return {artifact.key: artifact for artifact in found if artifact is not None}

    def all_whole(self, stage: str, keys: Iterable[str]) -> dict[str, Artifact] | None:
        """Do as `whole`, but return None as soon as any artifact is missing."""
        wanted, found = list(dict.fromkeys(keys)), dict[str, Artifact]()
        for start in range(0, len(wanted), REQUESTS):
            some = wanted[start : start + REQUESTS]
            found |= self.whole(stage, some)
            if len(found) < start + len(some):
                return None
        return found

    def open(self, stage: str, key: str) -> Artifact:
        """Open a committed artifact; raises ArtifactMissing, or ArtifactDamaged if its marker is broken."""
        return Artifact(self._filesystem, self._folder(stage, key), stage, key)

    def delete(self, stage: str, key: str) -> None:
        """Delete an artifact: first its commit marker, then the rest."""
        folder = self._folder(stage, key)
        with suppress(FileNotFoundError):
            self._filesystem.rm_file(f"{folder}/{META}")
        remove_tree(self._filesystem, folder)

    def keys(self, stage: str) -> set[str]:
        """Return the keys of all committed artifacts of a stage, from one listing."""
        self._filesystem.invalidate_cache()
        folder = f"{self._base}/objects/{stage}"
        with raising_storage_faults(folder, writing=False):
            found = self._filesystem.find(folder) if self._filesystem.exists(folder) else []
        return {path.rsplit("/", 2)[1] for path in found if path.endswith(f"/{META}")}

    def _whole(self, stage: str, key: str) -> Artifact | None:
        try:
            artifact = self.open(stage, key)
            artifact.check_sizes()
        except ArtifactError:
            return None
        return artifact

    def _folder(self, stage: str, key: str) -> str:
        check_plain("stage", stage)
        check_plain("key", key)
        return f"{self._base}/objects/{stage}/{key[:2]}/{key}"
