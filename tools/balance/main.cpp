// SPDX-License-Identifier: MIT
#include "../httpd/usage.hpp"
#include "simulation.hpp"

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <cmath>
#include <cstdio>
#include <exception>
#include <fstream>

namespace balance {
namespace {

using json = nlohmann::ordered_json;

constexpr unsigned node_counts[] = {2, 4, 8, 64};
constexpr unsigned depths[] = {1, 2, 4, 8, 16, 32, 64, 128};
constexpr double loads[] = {0.5, 0.7, 0.8, 0.9, 0.95, 0.99};
constexpr double goal[] = {1.1, 1.25}; // same sizes, Zipf mix

std::vector<scenario> scenarios() {
    return {
        {.name = "uniform", .title = "uniform submitters, sizes, devices"},
        {.name = "skewed",
         .title = "submitter k (and buffers' node k) has 1/k of the first's "
                  "requests",
         .zipf_submitters = true},
        {.name = "sizes",
         .title = "Zipf mix of sizes: 1 to 256 pages, k with a weight of 1/k",
         .zipf_sizes = true},
        {.name = "batches",
         .title = "uniform, 16 requests submitted in one array",
         .batch = 16},
        {.name = "slow_device",
         .title = "the device of ring 4 (red) takes four times as long",
         .slowness = 4},
        {.name = "stalled_consumer",
         .title = "the consumer of ring 4 (red) stalls from 4 to 10 ms",
         .stall_from = 4'000,
         .stall_to = 10'000},
    };
}

double rounded(double value, double unit) {
    return std::round(value / unit) * unit;
}

double quantile(const outcome &from, double fraction) {
    const auto last = static_cast<double>(from.latencies.size() - 1);
    return from.latencies[static_cast<std::size_t>(fraction * last)];
}

/// Slower than all but a tenth, a hundredth, a thousandth, twenty points each.
std::vector<double> latencies(const outcome &from) {
    std::vector<double> made;
    for (int i = 0; i <= 60; i++)
        made.push_back(
            rounded(quantile(from, 1 - std::pow(10, -i / 20.0)), 0.1));
    return made;
}

json numbers(const outcome &from) {
    return {{"requests", rounded(from.requests, 1e-4)},
            {"work", rounded(from.work, 1e-4)},
            {"assigned", rounded(from.assigned, 1e-4)},
            {"rate", std::round(from.rate)}};
}

json show(const scenario &what) {
    fmt::print("\n{}: {}\n"
               "{} nodes, {} requests a ring\n"
               "{:<18}{:>10}{:>8}{:>10}{:>10}{:>8}{:>8}{:>8}\n",
               what.name, what.title, what.nodes, what.depth, "policy",
               "requests", "work", "assigned", "1000/s", "p50", "p99", "p99.9");
    json drawn = {{"name", what.name}, {"title", what.title}};
    for (const auto &each : policies()) {
        const auto found = run(what, each, 60);
        fmt::print("{:<18}{:>10.3f}{:>8.3f}{:>10.3f}{:>10.0f}{:>8.0f}{:>8.0f}"
                   "{:>8.0f}\n",
                   each.name, found.requests, found.work, found.assigned,
                   found.rate / 1000, quantile(found, 0.5),
                   quantile(found, 0.99), quantile(found, 0.999));
        auto made = numbers(found);
        made["policy"] = each.name;
        made["requests_on"] = found.series_of_requests;
        if (what.zipf_sizes)
            made["work_on"] = found.series_of_work;
        made["latencies"] = latencies(found);
        drawn["policies"].push_back(made);
        drawn["times"] = found.times;
    }
    return drawn;
}

/// The figure that a goal is about: requests, or with sizes their work.
double overload(const scenario &what, const outcome &found) {
    return what.zipf_sizes ? found.work : found.requests;
}

std::string heading(const scenario &what) {
    return fmt::format("{}, {}{}",
                       what.zipf_sizes ? "Zipf mix of sizes: work"
                                       : "one size: requests",
                       what.batch == 1 ? "one by one" : "16 in an array",
                       what.load == 0 ? "" : ", open loop");
}

/// A table of a row for each policy and a column for each of @p values, which
/// @p set puts into the scenario.
template <class Values, class Set>
json sweep(scenario what, const char *column, const Values &values, Set set) {
    set(what, values[0]);
    fmt::print("\n{}, by {}\n{:<18}", heading(what), column, "");
    for (const auto value : values)
        fmt::print("{:>8}", value);
    fmt::print("\n");
    json rows = {
        {"title", heading(what)}, {"sizes", what.zipf_sizes}, {column, values}};
    std::vector<double> repacked;
    std::vector<double> deep;
    for (const auto &each : policies()) {
        auto &row = rows["policies"][each.name];
        repacked.clear();
        deep.clear();
        fmt::print("{:<18}", each.name);
        for (const auto value : values) {
            set(what, value);
            const auto found = run(what, each);
            row.push_back(rounded(overload(what, found), 1e-4));
            repacked.push_back(rounded(found.repacked, 1e-4));
            deep.push_back(rounded(found.depth, 1e-2));
            fmt::print("{:>8.3f}", overload(what, found));
        }
        fmt::print("\n");
    }
    fmt::print("{:<18}{:>8.3f}\n{:<18}{:>8.1f}\n", "repacked",
               fmt::join(repacked, ""), "requests a ring", fmt::join(deep, ""));
    rows["repacked"] = repacked;
    return rows;
}

/// Whether the best policy reached the goal for all numbers of nodes.
bool reached(const json &rows, double wanted) {
    for (const double found : rows["policies"]["least_work"])
        if (found >= wanted)
            return false;
    return true;
}

/// Figures against the goals; true if all are reached.
bool compare(json &out) {
    bool all = true;
    for (const bool sizes : {false, true})
        for (const unsigned batch : {1U, 16U}) {
            const scenario what{.name = "",
                                .title = "",
                                .zipf_sizes = sizes,
                                .batch = batch,
                                .length = 100'000};
            const auto rows =
                sweep(what, "nodes", node_counts,
                      [](scenario &set, unsigned value) { set.nodes = value; });
            const auto met = reached(rows, goal[sizes]);
            fmt::print("goal: below {}; least_work: {}\n", goal[sizes],
                       met ? "reached" : "MISSED");
            out["goals"].push_back(rows);
            all = all && met;
        }
    return all;
}

void deepen(json &out) {
    for (const bool sizes : {false, true}) {
        const scenario what{.name = "",
                            .title = "",
                            .nodes = 64,
                            .zipf_sizes = sizes,
                            .length = 20'000};
        out["depths"].push_back(
            sweep(what, "depth", depths,
                  [](scenario &set, unsigned value) { set.depth = value; }));
        out["loads"].push_back(
            sweep(what, "load", loads,
                  [](scenario &set, double value) { set.load = value; }));
    }
}

bool simulate(const std::string &file, bool goals_only) {
    json out = {{"largest_over_mean", largest_over_mean()},
                {"goal", goal},
                {"nodes", 8},
                {"depth", 32}};
    if (!goals_only) {
        for (const auto &each : scenarios())
            out["scenarios"].push_back(show(each));
        deepen(out);
    }
    const auto reached_all = compare(out);
    if (!file.empty()) {
        std::ofstream stream(file);
        stream << out << '\n';
        if (!stream.flush())
            throw std::runtime_error("cannot write " + file);
    }
    return reached_all;
}

} // namespace
} // namespace balance

int main(int argc, char **argv) {
    CLI::App app("Simulates the balancer's policies and prints what they do.",
                 "kevent-balance");
    std::string file;
    bool goals_only = false;
    app.add_option("--json", file, "File for all figures, to be drawn");
    app.add_flag("--goals", goals_only,
                 "Nothing but the goals; the exit status is 1 if one is "
                 "missed");
    try {
        app.parse(argc, argv);
        return balance::simulate(file, goals_only) ? 0 : 1;
    } catch (const CLI::ParseError &end) {
        return httpd::end_with_usage(app, end);
    } catch (const std::exception &error) {
        fmt::print(stderr, "kevent-balance: {}\n", error.what());
        return 2;
    }
}
