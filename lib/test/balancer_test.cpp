// SPDX-License-Identifier: MIT
// The distribution that each policy yields, over 2 to 64 simulated nodes.
#include "fake_kernel.hpp"

#include <kevent/balancer.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <limits>
#include <numeric>
#include <random>
#include <thread>
#include <utility>
#include <vector>

namespace kevent::test {
namespace {

static_assert(policy<local> && policy<round_robin> && policy<least_loaded> &&
              policy<two_choices> && policy<least_work> &&
              policy<buffer_node> && policy<pinned> && policy<any_policy>);

/// Weights of the nodes: all alike, or the k-th has 1/k of the first.
std::vector<double> weights(unsigned nodes, bool zipf) {
    std::vector<double> made(nodes, 1.0);
    for (unsigned i = 0; zipf && i < nodes; i++)
        made[i] = 1.0 / (i + 1);
    return made;
}

class draw {
public:
    explicit draw(const std::vector<double> &from)
        : nodes_(from.begin(), from.end()) {}
    unsigned operator()() { return nodes_(random_); }

private:
    std::minstd_rand random_{11};
    std::discrete_distribution<unsigned> nodes_;
};

struct shape {
    unsigned nodes;
    bool zipf;
};

class Balancer : public ::testing::TestWithParam<shape> {
public:
    const unsigned nodes = GetParam().nodes;
    fake_kernel system{nodes};
    queue rings = queue::open({.rings = nodes, .entries = 64}, system).value();
    draw next{weights(nodes, GetParam().zipf)};
    std::vector<unsigned> counts = std::vector<unsigned>(nodes);

    unsigned total() const { return nodes * 100; }
    unsigned spread() const {
        const auto [low, high] =
            std::minmax_element(counts.begin(), counts.end());
        return *high - *low;
    }

    /// Places sources, which stay.
    template <class P>
    void place_sources(balancer<P> chooser) {
        for (unsigned i = 0; i < total(); i++) {
            system.run_on(static_cast<int>(next()));
            const auto ring = chooser.home();
            rings.add(user_event().home(ring)).value();
            counts[ring]++;
        }
    }

    void empty() {
        event out[64];
        while (rings.get(out, {.min = 0}).value() != 0)
            continue;
    }

