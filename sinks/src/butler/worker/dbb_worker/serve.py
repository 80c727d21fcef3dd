"""The loop: one request a line in, one answer a line out.

    open -> hello, then ingest | forget | scan | exists | check | ping ... quit

A request that cannot be served is answered with `fatal`; nothing is known to be done then.
"""

from __future__ import annotations

import gc
import json
import logging
import sys
import time

from .bounded import limit_memory
from .faults import OUT_OF_MEMORY, OutOfMemory

PROTOCOL = 1
LOG = logging.getLogger("dbb.worker")
# Datasets between two looks for cycles.
_COLLECT_EVERY = 2000


def serve(stdin, stdout) -> int:
    """Answers requests until `quit` or the end of input; returns the exit status."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    out = _Answers(stdout)
    line = stdin.readline()
    if not line:
        return 0
    settings = json.loads(line)
    limit_memory(settings.get("memory_mib"))
    try:
        return _serve(settings, stdin, out)
    except (MemoryError, OutOfMemory):
        LOG.critical("it needs more memory than the %s MiB of `worker.memory_mib`", settings.get("memory_mib"))
        return OUT_OF_MEMORY


def _serve(settings: dict, stdin, out: _Answers) -> int:
    repository = _open(settings, out)
    if repository is None:
        return 1
    # A batch makes tens of thousands of objects that die with it: looking for cycles among them, and
    # among what the imports made, costs more than it frees. What cycles there are is freed between batches.
    gc.freeze()
    gc.disable()
    datasets = 0
    while line := stdin.readline():
        request = json.loads(line)
        if request["op"] == "quit":
            break
        started = time.monotonic()
        answer = _answer(repository, request)
        answer["id"] = request.get("id")
        answer["op"] = request["op"]
        answer["ms"] = round(1000 * (time.monotonic() - started), 3)
        out.write(answer)
        datasets += len(request.get("items", ()))
        if datasets >= _COLLECT_EVERY:
            gc.collect()
            datasets = 0
    return 0


class _Answers:
    def __init__(self, stream):
        self._stream = stream

    def write(self, answer: dict) -> None:
        self._stream.write(json.dumps(answer, separators=(",", ":"), default=str))
        self._stream.write("\n")
        self._stream.flush()


def _open(settings: dict, out: _Answers):
    from .faults import fatal

    try:
        # Imported late, so that an environment without a Butler is an answer, not a traceback.
        from .repository import Repository

        repository = Repository(settings)
    except Exception as error:  # whatever the site's environment throws
        LOG.exception("could not open the repository")
        out.write({"op": "hello", "proto": PROTOCOL, "fatal": fatal(error, opening=True)})
        return None
    out.write({"op": "hello", "proto": PROTOCOL, **repository.hello()})
    return repository


def _answer(repository, request: dict) -> dict:
    from .faults import fatal
    from .ingest import ingest

    try:
        match request["op"]:
            case "ingest":
                return ingest(repository, request["items"])
            case "forget":
                from .forget import forget

                return forget(repository, request["items"])
            case "scan":
                from .scan import Scan

                if request["begin"]:
                    repository.scan = Scan(repository)
                return repository.scan.page()
            case "members":
                from .files import members

                return {"members": [members(uri) for uri in request["uris"]]}
            case "exists":
                return {"known": repository.exists(request["uuids"])}
            case "check":
                return repository.check()
            case "ping":
                # Only an answer of the database counts.
                repository.butler.registry.refresh()
                return {}
            case other:
                return {"fatal": {"class": "protocol", "detail": f"there is no operation `{other}`"}}
    except Exception as error:
        LOG.exception("the request failed as a whole")
        return {"fatal": fatal(error)}
