"""Reading what somebody else has written: never more than so much, whatever it says of itself.

    file    --> its first bytes; one more than allowed, and it is refused
    archive --> one member, inflated up to so many bytes

What is in memory here becomes some ten times as much when it is parsed.
"""

from __future__ import annotations

import copy
import resource
import zipfile

from lsst.resources import ResourcePath

# Dimension files and indices of zips have some kilobytes for each record or dataset.
MOST_BYTES = 64 * 1024 * 1024


class TooLong(ValueError):
    """It is longer than what is read of such a file."""


def limit_memory(mib: int | None) -> None:
    """Lets this process, and what it starts, have at most so much memory of its own.

    Of data alone: libraries reserve much more address space than they ever use.
    """
    if mib is None:
        return
    wanted = mib * 1024 * 1024
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (wanted, wanted))


def read_file(path: ResourcePath, most: int = MOST_BYTES) -> bytes:
    """The bytes of a file of at most `most`."""
    data = path.read(size=most + 1)
    if len(data) > most:
        raise TooLong(f"it has more than the {most} bytes that are read of such a file")
    return data


def read_member(archive: zipfile.ZipFile, name: str, most: int = MOST_BYTES) -> bytes:
    """The bytes of a member of at most `most`, and of no more than it says that it has."""
    there = archive.getinfo(name)
    if there.file_size > most:
        raise TooLong(f"{name} has {there.file_size} bytes, more than the {most} that are read of it")
    if there.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        # The library inflates these without regard to how much is asked for.
        raise TooLong(f"{name} is compressed by method {there.compress_type}, of which no limit can be told")
    # The library believes what is said of the size, and stops there: so it is told of more than will be read.
    whole = copy.copy(there)
    whole.file_size = 2 * most
    with archive.open(whole) as stream:
        data = stream.read(most + 1)
    if len(data) != there.file_size:
        raise TooLong(f"{name} says that it has {there.file_size} bytes, and has {'more' if len(data) > there.file_size else 'less'}")
    return data
