"""Which dataset types and RUNs may be written, and which of them are new here.

In:    the allow-list: glob patterns, or regular expressions written `re:...`; absent allows all.
State: dataset types and RUNs that the repository is known to have.
"""

from __future__ import annotations

import fnmatch
import re

from lsst.daf.butler import CollectionType
from lsst.daf.butler.registry import MissingCollectionError, MissingDatasetTypeError


class Allow:
    """The policy on dataset types and RUNs, with what it has seen."""

    def __init__(self, butler, patterns: dict):
        self._butler = butler
        self._types = _compile(patterns.get("dataset_types"))
        self._runs = _compile(patterns.get("runs"))
        self._sound_types: set = set()
        self._sound_runs: set = set()
        # Of this request, by dataset type and by name of RUN.
        self._verdicts: dict = {}
        self.new_types: set[str] = set()
        self.new_runs: set[str] = set()

    def begin(self) -> None:
        """Forgets which were new, or of no use, in the request before: others may have changed that."""
        self._verdicts = {}
        self.new_types, self.new_runs = set(), set()

    def objection(self, dataset_type, run: str) -> tuple[str, str] | None:
        """Why a dataset of this type may not go into this RUN: reason and sentence."""
        if dataset_type not in self._sound_types:
            if dataset_type not in self._verdicts:
                self._verdicts[dataset_type] = self._type_objection(dataset_type)
            if why := self._verdicts[dataset_type]:
                return why
        if run not in self._sound_runs:
            if run not in self._verdicts:
                self._verdicts[run] = self._run_objection(run)
            return self._verdicts[run]
        return None

    def registered(self, refs) -> None:
        """Takes note that these datasets are in: their types and RUNs exist now."""
        self._sound_types.update({ref.datasetType for ref in refs})
        self._sound_runs.update({ref.run for ref in refs})

    def name_objection(self, what: str, name: str) -> tuple[str, str] | None:
        """Why a `dataset type` or `RUN` of this name may not be written, by the allow-list alone."""
        if not _allowed(self._types if what == "dataset type" else self._runs, name):
            return "not_allowed", f"{what} {name} is not on the allow-list"
        return None

    def _type_objection(self, dataset_type) -> tuple[str, str] | None:
        name = dataset_type.name
        if why := self.name_objection("dataset type", name):
            return why
        try:
            dataset_type.storageClass  # looked up only when it is asked for
        except Exception as error:
            return "butler", f"storage class {dataset_type.storageClass_name} of dataset type {name} is not known here: {error}"
        try:
            here = self._butler.get_dataset_type(name)
        except MissingDatasetTypeError:
            self.new_types.add(name)
            return None
        if here == dataset_type or (
            here.is_compatible_with(dataset_type) and dataset_type.is_compatible_with(here)
        ):
            self._sound_types.add(dataset_type)
            return None
        return "conflict", (
            f"dataset type {name} is {_describe(here)} in this repository, {_describe(dataset_type)} in the sidecar"
        )

    def _run_objection(self, run: str) -> tuple[str, str] | None:
        if why := self.name_objection("RUN", run):
            return why
        try:
            info = self._butler.collections.get_info(run)
        except MissingCollectionError:
            self.new_runs.add(run)
            return None
        if info.type is not CollectionType.RUN:
            return "conflict", f"collection {run} is a {info.type.name} collection in this repository, not a RUN"
        self._sound_runs.add(run)
        return None


def _describe(dataset_type) -> str:
    return f"{dataset_type.storageClass_name} by ({', '.join(dataset_type.dimensions.required)})"


def _compile(patterns: list[str] | None):
    if patterns is None:
        return None
    return [
        re.compile(text.removeprefix("re:") if text.startswith("re:") else fnmatch.translate(text))
        for text in patterns
    ]


def _allowed(patterns, name: str) -> bool:
    return patterns is None or any(pattern.fullmatch(name) for pattern in patterns)
