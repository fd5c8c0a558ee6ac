#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The part of tools/demo that runs inside the VM.

Unpacks a document tree into memory, serves it with kevent-httpd, and either
drives that (with wrk and curl) and prints what happened, or serves on.
"""

import argparse
import json
import os
import platform
import random
import re
import signal
import subprocess
import sys
import time
import urllib.parse
from pathlib import Path

HERE = Path(__file__).resolve().parent
SCRATCH = Path("/dev/shm/demo")
CONNECTIONS = 64
SAMPLE = 200
IOCTL_LIMIT = 50
PORT = 8080


def say(text):
    print(f"demo: {text}", file=sys.stderr, flush=True)


# --- the server -------------------------------------------------------------

def unpack(archive):
    say("unpacking the documents into the guest's memory")
    root = SCRATCH / "root"
    root.mkdir(parents=True)
    subprocess.run(["tar", "-C", root, "-xf", archive], check=True)
    return root


class Server:
    def __init__(self, program, root, address, options):
        self.file = SCRATCH / "stats.json"
        self.process = subprocess.Popen(
            [program, root, "--address", address, "--port", str(PORT), "--stats", self.file,
             *options], stdout=subprocess.PIPE, text=True)
        if not self.process.stdout.readline():
            raise SystemExit("demo: the server did not start")

    def statistics(self):
        self.file.unlink(missing_ok=True)
        self.process.send_signal(signal.SIGUSR1)
        while not self.file.exists():
            time.sleep(0.02)
        return json.loads(self.file.read_text())

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait()
        return status, json.loads(self.file.read_text())


# --- driving it -------------------------------------------------------------

def find_files(root):
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return [(path, "/" + urllib.parse.quote(str(path.relative_to(root)))) for path in files]


def load(server, files, seconds):
    """wrk's results, and the server's statistics early and late in its run."""
    say(f"load: wrk with {CONNECTIONS} keep-alive connections for {seconds} s")
    paths = SCRATCH / "paths"
    paths.write_text("".join(f"{url}\n" for _, url in files))
    wrk = subprocess.Popen(
        ["wrk", "-t2", f"-c{CONNECTIONS}", f"-d{seconds}s", "--timeout", "10s", "-s",
         HERE / "demo_load.lua", f"http://127.0.0.1:{PORT}"],
        stdout=subprocess.PIPE, text=True, env={**os.environ, "PATHS": str(paths)})
    wait_for_load(server)
    first = server.statistics()
    time.sleep(max(seconds - 3, 1))
    last = server.statistics()
    output, _ = wrk.communicate()
    found = re.search(r"^JSON (.*)", output, re.MULTILINE)
    if not found:
        raise SystemExit(f"demo: wrk said:\n{output}")
    return json.loads(found.group(1)), first, last


def wait_for_load(server):
    """Until all of wrk's connections are there, and have asked for something."""
    while True:
        numbers = server.statistics()
        if numbers["connections"]["open"] >= CONNECTIONS and numbers["requests"] > CONNECTIONS:
            return
        time.sleep(0.1)


def compare(files):
    """Downloads with curl.  Returns how many bytes were compared, and what differed."""
    say(f"downloading {len(files)} files with curl and comparing every byte")
    config = SCRATCH / "curl"
    outputs = SCRATCH / "downloads"
    outputs.mkdir()
    config.write_text("".join(
        f'url = "http://127.0.0.1:{PORT}{url}"\noutput = "{outputs}/{i}"\n'
        for i, (_, url) in enumerate(files)))
    status = subprocess.run(["curl", "-sS", "--fail", "--path-as-is", "-K", config],
                            check=False).returncode
    size, wrong = 0, [f"curl's exit status: {status}"] if status else []
    for i, (path, url) in enumerate(files):
        got = outputs / str(i)
        wanted = path.read_bytes()
        size += len(wanted)
        # curl makes no file for an empty body.
        if (got.read_bytes() if got.exists() else b"") != wanted:
            wrong.append(url)
    return size, wrong


# --- what happened ----------------------------------------------------------

def difference(first, last):
    """Numbers of the time between two statistics."""
    if isinstance(last, dict):
        return {key: difference(first[key], value) for key, value in last.items()}
    if isinstance(last, list):
        return [difference(*pair) for pair in zip(first, last)]
    return last - first


def problems(wrk, under_load, end, status, wrong, per_thousand):
    connections = end["connections"]
    checks = {
        "wrk met errors": wrk["bad_status"] + wrk["bad_socket"] + wrk["timeouts"],
        "downloads differ": len(wrong),
        "events were lost": end["lost"],
        "events are pending at the end": end["pending"],
        "connections were not closed": connections["accepted"] - connections["closed"],
        "a ring was not used": sum(ring["events"] == 0 for ring in under_load["rings"]),
        "there is only one ring": len(end["rings"]) < 2,
        f"{IOCTL_LIMIT} ioctls or more per thousand events": per_thousand >= IOCTL_LIMIT,
        f"the server's exit status was {status}": status,
    }
    return [what for what, count in checks.items() if count]


