"""One `Butler.ingest` for many files, and what to do when it fails.

    call --ok--> done
      | failed: who is named?        leaves with an answer, the rest is called again
      |         a race?              once more
      |         nobody               halve, testing one half

A call is one transaction: it registers all of its files or none. Of a failed set one half is
tried. If it passes it is done, and the other half is known to be bad without a call; if it fails,
the other half is put off to one joint call at the end. One bad file in a hundred that nothing
names therefore costs at most 8 more calls.
"""

from __future__ import annotations

import logging

from lsst.daf.butler import FileDataset
from lsst.resources import ResourcePath

from .faults import Fault, chain, understand
from .items import Item, place, place_text
from .verify import sized

LOG = logging.getLogger("dbb.batch")

# Calls one batch may cost. A storage that fails for all would otherwise be asked for each file twice.
MOST_CALLS = 64


class Batch:
    """Files to ingest with one transfer mode."""

    def __init__(self, repository, transfer: str):
        self._repository = repository
        self._transfer = transfer
        self._calls = 0
        self._put_off: list[Item] = []

    def run(self, items: list[Item]) -> None:
        """Answers for every item. A database that is down is raised."""
        self._put_off = list(items)
        while self._put_off:
            todo, self._put_off = self._put_off, []
            left, fault = self._attempt(todo)
            if fault is not None:
                self._halve(left, fault)

    def _halve(self, bad: list[Item], fault: Fault) -> None:
        """Finds one bad item among `bad`, which is known to hold one."""
        while len(bad) > 1:
            if self._calls >= MOST_CALLS:
                for item in bad + self._put_off:
                    item.later("butler", "time", f"the batch failed too often to single out {item.uri}: {fault.detail}")
                self._put_off = []
                return
            middle = len(bad) // 2
            half, rest = bad[:middle], bad[middle:]
            left, half_fault = self._attempt(half)
            if half_fault is not None:
                self._put_off.extend(rest)
                bad, fault = left, half_fault
            elif all(item.answer["class"] == "done" for item in half):
                bad = rest
            else:
                # Someone in it was named and left, who may have been the only bad one.
                self._put_off.extend(rest)
                return
        _refuse(bad[0], fault)

    def _attempt(self, items: list[Item]) -> tuple[list[Item], Fault | None]:
        """Calls until it passes or fails naming nobody; returns who is left and why."""
        again = True
        while items:
            error = self._call(items)
            if error is None:
                return [], None
            fault = understand(error)
            LOG.info("ingest of %d files failed: %s: %s", len(items), fault.kind, fault.detail)
            if fault.kind == "down":
                raise error
            self._dismiss(items, fault, error)
            left = [item for item in items if item.open]
            if len(left) == len(items):
                if not (again and fault.kind in ("race", "passing")):
                    return left, fault
                again = False
            items = left
        return [], None

    def _call(self, items: list[Item]) -> Exception | None:
        repository = self._repository
        # Built anew for each call: a failed ingest may have changed them.
        datasets = [
            FileDataset(self._path(item), item.ref, formatter=item.formatter or None) for item in items
        ]
        options = {"skip_existing": True} if repository.skip_existing["ingest"] else {}
        repository.calls += 1
        self._calls += 1
        try:
            repository.butler.ingest(*datasets, transfer=self._transfer, **options)
        except Exception as error:
            return error
        repository.allow.registered([item.ref for item in items])
        for item in items:
            item.done()
        return None

    def _path(self, item: Item) -> ResourcePath:
        if self._transfer == "direct" and item.size is not None:
            return sized(item.path, item.size)
        return item.path

    def _dismiss(self, items: list[Item], fault: Fault, error: Exception) -> None:
        """Answers for the items that caused this failure, where they can be told."""
        match fault.kind:
            case "missing_file":
                there = ResourcePath.mexists([item.path for item in items])
                for item in items:
                    if not there[item.path]:
                        item.later("file_missing", f"file:{item.uri}", f"there is no file at {item.uri}")
            case "foreign_key":
                self._dismiss_lacking(items, fault)
            case "race" | "conflict":
                self._dismiss_known(items)
            case "environment":
                self._dismiss_unreadable(items)
            case _:
                self._dismiss_named(items, fault, error)

    def _dismiss_lacking(self, items: list[Item], fault: Fault) -> None:
        from .ingest import await_dimension

        keys = self._repository.keys
        keys.forget()
        self._repository.records.forget()
        missing = keys.missing(item.ref.dataId for item in items)
        for item in items:
            if key := keys.first_missing(item.ref.dataId, missing):
                await_dimension(item, key)
            elif fault.key is not None and _has(item.ref.dataId, fault.key):
                await_dimension(item, (fault.table, *fault.key.values()))

    def _dismiss_known(self, items: list[Item]) -> None:
        from .ingest import settle_known

        settle_known(self._repository, items)
        left = [item for item in items if item.open]
        taken = self._repository.taken([item.ref for item in left])
        for item in left:
            there = taken.get(place(item.ref))
            if there is not None and there != item.ref.id:
                item.refused(
                    "conflict",
                    f"{place_text(item.ref)} is UUID {there} in this repository, "
                    f"UUID {item.ref.id} in the sidecar of {item.uri}",
                )

    def _dismiss_unreadable(self, items: list[Item]) -> None:
        """Those whose formatter cannot be imported here."""
        factory = getattr(getattr(self._repository.butler, "_datastore", None), "formatterFactory", None)
        if factory is None:
            return
        trouble: dict = {}
        for item in items:
            name = item.ref.datasetType
            if name not in trouble:
                try:
                    factory.getFormatterClass(item.ref)
                    trouble[name] = None
                except ImportError as error:
                    trouble[name] = str(error)
                except Exception:
                    trouble[name] = None
            if trouble[name] is not None:
                item.refused(
                    "environment",
                    f"the worker's environment has no formatter for dataset type {name.name}: {trouble[name]}",
                )

    def _dismiss_named(self, items: list[Item], fault: Fault, error: Exception) -> None:
        """Those whose URI or UUID the message quotes, unless it quotes more than a few."""
        text = " ".join(str(cause) for cause in chain(error))
        named = [item for item in items if str(item.ref.id) in text or str(item.path) in text]
        # SQL errors quote the parameters of the whole batch: that names nobody.
        if 0 < len(named) <= 2 and len(named) < len(items) and fault.kind == "permanent" and "[SQL" not in text:
            for item in named:
                _refuse(item, fault)


def _has(data_id, key: dict) -> bool:
    return all(str(data_id.required.get(name)) == value for name, value in key.items())


def _refuse(item: Item, fault: Fault) -> None:
    """The answer for the one item that a failure comes down to."""
    detail = f"the Butler refused {item.uri}: {fault.detail}"
    match fault.kind:
        case "passing" | "race":
            item.later("butler", "time", detail)
        case "missing_file":
            item.later("file_missing", f"file:{item.uri}", detail)
        case "foreign_key":
            # Which record, it did not say.
            item.later("butler", "dimension:", detail)
        case "environment":
            item.refused("environment", detail)
        case "conflict":
            item.refused("conflict", detail)
        case _:
            item.refused("butler", detail)
