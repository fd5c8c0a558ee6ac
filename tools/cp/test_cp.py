#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Tests kevent-cp from end to end.  Needs root, /dev/kevent, two empty disks:

    tools/vm --disk 256 --disk 64 -- tools/cp/test_cp.py PROGRAM

Prints TAP.  With names of tests after PROGRAM, only those.
"""

import contextlib
import fcntl
import hashlib
import itertools
import os
import pty
import random
import re
import resource
import shutil
import signal
import stat
import struct
import subprocess
import sys
import tempfile
import termios
import time
from pathlib import Path

PROGRAM = None
BASE = None      # a directory of the file system under test
ELSEWHERE = None  # one of the other
DISKS = []
PATIENCE = 300  # seconds; a bound, never a delay
NOBODY = 65534
MIB = 1 << 20


class Skip(Exception):
    """The machine lacks what a test needs."""


# --- helpers ----------------------------------------------------------------

def run(*command, **options):
    return subprocess.run(list(map(str, command)), check=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=PATIENCE, **options).stdout


class Result:
    def __init__(self, process):
        self.status = process.returncode
        self.out = os.fsdecode(process.stdout)
        self.err = os.fsdecode(process.stderr)

    def __str__(self):
        return f"status {self.status}, output {self.out!r}, errors {self.err!r}"


def cp(*arguments, user=None, files_limit=None):
    """Runs kevent-cp; what it said."""
    def prepare():
        if files_limit:
            resource.setrlimit(resource.RLIMIT_NOFILE, (files_limit, files_limit))
    ids = {"user": user, "group": user, "extra_groups": []} if user is not None else {}
    return Result(subprocess.run([PROGRAM, *arguments], capture_output=True, check=False,
                                 timeout=PATIENCE, preexec_fn=prepare, **ids))


def copied(*arguments, **options):
    """Runs kevent-cp, which is to succeed and to say nothing."""
    result = cp(*arguments, **options)
    assert result.status == 0 and result.err == "", result
    return result


def equal(got, expected, what):
    assert got == expected, f"{what}: {got!r}, not {expected!r}"


def attributes(path):
    try:
        names = os.listxattr(path, follow_symlinks=False)
    except OSError:
        return {}
    return {name: os.getxattr(path, name, follow_symlinks=False) for name in names}


def facts(path, links):
    """All that a copy is to have."""
    meta = os.lstat(path)
    kind = stat.S_IFMT(meta.st_mode)
    found = [meta.st_mode, meta.st_uid, meta.st_gid, meta.st_mtime_ns, meta.st_atime_ns]
    if kind == stat.S_IFLNK:
        found += [os.readlink(path)]
        os.utime(path, ns=(meta.st_atime_ns, meta.st_mtime_ns), follow_symlinks=False)
    else:
        found += [attributes(path)]
    if kind == stat.S_IFREG:
        digest = hashlib.sha1()
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NOATIME)) as file:
            while block := file.read(MIB):
                digest.update(block)
        found += [meta.st_size, digest.hexdigest()]
    if kind in (stat.S_IFBLK, stat.S_IFCHR):
        found += [meta.st_rdev]
    if kind != stat.S_IFDIR:
        found += [links.setdefault((meta.st_dev, meta.st_ino), len(links))]
    return found


def tree(top):
    """Everything in a tree, by relative path; hard links by who is linked with whom.

    os.walk() would follow symbolic links, and so change their times of access."""
    links, found, left = {}, {}, [b"."]
    while left:
        name = left.pop()
        path = os.path.join(os.fsencode(top), name)
        found[name] = facts(path, links)
        if stat.S_ISDIR(found[name][0]):
            left += sorted((os.path.normpath(os.path.join(name, below)) for below in os.listdir(path)),
                           reverse=True)
    return found


def known(top):
    """The same, and leaves the times of access as they were."""
    found = tree(top)
    for path, each in found.items():
        os.utime(os.path.join(os.fsencode(top), path), ns=(each[4], each[3]), follow_symlinks=False)
    return found


def same_trees(expected, other):
    got = tree(other)
    equal(sorted(got), sorted(expected), "names")
    for name, each in expected.items():
        equal(got[name], each, name)


def leftovers(top):
    return [name for _, below, files in os.walk(top) for name in below + files
            if name.startswith(".kevent-cp.")]


def blocks(path):
    return os.stat(path).st_blocks


def fill(path, size, seed=0):
    with open(path, "wb") as file:
        source = random.Random(seed)
        while size > 0:
            size -= file.write(source.randbytes(min(size, MIB)))


def forget(path):
    """Takes a file out of the page cache."""
    with open(path, "rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


@contextlib.contextmanager
def file_system(device, *options, kib=None):
    """A fresh ext4 on a device, or on the beginning of it."""
    run("mkfs.ext4", "-q", "-F", *options, device, *([f"{kib}k"] if kib else []))
    where = tempfile.mkdtemp(dir="/run")
    run("mount", device, where)
    try:
        os.chmod(where, 0o777)
        yield Path(where)
    finally:
        run("umount", where)
        os.rmdir(where)


@contextlib.contextmanager
def small_tmpfs(size):
    where = tempfile.mkdtemp(dir="/run")
    run("mount", "-t", "tmpfs", "-o", f"size={size}", "none", where)
    try:
        yield Path(where)
    finally:
        run("umount", where)
        os.rmdir(where)


def fresh(name):
    """A path of the file system under test where nothing is."""
    path = BASE / name
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    return path


def directory(name):
    path = fresh(name)
    path.mkdir()
    return path


ODD_NAMES = [b"a b", b"new\nline", b"-n", b"--", b"\xff\xfe", b"*?[", b"\xc3\xa9", b"'\"`$", b"x" * 255,
             b".hidden", b"...", b" ", b"\\", b"%s{}"]


def make_tree(top):
    """A bit of everything.  Times last, from the leaves up."""
    top.mkdir()
    for number, name in enumerate(ODD_NAMES):
        path = os.path.join(os.fsencode(top), name)
        fill(path, number * 1000, number)
    for size in (0, 1, 4095, 4096, 4097, 128 << 10, (128 << 10) + 1, MIB + 17, 5 * MIB):
        fill(top / f"size-{size}", size, size)
    (top / "empty").mkdir()
    deep = top
    for number in range(30):
        deep = deep / f"d{number}"
        deep.mkdir()
        fill(deep / "file", 100 * number, number)
    (top / "sub").mkdir()
    fill(top / "sub" / "linked", 300000)
    for number in range(5):
        os.link(top / "sub" / "linked", top / f"link{number}")
        os.link(top / "size-0", deep / f"link{number}")
    os.symlink("sub/linked", top / "symlink")
    os.symlink("nowhere" * 30, top / "dangling")
    os.symlink("sub", top / "to-directory")
    os.link(top / "symlink", top / "second-symlink", follow_symlinks=False)
    os.mkfifo(top / "fifo")
    os.mknod(top / "null", stat.S_IFCHR | 0o640, os.makedev(1, 3))
    os.mknod(top / "block", stat.S_IFBLK | 0o600, os.makedev(7, 200))
    os.chmod(top / "size-1", 0o4751)
    os.chmod(top / "size-4095", 0)
    os.chown(top / "size-4096", 1234, 4321)
    os.lchown(top / "symlink", 1234, 4321)
    os.chmod(top / "sub", 0o1555)
    os.chmod(top / "empty", 0o2070)
    with contextlib.suppress(OSError):
        os.setxattr(top / "size-4097", "trusted.kevent", b"value\0with zero")
        os.setxattr(top / "size-1", "trusted.empty", b"")
        os.setxattr(top / "sub", "trusted.directory", b"1" * 300)
    clock = 1_000_000_000_000_000_001
    for path, below, files in os.walk(top, topdown=False):
        for name in sorted(files) + [os.path.join(path, ".")]:
            clock += 86_400_000_000_007
            os.utime(os.path.join(path, name), ns=(clock + 5, clock), follow_symlinks=False)


def settings():
    """The ways that a copy can be made."""
    return [[], ["--direct"], ["--depth", "1"], ["--threads", "2"], ["--sync", "--threads", "2"],
            ["--threads", "3", "--rings", "2", "--buffer", "4096", "--depth", "7"],
            ["--buffer", "1M", "--depth", "200"]]


# --- tests, on each file system -----------------------------------------------

def test_tree():
    source = BASE / "tree"
    for number, options in enumerate(settings()):
        to = fresh(f"copy{number}")
        before = known(source)
        copied(*options, source, to)
        same_trees(before, to)
        equal(leftovers(to), [], "left over")
        run("diff", "-r", "--no-dereference", source / "sub", to / "sub")
        shutil.rmtree(to)


def test_twice():
    """The second time everything is there."""
    source, to = BASE / "tree", fresh("twice")
    copied(source, to)
    for name in ("size-4096", "link1", "symlink", "fifo"):
        path = to / name
        path.unlink()
        path.write_text("old")
    copied("-n", f"{source}/.", to)
    for name in ("size-4096", "link1", "symlink", "fifo"):
        equal((to / name).read_text(), "old", name)
    held = open(to / "size-4096", encoding="ascii")
    before = known(source)
    copied(f"{source}/.", to)
    same_trees(before, to)
    equal(held.read(), "old", "what was replaced")
    held.close()
    equal(leftovers(to), [], "left over")


def test_where():
    """Names of destinations."""
    top = directory("where")
    fill(top / "a", 10)
    fill(top / "b", 20)
    (top / "d").mkdir()
    copied(top / "a", top / "new")
    copied(top / "a", top / "b", top / "d")
    copied(f"{top}/d/", top / "e")
    copied(f"{top}/d", f"{top}/e/")
    run("cmp", top / "a", top / "new")
    run("diff", "-r", top / "d", top / "e" / "d")
    run("cmp", top / "b", top / "e" / "b")
    for bad in ([top / "a", top / "b", top / "none"], [top / "a", top / "b", top / "a"],
                [top / "a", f"{top}/none/"], [top / "none", top / "x"], [top / "a", top / "a"],
                [top / "d", top / "a"], [top / "a", top / "none" / "x"]):
        result = cp(*bad)
        assert result.status == 1 and result.err.startswith("kevent-cp: "), (bad, result)
    equal((top / "a").stat().st_size, 10, "the size of a")
    assert not (top / "none").exists() and not (top / "x").exists()


def test_same_names():
    top = directory("names")
    for name in "xy":
        (top / name).mkdir()
        (top / name / "f").write_text(name)
    (top / "to").mkdir()
    result = cp(top / "x" / "f", top / "y" / "f", top / "to")
    assert result.status == 1 and f"{top}/y/f" in result.err, result
    equal((top / "to" / "f").read_text(), "x", "the first")


def test_into_itself():
    top = directory("itself")
    (top / "a" / "b").mkdir(parents=True)
    for to in ("a", "a/b", "a/new", "a/b/new"):
        result = cp(top / "a", top / to)
        assert result.status == 1 and "itself" in result.err, (to, result)
    equal(sorted(os.listdir(top / "a")), ["b"], "what is in there")


def sparse(path, size, *data):
    with open(path, "wb") as file:
        for at, length in data:
            file.seek(at)
            file.write(random.Random(at).randbytes(length))
        file.truncate(size)


def test_sparse():
    top = directory("sparse")
    source = top / "from"
    source.mkdir()
    sparse(source / "hole", 30 * MIB)
    sparse(source / "end", 10 * MIB + 3, (10 * MIB, 3))
    sparse(source / "begin", 8 * MIB, (0, 4096))
    sparse(source / "middle", 9 * MIB, (MIB, 300000), (3 * MIB, 4096), (6 * MIB, 2 * MIB))
    sparse(source / "many", 4 * MIB, *((n * 65536, 4096) for n in range(0, 60)))
    sparse(source / "small", 9000)
    sparse(source / "odd", 100001, (50000, 17))
    os.sync()
    for number, options in enumerate(settings()):
        to = top / f"to{number}"
        copied(*options, source, to)
        os.sync()
        for path in source.iterdir():
            run("cmp", path, to / path.name)
            # The tree of extents may be of another shape.
            assert blocks(to / path.name) <= blocks(path) + 16, \
                f"{path.name} {options}: {blocks(to / path.name)} blocks, not {blocks(path)}"
        equal(blocks(to / "hole"), 0, "blocks of a hole")
        shutil.rmtree(to)
    shutil.rmtree(top)


def test_proc():
    """Files that do not say how long they are."""
    to = fresh("proc")
    copied("/proc/self/mounts", to)
    assert to.stat().st_size > 0
    equal(to.read_bytes()[:100], Path("/proc/self/mounts").read_bytes()[:100], "mounts")


def test_unreadable():
    """As somebody who may not read everything."""
    top = directory("unreadable")
    top.chmod(0o777)
    source = top / "from"
    (source / "closed").mkdir(parents=True)
    (source / "open").mkdir()
    for name in ("good", "bad", "open/bad", "open/good", "closed/x"):
        fill(source / name, 5000)
    for name in ("bad", "open/bad", "closed"):
        (source / name).chmod(0)
    (source / "good").chmod(0o4755)
    os.mknod(source / "device", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    result = cp(source, top / "to", user=NOBODY)
    equal(result.status, 1, "status")
    lines = sorted(result.err.splitlines())
    equal(lines, sorted([f"kevent-cp: {source}/{name}: {why}" for name, why in (
        ("bad", "Permission denied"), ("open/bad", "Permission denied"),
        ("closed", "Permission denied"))] +
        [f"kevent-cp: {top}/to/device: Operation not permitted"]), "errors")
    equal(sorted(os.listdir(top / "to")), ["good", "open"], "copied")
    equal(os.listdir(top / "to" / "open"), ["good"], "copied")
    meta = (top / "to" / "good").stat()
    equal((meta.st_uid, stat.S_IMODE(meta.st_mode)), (NOBODY, 0o755), "owner and mode")
    source.chmod(0o555)
    result = cp(top / "to" / "good", source, user=NOBODY)
    assert result.status == 1 and "denied" in result.err, result


def test_few_descriptors():
    to = fresh("few")
    before = known(BASE / "tree")
    copied(BASE / "tree", to, files_limit=256)
    same_trees(before, to)


def test_deep():
    """Deeper than a path is long."""
    top = directory("deep")
    at = os.open(top, os.O_RDONLY)
    for _ in range(600):
        os.mkdir("d" * 20, dir_fd=at)
        below = os.open("d" * 20, os.O_RDONLY, dir_fd=at)
        os.close(os.open("f", os.O_WRONLY | os.O_CREAT, dir_fd=at))
        os.close(at)
        at = below
    os.close(at)
    result = copied("--stats", top, fresh("deep2"), files_limit=400)
    assert "copied: 600 files, 601 directories" in result.out, result
    for name in ("deep", "deep2"):
        run("rm", "-r", BASE / name)


def test_special():
    """What is neither a regular file nor a directory is not replaced by one."""
    top = directory("special")
    fill(top / "a", 10)
    os.link(top / "a", top / "b")
    os.symlink("a", top / "symlink")
    for name in ("fifo", "tree/a", "into/b"):
        (top / name).parent.mkdir(exist_ok=True)
        os.mkfifo(top / name)
    os.mknod(top / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(top / "zero", stat.S_IFCHR | 0o666, os.makedev(1, 5))
    os.symlink("zero", top / "leads-to-zero")
    (top / "from" / "tree").mkdir(parents=True)
    fill(top / "from" / "tree" / "a", 10)

    def inodes():
        return {path: path.lstat().st_ino for path in top.rglob("*")}
    before = inodes()
    special, link = "is neither a regular file nor a directory", "is a symbolic link"
    for arguments, at_fault, why in (
            (["a", "null"], "null", special), (["zero", "null"], "null", special),
            (["a", "fifo"], "fifo", special), (["a", "symlink"], "symlink", link),
            (["null", "symlink"], "symlink", link), (["a", "leads-to-zero"], "leads-to-zero", link),
            (["from/tree", "."], "tree/a", special), (["b", "into"], "into/b", special)):
        result = cp(*(f"{top}/{name}" for name in arguments))
        assert result.status == 1 and f"{top}/{at_fault}: {why}" in os.path.normpath(result.err), result
        equal(inodes(), before, arguments)
    result = cp(top / "a", top / "b", top / "into")
    assert result.status == 1 and result.err == f"kevent-cp: {top}/into/b: {special}\n", result
    copied("-n", top / "a", top / "null")
    copied(top / "leads-to-zero", top / "symlink")
    equal(os.readlink(top / "symlink"), "zero", "a link copied onto a link")
    assert stat.S_ISCHR((top / "null").stat().st_mode), "the device"
    equal(leftovers(top), [], "left over")


def test_at_fault():
    """The path in an error is the one at fault; what failed is not counted as copied."""
    top = directory("fault")
    (top / "from").mkdir()
    for name in ("a", "b", "c"):
        fill(top / "from" / name, 10)
    (top / "to" / "from" / "b").mkdir(parents=True)
    result = cp("--stats", top / "from", top / "to")
    equal(result.err, f"kevent-cp: {top}/to/from/b: Is a directory\n", "errors")
    equal(result.status, 1, "status")
    assert "copied: 2 files, 1 directories, 20 " in result.out and " 1 failed" in result.out, result
    result = cp(top / "from" / "a", top / "none" / "a")
    equal(result.err, f"kevent-cp: {top}/none: No such file or directory\n", "errors")


def when_begun(process, to):
    """Waits until something is there, and something is not."""
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        if to.exists() and len(os.listdir(to)) > 2:
            break


def interrupt(number, *options):
    source, to = BASE / "big", fresh("interrupted")
    with subprocess.Popen([PROGRAM, *options, source, to], stderr=subprocess.PIPE) as process:
        when_begun(process, to)
        process.send_signal(number)
        err = process.stderr.read()
        equal(process.wait(PATIENCE), -number, f"status, {err}")
    there = os.listdir(to)
    assert len(there) < len(os.listdir(source)), "it was over"
    for name in there:
        run("cmp", source / name, to / name)
    equal(leftovers(to), [], "left over")
    equal(err, b"", "errors")


def test_interrupted():
    source = directory("big")
    for n in range(24):
        fill(source / f"f{n}", 2 * MIB + n, n)
    for options in ([], ["--threads", "2"], ["--direct"], ["--sync"]):
        interrupt(signal.SIGINT, *options)
    interrupt(signal.SIGTERM, "--depth", "2")
    to = fresh("interrupted")
    with subprocess.Popen(["nohup", PROGRAM, source, to], stdin=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL) as process:
        when_begun(process, to)
        assert process.poll() is None, "it was over"
        process.send_signal(signal.SIGHUP)
        equal(process.wait(PATIENCE), 0, "status under nohup")
    run("diff", "-r", source, to)
    copied(source, fresh("interrupted"))
    run("diff", "-r", source, BASE / "interrupted")
    fresh("interrupted")


def test_no_space():
    """On a file system that is too small: said, and nothing by halves.

    With four requests in flight some files are whole; with 64 each may have
    a part of the space, and none of them enough.
    """
    source = directory("much")
    for n in range(20):
        fill(source / f"f{n}", MIB, n)
    fill(source / "one", 12 * MIB)
    for depth, more in itertools.product(("64", "4"), ([], ["--direct"],
                                                       ["--threads", "2", "--sync"])):
        with small_tmpfs("8m") if BASE.is_relative_to("/dev/shm") else \
                file_system(DISKS[1], "-O", "^has_journal", "-m", "0", kib=9000) as to:
            result = cp("--depth", depth, *more, source, to)
            equal(result.status, 1, result)
            there = os.listdir(to / "much") if (to / "much").exists() else []
            errors = result.err.splitlines()
            assert all(line.endswith("No space left on device") for line in errors), result
            equal(len(errors), 21 - len(there), f"errors beside {there}")
            assert there or depth == "64", "nothing was copied"
            for name in there:
                run("cmp", source / name, to / "much" / name)
            equal(leftovers(to), [], "left over")
    shutil.rmtree(source)


def test_stats():
    result = copied("--stats", "--threads", "2", BASE / "tree", fresh("stats"))
    requests = int(re.search(r"requests: (\d+)", result.out).group(1))
    events = sum(map(int, re.findall(r"(\d+) events from mapped rings", result.out)))
    posted = sum(map(int, re.findall(r"(\d+) posted", result.out)))
    claimed = sum(map(int, re.findall(r"(\d+) claimed", result.out)))
    assert requests > 0 and posted == claimed == events, result
    assert events >= requests, result


def test_bar():
    """On a terminal; not too often, and nothing of it stays."""
    main, side = pty.openpty()
    fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 90, 0, 0))
    source = directory("bar")
    for n in range(30):
        fill(source / f"f{n}", MIB, n)
    directory("bar2")
    start = time.monotonic()
    with subprocess.Popen([PROGRAM, source, "/none/x", BASE / "bar2"], stderr=side) as process:
        os.close(side)
        shown = b""
        with contextlib.suppress(OSError):
            while part := os.read(main, 65536):
                shown += part
        equal(process.wait(PATIENCE), 1, "status")
    took = time.monotonic() - start
    os.close(main)
    lines = shown.split(b"\r")
    bars = [line for line in lines if b"/s" in line]
    assert bars, shown
    assert len(bars) <= 10 * took + 2, f"{len(bars)} in {took} s"
    assert all(len(line.replace(b"\x1b[K", b"")) < 90 for line in bars), bars
    assert b"kevent-cp: /none/x: No such file or directory" in shown, shown
    assert shown.endswith(b"\r\x1b[K") or not shown.rsplit(b"\x1b[K", 1)[1].strip(), shown
    quiet = cp("--progress", source / "f0", fresh("bar3"))
    equal(quiet.err, "", "without a terminal")


# --- tests of their own ---------------------------------------------------------

@contextlib.contextmanager
def mapped(name, *tables):
    """A device-mapper device."""
    subprocess.run(["modprobe", "-a", "dm_mod", "dm_flakey"], check=False, capture_output=True)
    if not os.path.exists("/dev/mapper/control") or not shutil.which("dmsetup"):
        raise Skip("no device mapper")
    run("dmsetup", "create", "--noudevsync", name, input="\n".join(tables))
    number = int(re.search(r"\d+:(\d+)", run("dmsetup", "info", "-c", "--noheadings", "-o",
                                              "major,minor", "--separator", ":", name)).group(1))
    node = f"/dev/mapper/{name}" if os.path.exists(f"/dev/mapper/{name}") else f"/dev/dm-{number}"
    try:
        yield node
    finally:
        run("dmsetup", "remove", "--noudevsync", name)


def sectors(device):
    return int(run("blockdev", "--getsz", device))


def reload(name, *tables):
    run("dmsetup", "load", name, input="\n".join(tables))
    run("dmsetup", "suspend", "--noflush", "--nolockfs", "--noudevsync", name)
    run("dmsetup", "resume", "--noudevsync", name)


def physical(path):
    """Where the first block of a file is, in sectors of 512 bytes."""
    with open(path, "rb") as file:
        block = fcntl.ioctl(file, 1, struct.pack("i", 0))  # FIBMAP
    return struct.unpack("i", block)[0] * os.statvfs(path).f_bsize // 512


def own_test_failing_source():
    """A disk of which some blocks cannot be read."""
    disk, size = DISKS[1], sectors(DISKS[1])
    whole = f"0 {size} linear {disk} 0"
    with mapped("cp-faulty", whole) as device, file_system(device) as top:
        (top / "from").mkdir()
        for n in range(12):
            fill(top / "from" / f"f{n}", MIB if n % 2 else 10000, n)
        os.sync()
        bad = [top / "from" / "f3", top / "from" / "f6"]
        table, at = [], 0
        for begin in sorted(map(physical, bad)):
            table += [f"{at} {begin - at} linear {disk} {at}", f"{begin} 8 error"]
            at = begin + 8
        table += [f"{at} {size - at} linear {disk} {at}"]
        for options in ([], ["--direct"], ["--threads", "2"]):
            to = fresh("rescued")
            for path in (top / "from").iterdir():
                forget(path)
            reload("cp-faulty", *table)
            result = cp(*options, top / "from", to)
            reload("cp-faulty", whole)
            equal(sorted(result.err.splitlines()),
                  sorted(f"kevent-cp: {path}: Input/output error" for path in bad), "errors")
            equal(result.status, 1, "status")
            equal(sorted(os.listdir(to)),
                  sorted(path.name for path in (top / "from").iterdir() if path not in bad), "copied")
            for path in to.iterdir():
                run("cmp", path, top / "from" / path.name)
            equal(leftovers(to), [], "left over")


def own_test_failing_destination():
    """A disk that takes nothing any more: --sync says so before a file has its name."""
    disk, size = DISKS[1], sectors(DISKS[1])
    whole = f"0 {size} linear {disk} 0"
    source = directory("lost")
    for n in range(6):
        fill(source / f"f{n}", 200000, n)
    with mapped("cp-faulty", whole) as device:
        with file_system(device, "-O", "^has_journal") as top:
            (top / "to").mkdir()
            os.sync()
            for options in (["--sync"], ["--sync", "--direct", "--threads", "2"]):
                reload("cp-faulty", f"0 {size} flakey {disk} 0 0 1000 1 error_writes")
                result = cp(*options, f"{source}/.", top / "to")
                reload("cp-faulty", whole)
                equal(result.status, 1, result)
                lines = [line for line in result.err.splitlines() if "Input/output error" in line]
                assert len(lines) >= 6, result
                equal(os.listdir(top / "to"), [], "under a final name")


def own_test_usage():
    for bad in ([], ["one"], ["--nosuch", "a", "b"], ["--depth", "0", "a", "b"], ["--depth", "x", "a", "b"],
                ["--buffer", "5000", "a", "b"], ["a", ""]):
        result = cp(*bad)
        assert (result.status, result.out) == (2, "") and result.err.startswith("kevent-cp: "), (bad, result)
    assert "SOURCE... DEST" in copied("--help").out


def own_test_between():
    """From one file system to the other."""
    before = known(BASE / "tree")
    to = ELSEWHERE / "tree-from-elsewhere"
    copied("--threads", "2", BASE / "tree", to)
    same_trees(before, to)


def own_test_memory():
    """No more than its buffers, whatever the tree is."""
    top = directory("memory")
    for n in range(100):
        (top / f"d{n}").mkdir()
        for m in range(20):
            (top / f"d{n}" / f"f{m}").write_bytes(b"x" * 100)
    sizes = []
    for source in (top / "d0", top):
        with subprocess.Popen([PROGRAM, "--depth", "16", source, fresh("memory2")]) as process:
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            equal(process.returncode, 0, "status")
            sizes.append(usage.ru_maxrss)
    assert sizes[1] < sizes[0] + 2048, f"{sizes} KiB"


def own_test_kernel_log():
    log = run("dmesg")
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
        self.count = self.failed = self.skipped = 0

    def run(self, name, function):
        if self.only and not set(name.split(".")) & set(self.only) and name not in self.only:
            return
        self.count += 1
        start = time.monotonic()
        verdict, reason = "ok", ""
        try:
            function()
        except Skip as why:
            self.skipped += 1
            reason = f" # SKIP {why}"
        except Exception as error:  # pylint: disable=broad-except
            verdict = "not ok"
            self.failed += 1
            output = getattr(error, "stdout", "") or ""
            print("# " + f"{type(error).__name__}: {error} {output}".replace("\n", "\n# "))
        took = time.monotonic() - start
        print(f"{verdict} {self.count} - {name}{reason or f' # {took:.1f} s'}", flush=True)

    def end(self):
        print(f"1..{self.count}")
        passed = self.count - self.failed - self.skipped
        print(f"# cp: {passed} passed, {self.failed} failed, {self.skipped} skipped")
        return 1 if self.failed else 0


def main():
    global PROGRAM, BASE, ELSEWHERE
    # Whoever built it may have it where nobody else can go; one test is somebody else.
    place = tempfile.mkdtemp()
    os.chmod(place, 0o755)
    PROGRAM = shutil.copy(sys.argv[1], place)
    DISKS[:] = os.environ["KEVENT_DISKS"].split()
    tap = Tap(sys.argv[2:])
    os.umask(0o022)
    os.environ["LC_ALL"] = "C"
    print("TAP version 13")
    memory = Path(tempfile.mkdtemp(dir="/dev/shm"))
    memory.chmod(0o777)
    try:
        with file_system(DISKS[0]) as disk:
            for name, BASE, ELSEWHERE in (("tmpfs", memory, disk), ("ext4", disk, memory)):
                make_tree(BASE / "tree")
                for test, function in find_tests("test_").items():
                    tap.run(f"{name}.{test}", function)
            for test, function in find_tests("own_test_").items():
                tap.run(test, function)
    finally:
        shutil.rmtree(memory)
    return tap.end()


if __name__ == "__main__":
    sys.exit(main())
