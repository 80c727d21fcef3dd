"""What an exception of the Butler means, by its chain of causes and not by its type alone.

    exception -> Fault: down | environment | race | foreign_key | missing_file | permanent | passing

`ConflictingDefinitionError` alone says nothing: it covers a repeat, a race, a missing dimension
record and a true conflict. The database's own code, where there is one, tells them apart.
"""

from __future__ import annotations

import dataclasses
import re

_DOWN_WORDS = re.compile(
    r"connection refused|connection failed|could not connect|could not translate host|server closed"
    r"|terminating connection|connection (?:is|was|already) (?:closed|lost)|closed unexpectedly"
    r"|consuming input failed|no route to host|timeout expired|starting up|shutting down",
    re.IGNORECASE,
)
# SQLite's ways to say that nothing will work for a while.
_SQLITE_DOWN = ("SQLITE_CANTOPEN", "SQLITE_IOERR", "SQLITE_FULL", "SQLITE_READONLY", "SQLITE_NOTADB")
# The status with which a worker ends that has reached `worker.memory_mib`.
OUT_OF_MEMORY = 71
_KEY = re.compile(r"Key \(([^)]*)\)=\((.*?)\) is not present in table \"([^\"]+)\"")


class OutOfMemory(BaseException):
    """The limit on memory was reached: nobody here can go on, and no handler of faults may try to.

    `dbb` finds the file whose turn it was, as for any other that takes its worker down.
    """


@dataclasses.dataclass
class Fault:
    """One failure, understood."""

    kind: str
    detail: str
    # Of a foreign key that PostgreSQL names: column -> value, and the table.
    key: dict | None = None
    table: str | None = None


def chain(error: BaseException):
    """The exception and what caused it, outermost first."""
    seen = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _let_go(error: BaseException) -> None:
    if any(isinstance(cause, MemoryError) for cause in chain(error)):
        raise OutOfMemory from error


def sentence(error: BaseException) -> str:
    """One line for a person, without SQL text or parameters. Raises `OutOfMemory`."""
    _let_go(error)
    text = str(getattr(error, "orig", None) or error).strip()
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(lines)[:600]}" if lines else type(error).__name__


def _code(error) -> str:
    """SQLSTATE on PostgreSQL, the error's name on SQLite, else empty."""
    orig = getattr(error, "orig", None)
    return (
        getattr(orig, "sqlstate", None)
        or getattr(orig, "pgcode", None)
        or getattr(orig, "sqlite_errorname", None)
        or ""
    )


def _is(error, *names: str) -> bool:
    return any(cls.__name__ in names for cls in type(error).__mro__)


def understand(error: BaseException) -> Fault:
    """Says what a failure of the Butler means. Raises `OutOfMemory`."""
    _let_go(error)
    causes = list(chain(error))
    for cause in causes:
        if _is(cause, "DBAPIError"):
            code = _code(cause)
            if _is_down(cause, code):
                return Fault("down", sentence(cause))
            if code == "23503" or code == "SQLITE_CONSTRAINT_FOREIGNKEY":
                fault = Fault("foreign_key", sentence(cause))
                if found := _KEY.search(str(cause.orig)):
                    names = [name.strip() for name in found[1].split(",")]
                    values = [value.strip() for value in found[2].split(",")]
                    if len(names) == len(values):
                        fault.key, fault.table = dict(zip(names, values)), found[3]
                return fault
            if code in ("23505", "40001", "40P01", "SQLITE_CONSTRAINT_UNIQUE", "SQLITE_CONSTRAINT_PRIMARYKEY"):
                return Fault("race", sentence(cause))
            if code.startswith(("22", "23", "42")) or code.startswith("SQLITE_CONSTRAINT"):
                return Fault("permanent", sentence(cause))
            return Fault("passing", sentence(cause))
    first = causes[0]
    if any(_is(cause, "ImportError") for cause in causes):
        return Fault("environment", sentence(first))
    if isinstance(first, FileNotFoundError):
        return Fault("missing_file", sentence(first))
    if isinstance(first, LookupError) and "Implied value for dimension" in str(first):
        return Fault("foreign_key", sentence(first))
    if _is(first, "ConflictingDefinitionError"):
        return Fault("conflict", sentence(first))
    if isinstance(first, OSError):
        return Fault("passing", sentence(first))
    # A value the Butler will not have today, it will not have tomorrow.
    if isinstance(first, (ValueError, TypeError, LookupError, NotImplementedError)) or _is(
        first, "ButlerUserError", "RegistryError", "DatasetTypeNotSupportedError"
    ):
        return Fault("permanent", sentence(first))
    return Fault("passing", sentence(first))


def _is_down(error, code: str) -> bool:
    if code.startswith(("08", "53", "57P")) or code.startswith(_SQLITE_DOWN):
        return True
    if getattr(error, "connection_invalidated", False):
        return True
    return _is(error, "OperationalError", "InterfaceError") and bool(_DOWN_WORDS.search(str(error)))


def fatal(error: BaseException, opening: bool = False) -> dict:
    """The answer where nothing can be said about any item."""
    fault = understand(error)
    if fault.kind == "down":
        return {"class": "db_down", "detail": fault.detail}
    if opening:
        return {"class": "config", "detail": fault.detail}
    return {"class": "error", "detail": fault.detail}
