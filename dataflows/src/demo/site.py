"""Makes a small, real Butler site and the Rucio events that announce its files; later asks the Butler.

    site.py make DIR [--files N ...]     make-repo, make-files and config in one
    site.py make-repo DIR                Butler repositories and dimension records
    site.py make-files DIR               files, events/*.ndjson and expected.json
    site.py config DIR                   dbb.yaml
    site.py ask DIR                      what the Butler holds, as JSON
    site.py verify DIR                   is it exactly what it must hold? Exit 1 if not
"""

import argparse
import json
import os
import sys

# Started by path, this file's folder comes first in the search for modules: the package lies beside it.
from demosite import configuration, faults, oracle, recording, repo
from demosite.world import World


def main(arguments=None):
    options = parser().parse_args(arguments)
    return options.run(options) or 0


def parser():
    top = argparse.ArgumentParser(prog="site.py", description=__doc__,
                                  formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    def command(name, run, *groups):
        sub = commands.add_parser(name)
        sub.add_argument("dir", help="folder of the site")
        for group in groups:
            group(sub)
        sub.set_defaults(run=run)

    command("make", make, repo_options, file_options, config_options)
    command("make-repo", make_repo, repo_options)
    command("make-files", make_files, file_options)
    command("config", config, config_options)
    command("ask", ask, ask_options)
    command("verify", verify, ask_options)
    return top


def repo_options(sub):
    add = sub.add_argument
    add("--seed", type=int, default=1)
    add("--repositories", default="main", help="comma-separated; with two, raws go to both and dp2 to the last")
    add("--registry", metavar="URL", help="postgresql://...; SQLite if not given")
    add("--namespace", default="dbb_demo", help="PostgreSQL schema; the repository's name is appended")
    add("--exposures", type=int, default=6, help="exposures that the repositories know from the start")
    add("--arriving", type=int, default=1, help="exposures whose dimension file comes before their data")
    add("--late", type=int, default=1, help="exposures whose dimension file comes after their data")
    add("--zips", type=int, default=1, help="zips of each of three sorts: records inside, beside, late")
    add("--detectors", type=int, default=9)
    add("--verify", choices=("size", "checksum"), default="size", help="what dbb is told to verify")
    add("--site", default="DEMO", help="what the names of its RSEs, and so of its topics, start with")
    add("--in-place", action="store_true",
        help="RSEs inside the first repository's datastore, one door: what transfer `auto` takes where it is")


def file_options(sub):
    add = sub.add_argument
    add("--files", type=int, default=300, help="good files that are one dataset each")
    add("--raws", type=int, help="how many of them are raws; a third if not given")
    add("--repeats", type=int, default=5, help="events that are delivered twice")
    add("--faults", default="all", help="all, none, or a comma-separated list")
    add("--each", type=int, default=1, help="how many of each fault")
    add("--chatter", type=float, default=0.1, help="events that no Butler has use for, per event")
    add("--event-files", type=int, default=1, help="files in events/")
    add("--brief", action="store_true", help="counts instead of every dataset in expected.json: for millions")


def config_options(sub):
    add = sub.add_argument
    add("--python", default=sys.executable, help="interpreter of the Butler workers")
    add("--kafka", metavar="BROKERS", help="read from Kafka instead of events/")
    add("--group-id", default="dbb-demo")
    add("--ledger", metavar="URL", help="DIR/ledger.sqlite if not given")
    add("--config", default="dbb.yaml", help="name of the file")
    add("--max-datasets", type=int, default=500)
    add("--max-wait-ms", type=int, default=200)
    add("--ctrl-ingestd", action="store_true", help="in the form of ctrl_ingestd; with --kafka only")
    add("--http", metavar="ADDRESS", help="address and port for probes and metrics; none if not given")


def ask_options(sub):
    sub.add_argument("--repository", help="only this one")
    sub.add_argument("--sample", type=int, default=20, help="datasets that are also read with `get`")


def make(options):
    make_repo(options)
    make_files(options)
    config(options)


def make_repo(options):
    world = World(os.path.abspath(options.dir), options.seed, options.exposures, options.arriving, options.late,
                  options.zips, options.detectors, options.repositories.split(","), options.registry,
                  options.namespace, options.verify, options.site, options.in_place)
    world.save()
    repo.make_repositories(world, origin=options.arriving + options.late + options.zips > 0)


def make_files(options):
    totals = recording.record(
        World.load(options.dir), files=options.files, raws=options.raws, repeats=options.repeats,
        chosen=faults.names(options.faults), each=options.each, chatter=options.chatter,
        event_files=options.event_files, brief=options.brief)
    print(json.dumps(totals))


def config(options):
    if options.ctrl_ingestd:
        if not options.kafka:
            raise SystemExit("ctrl_ingestd reads from Kafka: give --kafka")
        print(configuration.write_ctrl_ingestd(World.load(options.dir), kafka=options.kafka,
                                               group_id=options.group_id, path=options.config), file=sys.stderr)
        return
    print(configuration.write(
        World.load(options.dir), python=options.python, kafka=options.kafka, group_id=options.group_id,
        ledger=options.ledger, path=options.config, max_datasets=options.max_datasets,
        max_wait_ms=options.max_wait_ms, http=options.http), file=sys.stderr)


def chosen(options, world):
    return [options.repository] if options.repository else world.repositories


def ask(options):
    world = World.load(options.dir)
    print(json.dumps({name: oracle.ask(world, name, options.sample) for name in chosen(options, world)}, indent=1))


def verify(options):
    world, wrong = World.load(options.dir), 0
    for name in chosen(options, world):
        count, differences = oracle.verify(world, name, options.sample)
        wrong += len(differences)
        for difference in differences:
            print(f"{name}: {difference}")
        print(f"{name}: {count} datasets, {len(differences)} differences")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
