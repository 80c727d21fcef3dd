"""Compares files with what Rucio believes of them, many at a time.

In:    settings: mode `size`, `checksum` or `none`; read_bytes; rate_mb_s; concurrency; timeout_s.
Out:   each item's `verified` word; a real mismatch or a missing file is its answer.

What the storage cannot tell leaves the item `unverified`, never refused.
"""

from __future__ import annotations

import concurrent.futures
import logging
import threading
import time
import zlib

from lsst.resources import ResourcePath

from .faults import sentence

LOG = logging.getLogger("dbb.verify")
# Bytes a second that any storage can read; `dbb` allows for the same in its own time limit.
SLOW_BYTES_S = 1e7
_CHUNK = 4 * 1024 * 1024
# Local files answer in microseconds: one task for many of them costs less than a task each.
_LOCAL_AT_ONCE = 250


class Verifier:
    """The pool of threads that ask the storage, and the limit on bytes read."""

    def __init__(self, settings: dict):
        self.mode = settings.get("mode", "size")
        self._read_bytes = bool(settings.get("read_bytes", False))
        self._timeout = float(settings.get("timeout_s", 30.0))
        self._concurrency = int(settings.get("concurrency", 16))
        self._rate = _Rate(settings.get("rate_mb_s"))
        self._pool = None

    def verify(self, items) -> None:
        """Looks at the files of these items."""
        items = [item for item in items if item.open]
        if self.mode == "none" or not items:
            return
        local = [item for item in items if item.path.isLocal]
        remote = [item for item in items if not item.path.isLocal]
        if self.mode == "size":
            tasks = [local[at : at + _LOCAL_AT_ONCE] for at in range(0, len(local), _LOCAL_AT_ONCE)]
        else:
            tasks = [[item] for item in local]
        tasks += [[item] for item in remote]
        pool = self._pool or concurrent.futures.ThreadPoolExecutor(self._concurrency, "verify")
        self._pool = pool
        started = time.monotonic()
        futures = [(pool.submit(self._task, task), task) for task in tasks]
        stuck = 0
        for waiting, (future, task) in enumerate(futures):
            # A task may have waited for the tasks before it, each with its own time. Where all threads
            # hang, nobody will ever take up the rest.
            turns = 1 + waiting // self._concurrency if stuck < self._concurrency else 0
            left = started + self._timeout * turns + self._reading_s(items) - time.monotonic()
            try:
                future.result(max(left, 0.0) if turns else 0.0)
            except concurrent.futures.TimeoutError:
                stuck += 1
                for item in task:
                    item.verified = "unverified"
        for item in items:
            self._judge(item)
        if stuck:
            LOG.warning("%d checks of files did not end within %s s", stuck, self._timeout)
            # Its threads may hang for ever: they are left behind.
            pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None

    def _reading_s(self, items) -> float:
        """Time to allow for reading whole files, at the configured rate or a slow disk's."""
        if self.mode != "checksum" or not self._read_bytes:
            return 0.0
        return sum(item.bytes or 0 for item in items) / min(self._rate.bytes_s or SLOW_BYTES_S, SLOW_BYTES_S)

    def _task(self, task) -> None:
        for item in task:
            found = _Found()
            try:
                self._look(item, found)
            except FileNotFoundError:
                found.missing = True
            except Exception as error:
                found.error = sentence(error)
            # Set at once, so that a task that has run out of time changes nothing half-way.
            item.found = found

    def _look(self, item, found: _Found) -> None:
        path: ResourcePath = item.path
        if self.mode == "size" or item.adler32 is None:
            found.size = path.size()
            return
        try:
            info = path.get_info()
            found.size = info.size
            found.adler32 = info.checksums.get("adler32")
        except (NotImplementedError, AttributeError):
            found.size = path.size()
        if found.adler32 is None and self._read_bytes:
            found.adler32 = self._adler32(path)

    def _adler32(self, path: ResourcePath) -> str:
        value = 1
        with path.open("rb") as stream:
            while block := stream.read(_CHUNK):
                self._rate.take(len(block))
                value = zlib.adler32(block, value)
        return f"{value:08x}"

    def _judge(self, item) -> None:
        found = item.found
        if found is None or found.error is not None:
            item.verified = "unverified"
            if found is not None:
                LOG.info("could not verify %s: %s", item.uri, found.error)
            return
        if found.missing:
            item.later("file_missing", f"file:{item.uri}", f"there is no file at {item.uri}")
            return
        item.size = found.size
        if item.bytes is not None and found.size != item.bytes:
            item.refused("size_mismatch", f"{item.uri} has {found.size} bytes, Rucio believes {item.bytes}")
            return
        if item.bytes is not None:
            item.verified = "size"
        if self.mode != "checksum" or item.adler32 is None:
            return
        if found.adler32 is None:
            item.verified = "unverified"
        elif found.adler32.lower().zfill(8) != item.adler32.lower().zfill(8):
            item.refused(
                "checksum_mismatch",
                f"{item.uri} has adler32 {found.adler32}, Rucio believes {item.adler32}",
            )
        else:
            item.verified = "checksum"


class _Found:
    """What the storage said about one file."""

    __slots__ = ("adler32", "error", "missing", "size")

    def __init__(self):
        self.size = self.adler32 = self.error = None
        self.missing = False


class _Rate:
    """At most so many megabytes a second, over all threads."""

    def __init__(self, mb_s: float | None):
        self.bytes_s = mb_s * 1e6 if mb_s else None
        self._lock = threading.Lock()
        self._free_at = 0.0

    def take(self, count: int) -> None:
        if self.bytes_s is None:
            return
        with self._lock:
            now = time.monotonic()
            start = max(now, self._free_at)
            self._free_at = start + count / self.bytes_s
        if start > now:
            time.sleep(start - now)


_sized: dict[type, type] = {}


def sized(path: ResourcePath, size: int) -> ResourcePath:
    """The same path, which answers for its size without asking the storage a second time.

    The Butler asks for each file's size one after the other; on storage that takes 20 ms to answer,
    a batch of 1000 would spend 20 s there.
    """
    cls = type(path)
    known = _sized.get(cls)
    if known is None:
        known = _sized[cls] = type(f"Sized{cls.__name__}", (cls,), {"size": _size, "exists": _exists})
    same = object.__new__(known)
    same.__dict__.update(path.__dict__)
    same._known_size = size
    return same


def _size(self) -> int:
    known = self.__dict__.get("_known_size")
    return super(type(self), self).size() if known is None else known


def _exists(self) -> bool:
    return "_known_size" in self.__dict__ or super(type(self), self).exists()
