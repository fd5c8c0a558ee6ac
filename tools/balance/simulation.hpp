// SPDX-License-Identifier: MIT
/// @file
/// Requests on rings over simulated time: who submits, what serves, who
/// collects.  Times are microseconds.
///
/// Each node has a ring, a device with a few channels behind one queue, a
/// consumer and a submitter.  The loop is closed (a request that was collected
/// is replaced by its submitter, so that nodes * depth requests are on the
/// way), or open: requests arrive at random, whatever has become of those
/// before. The library's policies choose the rings, from the header words that
/// the simulated kernel writes and from what the program counts itself.
#pragma once

#include <kevent/balancer.hpp>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace balance {

struct scenario {
    std::string name;
    std::string title;
    unsigned nodes = 8;
    unsigned depth = 32; ///< requests on the way, for each ring
    double load = 0; ///< open loop: share of what the devices can do; 0: closed
    bool zipf_submitters = false; ///< submitter k has 1/k of the first's
    bool zipf_sizes = false;      ///< k pages with a weight of 1/k; else one
    unsigned batch = 1;           ///< requests that enter in one array
    double slowness = 1;          ///< of the odd ring's device
    double stall_from = 0;        ///< the odd ring's consumer collects nothing
    double stall_to = 0;
    double length = 20'000; ///< is measured, after a while to settle
    std::uint64_t seed = 1;

    /// The ring that is slow or stalls.
    [[nodiscard]] unsigned odd() const { return nodes / 2; }
};

/// The same for all scenarios.
constexpr unsigned channels = 4;   // of a device
constexpr double service = 100;    // of a request of mean size, on a channel
constexpr double remote = 1.2;     // its factor where the buffer is elsewhere
constexpr double entering = 1;     // from the choice to the kernel's count
constexpr double collecting = 0.5; // an event by a consumer
constexpr unsigned collected = 16; // events at a time, at most
constexpr unsigned max_pages = 256;

/// Largest over mean size of the Zipf mix.
double largest_over_mean();

/// What one submitter's thread chooses with.
using chooser = std::function<unsigned(const kevent::placement &)>;

/// What a chooser can be made of.  Work is counted in pages.
struct knowledge {
    const kevent::queue &rings;
    unsigned submitter;
    kevent::ring_work &shared;        ///< for all submitters to count in
    kevent::ring_work &own;           ///< for this one alone
    const kevent::ring_work &entered; ///< counted by the simulated kernel
};

/// A policy at work: a chooser for each submitter.
struct policy {
    std::string name;
    std::function<chooser(const knowledge &)> make;
};

/// The library's policies, and some to compare them with.
std::vector<policy> policies();

struct outcome {
    // Mean over time of the most loaded ring's share over the mean share.
    double requests = 0; ///< requests placed and not yet collected
    double work = 0;     ///< pages of them
    double depth = 0;    ///< requests, the mean ring's
    double repacked = 0; ///< pages, were all placed anew now (largest first)
    double assigned = 0; ///< pages placed on a ring during the whole run
    double rate = 0;     ///< requests a second
    std::vector<double> latencies; ///< sorted

    // By ring and time.
    std::vector<double> times;
    std::vector<std::vector<unsigned>> series_of_requests;
    std::vector<std::vector<std::uint64_t>> series_of_work;
};

/// Runs it.  The same arguments give the same outcome.
outcome run(const scenario &what, const policy &chosen, unsigned samples = 0);

} // namespace balance
