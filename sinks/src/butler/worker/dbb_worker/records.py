"""Dimension records for the data ids of a batch, fetched once, not once for each dataset type and RUN.

    data ids --> their records: kept from earlier batches, else one query for each element --> data ids with records

`Butler.ingest` attaches to each data id the records it lacks, in queries of its own for each (dimensions, RUN) of
each call: a quarter of its time. Data ids that come with records are taken as they are.

State: records of dimensions, at most `_MOST_RECORDS` of each. One that is outdated does no harm: what it says is not
stored, and whether a record is there the database's foreign keys decide.
"""

from __future__ import annotations

import logging

from lsst.daf.butler import DimensionGroup

from .faults import sentence, understand

try:
    from lsst.daf.butler import DimensionDataAttacher
except ImportError:  # then the Butler does it all itself
    DimensionDataAttacher = None

LOG = logging.getLogger("dbb.records")
# A visit's has its region: a kilobyte or two.
_MOST_RECORDS = 10_000


class Records:
    """The records met so far."""

    def __init__(self, butler):
        self._butler = butler
        self._sets: dict = {}

    def attach(self, items) -> None:
        """Gives the data ids of these items their records."""
        if DimensionDataAttacher is None or not items:
            return
        try:
            self._attach(items)
        except Exception as error:
            if understand(error).kind == "down":
                raise
            # The call of the Butler fails in the same way, and there it is known what to do.
            LOG.info("records of %d data ids could not be fetched: %s", len(items), sentence(error))

    def forget(self) -> None:
        """Drops what is kept: the database has contradicted it."""
        self._sets.clear()

    def _attach(self, items) -> None:
        groups: dict = {}
        for item in items:
            groups.setdefault(item.ref.dataId.dimensions, []).append(item)
        universe = self._butler.dimensions
        attacher = DimensionDataAttacher(
            records=self._sets.values(), dimensions=DimensionGroup.union(*groups, universe=universe)
        )
        for dimensions, group in groups.items():
            with self._butler.query() as query:
                expanded = attacher.attach(dimensions, [item.ref.dataId for item in group], query)
            for item, data_id in zip(group, expanded):
                item.ref = item.ref.expanded(data_id)
        # Of a visit and a detector there is one dataset or a few: to keep their record would be of no use.
        self._sets = {
            name: records
            for name, records in attacher.records.items()
            if name in universe.dimensions.names and len(records) <= _MOST_RECORDS
        }
