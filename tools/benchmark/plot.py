#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Draws ratios: plot.py DIRECTORY, the output of tools/bench --json on stdin.

Each row has "ratio" and, by peer, "goals" (the least to reach and the goal).
"""
import json
import pathlib
import sys

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

matplotlib.rcParams.update({
    "svg.hashsalt": "kevent-bench",
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
})

COLOURS = {"epoll": "tab:blue", "io_uring": "tab:orange", "io_uring_tuned": "tab:red",
           "libaio": "tab:green", "base": "tab:gray"}


def bars(figures):
    """A bar for each row and peer, the first row at the top."""
    return [(name, peer, ratio, *row["goals"][peer])
            for name, row in figures.items() for peer, ratio in row["ratio"].items()][::-1]


def draw(figures, directory):
    rows = bars(figures)
    figure, axes = plt.subplots(figsize=(8, 0.2 * len(rows) + 1))
    for y, (_, peer, ratio, least, goal) in enumerate(rows):
        axes.barh(y, ratio - 1, left=1, height=0.7, color=COLOURS[peer])
        axes.plot([least] * 2, [y - 0.4, y + 0.4], color="black", linewidth=1.5)
        axes.plot([goal] * 2, [y - 0.4, y + 0.4], color="black", linewidth=0.8,
                  linestyle=":")
        axes.text(ratio, y, f" {ratio:.2f} ", va="center", fontsize=7,
                  ha="right" if ratio < 1 else "left")
    axes.set_yticks(range(len(rows)), [f"{name} / {peer}" for name, peer, *_ in rows])
    axes.set_xscale("log")
    axes.set_xticks([0.02, 0.05, 0.1, 0.2, 0.5, 1, 2], ["0.02", "0.05", "0.1", "0.2",
                                                         "0.5", "1", "2"])
    axes.set_xlim(0.01, 4)
    axes.set_ylim(-0.7, len(rows) - 0.3)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xlabel("kevent / peer: left of 1 is less work. Bold mark: to be reached; "
                    "dotted: the goal")
    figure.savefig(pathlib.Path(directory) / "ratios.svg", bbox_inches="tight",
                   metadata={"Date": None})


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    pathlib.Path(sys.argv[1]).mkdir(parents=True, exist_ok=True)
    draw(json.load(sys.stdin), sys.argv[1])
