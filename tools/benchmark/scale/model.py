# SPDX-License-Identifier: MIT
"""Discrete-event simulation of cache lines and locks under three event systems.

A CPU is a generator: it yields nanoseconds that pass, or a Lock that it wants.  A line
is with its owner, or with its owner and sharers; who misses waits for those who asked
before, then for the transfer.  A contended lock goes to whoever waits longest.
"""

import collections
import heapq
import random
from dataclasses import dataclass

# Instructions on 6.1, tools/vm --icount: writes of eventfds and the collection bracketed
# apart; by event, and by call of the collector.  io_uring with DEFER_TASKRUN, the
# cheapest of its modes where the writer is another thread.
WRITE = 707
INSTRUCTIONS = {"epoll": (212, 147, 535), "io_uring": (194, 213, 553),
                "kevent": (158, 16, 39)}
PENDING, BATCH, MAX = 64, 32, 256  # sources of a CPU, writes before it collects, buffer


@dataclass(frozen=True)
class Inputs:
    """What the sensitivity table varies."""
    per_ns: float = 2  # instructions
    transfer: float = 1  # times the machine's figures
    remote: float = 1  # the same, between nodes alone
    handover: float = 2  # transfers: the waiter sees the release, then takes the line
    section: float = 60  # instructions under a lock for an event
    overlap: float = 4  # misses of a reader that go on at once
    kevent: float = 1  # times its instructions
    batch: float = BATCH
    work: float = 0  # instructions of the program for each event


class Line:
    __slots__ = ("owner", "sharers", "nodes", "free")

    def __init__(self, owner=0):
        self.owner = owner
        self.sharers = None  # or a set, and that of their nodes
        self.free = 0


class Lock(Line):
    __slots__ = ("holder", "queue")

    def __init__(self, owner=0):
        super().__init__(owner)
        self.holder = None
        self.queue = collections.deque()


class Source:
    __slots__ = ("home", "file", "item", "busy", "linked", "pos", "value")

    def __init__(self, writer, home):
        self.home = home
        self.file = Line(writer)  # the eventfd: wait queue, lock, counter
        self.item = Line(writer)  # epitem, io_kiocb or kev_file
        self.busy = self.linked = False
        self.pos = -1
        self.value = 0


