"""Asks the Butler what it holds, and compares that with what it must hold.

    repository --> datasets with their URIs --> differences from expected.json
"""

import collections
import json
import os

from .repo import open_butler

BLOCK = 5_000


def held(world, repository):
    """Every dataset of a repository: UUID, type, RUN, data id, URI (a path where it is a local file), stored."""
    with open_butler(world.butler(repository), writeable=False) as butler:
        refs = all_refs(butler)
        for start in range(0, len(refs), BLOCK):
            block = refs[start:start + BLOCK]
            uris = butler.get_many_uris(block, allow_missing=True)
            for ref in block:
                yield {"uuid": str(ref.id), "dataset_type": ref.datasetType.name, "run": ref.run,
                       "data_id": dict(ref.dataId.required),
                       "uri": local(uris[ref].primaryURI) if ref in uris else None}


def all_refs(butler):
    from lsst.daf.butler import CollectionType

    runs = [info.name for info in butler.collections.query_info("*", collection_types={CollectionType.RUN})]
    return butler.query_all_datasets(runs, find_first=False, limit=None) if runs else []


def local(uri):
    """The path of a local file, without the name of the member of a zip; the URI of anything else."""
    return uri.ospath if uri.scheme == "file" else uri.geturl()


def ask(world, repository, sample):
    """What a repository holds; `get` is called for every n-th dataset so that about `sample` are read."""
    datasets = list(held(world, repository))
    for dataset in datasets:
        dataset["exists"] = bool(dataset["uri"]) and os.path.exists(dataset["uri"])
    with open_butler(world.butler(repository), writeable=False) as butler:
        step = max(1, len(datasets) // sample) if sample else 0
        for dataset in datasets[::step] if step else ():
            try:
                value = butler.get(butler.get_dataset(dataset["uuid"]))
                dataset["get"] = True if isinstance(value, dict) else f"a {type(value).__name__}"
            except Exception as error:  # noqa: BLE001: any failure is an answer
                dataset["get"] = f"{type(error).__name__}: {error}"
    return datasets


def verify(world, repository, sample=20):
    """The differences between a repository and the oracle, as sentences; none if it is exactly right."""
    with open(os.path.join(world.root, "expected.json"), encoding="utf-8") as file:
        expected = json.load(file)
    oracle = expected["repositories"][repository]
    datasets = ask(world, repository, sample)
    found = {dataset["uuid"]: dataset for dataset in datasets}
    differences = [f"{dataset['uuid']}: get fails: {dataset['get']}" for dataset in datasets
                   if dataset.get("get", True) is not True]
    differences += [f"{dataset['uuid']}: its file is not there: {dataset['uri']}" for dataset in datasets
                    if not dataset["exists"]]
    if len(found) != len(datasets):
        differences.append(f"{len(datasets) - len(found)} UUIDs are there twice")
    for rivals in oracle["one_of"]:
        present = [rival for rival in rivals if same(found.get(rival["uuid"]), rival)]
        if len(present) != 1:
            differences.append(f"{len(present)} instead of one of {', '.join(r['uri'] for r in rivals)}")
        for rival in rivals:
            found.pop(rival["uuid"], None)
    if expected["brief"]:
        counts = collections.Counter(f"{d['dataset_type']} {d['run']}" for d in found.values())
        differences += [f"{key}: {counts[key]} datasets instead of {oracle['counts'].get(key, 0)}"
                        for key in sorted({*counts, *oracle["counts"]}) if counts[key] != oracle["counts"].get(key, 0)]
        return len(datasets), differences
    for wanted in oracle["datasets"]:
        dataset = found.pop(wanted["uuid"], None)
        if dataset is None:
            differences.append(f"{wanted['uuid']}: missing: {wanted['uri']}")
        elif not same(dataset, wanted):
            is_now = {key: dataset[key] for key in wanted}
            differences.append(f"{wanted['uuid']}: wrong: {is_now} instead of {wanted}")
    differences += [f"{uuid}: unexpected: {dataset['dataset_type']} in {dataset['run']}: {dataset['uri']}"
                    for uuid, dataset in found.items()]
    return len(datasets), differences


def same(dataset, wanted):
    """True if a dataset is the one wanted; a URI of null leaves it to the Butler."""
    return dataset is not None and all(value is None or dataset[key] == value for key, value in wanted.items())
