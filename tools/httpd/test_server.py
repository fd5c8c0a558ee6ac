#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Tests kevent-httpd from end to end.  Needs /dev/kevent:

    tools/vm -- tools/httpd/test_server.py PROGRAM

Prints TAP.  With names of tests after PROGRAM, only those.
"""

import contextlib
import email.utils
import functools
import http.client
import json
import os
import random
import re
import resource
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

PROGRAM = None
BASE = None  # a directory in memory
FILES = {}
PATIENCE = 300  # seconds; a bound, never a delay
# In percent, how much of what can be done more or less often.
SCALE = int(os.environ.get("KEVENT_TEST_SCALE", "100"))
SLOWNESS = max(100 / SCALE, 1)  # for times and numbers that must not be too small


# --- the server -------------------------------------------------------------

class Server:
    """A running kevent-httpd."""

    def __init__(self, *options, files_limit=None):
        self.stats_file = BASE / "stats.json"
        self.stats_file.unlink(missing_ok=True)

        def limit():
            if files_limit:
                resource.setrlimit(resource.RLIMIT_NOFILE, (files_limit, files_limit))
        self.process = subprocess.Popen(
            [PROGRAM, BASE / "root", "--port", "0", "--stats", self.stats_file,
             *map(str, options)],
            stdout=subprocess.PIPE, text=True, preexec_fn=limit)
        line = self.process.stdout.readline()
        self.port = int(re.search(r":(\d+)/", line).group(1))
        self.fds_at_start = self.fds()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def fds(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def requests(self):
        """Requests of its queue that are in flight, as the kernel counts them."""
        found = 0
        for info in Path(f"/proc/{self.process.pid}/fdinfo").iterdir():
            with contextlib.suppress(FileNotFoundError):
                found += sum(map(int, re.findall(r"^ring:.* requests (\d+)", info.read_text(),
                                                 re.MULTILINE)))
        return found

    def memory(self):
        """Bytes that are resident."""
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * resource.getpagesize()

    def connect(self, receive_buffer=None):
        client = socket.socket()
        client.settimeout(PATIENCE)
        if receive_buffer:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        client.connect(("127.0.0.1", self.port))
        return client

    def client(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)

    def get(self, path, method="GET", headers=None):
        client = self.client()
        client.request(method, path, headers=headers or {})
        response = client.getresponse()
        body = response.read()
        client.close()
        return response, body

    def stats(self):
        self.stats_file.unlink(missing_ok=True)
        self.process.send_signal(signal.SIGUSR1)
        wait_for(self.stats_file.exists, "statistics")
        return json.loads(self.stats_file.read_text())

    def stop(self):
        """Ends it with SIGTERM; its last statistics."""
        self.process.send_signal(signal.SIGTERM)
        return self.ended()

    def ended(self):
        status = self.process.wait(PATIENCE)
        assert status == 0, f"exit status {status}"
        stats = json.loads(self.stats_file.read_text())
        reconcile(stats)
        return stats

    def idle(self):
        """Waits until all connections have ended."""
        wait_for(lambda: self.stats()["connections"]["open"] == 0, "all to be closed")


def reconcile(stats):
    """Nothing lost, at the end of a server."""
    connections = stats["connections"]
    assert stats["lost"] == 0, stats
    assert stats["pending"] == 0, stats
    assert connections["stalled"] == 0, stats
    assert connections["accepted"] == connections["adopted"] + connections["refused"], stats
    assert connections["adopted"] == connections["closed"], stats
    for ring in stats["rings"]:
        assert ring["posted"] == ring["ring_events"] + ring["unclaimed"], ring


def wait_for(condition, what):
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.02)


def equal(got, wanted, what=""):
    assert got == wanted, f"{what}: {str(got)[:300]!r} is not {str(wanted)[:300]!r}"


def read_all(client):
    """Until the end; a reset is an error."""
    data = b""
    while chunk := client.recv(1 << 16):
        data += chunk
    return data


def exchange(server, request):
    with contextlib.closing(server.connect()) as client:
        client.sendall(request)
        return read_all(client)


def status_of(answer):
    return int(answer.split(b" ", 2)[1])


def reset(client):
    """Closes with RST."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def ask(server, path, receive_buffer=None, field=""):
    """A connection that has asked for a file, and hears nothing yet."""
    client = server.connect(receive_buffer)
    client.sendall(f"GET /{path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{field}\r\n".encode())
    return client