def row(*cells):
    first, *rest = cells
    return (f"  {first:<10}" + "".join(f"{cell:>13}" for cell in rest)).rstrip()


def ring_table(end, under_load):
    total = max(under_load["events"], 1)
    rows = [row("ring", "node", "connections", "requests", "events", "mapped ring", "by ioctl",
                "share")]
    for ring, whole in zip(under_load["rings"], end["rings"]):
        rows.append(row(whole["index"], whole["node"], whole["connections"], ring["requests"],
                        ring["events"], ring["ring_events"], ring["level_events"],
                        f"{100 * ring['events'] / total:.1f} %"))
    rows.append(row("all", "", end["connections"]["adopted"], under_load["requests"],
                    under_load["events"], under_load["ring_events"], under_load["level_events"],
                    ""))
    return rows


def nodes():
    return len(list(Path("/sys/devices/system/node").glob("node[0-9]*")))


def report(wrk, under_load, end, files, compared, per_thousand):
    rate = wrk["requests"] / (wrk["microseconds"] / 1e6)
    latency = {name: f"{wrk[name] / 1000:.1f}" for name in ("p50", "p90", "p99", "max")}
    sleeps = sum(ring["sleeps"] for ring in under_load["rings"])
    size = sum(path.stat().st_size for path, _ in files)
    reads = under_load["reads"]
    return "\n".join([
        "",
        f"kevent-httpd on Linux {platform.release()}, {os.cpu_count()} CPUs, {nodes()} NUMA nodes",
        "",
        f"  documents    {len(files)} files, {size / 1e6:.1f} MB",
        f"  load         wrk, {CONNECTIONS} keep-alive connections, "
        f"{wrk['microseconds'] / 1e6:.1f} s",
        f"  requests     {wrk['requests']}, {rate:.0f} per second; "
        f"{wrk['bytes'] / 1e6:.1f} MB",
        "  latency      " + "   ".join(f"{name} {value} ms" for name, value in latency.items()),
        "",
        *ring_table(end, under_load),
        "",
        f"  ioctls       {under_load['ioctls'] - under_load['ioctls_submit']} for "
        f"{under_load['events'] - reads['made']} events of sources: {per_thousand:.1f} per "
        f"thousand (must stay below {IOCTL_LIMIT}); {sleeps} of them slept",
        f"  reads        {reads['made']}, submitted by {under_load['ioctls_submit']} ioctls; "
        f"{reads['cached']} ended at once",
        f"  pending      {end['pending']}",
        f"  lost         {end['lost']}",
        f"  compared     {SAMPLE} downloads, {compared / 1e6:.1f} MB, byte by byte",
        "",
        "  (rings and ioctls: while all connections were busy; connections, pending and",
        "  lost: from start to end, when every event posted has been accounted for)",
        "",
    ])


def drive(server, root, seconds):
    files = find_files(root)
    wrk, first, last = load(server, files, seconds)
    sample = random.sample(files, min(SAMPLE, len(files)))
    compared, wrong = compare(sample)
    status, end = server.stop()
    under_load = difference(first, last)
    # A submission is what a read(2) would be, for many files: not the price of an event.
    ioctls = under_load["ioctls"] - under_load["ioctls_submit"]
    per_thousand = 1000 * ioctls / max(under_load["events"] - under_load["reads"]["made"], 1)
    print(report(wrk, under_load, end, files, compared, per_thousand))
    found = problems(wrk, under_load, end, status, wrong, per_thousand)
    for problem in found + wrong[:10]:
        print(f"  WRONG: {problem}")
    print("demo: " + ("failed" if found else "all is well"))
    return 1 if found else 0


def serve(server, url):
    print(f"demo: serving {url} - Ctrl-C stops", flush=True)
    return server.process.wait()


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="What follows -- are options of the server.")
    parser.add_argument("program")
    parser.add_argument("archive")
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--serve", metavar="URL", help="serve on; that is what to tell")
    split = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    arguments = parser.parse_args(sys.argv[1:split])
    root = unpack(arguments.archive)
    address = "0.0.0.0" if arguments.serve else "127.0.0.1"
    say("starting kevent-httpd")
    server = Server(arguments.program, root, address, sys.argv[split + 1:])
    if arguments.serve:
        return serve(server, arguments.serve)
    return drive(server, root, arguments.seconds)


if __name__ == "__main__":
    sys.exit(main())
