"""Search the folders of a dataset for those that make up a published layout."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from recapture.datasets.clips.clip import Rejected
from recapture.datasets.readers.asked import Asked
from recapture.datasets.readers.folders import Folders
from recapture.datasets.readers.walk import LeftOut, Visit, walk


class Tree(Asked):
    """The folders of a dataset; `others` is what the search found that is no input."""

    def __init__(self, folders: Folders, own: Sequence[str] = ()) -> None:
        super().__init__(folders)
        self._own = own
        self.others: list[Rejected | LeftOut] = []

    def below(
        self, wanted: Callable[[frozenset[str]], bool], *, nested: bool = False
    ) -> Iterator[tuple[str, str]]:
        """Yield the folders at or below the root whose contents are wanted, as (path from the root, URI).

        nested: also search below a wanted folder.
        """
        for visit in walk(self._folders, self._own):
            if not isinstance(visit, Visit):
                self.others.append(visit)
            elif wanted(frozenset(self.listed(visit.uri))):
                yield visit.inside, visit.uri
                if not nested:
                    visit.enter = []
