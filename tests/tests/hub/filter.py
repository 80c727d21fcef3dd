"""What the filter between Hermes and the sites makes of events, from the rules that are written down of it.

Only `transfer-done`, whatever its case; the topic is `{dst-rse}-{scope}`; dropped where the topic is not listed, or where
the file has no `rubin_butler`; `rubin_butler`, and `rubin_sidecar` where there is one, are put into the payload; an
envelope of three keys.

Usage: filter.py LABELS < events > records    (one JSON value a line; LABELS maps `scope:name` to metadata)
"""

import json
import sys

labels = json.load(open(sys.argv[1]))
for line in sys.stdin:
    event = json.loads(line)
    if event["event_type"].lower() != "transfer-done":
        continue
    payload = event["payload"]
    metadata = labels.get(f"{payload['scope']}:{payload['name']}", {})
    if metadata.get("rubin_butler") is None:
        continue
    payload["rubin_butler"] = metadata["rubin_butler"]
    if metadata.get("rubin_sidecar") is not None:
        payload["rubin_sidecar"] = metadata["rubin_sidecar"]
    value = {"event_type": event["event_type"].lower(), "payload": payload, "created_at": event["created_at"]}
    print(json.dumps({"topic": f"{payload['dst-rse']}-{payload['scope']}", "value": json.dumps(value)}))
