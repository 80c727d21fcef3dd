"""What goes wrong at a site, one function each, and what must come of it.

    Stock --> the events of one fault, each with its expectation

Every fault has files and data ids of its own: whatever becomes of them, the good files are not touched.
An outcome is `word` or `refused/reason`; `refused/*` is any reason. Several mean: one of these.
"""

import json
import os

from .stock import Event
from .world import HOST, INSTRUMENT, url

FAULTS, FORMS = {}, {}


def fault(function):
    """Registers a fault under its name."""
    FAULTS[function.__name__] = function
    return function


def form(function):
    """Registers an older or rarer form of an event that is as good as any other."""
    FORMS[function.__name__] = function
    return function


def make(stock, name):
    """The events of the fault or form with this name."""
    function = FAULTS.get(name) or FORMS[name]
    events = function(stock)
    for event in events if isinstance(events, list) else [events]:
        event.fault = name
        yield event


def refused(event, *outcomes, routed=True):
    """The event, now to be refused: no dataset comes of it."""
    event.outcomes, event.datasets = list(outcomes), []
    if not routed:
        event.targets = [""]
    return event


def with_sidecar(stock, sidecar, *outcomes):
    event = stock.spare_product()
    event.body["payload"]["rubin_sidecar"] = sidecar
    event = refused(event, *outcomes)
    # What is no sidecar at all is seen before it matters where the file goes.
    event.targets = ["*"]
    return event


def changed_sidecar(stock, change, *outcomes):
    event = stock.spare_product()
    sidecar = json.loads(event.body["payload"]["rubin_sidecar"])
    change(sidecar)
    event.body["payload"]["rubin_sidecar"] = json.dumps(sidecar)
    return refused(event, *outcomes)


@fault
def bad_sidecar(stock):
    event = changed_sidecar(stock, lambda s: s.update(id="not-a-uuid"), "refused/bad_sidecar")
    event.targets = ["*"]
    return event


@fault
def cut_sidecar(stock):
    return with_sidecar(stock, '{"id": "', "refused/bad_sidecar")


@fault
def empty_sidecar(stock):
    return with_sidecar(stock, "", "refused/bad_sidecar")


@fault
def no_sidecar(stock):
    event = with_sidecar(stock, "", "refused/bad_sidecar")
    del event.body["payload"]["rubin_sidecar"]
    return event


@fault
def unknown_dimension(stock):
    def change(sidecar):
        sidecar["datasetType"]["dimensions"].append("warp_core")
        sidecar["dataId"]["dataId"]["warp_core"] = 7

    return changed_sidecar(stock, change, "refused/bad_sidecar")


@fault
def unknown_storage_class(stock):
    def change(sidecar):
        sidecar["datasetType"].update(name="never_seen", storageClass="NoSuchClass")

    return changed_sidecar(stock, change, "refused/*")


@fault
def other_storage_class(stock):
    return changed_sidecar(stock, lambda s: s["datasetType"].update(storageClass="ArrowAstropy"), "refused/*")


@fault
def no_dimension_record(stock):
    """Its exposure never comes: it waits, until it has waited too long."""
    def change(sidecar):
        sidecar["dataId"]["dataId"]["visit"] = 2030010100001 + stock.spare

    return changed_sidecar(stock, change, "waiting", "refused/waited_too_long")


@fault
def missing_file(stock):
    event = stock.spare_product()
    os.unlink(event.datasets[0]["uri"])
    return refused(event, "refused/file_missing", "waiting")


@fault
def wrong_size(stock):
    event = stock.spare_product()
    event.body["payload"]["bytes"] += 17
    event.body["payload"]["file-size"] += 17
    return refused(event, "refused/size_mismatch")


@fault
def wrong_checksum(stock):
    """Only `verify: checksum` can see it."""
    event = stock.spare_product()
    event.body["payload"]["checksum-adler"] = "deadbeef"
    return refused(event, "refused/checksum_mismatch") if stock.world.verify == "checksum" else event


@fault
def not_utf8(stock):
    event = stock.spare_product()
    event.raw = json.dumps(event.body).encode().replace(b"Data Consolidation", b"Data \xff\xfe Consolidation")
    return refused(event, "refused/unreadable", routed=False)


