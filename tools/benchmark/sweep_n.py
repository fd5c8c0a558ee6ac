#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Judges and draws what sweep_n measured: sweep_n.py FIGURES [DIRECTORY]

FIGURES has one line of JSON for each point; other lines are skipped.  Prints a
table; writes sweep_n.svg and sweep_t.svg into DIRECTORY.  Exits with 1 if the
adaptive rule is not within 10 % of the best fixed choice.

What "best" means, since a rule that sweeps less costs less and makes level
events older:

  overhead  instructions for each edge.  The best fixed choice is the cheapest
            one that holds the bound: whose 99th percentile age is at most 1 ms
            (or what the adaptive rule reached, if that is more).
  limits    share of time that goes into sweeps / budget + 99th percentile age /
            bound: what the adaptive rule is to make small, for a reader who
            wants more than the bound.  The same choices are eligible: where the
            bound costs more than the budget, it wins.
"""

import json
import pathlib
import re
import sys

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

matplotlib.rcParams.update({
    "svg.hashsalt": "kevent-sweep-n",
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.grid": True,
    "grid.linewidth": 0.4,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
})

BUDGET = 0.05
BOUND = 1_000_000
# A call that comes later than the last ones adds that much.
LATE = 1.05
GOAL = 1.10

AXES = {"n": "N, edges", "t_ns": "T, µs", "overhead": "instructions an edge",
        "p99_age_ns": "99th percentile age, µs"}


class Mix:
    def __init__(self, points):
        self.points = points
        self.fixed = self.all_of("fixed")
        self.adaptive, = self.all_of("adaptive")
        self.epoll, = self.all_of("epoll")
        self.never, = self.all_of("never")
        for point in (*self.fixed, self.adaptive):
            share = 1 - self.never["time"] / point["time"]
            point["limits"] = share / BUDGET + point["p99_age_ns"] / BOUND
        limit = max(BOUND, self.adaptive["p99_age_ns"])
        self.eligible = [point for point in self.fixed
                         if point["p99_age_ns"] <= limit]

    def all_of(self, rule):
        return [point for point in self.points if point["rule"] == rule]

    def title(self):
        return (f"{self.adaptive['edges']} edges a call, "
                f"{self.adaptive['levels']} level sources")

    def best(self, cost):
        return min(self.eligible, key=lambda point: point[cost])

    def ratio(self, cost):
        return self.adaptive[cost] / self.best(cost)[cost]

    def passes(self):
        return (self.adaptive["p99_age_ns"] <= LATE * BOUND and
                all(self.ratio(cost) <= GOAL for cost in ("overhead", "limits")))


def read(path):
    points = [json.loads(line) for line in path.read_text().splitlines()
              if line.startswith('{"mix"')]
    names = dict.fromkeys(point["mix"] for point in points)
    return [Mix([point for point in points if point["mix"] == name])
            for name in names]


def choice(point):
    parts = []
    if point["n"]:
        parts.append(f"N {point['n']}")
    if point["t_ns"]:
        parts.append(f"T {point['t_ns'] / 1000:.0f} µs")
    return ", ".join(parts)


def print_row(name, point, ratio=None):
    age, limits = point.get("p99_age_ns"), point.get("limits")
    print(f"  {name:34}{point['overhead']:10.1f}"
          f"{f'{age / 1000:10.0f}' if age else '':10}"
          f"{f'{limits:10.2f}' if limits else '':10}"
          f"{f'{ratio:10.3f}' if ratio else ''}")


def print_table(mixes):
    print(f"  {'':34}{'overhead':>10}{'p99 µs':>10}{'limits':>10}"
          f"{'adaptive/':>10}")
    for mix in mixes:
        print(mix.title() + (":" if mix.passes() else ": MISSES THE GOAL"))
        print_row("adaptive", mix.adaptive)
        for cost in ("overhead", "limits"):
            best = mix.best(cost)
            print_row(f"best {cost}: {choice(best)}", best, mix.ratio(cost))
        print_row("one epoll instance", mix.epoll)
        print_row("without sweeps", mix.never)
    print(f"  overhead: instructions an edge.  limits: share of time in sweeps / "
          f"{BUDGET}\n  + p99 age / {BOUND / 1e6:.0f} ms.  Goal: adaptive / best "
          f"{GOAL:.2f} for both, p99 age up to the bound.")


def scaled(point, what):
    return point[what] / (1000 if what.endswith("ns") else 1)


def draw_curves(axes, mix, along, lines, what):
    """@what over @along, a line for each value of @lines, the last without it."""
    values = sorted({point[lines] for point in mix.fixed if point["n"]} - {0})
    for index, value in enumerate(values + [0]):
        curve = sorted((point for point in mix.fixed
                        if point[lines] == value and point[along]),
                       key=lambda point: point[along])
        name = f"{value / 1000:.0f} µs" if lines == "t_ns" else str(value)
        axes.plot([scaled(point, along) for point in curve],
                  [scaled(point, what) for point in curve],
                  color=plt.cm.viridis(index / len(values)) if value else "black",
                  linewidth=0.9 if value else 1.5,
                  label=f"{lines[0].upper()} {name}" if value else
                  f"no {lines[0].upper()}")
    axes.axhline(scaled(mix.adaptive, what), color="tab:red", label="adaptive")
    axes.axhline(scaled(mix.epoll, what), color="tab:gray", linestyle="--",
                 label="one epoll")
    axes.set_xscale("log", base=2 if along == "n" else 10)
    axes.set_yscale("log")
    if what == "p99_age_ns":
        axes.axhline(BOUND / 1000, color="tab:red", linestyle=":", label="bound")
    axes.set_xlabel(AXES[along])
    axes.set_title(AXES[what])


def draw_plane(axes, mix):
    """What can be had: overhead over age, a dot for each fixed rule."""
    axes.plot([scaled(point, "p99_age_ns") for point in mix.fixed],
              [point["overhead"] for point in mix.fixed], ".", color="0.6",
              markersize=4, label="fixed")
    best = mix.best("overhead")
    axes.plot(scaled(best, "p99_age_ns"), best["overhead"], "s", color="black",
              markersize=5, label="cheapest")
    best = mix.best("limits")
    axes.plot(scaled(best, "p99_age_ns"), best["overhead"], "D", color="tab:blue",
              markersize=5, label="least of limits")
    axes.plot(scaled(mix.epoll, "p99_age_ns"), mix.epoll["overhead"], "x",
              color="tab:gray", label="one epoll")
    axes.plot(scaled(mix.adaptive, "p99_age_ns"), mix.adaptive["overhead"], "*",
              color="tab:red", markersize=11, label="adaptive")
    axes.axvline(BOUND / 1000, color="tab:red", linestyle=":", label="bound")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel(AXES["p99_age_ns"])
    axes.set_title(AXES["overhead"])


def label_numbers(axes):
    """Plain numbers, as few as a log axis of less than a decade needs."""
    axes.yaxis.set_major_formatter("{x:g}")
    low, high = axes.get_ylim()
    if high / low < 20:
        axes.yaxis.set_minor_formatter("{x:g}")
        axes.yaxis.set_minor_locator(
            matplotlib.ticker.LogLocator(subs=(2, 3, 5), numticks=20))
    if axes.get_xlim()[1] > 1:
        axes.xaxis.set_major_formatter("{x:g}")


def save(figure, path):
    """Without a date, and with coordinates that nobody needs finer."""
    figure.savefig(path, metadata={"Date": None}, bbox_inches="tight")
    plt.close(figure)
    text = re.sub(r"(\.\d)\d+", r"\1", path.read_text())
    text = re.sub(r" *\n(?=[LQz\"])", "", text)
    path.write_text(re.sub(r"\n +", "\n", text))


def draw(mixes, along, lines, path):
    figure, rows = plt.subplots(len(mixes), 3, figsize=(12, 3.4 * len(mixes)),
                                gridspec_kw={"wspace": 0.28, "hspace": 0.45})
    for row, mix in zip(rows, mixes):
        draw_curves(row[0], mix, along, lines, "overhead")
        draw_curves(row[1], mix, along, lines, "p99_age_ns")
        draw_plane(row[2], mix)
        row[0].set_ylabel(mix.title())
        for axes in row:
            label_numbers(axes)
    for axes, place, title in ((rows[0][1], 0.88, "left and middle"),
                               (rows[0][2], 0.5, "right, a dot a rule")):
        figure.legend(*axes.get_legend_handles_labels(), fontsize=7, title=title,
                      title_fontsize=7, loc="upper left",
                      bbox_to_anchor=(0.91, place))
    save(figure, path)


def main():
    mixes = read(pathlib.Path(sys.argv[1]))
    print_table(mixes)
    if len(sys.argv) > 2:
        target = pathlib.Path(sys.argv[2])
        target.mkdir(exist_ok=True)
        draw(mixes, "n", "t_ns", target / "sweep_n.svg")
        draw(mixes, "t_ns", "n", target / "sweep_t.svg")
    return 0 if all(mix.passes() for mix in mixes) else 1


if __name__ == "__main__":
    sys.exit(main())
