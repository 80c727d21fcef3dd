"""One file to register, what was found out about it, and its answer."""

from __future__ import annotations

import dataclasses
from typing import Any

from lsst.resources import ResourcePath


@dataclasses.dataclass
class Item:
    """A file of the request. `answer` is set once, when nothing more is to be done for it."""

    k: int
    kind: str
    uri: str
    sidecar: str = ""
    bytes: int | None = None
    adler32: str | None = None
    formatter: str | None = None

    path: ResourcePath | None = None
    ref: Any = None
    verified: str = "not_asked"
    size: int | None = None
    found: Any = None
    answer: dict | None = None

    @classmethod
    def of(cls, given: dict) -> Item:
        """The item as it came."""
        names = {field.name for field in dataclasses.fields(cls)} - {"path", "ref", "verified", "size", "found", "answer"}
        return cls(**{name: value for name, value in given.items() if name in names})

    @property
    def open(self) -> bool:
        """True as long as it has no answer."""
        return self.answer is None

    def _close(self, answer: dict) -> None:
        answer["k"] = self.k
        answer["verified"] = self.verified
        if "uuids" not in answer:
            answer["uuids"] = [str(self.ref.id)] if self.ref is not None else []
        self.answer = answer

    def done(self, uuids: list[str] | None = None, provides: list[str] | None = None) -> None:
        """Registered now."""
        self._close({"class": "done"} | _given(uuids=uuids, provides=provides))

    def already_there(self, uuids: list[str] | None = None, provides: list[str] | None = None) -> None:
        """Was registered before, at this URI."""
        self._close({"class": "already_there"} | _given(uuids=uuids, provides=provides))

    def elsewhere(self, uri: str, uuids: list[str] | None = None) -> None:
        """Was registered before, at another URI."""
        self._close({"class": "already_there_elsewhere", "uri": uri} | _given(uuids=uuids))

    def later(self, reason: str, waits_for: str, detail: str) -> None:
        """May succeed once `waits_for` has come: `dimension:...`, `file:...` or `time`."""
        self._close({"class": "retry_later", "reason": reason, "waits_for": waits_for, "detail": detail})

    def refused(self, reason: str, detail: str) -> None:
        """Will fail the same way every time."""
        self._close({"class": "refused", "reason": reason, "detail": detail})

    def same_answer_as(self, other: Item) -> None:
        """Takes the answer of the item that this one repeats."""
        self.answer = dict(other.answer, k=self.k)


def _given(**fields) -> dict:
    return {name: value for name, value in fields.items() if value is not None}


def place(ref) -> tuple:
    """What only one dataset can have: dataset type, RUN and data id."""
    return (ref.datasetType.name, ref.run, ref.dataId.required_values)


def place_text(ref) -> str:
    """The same, for a person."""
    values = ", ".join(f"{name}={value}" for name, value in ref.dataId.required.items())
    return f"{ref.datasetType.name} {{{values}}} in RUN {ref.run}"
