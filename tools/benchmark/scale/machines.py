# SPDX-License-Identifier: MIT
"""What it costs to move a cache line between two CPUs, as published.

Nanoseconds until a line that another CPU has modified can be read or changed.  Each
figure is quoted from its source; what is derived from it says so.
"""

from dataclasses import dataclass

# David, Guerraoui, Trigonakis, SOSP 2013, table 2: loads of a modified line on the
# eight-socket Xeon, 400 cycles over two hops for 289 over one.
TWO_HOPS = 400 / 289


@dataclass(frozen=True)
class Machine:
    name: str
    node: float  # between two CPUs of a node
    near: float  # to another node, one hop
    far: float  # two hops, or another package where a package has several nodes
    source: str
    cluster: float = 0  # between two that share a last-level cache, if not all do
    cluster_cpus: int = 0
    packages: int = 0  # nodes are divided among so many; 0: one hop to four others

    def between(self, nodes, a, b):
        if a == b:
            return self.node
        if self.packages:
            share = max(nodes // self.packages, 1)
            return self.near if a // share == b // share else self.far
        # Derived: up to four nodes are fully connected, eight are a folded cube.
        return self.far if nodes > 4 and (a ^ b) in (3, 5, 6) else self.near


ICE_LAKE = Machine(
    "Xeon 8375C", 51, 108, 108 * TWO_HOPS,
    "github.com/nviennot/core-to-core-latency: median of a compare-and-swap from core to "
    "core, half a round trip: 51 ns within a socket, 108 ns between the two.  (Intel MLC "
    "on a similar 8360Y, as quoted in public code: 59.8 and 126 ns.)  Derived: two hops "
    "are 400/289 of one, and a machine of 4 or 8 such nodes, which nobody sells.")

CASCADE_LAKE = Machine(
    "Xeon 8275CL", 47, 134, 134 * TWO_HOPS,
    "The same source: 47 and 134 ns.  (Intel MLC on a two-socket Cascade Lake, FD.io CSIT, "
    "sut_calib_clx.rst: modified line 55.6 ns in the socket; 115.6 ns to the other if the "
    "line's memory is the writer's, 178.2 if the reader's.)  Derived as above.")

MILAN = Machine(
    "EPYC 7R13", 107, 107, 197,
    "The same source: 23 ns within eight cores, 107 ns to others of the socket (it speaks of "
    "90 to 110, and of 200 in one socket of the two), 197 ns to the other socket.  "
    "Derived: nodes of one socket (NPS2, NPS4) are 107 ns apart.",
    cluster=23, cluster_cpus=8, packages=2)

WESTMERE = Machine(
    "Xeon E7-8867L", 109 / 2.13, 289 / 2.13, 400 / 2.13,
    "David et al., SOSP 2013, table 2, eight sockets at 2.13 GHz: a load of a modified line "
    "takes 109 cycles in the socket, 289 one hop away, 400 two hops away; checked against "
    "notes that quote the paper, no copy was at hand.  (A store, from memory: 115, 320, "
    "431; not used.)  Derived: cycles / 2.13.")

OPTERON = Machine(
    "Opteron 6172", 81 / 2.1, 161 / 2.1, 252 / 2.1,
    "The same table, four sockets of two dies at 2.1 GHz: 81 cycles on the die, 161 to the "
    "other die of the package, 172 one hop, 252 two hops; quoted from memory, no copy was at "
    "hand.  Derived: all other packages are two hops away; cycles / 2.1.  A store to a line "
    "that others share is a broadcast there (246 cycles and more): not modelled.",
    packages=4)

BROADWELL = Machine(
    "Xeon E5-2695 v4", 44, 118, 118 * TWO_HOPS,
    "nviennot/core-to-core-latency: 44 and 118 ns.  Used for the check against stress-epoll.")

# What an emulator has.
FLAT = Machine("no cache costs", 0, 0, 0, "multi-threaded TCG: memory costs nothing")

MACHINES = {"icelake": ICE_LAKE, "cascadelake": CASCADE_LAKE, "milan": MILAN,
            "westmere": WESTMERE, "opteron": OPTERON, "broadwell": BROADWELL,
            "flat": FLAT}