    /// Places requests, each ring serving as fast as its node is drawn. Returns
    /// the longest backlog ever seen.
    template <class P>
    unsigned serve(balancer<P> chooser) {
        unsigned longest = 0;
        event out[1];
        for (unsigned i = 0; i < total(); i++) {
            const auto ring = chooser.home();
            rings.add(nop().home(ring)).value();
            counts[ring]++;
            const auto now = rings.ring(ring);
            longest = std::max(longest, now.backlog() + now.pending());
            const auto served = next();
            static_cast<void>(
                rings
                    .get(out,
                         {.ring = served, .min = 0, .timeout = nanoseconds{0}})
                    .value());
        }
        return longest;
    }
};

TEST_P(Balancer, LocalFollowsTheCpu) {
    balancer<local> chooser(rings);
    for (unsigned i = 0; i < total(); i++) {
        const auto node = next();
        system.run_on(static_cast<int>(node));
        ASSERT_EQ(chooser.home(), node);
    }
}

TEST_P(Balancer, RoundRobinIsEvenWhereverTheWorkComesFrom) {
    place_sources(balancer<round_robin>(rings));
    EXPECT_EQ(spread(), 0U);
}

TEST_P(Balancer, RoundRobinStartsWhereItIsTold) {
    balancer chooser(rings, round_robin(1));
    EXPECT_EQ(chooser.home(), 1 % nodes);
}

TEST_P(Balancer, LeastLoadedSpreadsSourcesEvenly) {
    place_sources(balancer<least_loaded>(rings));
    EXPECT_LE(spread(), 1U);
}

TEST_P(Balancer, LeastLoadedTakesARingThatNoneIsBelow) {
    balancer<least_loaded> chooser(rings);
    for (unsigned i = 0; i < total(); i++) {
        rings.add(nop().home(next())).value();
        const auto chosen = ring_load::of(rings.ring(chooser.home()));
        for (unsigned other = 0; other < nodes; other++)
            ASSERT_LE(chosen.outstanding,
                      ring_load::of(rings.ring(other)).outstanding);
    }
}

TEST_P(Balancer, TwoChoicesSpreadSourcesNearlyEvenly) {
    place_sources(balancer<two_choices>(rings));
    const auto most = *std::max_element(counts.begin(), counts.end());
    EXPECT_LE(most, 100U + 4U); // log log n / log 2 + a little
}

TEST_P(Balancer, LoadedPoliciesQueueLessThanABlindOne) {
    const auto blind = serve(balancer<round_robin>(rings));
    empty();
    const auto two = serve(balancer<two_choices>(rings));
    empty();
    const auto least = serve(balancer<least_loaded>(rings));
    EXPECT_LT(least, blind);
    EXPECT_LE(least, two);
    EXPECT_LT(two, blind);
}

TEST_P(Balancer, PinnedStays) {
    place_sources(balancer(rings, pinned(nodes - 1)));
    EXPECT_EQ(counts[nodes - 1], total());
}

TEST_P(Balancer, BufferNodeFollowsTheMemory) {
    balancer<buffer_node> chooser(rings);
    std::vector<char> buffers(total());
    for (const char &each : buffers) {
        const auto node = next();
        system.place(&each, static_cast<int>(node));
        ASSERT_EQ(chooser.home({.buffer = &each}), node);
    }
}

INSTANTIATE_TEST_SUITE_P(Nodes, Balancer,
                         ::testing::Values(shape{2, false}, shape{4, false},
                                           shape{8, false}, shape{16, false},
                                           shape{32, false}, shape{64, false},
                                           shape{2, true}, shape{4, true},
                                           shape{8, true}, shape{16, true},
                                           shape{32, true}, shape{64, true}),
                         [](const auto &each) {
                             return std::to_string(each.param.nodes) +
                                    (each.param.zipf ? "Zipf" : "Uniform");
                         });

/// A closed loop: each ring serves one request after the other, in about as
/// much time as the request is work, and each that is finished is replaced.
class ClosedLoop : public ::testing::TestWithParam<unsigned> {
public:
    static constexpr unsigned depth = 32; // requests on the way, for each ring
    static constexpr unsigned finished = 20'000;
    static constexpr double never = std::numeric_limits<double>::infinity();

    const unsigned nodes = GetParam();
    fake_kernel system{nodes};
    queue rings = queue::open({.rings = nodes, .entries = 64}, system).value();
    ring_work work;

    /// Time's average of the most loaded ring's unfinished work over the mean.
    /// Submitters take turns; the sizes are 1 to @p largest, k with a weight
    /// of 1/k; @p array of them are placed, then submitted at once.
    template <class P>
    double overload(std::vector<balancer<P>> submitters, unsigned largest,
                    unsigned array = 1) {
        array_ = array;
        sizes_ = draw(weights(largest, true));
        served_.assign(nodes, {});
        ends_.assign(nodes, never);
        loads_.assign(nodes, 0);
        double sum = 0;
        double settled = 0;
        double now = 0;
        unsigned turn = 0;
        for (unsigned i = 0; i < nodes * depth; i++)
            place(submitters[turn++ % submitters.size()], 0);
        for (unsigned i = 0; i < finished + nodes * depth * 4; i++) {
            const auto next = std::min_element(ends_.begin(), ends_.end());
            if (i < nodes * depth * 4)
                settled = *next;
            else
                sum += (*next - now) * most_over_mean();
            now = *next;
            finish(static_cast<unsigned>(next - ends_.begin()), now);
            place(submitters[turn++ % submitters.size()], now);
        }
        return sum / (now - settled);
    }
    template <class P>
    double overload(balancer<P> submitter, unsigned largest,
                    unsigned array = 1) {
        return overload(std::vector{submitter}, largest, array);
    }

private:
    template <class P>
    void place(balancer<P> &submitter, double now) {
        const auto size = sizes_() + 1;
        auto what = nop().cookie(size);
        placed_.push_back(submitter.place(what, {.work = size}));
        loads_[placed_.back().ring] += size;
        if (placed_.size() < array_)
            return;
        rings.change(placed_).value();
        for (const auto &each : std::exchange(placed_, {})) {
            served_[each.ring].push_back(each.cookie);
            if (served_[each.ring].size() == 1)
                serve(each.ring, now);
        }
    }
    void serve(unsigned ring, double now) {
        const auto chance = static_cast<double>(random_()) /
                            static_cast<double>(decltype(random_)::max());
        ends_[ring] = served_[ring].empty()
                          ? never
                          : now + static_cast<double>(served_[ring].front()) *
                                      (0.5 + chance);
    }
    void finish(unsigned ring, double now) {
        event out[1];
        ASSERT_EQ(rings.get(out, {.ring = ring, .min = 0}).value(), 1U);
        const auto size = served_[ring].front();
        ASSERT_EQ(out[0].cookie, size);
        served_[ring].pop_front();
        loads_[ring] -= static_cast<double>(size);
        work.done(ring, size);
        serve(ring, now);
    }
    double most_over_mean() const {
        const auto most = *std::max_element(loads_.begin(), loads_.end());
        const auto sum = std::accumulate(loads_.begin(), loads_.end(), 0.0);
        return most * nodes / sum;
    }

