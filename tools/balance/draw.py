#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Draws the figures of kevent-balance: draw.py FIGURES.json DIRECTORY"""

import json
import math
import pathlib
import re
import sys

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

matplotlib.rcParams.update({
    "svg.hashsalt": "kevent-balance",
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.grid": True,
    "grid.linewidth": 0.4,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
})

# In the order of the tables.
STYLES = {
    "pinned": ("0.7", ":"),
    "local": ("tab:brown", "-"),
    "buffer_node": ("tab:pink", "-"),
    "one_choice": ("tab:gray", "--"),
    "round_robin": ("tab:purple", "-"),
    "two_choices": ("tab:orange", "-"),
    "least_loaded": ("tab:blue", "-"),
    "least_work own": ("tab:green", ":"),
    "least_work header": ("tab:green", "--"),
    "least_work": ("tab:green", "-"),
}


def style(policy):
    color, line = STYLES[policy]
    return {"color": color, "linestyle": line,
            "linewidth": 2 if policy == "least_work" else 1.2}


def save(figure, path):
    """Without a date, and with coordinates that nobody needs finer."""
    figure.savefig(path, metadata={"Date": None}, bbox_inches="tight")
    plt.close(figure)
    text = re.sub(r"(\.\d)\d+", r"\1", path.read_text())
    text = re.sub(r" *\n(?=[LQz\"])", "", text)
    path.write_text(re.sub(r"\n +", "\n", text))


def draw_rings(axes, figures, policy, rings):
    odd = figures["name"] in ("slow_device", "stalled_consumer")
    for index, ring in enumerate(rings):
        special = odd and index == len(rings) // 2
        axes.plot([time / 1000 for time in figures["times"]], ring,
                  color="tab:red" if special else plt.cm.viridis(index / 8),
                  linewidth=1.6 if special else 0.8)
    axes.set_title(policy["policy"])
    axes.set_ylim(0)


def draw_latencies(axes, policies):
    for policy in policies:
        values = policy["latencies"]
        slower = [10 ** (-index / 20) for index in range(len(values))]
        axes.loglog(values, slower, label=policy["policy"],
                    **style(policy["policy"]))
    axes.set_xlabel("latency, µs")
    axes.set_ylabel("share of requests that take longer")
    axes.set_ylim(0.001, 1)
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))


def draw_scenario(figures, what, unit, path):
    """What is on each ring over time, a panel for each policy; latencies."""
    policies = figures["policies"]
    figure = plt.figure(figsize=(11, 8))
    figure.suptitle(figures["title"], y=0.94)
    grid = figure.add_gridspec(3, 5, height_ratios=(2, 2, 3), hspace=0.35,
                               wspace=0.25)
    for index, policy in enumerate(policies):
        axes = figure.add_subplot(grid[index // 5, index % 5])
        draw_rings(axes, figures, policy, policy[what])
        if index % 5 == 0:
            axes.set_ylabel(f"{unit}, a line a ring")
        if index == 9:
            axes.set_xlabel("ms", loc="right", labelpad=-4)
    draw_latencies(figure.add_subplot(grid[2, :]), policies)
    save(figure, path)


def draw_table(axes, table, column, goal):
    places = range(len(table[column]))
    for policy, values in table["policies"].items():
        if policy != "pinned":
            axes.plot(places, values, marker=".", label=policy, **style(policy))
    axes.plot(places, table["repacked"], color="black", linewidth=0.8,
              label="repacked")
    axes.axhline(goal, color="tab:red", linewidth=0.8, label="goal")
    axes.set_yscale("log")
    ticks = [1, 1.1, 1.25, 1.5, 2, 3, 4, 5]
    axes.set_yticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.set_ylim(0.98, 6)
    axes.set_xticks(places, table[column])
    axes.set_title(table["title"].replace(", open loop", ""))


def finish_tables(figure, panels, path):
    panels[0].set_ylabel("most loaded ring over the mean")
    figure.legend(*panels[0].get_legend_handles_labels(), fontsize=7,
                  loc="center left", bbox_to_anchor=(0.91, 0.5))
    save(figure, path)


def draw_goals(figures, path):
    figure, panels = plt.subplots(1, 4, figsize=(12, 4.5), sharey=True,
                                  gridspec_kw={"wspace": 0.06})
    for axes, table in zip(panels, figures["goals"]):
        draw_table(axes, table, "nodes", figures["goal"][table["sizes"]])
        axes.set_xlabel("nodes")
    finish_tables(figure, panels, path / "goals.svg")


def draw_theory(axes, table, largest_over_mean):
    nodes = 64
    if table["sizes"]:
        above, label = largest_over_mean * (1 - 1 / nodes), "Graham's bound"
    else:
        above, label = math.log2(math.log(nodes)), "1 + log₂ ln n / depth"
    axes.plot(range(len(table["depth"])),
              [1 + above / depth for depth in table["depth"]],
              color="black", linestyle=":", linewidth=1)
    axes.annotate(label, (2.1, 1 + above / 4), fontsize=7)


def draw_depths(figures, path):
    """How far the goals depend on how much there is to balance."""
    figure, panels = plt.subplots(1, 4, figsize=(12, 4.5), sharey=True,
                                  gridspec_kw={"wspace": 0.06})
    figure.suptitle("64 nodes")
    for axes, table in zip(panels[::2], figures["depths"]):
        draw_table(axes, table, "depth", figures["goal"][table["sizes"]])
        draw_theory(axes, table, figures["largest_over_mean"])
        axes.set_xlabel("requests a ring")
    for axes, table in zip(panels[1::2], figures["loads"]):
        draw_table(axes, table, "load", figures["goal"][table["sizes"]])
        axes.set_xlabel("open loop: load of the devices")
    finish_tables(figure, panels, path / "depths.svg")


def main():
    source, target = map(pathlib.Path, sys.argv[1:])
    figures = json.loads(source.read_text())
    target.mkdir(exist_ok=True)
    for scenario in figures["scenarios"]:
        name = scenario["name"]
        draw_scenario(scenario, "requests_on", "requests",
                      target / f"{name}.svg")
        if "work_on" in scenario["policies"][0]:
            draw_scenario(scenario, "work_on", "pages",
                          target / f"{name}_work.svg")
    draw_goals(figures, target)
    draw_depths(figures, target)


if __name__ == "__main__":
    main()
