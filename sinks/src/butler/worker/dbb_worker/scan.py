"""All files of a repository, a page at a time: (UUID, URI) of each dataset that the datastore has.

    RUN by RUN, dataset type by dataset type --> registry, some thousands of rows --> where are they stored?

State: the place where the next page begins; nothing that grows with the repository.
"""

from __future__ import annotations

import itertools

from lsst.daf.butler import CollectionType

# Datasets in a page.
_PAGE = 2000


class Scan:
    """One pass over a repository."""

    def __init__(self, repository):
        self._rows = _rows(repository)

    def page(self) -> dict:
        """The next rows; `done` with the last of them."""
        rows = list(itertools.islice(self._rows, _PAGE))
        return {"rows": rows, "done": len(rows) < _PAGE}


def _rows(repository):
    butler = repository.butler
    for run in sorted(butler.collections.query("*", collection_types=CollectionType.RUN)):
        names = butler.registry.getCollectionSummary(run).dataset_types.names
        for name in sorted(names):
            with butler.query() as query:
                refs = iter(query.datasets(name, run, find_first=False))
                while page := list(itertools.islice(refs, _PAGE)):
                    for id, uri in repository.uris(page).items():
                        yield str(id), str(uri)