    std::minstd_rand random_{5};
    draw sizes_{{1.0}};
    unsigned array_ = 1;
    std::vector<change> placed_; // and not yet submitted
    std::vector<std::deque<std::uint64_t>> served_;
    std::vector<double> ends_; // of what each ring serves now
    std::vector<double> loads_;
};

TEST_P(ClosedLoop, LeastWorkKeepsRequestsOfOneSizeWithinATenth) {
    EXPECT_LT(overload(balancer(rings, least_work(work)), 1), 1.1);
}

TEST_P(ClosedLoop, LeastWorkKeepsAZipfMixWithinAQuarter) {
    EXPECT_LT(overload(balancer(rings, least_work(work)), 256), 1.25);
}

TEST_P(ClosedLoop, SubmittersThatShareTheirWorkKeepAZipfMixWithinAQuarter) {
    const std::vector threads(nodes, balancer(rings, least_work(work)));
    EXPECT_LT(overload(threads, 256), 1.25);
}

TEST_P(ClosedLoop, LeastLoadedKeepsRequestsOfOneSizeWithinATenth) {
    EXPECT_LT(overload(balancer<least_loaded>(rings), 1), 1.1);
}

TEST_P(ClosedLoop, LeastWorkKeepsArraysOfRequestsWithinATenth) {
    EXPECT_LT(overload(balancer(rings, least_work(work)), 1, 16), 1.1);
}

TEST_P(ClosedLoop, LeastWorkKeepsArraysOfAZipfMixWithinAQuarter) {
    EXPECT_LT(overload(balancer(rings, least_work(work)), 256, 16), 1.25);
}

TEST_P(ClosedLoop, TwoChoicesAreAFewRequestsAbove) {
    // log log n / log 2 + a little
    EXPECT_LT(overload(balancer<two_choices>(rings), 1), 1 + 4.0 / depth);
}

TEST_P(ClosedLoop, CountingCannotKeepAZipfMixWithinAQuarter) {
    if (nodes >= 8) { // few rings are even by chance
        EXPECT_GT(overload(balancer<least_loaded>(rings), 256), 1.25);
    }
}

TEST_P(ClosedLoop, BlindPoliciesDrift) {
    EXPECT_GT(overload(balancer<round_robin>(rings), 256), 1.25);
}

INSTANTIATE_TEST_SUITE_P(Nodes, ClosedLoop, ::testing::Values(2U, 4U, 8U, 64U),
                         ::testing::PrintToStringParamName());

class BalancerPieces : public ::testing::Test {
public:
    fake_kernel system{4};
    queue rings = queue::open({.rings = 4, .entries = 4}, system).value();
};

TEST_F(BalancerPieces, LoadCountsWhatWaitsForRoom) {
    for (int i = 0; i < 7; i++)
        rings.add(nop().home(2)).value();
    const auto load = ring_load::of(rings.ring(2));
    // Those that wait are in flight and pending, both.
    EXPECT_EQ(load.outstanding, 4U + 3U + 3U);
}

TEST_F(BalancerPieces, SourcesDecideBetweenEquals) {
    EXPECT_LT((ring_load{1, 9}), (ring_load{2, 0}));
    EXPECT_LT((ring_load{1, 2}), (ring_load{1, 3}));
}

TEST_F(BalancerPieces, BufferNodeIsLocalWithoutABuffer) {
    balancer<buffer_node> chooser(rings);
    system.run_on(3);
    const char untouched = 0;
    EXPECT_EQ(chooser.home(), 3U);
    EXPECT_EQ(chooser.home({.buffer = &untouched}), 3U);
}

TEST_F(BalancerPieces, LeastWorkCountsWhatIsNotYetSubmitted) {
    ring_work work;
    work.placed(1, 2);
    balancer chooser(rings, least_work(work));
    std::vector<unsigned> counts(4);
    for (int i = 0; i < 6; i++)
        counts[chooser.home()]++;
    EXPECT_EQ(counts, (std::vector{2U, 0U, 2U, 2U}));
}

TEST_F(BalancerPieces, LeastLoadedSeesOnlyWhatIsSubmitted) {
    for (const unsigned ring : {0U, 1U, 3U})
        rings.add(nop().home(ring)).value();
    balancer<least_loaded> chooser(rings);
    for (int i = 0; i < 6; i++)
        EXPECT_EQ(chooser.home(), 2U);
}

// The ring that is chosen has at most the mean, so afterwards at most the mean
// and what was placed on it: Graham's bound.
TEST_F(BalancerPieces, LeastWorkStaysWithinTheMeanAndOneRequest) {
    ring_work work;
    balancer chooser(rings, least_work(work));
    draw sizes(weights(256, true));
    double sum = 0;
    for (int i = 0; i < 1000; i++) {
        const auto size = sizes() + 1;
        const auto ring = chooser.home({.work = size});
        sum += size;
        ASSERT_LE(static_cast<double>(work.on(ring)), sum / 4 + size * 0.75);
    }
}

TEST_F(BalancerPieces, LeastWorkTakesTheRingThatIsDone) {
    ring_work work;
    balancer chooser(rings, least_work(work));
    for (int i = 0; i < 4; i++)
        chooser.home({.work = 100});
    work.done(2, 100);
    EXPECT_EQ(chooser.home({.work = 7}), 2U);
    EXPECT_EQ(work.on(2), 7U);
}

TEST_F(BalancerPieces, ThreadsShareTheirWork) {
    ring_work work;
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; i++)
        threads.emplace_back([&] {
            balancer chooser(rings, least_work(work));
            for (unsigned k = 1; k <= 1000; k++)
                work.done(chooser.home({.work = k}), k - 1);
        });
    for (auto &each : threads)
        each.join();
    EXPECT_EQ(work.on(0) + work.on(1) + work.on(2) + work.on(3), 4000U);
}

TEST_F(BalancerPieces, PoliciesHaveNames) {
    for (const auto *name : {"local", "round_robin", "least_loaded",
                             "two_choices", "buffer_node", "pinned"}) {
        auto chosen = any_policy::named(name);
        ASSERT_TRUE(chosen) << name;
        EXPECT_LT(balancer(rings, *chosen).home(), 4U);
    }
    EXPECT_FALSE(any_policy::named("best"));
    EXPECT_FALSE(any_policy::named("least_work"));
    ring_work work;
    auto chosen = any_policy::named("least_work", &work);
    ASSERT_TRUE(chosen);
    EXPECT_EQ(work.on(balancer(rings, *chosen).home({.work = 3})), 3U);
}

TEST_F(BalancerPieces, AnOnlyRingIsChosenByAll) {
    const auto only = queue::open({.rings = 1}, system).value();
    ring_work work;
    system.run_on(3);
    for (const auto *name :
         {"local", "round_robin", "least_loaded", "two_choices", "least_work",
          "buffer_node", "pinned"}) {
        balancer chooser(only, any_policy::named(name, &work).value());
        for (int i = 0; i < 3; i++)
            EXPECT_EQ(chooser.home({.work = 1}), 0U) << name;
    }
}

/// What a user might write.
struct odd_rings {
    unsigned next = 1;
    unsigned choose(const queue &, const placement &) noexcept {
        return (next += 2) % 4;
    }
};

TEST_F(BalancerPieces, ProgramsWriteTheirOwnPolicies) {
    balancer<odd_rings> chooser(rings);
    auto what = user_event();
    EXPECT_EQ(change(chooser.place(what)).ring, 3U);
    EXPECT_EQ(change(chooser.place(what)).ring, 1U);
}

} // namespace
} // namespace kevent::test
