"""Storage of an RSE: folders of this machine behind URLs such as a site's own, `davs://dtn.example.org:443/rucio/disk/`.

    URL --> storage.json in RUCIO_HOME: the longest prefix that fits --> path

Rucio loads `Davs` by its name, as it loads the plug-in for any other protocol; the stand-in for FTS copies between `path`s.
"""

import json
import os

from rucio.rse.protocols import posix, protocol


def _table():
    return os.path.join(os.environ["RUCIO_HOME"], "storage.json")


def folders():
    """What is mounted: URL prefix to folder."""
    try:
        with open(_table(), encoding="utf-8") as file:
            return json.load(file)
    except FileNotFoundError:
        return {}


def mount(prefix, folder):
    """Puts `folder` behind the URLs that start with `prefix`, for every process of this Rucio."""
    os.makedirs(folder, exist_ok=True)
    with open(_table() + ".new", "w", encoding="utf-8") as file:
        json.dump({**folders(), prefix: folder}, file)
    os.replace(_table() + ".new", _table())


def path(url):
    """Where the file behind a URL lies."""
    table = folders()
    fitting = [prefix for prefix in table if url.startswith(prefix)]
    if not fitting:
        raise FileNotFoundError(f"no folder is mounted for {url}")
    prefix = max(fitting, key=len)
    return os.path.join(table[prefix], url[len(prefix):])


class Davs(posix.Default):
    """Files by path as `posix` has them, under URLs with host and port."""

    lfns2pfns = protocol.RSEProtocol.lfns2pfns

    def pfn2path(self, pfn):
        return path(pfn)
