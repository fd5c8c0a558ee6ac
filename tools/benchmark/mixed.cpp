// SPDX-License-Identifier: MIT
/// @file
/// Edges at full rate beside 64 level sources that are always ready: 256
/// eventfds are written, then what they made is collected, and level events
/// when it is time for them.  Run under tools/vm --icount.
///
/// In the bracket: the writes, which are then subtracted as measured while
/// nothing watches; the collection (kevent: from the mapped ring, with the
/// ioctl that sweeps; epoll: epoll_wait, which finds its events at once); the
/// clock reads that decide whether it is time.  All warm.
///
/// The figure is instructions for each edge delivered.  Telling of a level
/// source again costs and counts for nothing, so nobody gains by telling often;
/// nor by telling seldom: no more than one in a hundred level events may be
/// older than 1 ms (see age_record), which is checked for all.
///
/// kevent is used through the library's collector as it comes: the adaptive
/// rule with a bound of 1 ms.
///
/// `epoll` is the cheaper of two ways.  `epoll_one_instance`: edges
/// edge-triggered, and one call for each batch with room for all 320, for with
/// less it would tell of level sources twice.  It has no choice but to tell of
/// all in each call.  `epoll_two_instances`: the level sources have the inner
/// one, which the outer watches edge-triggered, so that a sleeper is woken.
/// While the inner one may have something the program asks it when it finds
/// that due, by the very rule of our collector.
#include "mixed.hpp"

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
