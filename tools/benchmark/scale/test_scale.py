# SPDX-License-Identifier: MIT
"""Invariants of the model: cd tools/benchmark/scale && python3 -m unittest"""

import collections
import contextlib
import importlib.machinery
import importlib.util
import io
import json
import os
import sys
import tempfile
import unittest

import model
from machines import FLAT, ICE_LAKE, MACHINES
from model import Inputs

sys.dont_write_bytecode = True
loader = importlib.machinery.SourceFileLoader(
    "scale", os.path.join(os.path.dirname(os.path.abspath(__file__)), "scale"))
scale = importlib.util.module_from_spec(importlib.util.spec_from_loader("scale", loader))
loader.exec_module(scale)


def each(test):
    def run(self):
        for name in model.SYSTEMS:
            for pattern in ("own", "any"):
                with self.subTest(name, pattern=pattern):
                    test(self, name, pattern)
    return run


class Invariants(unittest.TestCase):
    @each
    def test_every_event_is_collected_once(self, name, pattern):
        sim, system, sources = model.workers(name, ICE_LAKE, 8, 2, pattern, Inputs())
        out, post, collect = collections.Counter(), system.post, system.collect

        def posted(cpu, source):
            yield from post(cpu, source)
            out[source] += 1

        def collected(cpu):
            got = yield from collect(cpu)
            out.subtract(got)
            self.assertGreaterEqual(min((out[source] for source in got), default=0), -1)
            return got

        system.post, system.collect = posted, collected
        sim.run(1000, 4000)
        # A collector may have an event before its poster has gone on.
        self.assertLessEqual(abs(sum(out.values()) - (sim.posted - sim.collected)), 8)
        self.assertEqual({source for source, n in out.items() if n > 0} -
                         {source for source in sources if source.busy}, set())
        self.assertLessEqual(max(out.values()), 1)

    @each
    def test_one_holder_of_a_lock(self, name, pattern):
        holders, grants = {}, []

        def watch(lock, cpu):
            self.assertNotEqual(holders.get(lock) is None, cpu is None)
            holders[lock] = cpu
            grants.append(cpu)

        sim, _, _ = model.workers(name, ICE_LAKE, 8, 2, pattern, Inputs(), watch)
        sim.run(500, 2000)
        self.assertEqual(bool(grants), name != "io_uring")

    @each
    def test_dearer_transfers_are_never_faster(self, name, pattern):
        rates = [model.throughput(name, ICE_LAKE, 16, 4, pattern, Inputs(transfer=factor))
                 for factor in (0, 0.5, 1, 2, 4)]
        for cheap, dear in zip(rates, rates[1:]):
            self.assertLessEqual(dear, cheap * 1.02)

    @each
    def test_one_cpu_takes_its_instructions(self, name, pattern):
        callback, collect, call = model.INSTRUCTIONS[name.split(",")[0]]
        event = model.WRITE + callback + collect + call / model.BATCH
        self.assertAlmostEqual(model.throughput(name, ICE_LAKE, 1, 1, pattern) / 1e9,
                               Inputs().per_ns / event, delta=0.03 * Inputs().per_ns / event)

    @each
    def test_same_again(self, name, pattern):
        self.assertEqual(model.throughput(name, ICE_LAKE, 4, 2, pattern),
                         model.throughput(name, ICE_LAKE, 4, 2, pattern))


class Lines(unittest.TestCase):
    def setUp(self):
        self.sim = model.Simulation(ICE_LAKE, 4, 2)
        self.line = model.Line(0)

    def test_read_shares_and_write_takes_back(self):
        self.assertEqual(self.sim.read(self.line, 1), 51)
        self.assertEqual(self.sim.read(self.line, 1), 0)
        self.sim.now = 1000
        self.assertEqual(self.sim.read(self.line, 2), 108)
        self.assertEqual(self.sim.read(self.line, 3), 51)  # from its neighbour
        self.assertEqual(self.sim.write(self.line, 0), 108)
        self.assertEqual(self.sim.read(self.line, 0), 0)

    def test_those_who_asked_before_come_first(self):
        self.assertEqual(self.sim.write(self.line, 1), 51)
        self.assertEqual(self.sim.write(self.line, 0), 102)

    def test_costs_are_symmetric_and_grow_with_distance(self):
        for machine in MACHINES.values():
            for nodes in (1, 2, 4, 8):
                for a in range(nodes):
                    for b in range(nodes):
                        cost = machine.between(nodes, a, b)
                        self.assertEqual(cost, machine.between(nodes, b, a))
                        self.assertGreaterEqual(cost, machine.between(nodes, a, a))


class Checks(unittest.TestCase):
    def check(self, rows):
        with tempfile.NamedTemporaryFile("w") as file, \
                contextlib.redirect_stdout(io.StringIO()), \
                contextlib.redirect_stderr(io.StringIO()):
            json.dump(rows, file)
            file.flush()
            return scale.check_measured(file.name)

    def test_published(self):
        with contextlib.redirect_stdout(io.StringIO()):
            self.assertTrue(scale.check_published())

    def test_measured(self):
        batch = {"edge_batch": {"kevent": 174, "epoll": 361, "io_uring": 409}}
        self.assertTrue(self.check(batch))
        batch["producers"] = {"kevent": 1, "epoll": 1.3}
        self.assertTrue(self.check(batch))
        batch["producers"]["epoll"] = 3
        self.assertFalse(self.check(batch))
        self.assertFalse(self.check({}))

    def test_flat_machine_has_no_cache_costs(self):
        self.assertEqual(model.throughput("io_uring", FLAT, 4, 2, "own"),
                         model.throughput("io_uring", FLAT, 4, 2, "own",
                                          Inputs(transfer=9, remote=9)))


if __name__ == "__main__":
    unittest.main()
