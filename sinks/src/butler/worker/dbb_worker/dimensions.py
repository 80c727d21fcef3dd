"""Which dimension records exist, asked in bulk before a batch that needs them.

    data ids -> keys such as `exposure/LSSTCam/2026040100001` -> those that are missing

State: keys found to exist, at most a million; records are hardly ever removed, and where one has
been, the database's foreign key still refuses the batch and the keys are asked for again.
"""

from __future__ import annotations

import io

import yaml

_MOST_KEYS = 1_000_000
_MOST_VALUES = 1000


class DimensionKeys:
    """The keys known to exist, and the questions for the others."""

    def __init__(self, butler):
        self._butler = butler
        self._known: set[tuple] = set()
        self._plans: dict = {}

    def needed(self, data_id) -> list[tuple]:
        """The keys that must exist for this data id, those that others depend on first."""
        group = data_id.dimensions
        plan = self._plans.get(group)
        if plan is None:
            order = list(group.required)
            plan = []
            for name in group.required:
                element = self._butler.dimensions[name]
                if element.has_own_table:
                    plan.append((name, [order.index(part) for part in element.required.names]))
            self._plans[group] = plan
        values = data_id.required_values
        return [(name, *(values[at] for at in positions)) for name, positions in plan]

    def missing(self, data_ids) -> set[tuple]:
        """Of the keys that these data ids need, those that the repository has not."""
        return self.look_up({key for data_id in data_ids for key in self.needed(data_id)})

    def look_up(self, keys: set[tuple]) -> set[tuple]:
        """Of these keys, those that the repository has not."""
        asked = keys - self._known
        if not asked:
            return set()
        absent = self._look_up(asked)
        if absent:
            # Small tables are cached by the Butler: another process may have added to them.
            self._butler.registry.refresh()
            absent = self._look_up(absent)
        return absent

    def first_missing(self, data_id, missing: set[tuple]) -> tuple | None:
        """The key this data id waits for: the first that others depend on."""
        return next((key for key in self.needed(data_id) if key in missing), None)

    def add(self, keys) -> None:
        """Takes note of records that were inserted."""
        self._known.update(keys)

    def forget(self) -> None:
        """Drops what is known: the database has contradicted it."""
        self._known.clear()

    def _look_up(self, asked: set[tuple]) -> set[tuple]:
        by_element: dict[str, set[tuple]] = {}
        for key in asked:
            by_element.setdefault(key[0], set()).add(key[1:])
        absent: set[tuple] = set()
        # In the universe's order, so that a missing instrument is known before its exposures.
        for element in self._butler.dimensions.sorted(by_element.keys()):
            wanted = by_element[element.name]
            found = self._existing(element, wanted)
            if len(self._known) + len(found) > _MOST_KEYS:
                self._known.clear()
            self._known.update((element.name, *values) for values in found)
            absent.update((element.name, *values) for values in wanted - found)
        return absent

    def _existing(self, element, wanted: set[tuple]) -> set[tuple]:
        names = list(element.required.names)
        governor = names[0] in self._butler.dimensions.governor_dimensions.names
        if governor:
            # A query that names an unknown instrument or skymap is an error, not an empty answer.
            with self._butler.query() as query:
                governors = {row[names[0]] for row in query.data_ids([names[0]])}
            if len(names) == 1:
                return {values for values in wanted if values[0] in governors}
            wanted = {values for values in wanted if values[0] in governors}
        groups: dict[tuple, list] = {}
        for values in wanted:
            groups.setdefault(values[:-1], []).append(values[-1])
        found = set()
        for leading, last in groups.items():
            for start in range(0, len(last), _MOST_VALUES):
                with self._butler.query() as query:
                    x = query.expression_factory
                    conditions = [getattr(x, name) == value for name, value in zip(names, leading)]
                    conditions.append(getattr(x, names[-1]).in_iterable(last[start : start + _MOST_VALUES]))
                    rows = query.where(*conditions).data_ids([element.name])
                    found.update(tuple(row[name] for name in names) for row in rows)
        return found


def key_text(key: tuple) -> str:
    """`("exposure", "LSSTCam", 42)` as the ledger writes it."""
    return "dimension:" + "/".join(str(part) for part in key)


class Export:
    """A Butler export file: what it would bring, read without building Butler objects."""

    def __init__(self, text: str, universe):
        wrapper = yaml.load(text, Loader=_Plain)
        if not isinstance(wrapper, dict) or not isinstance(wrapper.get("data"), list):
            raise ValueError("it is no Butler export: it has no list `data`")
        self.text = text
        self.keys: list[tuple] = []
        self.dataset_types: list[str] = []
        self.runs: list[str] = []
        self.has_datasets = False
        for part in wrapper["data"]:
            match part.get("type"):
                case "dimension":
                    self._dimension(part, universe)
                case "dataset_type":
                    self.dataset_types.append(part["name"])
                case "run":
                    self.runs.append(part["name"])
                case "collection" if part.get("collection_type") == "RUN":
                    self.runs.append(part["name"])
                case "dataset":
                    self.has_datasets = True
                    self.runs.append(part["run"])

    def stream(self) -> io.StringIO:
        """The text as the Butler reads it."""
        return io.StringIO(self.text)

    def _dimension(self, part: dict, universe) -> None:
        element = universe[part["element"]]
        own = element.name if element.name in universe.dimensions.names else None
        for record in part["records"]:
            values = []
            for name in element.required.names:
                # Its own value is called `id` or `name` in the record, the others as the dimension.
                if name == own:
                    values.append(record[element.primaryKey.name])
                else:
                    values.append(record[name])
            if not all(isinstance(value, (int, str)) for value in values):
                raise ValueError(f"a key of a record of {element.name} is neither a number nor text")
            self.keys.append((element.name, *values))


class _Plain(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    """Reads an export with every tagged value (regions, times) as nothing."""


_Plain.add_multi_constructor("", lambda loader, suffix, node: None)
