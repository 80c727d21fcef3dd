"""The sites that demo, tests and benchmarks are made of are what they say, on a real Butler.

Run: python -m unittest discover -s tests/site  (with an interpreter that has lsst.daf.butler)
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest
import zlib

sys.path.insert(0, os.path.dirname(__file__))
import reference

SITE = pathlib.Path(__file__).parents[2] / "dataflows" / "src" / "demo" / "site.py"


def site(*arguments, check=True):
    done = subprocess.run([sys.executable, str(SITE), *map(str, arguments)], capture_output=True, text=True)
    if check and done.returncode != 0:
        raise AssertionError(done.stdout + done.stderr)
    return done


class TemporarySite(unittest.TestCase):
    OPTIONS = ()

    @classmethod
    def setUpClass(cls):
        cls.root = pathlib.Path(tempfile.mkdtemp(prefix="dbb-site-"))
        cls.addClassCleanup(shutil.rmtree, cls.root)
        site("make", cls.root, *cls.OPTIONS)
        cls.expected = json.loads((cls.root / "expected.json").read_text())


class AWholeSite(TemporarySite):
    OPTIONS = ("--files", 60, "--repositories", "main,prep")

    def test_a_plain_loop_arrives_at_exactly_what_the_oracle_says(self):
        before = site("verify", self.root, check=False)
        self.assertEqual(before.returncode, 1, "an empty Butler is not what is expected")

        outcomes, not_for_us = reference.run(self.root)
        self.assertEqual(dict(not_for_us), self.expected["not_for_us"])
        self.assertEqual(len(outcomes), len(self.expected["events"]))
        for event in self.expected["events"]:
            happened = outcomes[event["places"][0]]
            if event["targets"] != ["*"]:
                self.assertEqual(sorted(happened), sorted(event["targets"]), event)
            for outcome in happened.values():
                allowed = [word.removesuffix("*") for word in event["outcomes"]]
                self.assertTrue(any(outcome.startswith(word) for word in allowed), (outcome, event))
        after = site("verify", self.root, "--sample", 1000, check=False)
        self.assertEqual(after.returncode, 0, after.stdout)

        self.each_difference_is_seen()

    def each_difference_is_seen(self):
        path = self.root / "expected.json"
        kept = path.read_text()

        def altered(change):
            expected = json.loads(kept)
            change(expected["repositories"]["main"])
            path.write_text(json.dumps(expected))
            done = site("verify", self.root, "--repository", "main", check=False)
            path.write_text(kept)
            self.assertEqual(done.returncode, 1)
            return done.stdout

        self.assertIn("unexpected", altered(lambda repository: repository["datasets"].pop()))
        self.assertIn("wrong", altered(lambda repository: repository["datasets"][0].update(run="another")))
        self.assertIn("wrong", altered(lambda repository: repository["datasets"][0].update(uri="/else/where")))
        self.assertIn("missing", altered(lambda repository: repository["datasets"][0].update(uuid="another")))
        self.assertIn("instead of one of", altered(lambda repository: repository["one_of"][0].pop()
                                                   and repository["one_of"][0][0].update(uri="/no")))
        lost = json.loads(kept)["repositories"]["main"]["datasets"][0]["uri"]
        os.unlink(lost)
        done = site("verify", self.root, "--repository", "main", check=False)
        self.assertIn("its file is not there", done.stdout)


class ASiteWithoutFaults(TemporarySite):
    OPTIONS = ("--files", 60, "--faults", "none", "--repeats", 9, "--event-files", 3)

    def test_events_tell_the_true_size_and_checksum(self):
        config = json.loads((self.root / "dbb.yaml").read_text().split("rses: ")[1].split("\n")[0])
        checked = 0
        for _, topic, value in reference.lines(self.root / "events"):
            event = json.loads(value)
            payload = event["payload"]
            if event["event_type"] != "transfer-done" or "rubin_butler" not in payload:
                continue
            self.assertEqual(topic, f"{payload['dst-rse']}-{payload['scope']}")
            [path] = [payload["dst-url"].replace(prefix["from"], prefix["to"])
                      for prefix in config[payload["dst-rse"]]["prefixes"]
                      if payload["dst-url"].startswith(prefix["from"])]
            content = pathlib.Path(path).read_bytes()
            self.assertEqual(payload["bytes"], len(content))
            self.assertEqual(payload["checksum-adler"], f"{zlib.adler32(content):08x}")
            checked += 1
        self.assertGreater(checked, 60)

    def test_a_repeat_is_the_same_bytes_at_another_place(self):
        by_place = {place: value for place, _, value in reference.lines(self.root / "events")}
        repeated = [event["places"] for event in self.expected["events"] if len(event["places"]) > 1]
        self.assertEqual(len(repeated), 9)
        for first, second in repeated:
            self.assertEqual(by_place[first], by_place[second])
        self.assertEqual(len(by_place), self.expected["totals"]["lines"])
        self.assertEqual(len(list((self.root / "events").iterdir())), 3)

    def test_the_same_seed_makes_the_same_events(self):
        with tempfile.TemporaryDirectory() as folder:
            # No zips here: the members of a zip carry the time of their making.
            other = pathlib.Path(folder)
            for seed, name in ((7, "a"), (7, "b"), (8, "c")):
                site("make", other / name, "--files", 20, "--zips", 0, "--seed", seed)
            a, b, c = ((other / name / "events" / "0001.ndjson").read_bytes() for name in "abc")
            self.assertEqual(a, b)
            self.assertNotEqual(a, c)


class ASiteOfCtrlIngestd(TemporarySite):
    OPTIONS = ("--files", 12, "--in-place", "--faults", "dot_dot,double_slash")

    def test_files_inside_the_datastore_are_taken_where_they_are(self):
        reference.run(self.root, transfer="auto")
        done = site("verify", self.root, check=False)
        self.assertEqual(done.returncode, 0, done.stdout)

    def test_its_configuration_has_the_keys_of_ctrl_ingestd(self):
        site("config", self.root, "--ctrl-ingestd", "--kafka", "localhost:1,localhost:2", "--config", "old.yaml")
        lines = (self.root / "old.yaml").read_text().splitlines()
        config = {name: json.loads(value) for name, value in (line.split(": ", 1) for line in lines)}
        self.assertEqual(list(config), ["brokers", "group_id", "num_messages", "timeout", "butler_repo", "topics"])
        self.assertEqual(config["brokers"], ["localhost:1", "localhost:2"])
        self.assertEqual(config["topics"]["DEMO_BUTLER_DISK-dp1"],
                         {"rucio_prefix": "davs://dtn-demo.example.org:443/rucio/butler_disk/",
                          "fs_prefix": f"{self.root}/repo/main/rse/DEMO_BUTLER_DISK"})


class ManyFiles(TemporarySite):
    OPTIONS = ("--files", 3000, "--brief", "--exposures", 20, "--zips", 0, "--arriving", 0, "--late", 0,
               "--faults", "none")

    def test_a_brief_oracle_counts(self):
        totals = self.expected["totals"]
        self.assertEqual(totals["datasets"], {"main": 3000})
        self.assertEqual(self.expected["repositories"]["main"]["datasets"], [])
        self.assertEqual(sum(self.expected["repositories"]["main"]["counts"].values()), 3000)


if __name__ == "__main__":
    unittest.main()
