// SPDX-License-Identifier: MIT
/// @file
/// What sweeping level sources costs and how old level events get: by fixed
/// rules (after N events or after T), by the adaptive rule, and in one epoll
/// instance, at three mixes of load.  Run under tools/vm --icount.  Prints one
/// line of JSON for each point; sweep_n.py draws them and judges the adaptive
/// rule.
///
/// Each point: batches of eventfds are written, and after each the collector is
/// called once.  The sizes are random, from 1 to twice the mean less 1, and the
/// same for all points.  `overhead`: instructions for each edge beyond the bare
/// writes, which are measured with the same batches while nothing watches; so
/// it has the posting, the collecting and the sweeps, all warm.  `time`: with
/// the writes.  Ages: see age_record.
#include "mixed.hpp"

#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <random>

namespace {

using namespace mixed_load;
using kevent::nanoseconds;
using kevent::pace;

struct mix {
    const char *name;
    unsigned batch; ///< edges between two calls, on average
    unsigned levels;
};

// The budget is ample in the first, matters in the second; in the third the
// bound cannot be had within it.
constexpr mix mixes[] = {
    {"ring", 128, 4}, {"even", 64, 64}, {"level", 16, 512}};

// 0: no count, or no time.
constexpr unsigned counts[] = {0,  1,   2,   4,   8,    16,   32,
                               64, 128, 256, 512, 1024, 2048, 4096};
constexpr long times[] = {0,       10'000,    31'623,    100'000,
                          316'228, 1'000'000, 3'162'278, 10'000'000};

constexpr double budget = 0.05;
constexpr long bound = 1'000'000;

// The 99th percentile wants hundreds of calls, T of 10 ms a few sweeps.
constexpr int rounds = 2;
constexpr unsigned batches_of_a_round = 512;
constexpr unsigned least_edges = 1U << 14;
constexpr unsigned least_ages = 3;

bool quick = false; ///< every other N

/// The best of some equal rounds: something else may run in any.
struct outcome {
    double time = 1e18; ///< for each edge
    double p99_age = 1e18;
    double max_age = 1e18;
    std::size_t sweeps = 0;
};

class load {
public:
    load(const files &edges, unsigned batch, side &how)
        : edges_(edges),
          batch_(batch),
          how_(how) {}

    /// A round goes on until there are @p ages, whatever else is enough.
    outcome measure(unsigned ages) {
        outcome best;
        batches(least_edges / 4); // warm, and the rule settles
        for (int i = 0; i < rounds; i++)
            round(ages, best);
        return best;
    }

private:
    void round(unsigned ages, outcome &best) {
        random_.seed(7);
        how_.ages.forget();
        const double start = now();
        auto written =
            batches(std::max(batches_of_a_round * batch_, least_edges));
        while (how_.ages.size() < ages)
            written += batches(batch_);
        best.time = std::min(best.time, (now() - start) / written);
        if (how_.ages.size() == 0)
            return;
        best.p99_age = std::min(best.p99_age, how_.ages.quantile(0.99));
        best.max_age = std::min(best.max_age, how_.ages.quantile(1));
        best.sweeps = how_.ages.size();
    }

    unsigned batches(unsigned total) {
        unsigned written = 0;
        while (written < total) {
            const auto count =
                1 + static_cast<unsigned>(random_()) % (2 * batch_ - 1);
            write_and_collect(edges_, count, how_);
            written += count;
        }
        return written;
    }

    const files &edges_;
    unsigned batch_;
    side &how_;
    std::minstd_rand random_;
};

double time_of_writes(const mix &mixed) {
    const files edges(2 * mixed.batch, 0);
    bare how;
    load(edges, mixed.batch, how).measure(0);
    return load(edges, mixed.batch, how).measure(0).time;
}

void print(const mix &mixed, const char *rule, unsigned count, long time,
           const outcome &seen, double writes) {
    std::printf("{\"mix\": \"%s\", \"edges\": %u, \"levels\": %u, "
                "\"rule\": \"%s\", \"n\": %u, \"t_ns\": %ld, "
                "\"overhead\": %.2f, \"time\": %.2f",
                mixed.name, mixed.batch, mixed.levels, rule, count, time,
                seen.time - writes, seen.time);
    if (seen.sweeps != 0)
        std::printf(", \"p99_age_ns\": %.0f, \"max_age_ns\": %.0f",
                    seen.p99_age, seen.max_age);
    std::printf("}\n");
    std::fflush(stdout);
}

/// Returns the 99th percentile of ages.
template <class Side, class... Options>
double measure(const mix &mixed, double writes, const char *rule,
               unsigned count, long time, unsigned ages, Options... options) {
    const files edges(2 * mixed.batch, 0);
    const files levels(mixed.levels, 1);
    Side how(edges, levels, options...);
    const auto seen = load(edges, mixed.batch, how).measure(ages);
    print(mixed, rule, count, time, seen, writes);
    return seen.p99_age;
}

double measure_fixed(const mix &mixed, double writes, unsigned count,
                     long time) {
    return measure<with_kevent>(mixed, writes, "fixed", count, time, least_ages,
                                pace::fixed(count, nanoseconds(time)));
}

/// The grid is coarse.  Between its points: the time rules of a decade, and the
/// longest time that keeps the bound.
void refine(const mix &mixed, double writes) {
    for (const long time : {126, 158, 200, 251, 398, 501, 631, 794})
        measure_fixed(mixed, writes, 0, time * 1000);
    long kept = bound / 2;
    for (long step = bound / 4; step > bound / 100; step /= 2)
        if (measure_fixed(mixed, writes, 0, kept + step) <= bound)
            kept += step;
}

void measure(const mix &mixed) {
    const double writes = time_of_writes(mixed);
    measure<with_one_epoll>(mixed, writes, "epoll", 0, 0, least_ages);
    measure<with_kevent>(mixed, writes, "never", 0, 0, 0, pace::fixed(0, {}));
    measure<with_kevent>(mixed, writes, "adaptive", 0, bound, least_ages,
                         pace::adaptive(budget, nanoseconds(bound)));
    for (std::size_t i = 0; i < std::size(counts); i += quick ? 2 : 1)
        for (const auto time : times)
            if (counts[i] != 0 || time != 0)
                measure_fixed(mixed, writes, counts[i], time);
    refine(mixed, writes);
}

} // namespace

int main() {
    quick = std::getenv("KEVENT_QUICK") != nullptr;
    const double loop = clock_check(0);
    for (const auto &mixed : mixes)
        measure(mixed);
    clock_check(loop);
    return 0;
}
