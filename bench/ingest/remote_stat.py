"""How many datasets a second when each look at a remote file takes 20 ms more?

    .venv/bin/python bench/ingest/remote_stat.py

The files are behind a web server on this machine that waits before each answer; the Butler knows them by their
http:// URIs. The Python packages that lsst.resources needs for that are installed into target/bench/https. The plain
loop, which lets the Butler look at one file after the other, is run on fewer files.
"""

import argparse
import json
import os
import signal
import subprocess
import sys

from measured import machine, median, run
from sites import HERE, Site, TOP, common_options, dbb

NEEDED = ("requests", "urllib3", "defusedxml", "aiohttp")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=5000)
    parser.add_argument("--plain-files", type=int, default=300)
    parser.add_argument("--delay-ms", type=float, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    common_options(parser)
    options = parser.parse_args()

    print(machine())
    environment = {"PYTHONPATH": packages()}
    for delay in (0, options.delay_ms):
        rates = measure(options, "remote-dbb", options.files, delay, environment, ours=True)
        print(f"  {delay:3.0f} ms: dbb   {median(rates):7.0f} datasets a second, start-up included", flush=True)
        rates = measure(options, "remote-plain", options.plain_files, delay, environment, ours=False)
        print(f"  {delay:3.0f} ms: plain {median(rates):7.0f} datasets a second, without start-up", flush=True)
    print(machine())


def measure(options, name, files, delay, environment, ours):
    """Datasets a second in each round."""
    site = Site(name, files=files, scratch=options.scratch, config=("--max-datasets", 1000))
    server = subprocess.Popen([sys.executable, str(HERE / "slow_storage.py"), str(site.dir / "rse"),
                               "--delay-ms", str(delay)], stdout=subprocess.PIPE, text=True)
    port = int(server.stdout.readline())
    # The same prefixes, now to the web server; what must be there is known by its web address too.
    move(site.dir / "dbb.yaml", site, port)
    rates = []
    for _ in range(options.rounds):
        site.reset()
        if ours:
            done = run([dbb(options), "run", str(site.dir / "dbb.yaml"), "--run-once"], environment=environment)
            rates.append(files / done.wall_s)
        else:
            done = run([sys.executable, str(HERE / "plain.py"), str(site.dir)], environment=environment)
            rates.append(files / json.loads(done.output)["ingest_s"])
        check(site, port, environment)
    server.send_signal(signal.SIGTERM)
    print(f"       {name}: the server was asked {server.stdout.read().strip()} for {options.rounds} x {files} files")
    server.wait(10)
    if not options.keep:
        site.remove()
    return rates


def move(path, site, port):
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace(f'"to": "{site.dir}/rse/', f'"to": "http://127.0.0.1:{port}/'), encoding="utf-8")


# Every dataset there, each under the web address of its file.
CHECK = """
import json, sys
from lsst.daf.butler import Butler
butler = Butler.from_config(sys.argv[1])
runs = butler.collections.query("*")
refs = butler.query_all_datasets(runs, find_first=False, limit=None)
found = {str(ref.id): str(uri.primaryURI) for ref, uri in butler.get_many_uris(refs).items()}
wanted = {d["uuid"]: d["uri"].replace(sys.argv[2], sys.argv[3]) for d in
          json.load(open(sys.argv[4]))["repositories"]["main"]["datasets"]}
assert found == wanted, f"{len(found)} datasets, {len(wanted)} wanted, {len(found.items() ^ wanted.items())} differ"
"""


def check(site, port, environment):
    done = subprocess.run([sys.executable, "-c", CHECK, str(site.dir / "repo/main"), f"{site.dir}/rse/",
                           f"http://127.0.0.1:{port}/", str(site.dir / "expected.json")],
                          env={**os.environ, **environment}, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"the repository is not what it must be: {done.stderr[-2000:]}")


def packages():
    """A folder with what lsst.resources needs for http; the environment of the Butler is left as it is."""
    folder = TOP / "target/bench/https"
    if not folder.exists():
        subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
                        "--target", str(folder), *NEEDED], check=True)
    return str(folder)


if __name__ == "__main__":
    main()
