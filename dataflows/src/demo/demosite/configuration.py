"""Writes the configuration of `dbb` for a site.

    World, source --> dbb.yaml (written as JSON values, which YAML is a superset of)
"""

import json
import os
import sys

from .world import prefix


def write(world, *, python, kafka=None, group_id="dbb-demo", ledger=None, path="dbb.yaml",
          max_datasets=500, max_wait_ms=200, http=None):
    """Writes the configuration; gives its path."""
    rses = {}
    for rse in world.rses:
        to = os.path.join(world.storage(), rse) + "/"
        rses[rse] = {"prefixes": [{"from": prefix(rse, door), "to": to} for door in ("davs", "root")]}
    if kafka:
        source = {"kafka": {"brokers": kafka.split(","), "group_id": group_id, "topics": [f"/{world.site}_.*/"]}}
    else:
        source = {"log": {"paths": [os.path.join(world.root, "events")]}}
    sections = {
        "source": source,
        "ledger": {"url": ledger or f"sqlite:{world.root}/ledger.sqlite"},
        "rses": rses,
        "routes": [{"rse": rse, "scope": scope, "repositories": repositories}
                   for rse, scope, repositories in world.routes()],
        "repositories": {name: {"butler": world.butler(name), "worker": {"command": [python or sys.executable]}}
                         for name in world.repositories},
        "batching": {"max_datasets": max_datasets, "max_wait_ms": max_wait_ms},
        # A port of one's own, or none: several sites may run on one machine.
        "http": {"listen": http},
    }
    if world.verify == "checksum":
        for repository in sections["repositories"].values():
            repository["verify"] = {"mode": "checksum", "read_bytes": True}
    path = os.path.join(world.root, path)
    with open(path, "w", encoding="utf-8") as file:
        for name, section in sections.items():
            file.write(f"{name}: {json.dumps(section)}\n")
    return path


def write_ctrl_ingestd(world, *, kafka, group_id, path):
    """Writes the configuration of ctrl_ingestd for the first repository of a site; gives its path."""
    topics = {}
    for rse, scope, repositories in world.routes():
        if world.repositories[0] in repositories:
            topics[f"{rse}-{scope}"] = {"rucio_prefix": prefix(rse, "davs"),
                                        "fs_prefix": os.path.join(world.storage(), rse)}
    sections = {"brokers": kafka.split(","), "group_id": group_id, "num_messages": 50, "timeout": 1,
                "butler_repo": world.butler(world.repositories[0]), "topics": topics}
    path = os.path.join(world.root, path)
    with open(path, "w", encoding="utf-8") as file:
        for name, section in sections.items():
            file.write(f"{name}: {json.dumps(section)}\n")
    return path
