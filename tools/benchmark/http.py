#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The rows of kevent-httpd and its twins; runs in the VM.  Prints each as a line of JSON.

    tools/vm --icount -- tools/benchmark/http.py instructions BUILD
    tools/vm -- tools/benchmark/http.py time BUILD

BUILD is CMake's directory.  `instructions` leads to http_instructions, which says what it
measures.  `time` drives the three servers with wrk: 64 keep-alive connections, a file of
1 KiB from the page cache, two threads each, client and servers on the same two CPUs.  They
run all the time and are driven in turn, for a second each.  What else the machine does slows
down all three of a round: a time counts as the part that it is of the round's mean, and that
of the median round.  The figure is the median of the rounds, the spread half of the distance
between the quartiles.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
CONNECTIONS = 64
SIZE = 1024


def run(*command):
    return subprocess.run([str(word) for word in command], check=True, stdout=subprocess.PIPE,
                          text=True).stdout


def make_root(directory):
    """A file in the page cache of a file system that knows nonblocking reads: tmpfs does not."""
    subprocess.run(["modprobe", "-aq", "loop", "ext4"], check=False)
    image, root = directory / "image", directory / "root"
    root.mkdir()
    with open(image, "wb") as file:
        file.truncate(16 << 20)
    run("mkfs.ext4", "-q", "-F", image)
    run("mount", "-o", "loop,noatime", image, root)
    (root / "file.html").write_bytes(b"x" * SIZE)
    return root


class Server:
    def __init__(self, name, *command):
        self.name = name
        self.process = subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE,
                                        text=True)
        self.port = re.search(r":(\d+)/", self.process.stdout.readline()).group(1)

    def drive(self):
        """Microseconds for each request."""
        output = run("wrk", "-t2", f"-c{CONNECTIONS}", "-d1s", "--timeout", "30s", "-s",
                     HERE / "http.lua", f"http://127.0.0.1:{self.port}/file.html")
        found = json.loads(re.search(r"^JSON (.*)", output, re.MULTILINE).group(1))
        if found["errors"] or not found["requests"]:
            raise SystemExit(f"http.py: {self.name}: {output}")
        return found["microseconds"] / found["requests"]

    def stop(self):
        self.process.terminate()
        self.process.wait()


def measure_time(kevent, twin, root):
    common = (root, "-p0", "-t2", "--idle-timeout", "30")
    servers = [Server("kevent", kevent, *common, "--stats", "/dev/null"),
               Server("epoll", twin, "epoll", *common),
               Server("io_uring", twin, "io_uring", *common)]
    count = 10 if "KEVENT_QUICK" in os.environ else 31
    rounds = [[server.drive() for server in servers] for _ in range(count)][1:]
    means = [statistics.geometric_mean(times) for times in rounds]
    scale = statistics.median(means)
    row = {"unit": "us per request"}
    for server, times in zip(servers, zip(*rounds)):
        parts = [scale * time / mean for time, mean in zip(times, means)]
        first, median, last = statistics.quantiles(parts, n=4)
        row[server.name] = round(median, 2)
        row[server.name + "_spread"] = round((last - first) / 2, 2)
        server.stop()
    print(json.dumps({"http": row}))


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["instructions", "time"])
    parser.add_argument("build", type=Path)
    arguments = parser.parse_args()
    tools = arguments.build / "tools"
    servers = tools / "httpd/kevent-httpd", tools / "httpd/twins/twin-httpd"
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        root = make_root(Path(directory))
        try:
            if arguments.what == "time":
                measure_time(*servers, root)
                return 0
            program = tools / "benchmark/http_instructions"
            return subprocess.run([program, *servers, root], check=False).returncode
        finally:
            run("umount", root)


if __name__ == "__main__":
    sys.exit(main())