class Simulation:
    """CPUs, lines and time; @watch is told of every change of a lock's holder."""

    def __init__(self, machine, cpus, nodes, inputs=Inputs(), watch=None):
        self.machine, self.inputs, self.watch = machine, inputs, watch
        self.cpus, self.nodes = cpus, min(nodes, cpus)
        self.now = 0.0
        self.heap = []
        self.serial = 0
        self.posted = self.collected = 0
        self.random = random.Random(1)
        self.node_of = [cpu * self.nodes // cpus for cpu in range(cpus)]
        self.members = [[cpu for cpu in range(cpus) if self.node_of[cpu] == node]
                        for node in range(self.nodes)]
        self.to_node = [[self.between(a, b) for b in range(self.nodes)]
                        for a in range(self.nodes)]
        self.costs = [self.costs_of(cpu) for cpu in range(cpus)]

    def between(self, a, b):
        scale = self.inputs.transfer * (1 if a == b else self.inputs.remote)
        return self.machine.between(self.nodes, a, b) * scale

    def costs_of(self, cpu):
        m, to_node = self.machine, self.to_node[self.node_of[cpu]]
        costs = [to_node[node] for node in self.node_of]
        if m.cluster_cpus:
            first = cpu - cpu % m.cluster_cpus
            for other in range(first, min(first + m.cluster_cpus, self.cpus)):
                costs[other] = m.cluster * self.inputs.transfer
        costs[cpu] = 0
        return costs

    def time(self, instructions):
        return instructions / self.inputs.per_ns

    def write(self, line, cpu):
        """How long @cpu waits until the line is its own alone."""
        cost = self.costs[cpu][line.owner]
        if line.sharers:
            line.sharers.discard(cpu)
            if line.sharers:
                cost = max(cost, self.farthest(line, cpu))
            line.sharers = None
        line.owner = cpu
        return self.serve(line, cost)

    def read(self, line, cpu):
        if line.owner == cpu:
            return 0
        cost = self.costs[cpu][line.owner]
        if not line.sharers:
            line.sharers, line.nodes = {cpu}, {self.node_of[cpu]}
            return self.serve(line, cost)
        if cpu in line.sharers:
            return 0
        cost = min(cost, self.nearest(line, cpu))  # from several at once
        line.sharers.add(cpu)
        line.nodes.add(self.node_of[cpu])
        return cost

    def farthest(self, line, cpu):
        return max(self.to_node[self.node_of[cpu]][node] for node in line.nodes)

    def nearest(self, line, cpu):
        return min(self.to_node[self.node_of[cpu]][node] for node in line.nodes)

    def serve(self, line, cost):
        if not cost:
            return 0
        line.free = max(line.free, self.now) + cost
        return line.free - self.now

    def start(self, generator, cpu):
        round_time = self.time(WRITE + self.inputs.work) * BATCH
        self.resume(self.random.random() * round_time, cpu, generator)

    def resume(self, delay, cpu, generator):
        self.serial += 1
        heapq.heappush(self.heap, (self.now + delay, self.serial, cpu, generator))

    def grant(self, lock, cpu):
        assert lock.holder is None
        lock.holder = cpu
        if self.watch:
            self.watch(lock, cpu)

    def release(self, lock, cpu):
        assert lock.holder == cpu
        lock.holder = None
        if self.watch:
            self.watch(lock, None)
        if lock.queue:
            waiter, generator = lock.queue.popleft()
            self.grant(lock, waiter)
            lock.sharers = None
            lock.owner = waiter
            self.resume(self.inputs.handover * self.costs[cpu][waiter], waiter, generator)

    def run(self, warm, until):
        """Until so many are collected; events per second since @warm of them."""
        first = None
        while self.collected < until:
            self.now, _, cpu, generator = heapq.heappop(self.heap)
            if first is None and self.collected >= warm:
                first = self.now, self.collected
            wanted = next(generator)
            if not isinstance(wanted, Lock):
                self.resume(wanted, cpu, generator)
            elif wanted.holder is None:
                self.grant(wanted, cpu)
                self.resume(self.write(wanted, cpu), cpu, generator)
            else:
                wanted.queue.append((cpu, generator))
        return (self.collected - first[1]) / (self.now - first[0]) * 1e9


class Epoll:
    """One for all.  Its lock, list and ovflist are on one line; a spinlock, as in the
    kernels measured here (6.1.159, 6.12.57 and later), or the read-write lock of 5.1
    and after, which callbacks take shared."""

    def __init__(self, sim, shared=False):
        self.sim, self.shared = sim, shared
        self.mutex, self.lock = Lock(), Lock()
        self.ready, self.missed, self.scanning = [], [], False
        self.call = INSTRUCTIONS["epoll"]

    def link(self, cpu, source):
        """Independent misses of one section overlap: the longest counts."""
        sim, last = self.sim, self.missed if self.scanning else self.ready
        before = last[-1].item if last else self.lock
        wait = max(sim.write(source.item, cpu), sim.write(before, cpu))
        source.linked = True
        last.append(source)
        return wait

    def post(self, cpu, source):
        sim = self.sim
        section = sim.inputs.section
        yield sim.time(self.call[0] - section)
        if self.shared:
            yield sim.write(self.lock, cpu) + sim.time(section)
            if not source.linked:
                yield sim.write(self.lock, cpu)  # exchanges the tail
                yield self.link(cpu, source)
            yield sim.write(self.lock, cpu)
            return
        yield self.lock
        yield sim.time(section) + (0 if source.linked else self.link(cpu, source))
        sim.release(self.lock, cpu)

    def locked(self, cpu, work):
        if self.shared:
            yield self.sim.write(self.lock, cpu)
            yield work()
            yield self.sim.write(self.lock, cpu)
            return
        yield self.lock
        yield work()
        self.sim.release(self.lock, cpu)

    def collect(self, cpu):
        sim, taken = self.sim, []

        def splice():
            taken.extend(self.ready[:MAX])
            del self.ready[:MAX]
            self.scanning = True
            return sim.time(sim.inputs.section)

        def merge():
            wait = sum(sim.write(source.item, cpu) for source in self.missed)
            self.ready += self.missed
            self.missed, self.scanning = [], False
            return wait + sim.time(sim.inputs.section)

        yield sim.time(self.call[2] - 2 * sim.inputs.section) + sim.read(self.lock, cpu)
        if not self.ready and not self.missed:
            return taken
        yield self.mutex
        yield from self.locked(cpu, splice)
        wait = 0
        for source in taken:
            source.linked = False
            wait += max(sim.write(source.item, cpu), sim.read(source.file, cpu))
        yield wait + sim.time(self.call[1]) * len(taken)
        yield from self.locked(cpu, merge)
        sim.release(self.mutex, cpu)
        return taken


class Uring:
    """One for each thread.  A callback hands the request to the thread that owns it,
    which polls the file again and writes the completion."""

    def __init__(self, sim):
        self.sim = sim
        self.heads = [Line(cpu) for cpu in range(sim.cpus)]
        self.work = [[] for _ in range(sim.cpus)]
        self.call = INSTRUCTIONS["io_uring"]

    def post(self, cpu, source):
        sim = self.sim
        yield sim.time(self.call[0]) + sim.write(source.item, cpu)
        yield sim.write(self.heads[source.home], cpu)
        self.work[source.home].append(source)

    def collect(self, cpu):
        sim = self.sim
        yield sim.time(self.call[2]) + sim.read(self.heads[cpu], cpu)
        if not self.work[cpu]:
            return []
        yield sim.write(self.heads[cpu], cpu)
        taken, self.work[cpu] = self.work[cpu], []
        wait = 0
        for source in taken:
            wait += max(sim.write(source.item, cpu), sim.read(source.file, cpu))
        yield wait + sim.time(self.call[1]) * len(taken)
        return taken


class Ring:
    __slots__ = ("lock", "tail_line", "claim", "slots", "head", "seen", "events")

    def __init__(self, owner):
        self.lock, self.tail_line, self.claim = Lock(owner), Line(owner), Line(owner)
        self.slots = collections.defaultdict(lambda: Line(owner))
        self.head = self.seen = 0
        self.events = []


class Kevent:
    """@rings of a machine: its nodes, 1 or its CPUs.  The lock is on the line of the
    kernel's own words; tail, slots and claim word have lines of their own."""

    SLOT_LINES = 4096  # two slots a line; the program asked for a ring that is never full

    def __init__(self, sim, rings):
        self.sim = sim
        of = [cpu * rings // sim.cpus for cpu in range(sim.cpus)]
        self.rings = [Ring(of.index(ring)) for ring in range(rings)]
        self.of = [self.rings[ring] for ring in of]
        self.call = [n * sim.inputs.kevent for n in INSTRUCTIONS["kevent"]]

    def post(self, cpu, source):
        sim, ring = self.sim, self.of[source.home]
        section = min(sim.inputs.section, self.call[0])
        yield sim.time(self.call[0] - section)
        yield ring.lock
        wait = sim.time(section) + sim.write(source.item, cpu)
        if source.pos >= ring.seen:  # is its last event claimed?
            wait += sim.read(ring.claim, cpu)
            ring.seen = ring.head
        pos = source.pos = len(ring.events)
        slot = ring.slots[pos // 2 % self.SLOT_LINES]
        yield wait + max(sim.write(ring.tail_line, cpu), sim.write(slot, cpu))
        ring.events.append(source)
        sim.release(ring.lock, cpu)

    def collect(self, cpu):
        sim, ring = self.sim, self.of[cpu]
        while True:
            yield sim.time(self.call[2]) + sim.read(ring.claim, cpu)
            head = ring.head
            yield sim.read(ring.tail_line, cpu)
            end = min(len(ring.events), head + MAX)
            if end <= head:
                return []
            copy = sum(sim.read(ring.slots[line % self.SLOT_LINES], cpu)
                       for line in range(head // 2, (end - 1) // 2 + 1))
            yield copy / sim.inputs.overlap + sim.time(self.call[1]) * (end - head)
            yield sim.write(ring.claim, cpu)
            if ring.head == head:
                ring.head = end
                return ring.events[head:end]


SYSTEMS = {
    "epoll": Epoll,
    "io_uring": Uring,
    "kevent, a ring a node": lambda sim: Kevent(sim, sim.nodes),
    "kevent, one ring": lambda sim: Kevent(sim, 1),
    "kevent, a ring for 8": lambda sim: Kevent(sim, max(sim.nodes, sim.cpus // 8)),
    "kevent, a ring a CPU": lambda sim: Kevent(sim, sim.cpus),
    "epoll, read-write lock": lambda sim: Epoll(sim, shared=True),
}


def home_of(sim, cpu, pattern):
    """Whose thread (or node) a source of the writer @cpu belongs to."""
    if pattern == "own":
        return cpu
    if pattern == "any":
        return sim.random.randrange(sim.cpus)
    return sim.random.choice(sim.members[sim.node_of[cpu]])


def worker(sim, system, cpu, sources):
    """Writes a batch of sources whose last event was collected, then collects."""
    position, idle = 0, 0
    while True:
        wrote = 0
        for _ in range(PENDING):
            source = sources[position]
            position = (position + 1) % PENDING
            if source.busy:
                continue
            source.busy = True
            yield sim.time(WRITE) + sim.write(source.file, cpu)
            yield from system.post(cpu, source)
            sim.posted += 1
            wrote += 1
            if wrote >= sim.inputs.batch:
                break
        got = yield from system.collect(cpu)
        for source in got:
            source.busy = False
            if sim.inputs.work:
                yield sim.time(sim.inputs.work)
            sim.collected += 1
        idle = 0 if wrote or got else min(2 * idle, 32000) or 500
        yield idle


def workers(name, machine, cpus, nodes, pattern, inputs, watch=None):
    """A simulation in which every CPU writes and collects; its system and sources."""
    sim = Simulation(machine, cpus, nodes, inputs, watch)
    system = SYSTEMS[name](sim)
    sources = []
    for cpu in range(cpus):
        mine = [Source(cpu, home_of(sim, cpu, pattern)) for _ in range(PENDING)]
        sources += mine
        sim.start(worker(sim, system, cpu, mine), cpu)
    return sim, system, sources


def throughput(name, machine, cpus, nodes, pattern="node", inputs=Inputs(), rounds=5):
    """Events a second.  Half of the rounds do not count: at first all write and nobody
    collects."""
    sim, _, _ = workers(name, machine, cpus, nodes, pattern, inputs)
    events = max(rounds * BATCH * cpus, 3000)
    return sim.run(events / 2, events)


READ = 600  # instructions of read(2) on an eventfd: assumed


def stress(name, machine, writers, nodes, inputs=Inputs()):
    """Penyaev's stress-epoll: each thread writes one eventfd without a pause, one more
    thread collects and reads them.  Writes a second; many merge into one event."""
    sim = Simulation(machine, writers + 1, nodes, inputs)
    system = SYSTEMS[name](sim)
    sources = [Source(cpu, writers) for cpu in range(writers)]

    def writer(cpu, source):
        while True:
            yield sim.time(WRITE) + sim.write(source.file, cpu)
            source.value += 1
            yield from system.post(cpu, source)

    def reader(cpu):
        while True:
            for source in (yield from system.collect(cpu)):
                yield sim.time(READ) + sim.write(source.file, cpu)
                sim.collected += source.value
                source.value = 0

    for cpu, source in enumerate(sources):
        sim.start(writer(cpu, source), cpu)
    sim.start(reader(writers), writers)
    return sim.run(500 * writers, 1500 * writers)