def body_of(client):
    """Reads to the end, and closes."""
    with contextlib.closing(client):
        return read_all(client).partition(b"\r\n\r\n")[2]


def is_served(server):
    response, body = server.get("/small.txt")
    equal((response.status, body), (200, FILES["small.txt"]), "after all that")


def make_tree():
    root = BASE / "root"
    generator = random.Random(1)
    for name, size in {"empty": 0, "one": 1, "small.txt": 1000, "medium.html": 70_000,
                       "large.gz": 5_000_000, "a b/c&d é.md": 3000}.items():
        FILES[name] = generator.randbytes(size)
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(FILES[name])
    (BASE / "secret").write_text("secret")


# --- what a client asks for -------------------------------------------------

def test_downloads(server):
    for name, data in FILES.items():
        response, body = server.get("/" + name.replace(" ", "%20").replace("é", "%C3%A9"))
        equal((response.status, body), (200, data), name)
        equal(response.getheader("Content-Length"), str(len(data)), name)
    equal(server.get("/medium.html")[0].getheader("Content-Type"), "text/html; charset=utf-8")


def test_head(server):
    response, body = server.get("/large.gz", "HEAD")
    equal((response.status, body), (200, b""))
    equal(response.getheader("Content-Length"), "5000000")


def test_ranges(server):
    data = FILES["large.gz"]
    for field, part in {"bytes=0-0": data[:1], "bytes=100-199": data[100:200],
                        "bytes=4999000-": data[-1000:], "bytes=-500": data[-500:],
                        "bytes=4999999-9999999": data[-1:]}.items():
        response, body = server.get("/large.gz", headers={"Range": field})
        equal((response.status, body), (206, part), field)
    response, body = server.get("/large.gz", headers={"Range": "bytes=10-19"})
    equal(response.getheader("Content-Range"), "bytes 10-19/5000000")
    response, _ = server.get("/large.gz", headers={"Range": "bytes=5000000-"})
    equal((response.status, response.getheader("Content-Range")), (416, "bytes */5000000"))
    response, body = server.get("/large.gz", headers={"Range": "bytes=0-1,5-6"})
    equal((response.status, body), (200, data), "several ranges")


def test_not_modified(server):
    modified = server.get("/one")[0].getheader("Last-Modified")
    equal(server.get("/one", headers={"If-Modified-Since": modified})[0].status, 304)
    earlier = email.utils.formatdate(1, usegmt=True)
    equal(server.get("/one", headers={"If-Modified-Since": earlier})[0].status, 200)
    fields = {"Range": "bytes=0-0", "If-Range": earlier}
    equal(server.get("/one", headers=fields)[0].status, 200)


def test_directories(server):
    response, body = server.get("/")
    equal(response.status, 200)
    assert b'href="./a%20b/"' in body, body
    response, _ = server.get("/a%20b")
    equal((response.status, response.getheader("Location")), (301, "/a%20b/"))


