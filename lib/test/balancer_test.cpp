// SPDX-License-Identifier: MIT
// The distribution that each policy yields, over 2 to 64 simulated nodes.
#include "fake_kernel.hpp"

#include <kevent/balancer.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>
#include <vector>

namespace kevent::test {
namespace {

static_assert(policy<local> && policy<round_robin> && policy<least_loaded> &&
              policy<two_choices> && policy<buffer_node> && policy<pinned> &&
              policy<any_policy>);

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

TEST_F(BalancerPieces, PoliciesHaveNames) {
    for (const auto *name : {"local", "round_robin", "least_loaded",
                             "two_choices", "buffer_node", "pinned"}) {
        auto chosen = any_policy::named(name);
        ASSERT_TRUE(chosen) << name;
        EXPECT_LT(balancer(rings, *chosen).home(), 4U);
    }
    EXPECT_FALSE(any_policy::named("best"));
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
