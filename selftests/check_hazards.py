#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""Checks that HAZARDS.md has a row for every hazard and that the tests it names exist.

    check_hazards.py DIRECTORY

DIRECTORY has the selftests as they were built: each lists its tests.  In the last
column of a row, "program: name, name; program: name".  A name is a test, or fixture.test,
fixture.variant, variant.test or fixture.variant.test, and a pattern as the shell's.
What has a blank in it is prose; a row of prose alone must say why it may be one.
"""
import fnmatch
import pathlib
import re
import subprocess
import sys

HAZARDS = pathlib.Path(__file__).with_name("HAZARDS.md")
LAST = 59
PROSE = ("cannot happen", "documented")


def tests_of(program):
    """Every way to name each test of the program."""
    listing = subprocess.run([program, "-l"], capture_output=True, text=True,
                             check=False)
    names, fixture, variants, tests = set(), "", [], []

    def group():
        for test in tests:
            names.update({test, f"{fixture}.{test}"})
            for variant in variants:
                names.update({f"{variant}.{test}", f"{fixture}.{variant}.{test}",
                              f"{fixture}.{variant}"})

    for line in (listing.stdout + listing.stderr).splitlines()[1:]:
        if line.startswith("---"):
            group()
            variants, tests = [], []
            continue
        columns = [line[:21].strip(), line[21:47].strip(), line[47:].strip()]
        fixture = columns[0] or fixture
        variants += filter(None, [columns[1]])
        tests += filter(None, [columns[2]])
    group()
    return names


def expand(name):
    """a{b,c}d, as the shell does; the commas came as bars."""
    match = re.match(r"([^{]*)\{([^}]*)\}(.*)", name)
    if not match:
        return [name]
    return [whole for part in match[2].split("|")
            for whole in expand(match[1] + part + match[3])]


def complaints(number, text, programs):
    """What is wrong with a row."""
    text = re.sub(r"\([^()]*\)", "", text.replace("\\", ""))
    text = re.sub(r"\{[^}]*\}", lambda m: m[0].replace(",", "|"), text)
    named = 0
    for segment in text.split(";"):
        program, colon, rest = segment.partition(":")
        program = program.strip()
        if not colon:
            continue
        if program not in programs:
            if program != "run":
                yield f"row {number}: no program {program}"
            named += program == "run"
            continue
        for name in rest.split(","):
            name = name.strip()
            if not name or " " in name:
                continue
            for pattern in expand(name):
                named += 1
                if not fnmatch.filter(programs[program], pattern):
                    yield f"row {number}: {program} has no test {pattern}"
    if not named and not text.strip().startswith("all ") and \
            not any(word in text for word in PROSE):
        yield f"row {number}: no test, and no reason"


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    directory = pathlib.Path(sys.argv[1])
    programs = {file.stem: tests_of(directory / file.stem)
                for file in HAZARDS.parent.glob("*.c") if (directory / file.stem).exists()}
    rows = {}
    for line in HAZARDS.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if len(cells) == 3 and cells[0].isdigit():
            rows[int(cells[0])] = cells[2]
    wrong = [f"no row {n}" for n in range(1, LAST + 1) if n not in rows]
    for number, text in rows.items():
        wrong += complaints(number, text, programs)
    print("\n".join(wrong) or f"{len(rows)} rows, every test of theirs is there")
    sys.exit(len(wrong) > 0)


if __name__ == "__main__":
    main()