def test_errors(server):
    long = b"a" * 9000
    for request, status in [
            (b"GET /none HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", 404),
            (b"GET /../secret HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", 403),
            (b"GET /%2e%2e/secret HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", 403),
            (b"GET /%zz HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\nConnection: close\r\n\r\n", 400),
            (b"nonsense\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nfield without colon\r\n\r\n", 400),
            (b"GET / HTTP/2.0\r\n\r\n", 505),
            (b"BREW /pot HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", 501),
            (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc", 405),
            (b"GET /" + long + b" HTTP/1.1\r\nHost: h\r\n\r\n", 414),
            (b"GET / HTTP/1.1\r\nHost: h\r\nX: " + long + b"\r\n\r\n", 431)]:
        answer = exchange(server, request)
        equal(status_of(answer), status, request[:40])
        assert b"secret" not in answer
    response, _ = server.get("/", "DELETE")
    equal((response.status, response.getheader("Allow")), (405, "GET, HEAD"))


def test_keep_alive(server):
    before = server.stats()["connections"]["accepted"]
    client = server.client()
    for _ in range(200):
        client.request("GET", "/small.txt")
        equal(client.getresponse().read(), FILES["small.txt"])
    client.close()
    equal(server.stats()["connections"]["accepted"], before + 1)


def test_pipelining(server):
    names = [random.Random(2).choice(["one", "small.txt", "medium.html"]) for _ in range(100)]
    request = b"".join(f"GET /{name} HTTP/1.1\r\nHost: h\r\n\r\n".encode() for name in names)
    with contextlib.closing(server.connect()) as client:
        # Cut in all places, in large pieces and in small ones.
        sender = threading.Thread(target=send_pieces, args=(client, request))
        sender.start()
        reader = client.makefile("rb")
        for name in names:
            equal(reader.readline(), b"HTTP/1.1 200 OK\r\n", name)
            length = 0
            while (line := reader.readline()) != b"\r\n":
                if line.startswith(b"Content-Length:"):
                    length = int(line.split()[1])
            equal(reader.read(length), FILES[name], name)
        sender.join()


def send_pieces(client, data):
    generator = random.Random(3)
    while data:
        size = generator.choice([1, 2, 7, 40, 300, 3000])
        client.sendall(data[:size])
        data = data[size:]


# --- what a server must withstand -------------------------------------------

def test_garbage(server):
    generator = random.Random(4)
    for _ in range(100):
        with contextlib.closing(server.connect()) as client:
            with contextlib.suppress(ConnectionError):
                client.sendall(generator.randbytes(generator.randrange(1, 20_000)))
                client.shutdown(socket.SHUT_WR)
                read_all(client)
    is_served(server)


def test_half_requests(server):
    whole = b"GET /small.txt HTTP/1.1\r\nHost: h\r\n\r\n"
    for cut in range(1, len(whole)):
        client = server.connect()
        client.sendall(whole[:cut])
        if cut % 2:
            client.shutdown(socket.SHUT_WR)
            equal(read_all(client), b"", "half a request")
        client.close()
    is_served(server)


def test_half_close(server):
    with contextlib.closing(server.connect()) as client:
        client.sendall(b"GET /large.gz HTTP/1.1\r\nHost: h\r\n\r\n")
        client.shutdown(socket.SHUT_WR)
        answer = read_all(client)
        equal(answer.partition(b"\r\n\r\n")[2], FILES["large.gz"], "after a half close")


def test_resets(server):
    for i in range(100):
        client = server.connect()
        if i % 4:
            client.sendall(b"GET /large.gz HTTP/1.1\r\nHost: h\r\n" + b"\r\n" * (i % 2))
        if i % 4 == 3:
            client.recv(1000)
        reset(client)
    is_served(server)


def test_all_ended(server):
    """After all of the above: no connection and no descriptor is left."""
    server.idle()
    equal(server.fds(), server.fds_at_start, "descriptors")


def test_end(server):
    server.stop()


# --- servers of their own ---------------------------------------------------

# --- files that must be waited for --------------------------------------------

def run(*command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


class SlowDisk:
    """A file system below the root whose disk can be held, and what is on it."""
    NAME = "kevent-httpd"

    def __init__(self):
        subprocess.run(["modprobe", "-aq", "loop", "dm-mod", "ext4"], check=False)
        image, self.where = BASE / "disk", BASE / "root" / "disk"
        self.where.mkdir()
        with open(image, "wb") as file:
            file.truncate(48 << 20)
        run("mkfs.ext4", "-q", "-F", image)
        self.loop = run("losetup", "--find", "--show", image)
        run("dmsetup", "create", self.NAME, "--noudevsync", "--table",
            f"0 {(48 << 20) // 512} linear {self.loop} 0")
        self.device = "/dev/" + os.path.basename(os.path.realpath(f"/dev/mapper/{self.NAME}"))
        if not os.path.exists(self.device):
            run("dmsetup", "mknodes", self.NAME)
            self.device = f"/dev/mapper/{self.NAME}"
        run("mount", "-o", "noatime", self.device, self.where)
        self.files = [random.Random(i).randbytes(300_000 + i) for i in range(4)]
        for i, data in enumerate(self.files):
            (self.where / str(i)).write_bytes(data)
        os.sync()

    def hold(self):
        """Nothing of its files is in memory, and nothing can be read."""
        for i in range(len(self.files)):
            with open(self.where / str(i), "rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        run("dmsetup", "suspend", "--nolockfs", "--noudevsync", self.NAME)

    def let_go(self):
        run("dmsetup", "resume", "--noudevsync", self.NAME)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.let_go()

    def remove(self):
        run("umount", self.where)
        run("dmsetup", "remove", "--noudevsync", self.NAME)
        run("losetup", "-d", self.loop)


@functools.cache
def slow_disk():
    return SlowDisk()


def own_test_slow_file():
    """Holds up nobody but who asked for it."""
    with slow_disk() as disk, Server("--threads", "1") as server:
        disk.hold()
        waiting = [ask(server, f"disk/{i % 4}") for i in range(40)]
        wait_for(lambda: server.requests() == 40, "all to be read")
        gone = [ask(server, "disk/0") for _ in range(10)]
        wait_for(lambda: server.requests() == 50, "more to be read")
        for client in gone:
            reset(client)
        for _ in range(50):
            is_served(server)
        disk.let_go()
        for i, client in enumerate(waiting):
            equal(body_of(client), disk.files[i % 4], "a file that took long")
        server.idle()
        equal(server.requests(), 0, "requests")
        equal(server.fds(), server.fds_at_start, "descriptors")
        reads = server.stop()["reads"]
        assert reads["abandoned"] == 10, reads


def own_test_slow_file_times_out():
    with slow_disk() as disk, Server("--idle-timeout", "1") as server:
        disk.hold()
        equal(body_of(ask(server, "disk/1")), b"", "what was not read")
        is_served(server)
        disk.let_go()
        server.stop()


def own_test_stop_with_reads():
    """It waits for their end, whether the clients do or not."""
    with slow_disk() as disk, Server("--drain-timeout", "0.5") as server:
        disk.hold()
        clients = [ask(server, f"disk/{i % 4}") for i in range(20)]
        wait_for(lambda: server.requests() == 20, "all to be read")
        server.process.send_signal(signal.SIGTERM)
        for client in clients:
            equal(body_of(client), b"", "what was not read")
        disk.let_go()
        reads = server.ended()["reads"]
        equal(reads["abandoned"], 20)


def own_test_few_buffers():
    """Clients that do not take what they asked for cannot keep the buffers; those who do
    get all."""
    with Server("--threads", "1", "--buffers", "1", "--idle-timeout", PATIENCE) as server:
        deaf = [ask(server, "large.gz", 65536) for _ in range(20)]
        before = server.memory()
        for client in deaf:
            client.recv(1, socket.MSG_PEEK)
        for _ in range(20):
            is_served(server)
        assert server.memory() < before + (4 << 20), "too much memory"
        for client in deaf[::10]:
            equal(body_of(client), FILES["large.gz"], "a client that waited")
        server.stop()


def own_test_few_requests():
    """At the limit of requests some wait; nobody is turned away."""
    limit = Path("/sys/module/kevent/parameters/max_ring_requests")
    usual = limit.read_text()
    with slow_disk() as disk, Server("--threads", "1") as server:
        limit.write_text("4")
        try:
            disk.hold()
            clients = [ask(server, f"disk/{i % 4}") for i in range(30)]
            wait_for(lambda: server.stats()["reads"]["starved"] >= 26, "some to be refused")
            equal(server.requests(), 4, "requests")
            disk.let_go()
            for i, client in enumerate(clients):
                equal(body_of(client), disk.files[i % 4], "one that waited in line")
            stats = server.stop()
        finally:
            limit.write_text(usual)
        assert stats["reads"]["refused"] > 0, stats
        assert stats["ioctls"] < 5000, stats


def own_test_truncated_file():
    """Ends early: what is not there cannot be sent."""
    victim = BASE / "root" / "victim"
    victim.write_bytes(FILES["large.gz"])
    with Server() as server:
        client = ask(server, "victim", 4096)
        client.recv(1, socket.MSG_PEEK)
        os.truncate(victim, 100)
        body = body_of(client)
        assert len(body) < len(FILES["large.gz"]), "made up"
        equal(body, FILES["large.gz"][:len(body)], "the beginning")
        equal(server.get("/victim")[1], FILES["large.gz"][:100], "what is left")
        server.stop()
    victim.unlink()


def own_test_gone_in_the_middle():
    """A thousand clients leave in the middle of a file: nothing is left of them."""
    with Server() as server:
        times = max(10 * SCALE, 200)
        for i in range(times):
            if i == times // 5:
                before = server.memory()
            client = ask(server, "large.gz", 16384)
            if i % 3:
                client.recv(1 + i % 2 * 10_000)
            if i % 2:
                reset(client)
            else:
                client.close()
        server.idle()
        equal(server.requests(), 0, "requests")
        equal(server.fds(), server.fds_at_start, "descriptors")
        assert server.memory() < before + (12 << 20), f"from {before} to {server.memory()}"
        server.stop()


def own_test_many_large_files():
    """At once; whole ones and parts."""
    data = FILES["large.gz"]
    generator = random.Random(5)
    with Server() as server:
        parts = []
        for i in range(max(SCALE // 8, 8)):
            first, last = sorted(generator.randrange(len(data)) for _ in range(2))
            parts.append((0, len(data) - 1) if i % 4 == 0 else (first, last))
        clients = [ask(server, "large.gz", field=f"Range: bytes={first}-{last}\r\n")
                   for first, last in parts]
        bodies = [None] * len(clients)

        def take(i):
            bodies[i] = body_of(clients[i])
        threads = [threading.Thread(target=take, args=(i,)) for i in range(len(clients))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for (first, last), body in zip(parts, bodies):
            assert body == data[first:last + 1], f"bytes {first} to {last} differ"
        server.stop()


# --- clients that take their time -------------------------------------------

def own_test_idle_timeout():
    with Server("--idle-timeout", SLOWNESS) as server:
        silent, dripping, deaf, lively = (
            server.connect(4096 if i == 2 else None) for i in range(4))
        deaf.sendall(b"GET /large.gz HTTP/1.1\r\nHost: h\r\n\r\n")
        start = time.monotonic()
        text = b"GET /small.txt HTTP/1.1\r\nHost: h\r\nX: "
        answer = b""
        while not answer and time.monotonic() < start + PATIENCE:
            with contextlib.suppress(ConnectionError):
                dripping.sendall(text[:1] or b"x")
            text = text[1:]
            lively.sendall(b"GET /one HTTP/1.1\r\nHost: h\r\n\r\n")
            assert lively.recv(4096).startswith(b"HTTP/1.1 200"), "the lively client"
            dripping.settimeout(0.1)
            with contextlib.suppress(TimeoutError):
                answer = dripping.recv(4096)
        equal(status_of(answer), 408, "the dripping client")
        assert time.monotonic() - start >= 0.9 * SLOWNESS, "too early"
        equal(read_all(silent), b"", "the silent client")
        wait_for(lambda: server.stats()["connections"]["open"] == 1, "the deaf client to go")
        for client in (silent, dripping, deaf, lively):
            client.close()
        stats = server.stop()
        equal(stats["connections"]["timed_out"], 3)


def seconds_for(connections):
    """How long they take here, with a margin: machines differ by a factor of ten."""
    with Server() as server:
        start = time.monotonic()
        for _ in range(50):
            is_served(server)
        return 0.6 * connections / 50 * (time.monotonic() - start)


def own_test_thousand_slow_clients():
    count = max(10 * SCALE, 200)
    with Server("--idle-timeout", f"{8 + seconds_for(count + 50):.0f}") as server:
        slow = []
        for i in range(count):
            client = server.connect()
            client.sendall(b"GET /small.txt HTTP/1.1\r\nHost: h\r\nX: "[:i % 40 + 1])
            slow.append(client)
        for _ in range(50):
            is_served(server)
        # They must not be gone yet, or nothing has been shown.
        counts = server.stats()["connections"]
        assert counts["open"] >= count, f"too slow for this test: {counts}"
        for client in slow:
            answer = read_all(client)
            equal(status_of(answer), 408, "a slow client")
            client.close()
        server.idle()
        equal(server.fds(), server.fds_at_start, "descriptors")
        stats = server.stop()
        equal(stats["connections"]["timed_out"], count)


def own_test_connection_limit():
    """Some wait in the system's queue; all are served in the end."""
    with Server("--connections", "20") as server:
        clients = [server.connect() for _ in range(100)]
        for client in clients:
            client.sendall(b"GET /one HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        for client in clients:
            equal(status_of(read_all(client)), 200)
            client.close()
        assert server.stop()["connections"]["paused"] > 0


def own_test_few_descriptors():
    """The limit follows from theirs: those that are accepted are served."""
    with Server(files_limit=64) as server:
        clients = [server.connect() for _ in range(100)]
        for client in clients:
            client.sendall(b"GET /one HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        for client in clients:
            equal(status_of(read_all(client)), 200)
            client.close()
        server.stop()


def own_test_out_of_descriptors():
    """Fewer than the server has counted on."""
    with Server() as server:
        generous = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)
        few = server.fds() + 10
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (few, generous[1]))
        start = time.monotonic()
        clients = [server.connect() for _ in range(200)]
        wait_for(lambda: server.fds() == few, "descriptors to run out")
        time.sleep(0.5)  # of vain attempts
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, generous)
        wait_for(lambda: server.stats()["connections"]["open"] == 200, "it to recover")
        stats = server.stats()
        # It rested rather than trying again and again.
        most = 50 + 2 * 10 * (time.monotonic() - start)  # two threads, each 100 ms
        assert 0 < stats["connections"]["paused"] < most, stats
        assert stats["ioctls"] < 2000 * SLOWNESS, stats
        for client in clients:
            client.close()
        is_served(server)
        server.idle()
        equal(server.fds(), server.fds_at_start, "descriptors")
        server.stop()


def own_test_small_rings():
    with Server("--entries", "4") as server:
        clients = [server.connect() for _ in range(300)]
        for _ in range(5):
            for client in clients:
                client.sendall(b"GET /one HTTP/1.1\r\nHost: h\r\n\r\n")
            for client in clients:
                assert client.recv(4096).startswith(b"HTTP/1.1 200")
        for client in clients:
            client.close()
        stats = server.stop()
        equal(stats["requests"], 1500)


def own_test_policies():
    for policy, spread in {"round_robin": 2, "least_loaded": 2, "two_choices": 2, "local": 1,
                           "least_work": 2, "buffer_node": 1, "pinned": 1}.items():
        with Server("--policy", policy) as server:
            clients = [server.connect() for _ in range(40)]
            for client in clients:
                client.sendall(b"GET /one HTTP/1.1\r\nHost: h\r\n\r\n")
                assert client.recv(4096).startswith(b"HTTP/1.1 200"), policy
            for client in clients:
                client.close()
            used = [ring["connections"] for ring in server.stop()["rings"]]
            equal(sum(used), 40, policy)
            assert sum(n > 0 for n in used) >= spread, f"{policy}: {used}"
            if policy == "pinned":
                equal(used, [40, 0], policy)


def own_test_more_threads_than_nodes():
    with Server("--threads", "5") as server:
        clients = [server.connect() for _ in range(50)]
        for client in clients:
            client.sendall(b"GET /one HTTP/1.1\r\nHost: h\r\n\r\n")
        for client in clients:
            assert client.recv(4096).startswith(b"HTTP/1.1 200")
            client.close()
        rings = server.stop()["rings"]
        equal(len(rings), 5)
        assert {ring["node"] for ring in rings} == {0, 1}, rings
        assert all(ring["requests"] for ring in rings), rings


def refused(server):
    try:
        server.connect().close()
    except ConnectionError:
        return True
    return False


def own_test_stop_finishes_responses():
    with Server("--drain-timeout", "200") as server:
        busy = server.connect(4096)
        busy.sendall(b"GET /large.gz HTTP/1.1\r\nHost: h\r\n\r\n")
        first = busy.recv(1000)
        idle = server.connect()
        server.process.send_signal(signal.SIGTERM)
        equal(read_all(idle), b"", "an idle connection")
        wait_for(lambda: refused(server), "the last thread to stop listening")
        answer = first + read_all(busy)
        equal(answer.partition(b"\r\n\r\n")[2], FILES["large.gz"], "an unfinished response")
        server.ended()


def own_test_stop_is_bounded():
    with Server("--drain-timeout", "1") as server:
        deaf = server.connect(4096)
        deaf.sendall(b"GET /large.gz HTTP/1.1\r\nHost: h\r\n\r\n")
        deaf.recv(1)
        half = server.connect()
        half.sendall(b"GET /")
        start = time.monotonic()
        server.stop()
        took = time.monotonic() - start
        assert 0.9 < took < 20 * SLOWNESS, took
        deaf.close()
        half.close()


def own_test_stop_under_load():
    """Each response is complete, or has not begun."""
    with Server("--drain-timeout", "200") as server:
        failures, done = [], []

        def load():
            with contextlib.suppress(ConnectionError):
                while True:
                    client = server.connect()
                    reader = client.makefile("rb")
                    with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                        while request_once(client, reader, failures):
                            done.append(1)
                    reader.close()
                    client.close()

        threads = [threading.Thread(target=load) for _ in range(8)]
        for thread in threads:
            thread.start()
        wait_for(lambda: len(done) > 200, "load")
        stats = server.stop()
        for thread in threads:
            thread.join()
        equal(failures, [], "responses cut short")
        assert stats["requests"] >= len(done)


def request_once(client, reader, failures):
    client.sendall(b"GET /medium.html HTTP/1.1\r\nHost: h\r\n\r\n")
    if not reader.readline():
        return False
    while (line := reader.readline()) not in (b"\r\n", b""):
        pass
    body = reader.read(len(FILES["medium.html"])) if line else b""
    if body != FILES["medium.html"]:
        failures.append(len(body))
    return True


def own_test_kernel_log():
    """Last: all the above has left the kernel content."""
    log = subprocess.run(["dmesg"], stdout=subprocess.PIPE, text=True, check=True).stdout
    bad = [line for line in log.splitlines()
           if re.search(r"WARNING:|BUG:|Oops|KASAN|UBSAN|INFO: |possible recursive", line)]
    equal(bad, [], "kernel log")


# --- TAP --------------------------------------------------------------------

def find_tests(prefix):
    return {name.removeprefix(prefix): function for name, function in globals().items()
            if name.startswith(prefix)}


class Tap:
    def __init__(self, only):
        self.only = only
        self.count = self.failed = 0

    def run(self, name, function, *arguments):
        if self.only and name not in self.only and name != "end":
            return
        self.count += 1
        start = time.monotonic()
        try:
            function(*arguments)
            verdict = "ok"
        except Exception as error:  # pylint: disable=broad-except
            verdict = "not ok"
            self.failed += 1
            print("# " + f"{type(error).__name__}: {error}".replace("\n", "\n# "))
        took = time.monotonic() - start
        print(f"{verdict} {self.count} - {name} # {took:.1f} s", flush=True)

    def end(self):
        print(f"1..{self.count}")
        print(f"# httpd: {self.count - self.failed} passed, {self.failed} failed, 0 skipped")
        return 1 if self.failed else 0


def main():
    global PROGRAM, BASE
    PROGRAM = sys.argv[1]
    tap = Tap(sys.argv[2:])
    resource.setrlimit(resource.RLIMIT_NOFILE, (8192, 8192))
    BASE = Path(tempfile.mkdtemp(dir="/dev/shm"))
    try:
        make_tree()
        print("TAP version 13")
        with Server() as server:
            for name, function in find_tests("test_").items():
                tap.run(name, function, server)
        for name, function in find_tests("own_test_").items():
            tap.run(name, function)
    finally:
        if slow_disk.cache_info().currsize:
            slow_disk().remove()
        shutil.rmtree(BASE)
    return tap.end()


if __name__ == "__main__":
    sys.exit(main())