@fault
def truncated(stock):
    event = stock.spare_product()
    body = json.dumps(event.body)
    event.raw = body[: len(body) // 2].encode()
    return refused(event, "refused/unreadable", routed=False)


@fault
def megabyte(stock):
    """Its sidecar is a megabyte of nothing."""
    return with_sidecar(stock, "x" * 1_030_000, "refused/unreadable", "refused/bad_sidecar")


@fault
def unknown_kind(stock):
    event = stock.spare_product()
    event.body["payload"]["rubin_butler"] = "hologram"
    return refused(event, "refused/unknown_kind", routed=False)


@fault
def no_url(stock):
    event = stock.spare_product()
    del event.body["payload"]["dst-url"]
    return refused(event, "refused/bad_field", routed=False)


@fault
def wrong_type(stock):
    event = stock.spare_product()
    event.body["payload"]["dst-rse"] = ["a", "list"]
    return refused(event, "refused/bad_field", routed=False)


@fault
def unmapped(stock):
    event = stock.spare_product()
    event.body["payload"]["scope"] = "nowhere"
    event.topic = f"{stock.world.butler_rse}-nowhere"
    return refused(event, "refused/unmapped", routed=False)


@fault
def wrong_topic(stock):
    event = stock.spare_product()
    event.topic = f"{stock.world.raw_rse}-raw"
    return refused(event, "refused/wrong_topic", routed=False)


def at_url(stock, address):
    event = stock.spare_product()
    event.body["payload"]["dst-url"] = address
    event = refused(event, "refused/unknown_prefix")
    # Whether the route or its target is named is not settled here: no Butler is asked.
    event.targets = ["*"]
    return event


@fault
def unknown_prefix(stock):
    return at_url(stock, f"davs://elsewhere.example.org:443/rucio/butler_disk/dp1/{stock.spare}.json")


@fault
def prefix_in_the_middle(stock):
    return at_url(stock, f"https://evil.example.org/?{url(stock.world.butler_rse, 'dp1', 'x.json')}")


@fault
def dot_dot(stock):
    """The file is there, outside the RSE: only the check of the path keeps it out."""
    stock.write(os.path.join(stock.world.storage(), "outside.json"), b"{}\n")
    return at_url(stock, url(stock.world.butler_rse, "dp1", "../../outside.json"))


@fault
def dot_dot_encoded(stock):
    stock.write(os.path.join(stock.world.storage(), "outside.json"), b"{}\n")
    return at_url(stock, url(stock.world.butler_rse, "dp1", "%2e%2e/%2E%2E/outside.json"))


@fault
def same_uuid_two_files(stock):
    """Whichever comes first has the UUID."""
    first = stock.spare_product()
    second = stock.spare_product(uuid=first.datasets[0]["uuid"])
    return rivals(first, second, "refused/ambiguous", "refused/conflict")


@fault
def same_data_id_two_uuids(stock):
    first = stock.spare_product()
    stock.spare -= 1
    second = stock.spare_product(folder="again/")
    return rivals(first, second, "refused/ambiguous", "refused/conflict")


@fault
def same_uuid_second_rse(stock):
    """The same file on two RSEs of this site: the first URI stays; one that comes late is an older story."""
    first = stock.spare_product()
    stock.spare -= 1
    second = stock.spare_product(rse=stock.world.copy_rse, uuid=first.datasets[0]["uuid"])
    return rivals(first, second, "already_there_elsewhere", "superseded")


def rivals(first, second, *outcomes):
    """Two events for one place in the Butler: one is ingested, the other has one of the outcomes."""
    for event in (first, second):
        event.outcomes = ["ingested", *outcomes]
        event.one_of = first.datasets[0]["uuid"]
    return [first, second]


@fault
def broken_zip(stock):
    name = f"{INSTRUMENT}/broken/{stock.hermes.hex()}.zip"
    body = stock.announce(stock.world.raw_rse, "raw", name, b"PK this is no zip\n", "zip_file", "")
    return Event(body, f"{stock.world.raw_rse}-raw", ["refused/*"], stock.world.targets("raw"))


@fault
def broken_dimensions(stock):
    name = f"{INSTRUMENT}/broken/{stock.hermes.hex()}_dimensions.yaml"
    body = stock.announce(stock.world.raw_rse, "raw", name, b"description: [this is no export\n", "dim_file", "")
    return Event(body, f"{stock.world.raw_rse}-raw", ["refused/*"], stock.world.targets("raw"))


@form
def integer_kind(stock):
    """Before 2024-12 `rubin_butler` was the integer 1."""
    event = stock.spare_product()
    event.body["payload"]["rubin_butler"] = 1
    return event


@form
def sidecar_as_object(stock):
    event = stock.spare_product()
    event.body["payload"]["rubin_sidecar"] = json.loads(event.body["payload"]["rubin_sidecar"])
    return event


@form
def capture_of_2023(stock):
    """`id`, `services`, the text "None" for null, dimensions under `names`."""
    event = stock.spare_product()
    payload = event.body["payload"]
    sidecar = json.loads(payload["rubin_sidecar"])
    sidecar["datasetType"]["dimensions"] = {"names": sidecar["datasetType"]["dimensions"]}
    payload.update({key: "None" for key, value in payload.items() if value is None})
    payload.update(rubin_butler=1, rubin_sidecar=sidecar)
    event.body.update(id=stock.hermes.hex(), services="kafka",
                      created_at=repr(stock.hermes.tick()))
    return event


@form
def recreated(stock):
    """Made anew by an operator for a file whose event was lost: few fields, no request."""
    event = stock.spare_product()
    payload = event.body["payload"]
    kept = ("name", "scope", "dataset", "datasetScope", "dst-rse", "dst-url", "rubin_butler", "rubin_sidecar")
    event.body["payload"] = {key: payload[key] for key in kept}
    return event


@form
def percent_encoded(stock):
    event = stock.spare_product(folder="a b+c/")
    payload = event.body["payload"]
    payload["dst-url"] = payload["dst-url"].replace(" ", "%20")
    return event


@form
def double_slash(stock):
    event = stock.spare_product()
    payload = event.body["payload"]
    payload["dst-url"] = payload["dst-url"].replace(f"{HOST}:443/", f"{HOST}:443//")
    return event


def names(choice):
    """The names that `all`, `none` or a comma-separated list mean."""
    if choice == "none":
        return []
    known = [*FAULTS, *FORMS]
    if choice == "all":
        return known
    chosen = choice.split(",")
    for name in chosen:
        if name not in known:
            raise SystemExit(f"no fault is called `{name}`; there are {', '.join(known)}")
    return chosen
