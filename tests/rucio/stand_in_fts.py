"""The few requests that Rucio's conveyor makes of FTS, answered by copying files here and now.

    POST /jobs       {"files": [{"sources", "destinations", "metadata"}]} --> copies --> {"job_id"}
    GET  /jobs/A,B   what became of each file

A copy that fails is a transfer that FAILED, with the reason. State: every job, in memory.
"""

import datetime
import json
import os
import shutil
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import stand_in_storage


def start():
    """Serves on a free port until the process ends; its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.jobs = {}
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        job = {"job_id": str(uuid.uuid4()), "http_status": "200 Ok", "job_type": "N",
               "job_metadata": request["params"]["job_metadata"],
               "files": [copied(file) for file in request["files"]]}
        failed = any(file["file_state"] == "FAILED" for file in job["files"])
        job["job_state"] = "FAILED" if failed else "FINISHED"
        self.server.jobs[job["job_id"]] = job
        self.answer({"job_id": job["job_id"]})

    def do_GET(self):
        ids = self.path.split("?")[0].removeprefix("/jobs/").split(",")
        self.answer([self.server.jobs.get(id, {"job_id": id, "http_status": "404 Not Found"}) for id in ids])

    def answer(self, value):
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def copied(file):
    """Copies the first source to the destination; the file's entry in the answer."""
    (source, *_), (destination, *_) = file["sources"], file["destinations"]
    start, state, reason = now(), "FINISHED", ""
    try:
        there = stand_in_storage.path(destination)
        os.makedirs(os.path.dirname(there), exist_ok=True)
        # Nobody sees half a file.
        shutil.copyfile(stand_in_storage.path(source), there + ".part")
        os.replace(there + ".part", there)
    except OSError as error:
        state, reason = "FAILED", f"TRANSFER [2] {error}"
    return {"file_state": state, "reason": reason, "source_surl": source, "dest_surl": destination,
            "file_metadata": file["metadata"], "start_time": start, "finish_time": now(),
            "staging_start": None, "staging_finished": None}


def now():
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S")
