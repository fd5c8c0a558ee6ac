// SPDX-License-Identifier: MIT
#include "fake_kernel.hpp"

#include <kevent/collector.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <functional>
#include <random>
#include <thread>

namespace kevent::test {
namespace {

using namespace std::chrono_literals;

class Collector : public ::testing::Test {
public:
    fake_kernel system;
    queue rings = queue::open({.rings = 2, .entries = 64}, system).value();
    std::array<event, 16> out{};

    void post(unsigned count, unsigned ring = 0) {
        for (unsigned i = 0; i < count; i++)
            rings.add(nop().home(ring)).value();
    }
    int ready_level_file() {
        const int fd = system.make_file(EPOLLIN);
        rings.add(watch(fd, EPOLLIN).level().home(0)).value();
        return fd;
    }
};

TEST_F(Collector, MakesNoIoctlWhileTheRingHasEvents) {
    collector one(rings, {.ring = 0});
    for (int i = 0; i < 1000; i++) {
        post(3);
        ASSERT_EQ(one.collect(out).value(), 3U);
    }
    EXPECT_EQ(system.get_calls, 0U);
    EXPECT_EQ(one.statistics().ring_events, 3000U);
}

TEST_F(Collector, ReadsNoClockWhileTheHintIsZero) {
    collector one(rings, {.ring = 0});
    for (int i = 0; i < 100; i++) {
        post(1);
        one.collect(out).value();
    }
    EXPECT_EQ(system.clock_reads, 0U);
}

TEST_F(Collector, AFixedCountReadsNoClockAtAll) {
    collector one(rings, {.ring = 0, .sweeps = pace::fixed(10, 0ns)});
    ready_level_file();
    for (int i = 0; i < 100; i++) {
        post(1);
        one.collect(out).value();
    }
    EXPECT_EQ(system.clock_reads, 0U);
    EXPECT_GT(one.statistics().sweeps, 0U);
}

TEST_F(Collector, PollingAnEmptyQueueMakesNoIoctl) {
    collector one(rings, {.ring = 0});
    EXPECT_EQ(one.collect(out, 0ns).value(), 0U);
    EXPECT_EQ(system.get_calls, 0U);
}

TEST_F(Collector, AnEmptyArrayCollectsNothing) {
    collector one(rings, {.ring = 0});
    post(1);
    EXPECT_EQ(one.collect({}).value(), 0U);
}

TEST_F(Collector, SleepsInOneIoctl) {
    collector one(rings, {.ring = 0});
    rings.add(after(5ms).home(0)).value();
    EXPECT_EQ(one.collect(out).value(), 1U);
    EXPECT_EQ(system.get_calls, 1U);
}

TEST_F(Collector, ReturnsNothingAfterTheTimeout) {
    collector one(rings, {.ring = 0});
    const auto start = system.now();
    EXPECT_EQ(one.collect(out, 3ms).value(), 0U);
    EXPECT_EQ(system.now() - start, 3'000'000);
}

TEST_F(Collector, AnEndlessTimeoutDoesNotOverflow) {
    collector one(rings, {.ring = 0});
    rings.add(after(5ms).home(0)).value();
    EXPECT_EQ(one.collect(out, nanoseconds::max()).value(), 1U);
}

TEST_F(Collector, ASignalIsEintr) {
    collector one(rings, {.ring = 0});
    system.interrupt();
    EXPECT_EQ(one.collect(out).error(), errno_code(EINTR));
}

TEST_F(Collector, SleepsAgainWhenAnotherConsumerWasFaster) {
    collector one(rings, {.ring = 0});
    collector other(rings, {.ring = 0});
    rings.add(after(1ms).home(0).cookie(1)).value();
    rings.add(after(2ms).home(0).cookie(2)).value();
    const std::function<void()> take = [&] {
        EXPECT_EQ(other.collect(out, 0ns).value(), 1U);
        EXPECT_EQ(out[0].cookie, 1U);
    };
    system.afterwards = &take;
    EXPECT_EQ(one.collect(out).value(), 1U);
    EXPECT_EQ(out[0].cookie, 2U);
    EXPECT_EQ(system.get_calls, 2U);
}

TEST_F(Collector, EntersWhenSourcesMustBePolledAgain) {
    collector one(rings, {.ring = 0});
    const int fd = system.make_file();
    rings.add(watch(fd, EPOLLIN).home(0)).value();
    system.announce_without_key(fd, EPOLLHUP);
    EXPECT_EQ(one.collect(out, 0ns).value(), 1U);
    EXPECT_EQ(system.get_calls, 1U);
}

TEST_F(Collector, PollsAgainAlthoughTheRingHasEvents) {
    collector one(rings, {.ring = 0});
    const int fd = system.make_file();
    rings.add(watch(fd, EPOLLIN).home(0)).value();
    post(1);
    one.collect(out).value();
    system.announce_without_key(fd, EPOLLHUP);
    post(1);
    EXPECT_EQ(one.collect(out).value(), 2U);
    EXPECT_EQ(system.get_calls, 1U);
}

TEST_F(Collector, AFailedSweepLosesNothing) {
    collector one(rings, {.ring = 0});
    const int fd = system.make_file();
    rings.add(watch(fd, EPOLLIN).home(0)).value();
    post(1);
    one.collect(out).value();
    system.announce_without_key(fd, EPOLLHUP);
    post(1);
    system.fail(KEVENT_IOC_GETEVENTS, EFAULT);
    EXPECT_EQ(one.collect(out).error(), errno_code(EFAULT));
    system.fail(KEVENT_IOC_GETEVENTS, 0);
    EXPECT_EQ(one.collect(out, 0ns).value(), 1U);
    EXPECT_EQ(out[0].kind, KEVENT_KIND_NOP);
    EXPECT_EQ(one.collect(out, 0ns).value(), 1U);
    EXPECT_EQ(out[0].events, std::uint32_t{EPOLLHUP});
}

TEST_F(Collector, FetchesPendingEventsOnlyWhenTheRingIsEmpty) {
    collector one(rings, {.ring = 0});
    post(64 + 8);
    for (int i = 0; i < 4; i++)
        EXPECT_EQ(one.collect(out).value(), 16U);
    EXPECT_EQ(system.get_calls, 0U);
    EXPECT_EQ(one.collect(out).value(), 8U);
    EXPECT_EQ(system.get_calls, 1U);
}

TEST_F(Collector, TakesTheHomeRingFirst) {
    collector one(rings, {.ring = 1});
    post(1, 0);
    post(1, 1);
    ASSERT_EQ(one.collect(out).value(), 1U);
    EXPECT_EQ(one.statistics().steals, 0U);
    ASSERT_EQ(one.collect(out).value(), 1U);
    EXPECT_EQ(one.statistics().steals, 1U);
}

TEST_F(Collector, ABusyHomeRingDoesNotStarveTheOthers) {
    collector one(rings, {.ring = 0});
    post(1, 1);
    for (int i = 0; i < 40; i++) {
        post(1, 0);
        one.collect(out).value();
    }
    EXPECT_EQ(one.statistics().steals, 1U);
}

TEST_F(Collector, LevelEventsDoNotStarveTheRing) {
    collector one(rings, {.ring = 0, .sweeps = pace::adaptive(1, 1ns)});
    ready_level_file();
    post(50);
    std::array<event, 1> single{};
    for (int i = 0; i < 102; i++)
        ASSERT_EQ(one.collect(single).value(), 1U);
    EXPECT_GE(one.statistics().ring_events, 50U);
    EXPECT_GE(one.statistics().level_events, 49U);
}

TEST_F(Collector, RingAndLevelEventsShareTheRoom) {
    collector one(rings, {.ring = 0});
    for (int i = 0; i < 20; i++)
        ready_level_file();
    post(17);
    ASSERT_EQ(one.collect(std::span(out).first(1)).value(), 1U);
    EXPECT_EQ(one.collect(out).value(), 16U);
    EXPECT_EQ(one.statistics().level_events, 8U);
    EXPECT_EQ(one.statistics().ring_events, 1U + 8U);
}

TEST_F(Collector, AFixedCountIsKept) {
    collector one(rings, {.ring = 0, .sweeps = pace::fixed(100, 0ns)});
    ready_level_file();
    for (int i = 0; i < 1000; i++) {
        post(1);
        one.collect(out).value();
    }
    EXPECT_NEAR(static_cast<double>(one.statistics().sweeps), 10, 1);
}

TEST_F(Collector, AFixedIntervalIsKept) {
    collector one(rings, {.ring = 0, .sweeps = pace::fixed(0, 100us)});
    ready_level_file();
    for (int i = 0; i < 1000; i++) {
        post(1);
        one.collect(out).value();
        system.advance(2us);
    }
    EXPECT_NEAR(static_cast<double>(one.statistics().sweeps), 20, 2);
}

/// A ring that always has events, beside a level file that is always ready (so
/// that the hint is up) and one that becomes ready again and again, for a
/// simulated while.
struct load {
    nanoseconds cost;  ///< of an ioctl
    nanoseconds bound; ///< of the pace
    double budget;     ///< of the pace
    nanoseconds batch; ///< the longest time between calls
};

struct outcome {
    double share = 0; ///< of time spent in sweeps
    std::int64_t oldest = 0;
    unsigned delivered = 0;
};

outcome simulate(const load &what, pace rule) {
    fake_kernel system;
    auto rings = queue::open({.rings = 1, .entries = 64}, system).value();
    collector one(rings, {.sweeps = rule});
    const int fd = system.make_file();
    rings.add(watch(fd, EPOLLIN).level().cookie(1)).value();
    rings.add(watch(system.make_file(EPOLLIN), EPOLLIN).level()).value();
    system.set_cost(what.cost);
    std::minstd_rand random(7);
    std::array<event, 8> out{};
    outcome seen;
    std::int64_t announced = 0;
    const auto start = system.now();
    for (int i = 0; i < 20'000; i++) {
        rings.add(nop()).value();
        const auto count = one.collect(out).value();
        for (const auto &each : std::span(out).first(count))
            if (each.cookie == 1) {
                seen.oldest = std::max(seen.oldest, system.now() - announced);
                seen.delivered++;
                announced = 0;
                system.settle(fd, EPOLLIN);
            }
        if (announced == 0 && random() % 2 == 0) {
            announced = system.now();
            system.announce(fd, EPOLLIN);
        }
        const auto half = what.batch / 2;
        system.advance(half + nanoseconds(random() % half.count()));
    }
    // The last sweep has not been worked off yet.
    const auto sweeps = static_cast<double>(system.get_calls - 1);
    seen.share = sweeps * static_cast<double>(what.cost.count()) /
                 static_cast<double>(system.now() - start);
    return seen;
}

outcome simulate(const load &what) {
    return simulate(what, pace::adaptive(what.budget, what.bound));
}

/// What the adaptive pace is to make small.
double limits_used(const load &what, const outcome &seen) {
    return seen.share / what.budget +
           static_cast<double>(seen.oldest) /
               static_cast<double>(what.bound.count());
}

TEST(AdaptivePace, HoldsTheBudget) {
    for (const auto cost : {500ns, 2000ns, 20'000ns, 40'000ns}) {
        const auto seen = simulate({cost, 1ms, 0.05, 2us});
        EXPECT_LE(seen.share, 0.05) << cost.count();
        EXPECT_GT(seen.delivered, 30U);
    }
}

TEST(AdaptivePace, IsAsGoodAsTheBestInterval) {
    for (const auto cost : {500ns, 5000ns, 40'000ns})
        for (const auto batch : {2us, 30us}) {
            const load what{cost, 1ms, 0.05, batch};
            double best = 1e18;
            for (auto each = 20us; each < 1ms; each += each / 4) {
                const auto seen = simulate(what, pace::fixed(0, each));
                best = std::min(best, limits_used(what, seen));
            }
            EXPECT_LE(limits_used(what, simulate(what)), 1.1 * best)
                << cost.count() << ", " << batch.count();
        }
}

TEST(AdaptivePace, SweepsBetweenTheLimits) {
    auto sweeps = pace::adaptive(0.05, 1ms);
    sweeps.swept(0, 2000); // may follow after 40 us, must before 1 ms
    EXPECT_FALSE(sweeps.due(1, 199'900));
    EXPECT_TRUE(sweeps.due(1, 200'000));
}

TEST(AdaptivePace, SweepsAtTheNearestCall) {
    auto sweeps = pace::adaptive(0.05, 1ms);
    sweeps.swept(0, 2000);
    EXPECT_FALSE(sweeps.due(1, 40'000));
    EXPECT_TRUE(sweeps.due(1, 160'000)) << "nearer to 200 us than 280 us";
    sweeps.swept(160'000, 162'000);
    EXPECT_FALSE(sweeps.due(1, 280'000)) << "120 us: 220 us is nearer";
}

TEST(AdaptivePace, TheNearestCallIsNotBeforeTheBudgetAllows) {
    auto sweeps = pace::adaptive(0.05, 1ms);
    EXPECT_TRUE(sweeps.due(1, 1)) << "the first";
    sweeps.swept(1, 25'001);
    EXPECT_FALSE(sweeps.due(1, 480'001)) << "707 us are best, 500 us the least";
    EXPECT_TRUE(sweeps.due(1, 960'001));
}

TEST(AdaptivePace, HoldsTheBound) {
    for (const auto batch : {1us, 5us, 50us}) {
        const auto seen = simulate({2us, 500us, 0.05, batch});
        EXPECT_LE(seen.oldest, 500'000) << batch.count();
        EXPECT_GT(seen.delivered, 100U);
    }
}

TEST(AdaptivePace, CountsTheTimeBetweenCallsIntoTheBound) {
    const auto seen = simulate({40us, 500us, 0.05, 100us});
    EXPECT_LE(seen.oldest, 500'000 + 50'000) << "a call came that much later";
    EXPECT_GT(seen.delivered, 100U);
}

TEST(AdaptivePace, TheBoundWinsOverTheBudget) {
    const auto seen = simulate({100us, 500us, 0.05, 10us});
    EXPECT_LE(seen.oldest, 500'000 + 10'000);
    EXPECT_GT(seen.share, 0.05);
    EXPECT_LE(seen.share, 0.3);
}

TEST(AdaptivePace, SweepsAtOnceWhenTheHintRisesAfterARest) {
    fake_kernel system;
    auto rings = queue::open({.rings = 1, .entries = 64}, system).value();
    collector one(rings);
    const int fd = system.make_file();
    rings.add(watch(fd, EPOLLIN).level()).value();
    std::array<event, 8> out{};
    rings.add(nop()).value();
    one.collect(out).value();
    system.advance(10ms);
    system.announce(fd, EPOLLIN);
    rings.add(nop()).value();
    EXPECT_EQ(one.collect(out).value(), 2U);
}

TEST(CollectorThreads, ASleeperIsWokenByAnotherThread) {
    fake_kernel system;
    const auto rings = queue::open({.rings = 2}, system).value();
    std::thread waker([&] { rings.add(nop(5).home(1)).value(); });
    collector one(rings, {.ring = 0});
    std::array<event, 4> out{};
    EXPECT_EQ(one.collect(out).value(), 1U);
    EXPECT_EQ(out[0].result, 5);
    waker.join();
}

} // namespace
} // namespace kevent::test
