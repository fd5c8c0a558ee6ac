// SPDX-License-Identifier: MIT
/// @file
/// Edges at full rate beside 64 level sources that are always ready.  256
/// eventfds are written, then whatever they made is collected, and level events
/// when it is time for them.  Run under tools/vm --icount.
///
/// In the bracket: the writes, which are then subtracted as measured without
/// anything that watches; collecting (kevent: from the mapped ring, with the
/// ioctl for sweeps and the clock reads that decide about them; epoll:
/// epoll_wait, which finds everything at once).  All warm.
///
/// One event of the denominator is one edge delivered.  That a source is still
/// ready is told as often as each side finds right and counts for nothing, so
/// that nobody gains by telling it more often: what it costs is in the
/// numerator. Nobody gains by telling it seldom either, because the age of
/// level events is bounded by 1 ms for all, and checked; see age_record for
/// what it is.
///
/// kevent is used through the library's collector as it comes, with the
/// adaptive rule: sweeps get at most 5 % of the time, and level events reach at
/// most 1 ms.
///
/// epoll is measured in two ways, and `epoll` is the cheaper one.  In one
/// instance
/// (`epoll_one_instance`), edges edge-triggered, one call for each batch of 256
/// with room for all 320: that tells of all level sources in each call.  In two
/// (`epoll_two_instances`), the level sources in the inner one, which the outer
/// watches edge-triggered: then the program need not ask the inner one each
/// time, and it decides by the very rule of our collector, which knows nothing
/// of kevent's kernel side.
#include "mixed.hpp"

#include <chrono>

namespace {

using namespace mixed_load;

constexpr unsigned edges = 256;
constexpr unsigned levels = 64;
constexpr unsigned batches = 128;
constexpr int rounds = 12;
constexpr double bound = 1e6;

const files *written;
side *collecting;

void round_of_batches() {
    for (unsigned i = 0; i < batches; i++)
        write_and_collect(*written, edges, *collecting);
}

/// For each edge.
double cost(const files &what, side &how) {
    written = &what;
    collecting = &how;
    round_of_batches();
    how.ages.forget();
    return best_of(rounds, round_of_batches) / (edges * batches);
}

struct figures {
    double cost;
    double age;
};

figures measure(const files &what, side &how, double bare_cost) {
    const double seen = cost(what, how) - bare_cost;
    must(how.ages.quantile(0.99) <= bound, "level events are too old");
    return {seen, how.ages.quantile(0.99)};
}

double measure_bare() {
    const files what(edges, 0);
    bare how;
    return cost(what, how);
}

template <class Side, class... Options>
figures measure(double bare_cost, Options... options) {
    const files what(edges, 0);
    const files ready(levels, 1);
    Side how(what, ready, options...);
    return measure(what, how, bare_cost);
}

} // namespace

int main() {
    const double loop = clock_check(0);
    const auto sweeps = kevent::collector_options().sweeps;
    measure_bare();
    const double bare_cost = measure_bare();
    const auto one = measure<with_one_epoll>(bare_cost);
    const auto two = measure<with_two_epolls>(bare_cost, sweeps);
    const auto ours = measure<with_kevent>(bare_cost, sweeps);
    const auto best = one.cost < two.cost ? one : two;
    clock_check(loop);
    report("mixed", "instructions per edge", "kevent", ours.cost, "epoll",
           best.cost, "epoll_one_instance", one.cost, "epoll_two_instances",
           two.cost, "kevent_p99_age_ns", ours.age, "epoll_p99_age_ns",
           best.age, "epoll_one_instance_p99_age_ns", one.age,
           "epoll_two_instances_p99_age_ns", two.age, "bare_write", bare_cost,
           nullptr);
    return 0;
}
