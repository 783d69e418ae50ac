"""The artifact store: what a stage made of an item, under its content key, on any fsspec storage.

Layout: {root}/objects/{stage}/{key[:2]}/{key}/FILE, with meta.json written last as the commit marker. It
holds the size and sha256 of every file, and the metrics; an artifact without it does not exist, whatever else
lies there. Writers of one key write the same bytes, so two at once do each other no harm.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from recapture.datasets.store.artifact import META, Artifact
from recapture.datasets.store.errors import ArtifactError
from recapture.datasets.store.storage import check_plain, open_filesystem, remove_tree, telling_storage_faults
from recapture.datasets.store.writer import ArtifactWriter

REQUESTS = 16  # at once, to storage over a network


class ArtifactStore:
    """Artifacts below one fsspec URL (a local path, s3://bucket/prefix, memory://name)."""

    def __init__(self, root: str) -> None:
        self.root = root
        self._filesystem, self._base = open_filesystem(root)

    def create(self, stage: str, key: str) -> ArtifactWriter:
        """Return a context manager that commits the artifact at a clean exit and leaves nothing otherwise."""
        return ArtifactWriter(self._filesystem, self._folder(stage, key), stage, key)

    def exists(self, stage: str, key: str) -> bool:
        """Return whether the artifact is committed and each of its files has the promised size."""
        return self._whole(stage, key) is not None

    def whole(self, stage: str, keys: Iterable[str]) -> dict[str, Artifact]:
        """Return those of the artifacts that `exists` holds for, opened."""
        wanted = list(dict.fromkeys(keys))
        if not getattr(self._filesystem, "async_impl", False):
            found = [self._whole(stage, key) for key in wanted]
        else:
            with ThreadPoolExecutor(REQUESTS) as requests:
                found = list(requests.map(lambda key: self._whole(stage, key), wanted))
        return {artifact.key: artifact for artifact in found if artifact is not None}

    def all_whole(self, stage: str, keys: Iterable[str]) -> dict[str, Artifact] | None:
        """Return what `whole` does when it is all of them, else None; looks little further than to a gap."""
        wanted, found = list(dict.fromkeys(keys)), dict[str, Artifact]()
        for start in range(0, len(wanted), REQUESTS):
            some = wanted[start : start + REQUESTS]
            found |= self.whole(stage, some)
            if len(found) < start + len(some):
                return None
        return found

    def open(self, stage: str, key: str) -> Artifact:
        """Open a committed artifact; raises ArtifactMissing when there is none, ArtifactDamaged for half."""
        return Artifact(self._filesystem, self._folder(stage, key), stage, key)

    def delete(self, stage: str, key: str) -> None:
        """Remove an artifact: first its commit marker, then the rest."""
        folder = self._folder(stage, key)
        with suppress(FileNotFoundError):
            self._filesystem.rm_file(f"{folder}/{META}")
        remove_tree(self._filesystem, folder)

    def keys(self, stage: str) -> set[str]:
        """Return the keys of all committed artifacts of a stage, by one listing."""
        self._filesystem.invalidate_cache()
        folder = f"{self._base}/objects/{stage}"
        with telling_storage_faults(folder, writing=False):
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
