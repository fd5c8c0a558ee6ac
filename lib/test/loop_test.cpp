// SPDX-License-Identifier: MIT
#include "fake_kernel.hpp"

#include <kevent/loop.hpp>

#include <gtest/gtest.h>

#include <memory>
#include <thread>
#include <vector>

namespace kevent::test {
namespace {

using namespace std::chrono_literals;

struct recorder final : handler {
    std::vector<event> seen;
    loop *stops = nullptr;

    void on_event(const event &news) override {
        seen.push_back(news);
        if (stops != nullptr)
            stops->stop();
    }
};

class Loop : public ::testing::Test {
public:
    fake_kernel system;
    queue rings = queue::open({.rings = 2, .entries = 64}, system).value();
    loop events{rings, {.ring = 0}};
    recorder one;
};

TEST_F(Loop, GivesEachEventToItsHandler) {
    recorder other;
    rings.add(nop(1).home(0).cookie(static_cast<handler *>(&one))).value();
    rings.add(nop(2).home(0).cookie(static_cast<handler *>(&other))).value();
    EXPECT_EQ(events.run_once().value(), 2U);
    ASSERT_EQ(one.seen.size(), 1U);
    EXPECT_EQ(one.seen[0].result, 1);
    ASSERT_EQ(other.seen.size(), 1U);
    EXPECT_EQ(other.seen[0].result, 2);
}

TEST_F(Loop, DropsEventsOfNobody) {
    rings.add(nop().home(0)).value();
    EXPECT_EQ(events.run_once().value(), 1U);
}

TEST_F(Loop, RunsUntilAHandlerStopsIt) {
    one.stops = &events;
    rings.add(after(1ms).home(0).cookie(static_cast<handler *>(&one))).value();
    EXPECT_TRUE(events.run());
    EXPECT_EQ(one.seen.size(), 1U);
}

TEST_F(Loop, IsStoppedByAnotherThreadWhileItSleeps) {
    std::thread stopper([&] { events.stop(); });
    EXPECT_TRUE(events.run());
    stopper.join();
}

TEST_F(Loop, LoopsOnOneRingAreStoppedEachByItself) {
    loop second(rings, {.ring = 0});
    std::thread runs([&] { EXPECT_TRUE(second.run()); });
    events.stop();
    EXPECT_TRUE(events.run());
    EXPECT_FALSE(second.stopping());
    second.stop();
    runs.join();
}

TEST_F(Loop, ASignalDoesNotEndIt) {
    system.interrupt();
    one.stops = &events;
    rings.add(after(1ms).home(0).cookie(static_cast<handler *>(&one))).value();
    EXPECT_TRUE(events.run());
    EXPECT_EQ(one.seen.size(), 1U);
}

TEST_F(Loop, ReturnsWhyItCannotCollect) {
    system.fail(KEVENT_IOC_GETEVENTS, EFAULT);
    EXPECT_EQ(events.run().error(), errno_code(EFAULT));
    EXPECT_FALSE(events.stopping());
    system.fail(KEVENT_IOC_GETEVENTS, 0);
    one.stops = &events;
    rings.add(after(1ms).home(0).cookie(static_cast<handler *>(&one))).value();
    EXPECT_TRUE(events.run());
    EXPECT_EQ(one.seen.size(), 1U);
}

TEST_F(Loop, WithoutItsWakeupItIsNotMade) {
    reclaimer reclaim(rings);
    const collector_options options{.ring = 1, .reclaim = &reclaim};
    system.fail(KEVENT_IOC_CHANGE, ENOMEM);
    try {
        const loop none(rings, options);
        FAIL() << "did not throw";
    } catch (const std::system_error &error) {
        EXPECT_EQ(error.code(), errno_code(ENOMEM));
    }
    system.fail(KEVENT_IOC_CHANGE, 0);
    EXPECT_EQ(rings.ring(1).sources(), 0U);
    auto held = std::make_unique<int>();
    const auto id = rings.add(user_event().home(1).cookie(held.get())).value();
    reclaim.retire(remove(id), held).value();
    EXPECT_EQ(reclaim.waiting(), 0U) << "its collector is waited for";
    loop third(rings, options);
    EXPECT_EQ(third.run_once(0ns).value(), 0U);
}

TEST_F(Loop, TakesItsWakeupAway) {
    const auto before = rings.ring(1).sources();
    {
        loop third(rings, {.ring = 1});
        EXPECT_EQ(rings.ring(1).sources(), before + 1);
    }
    EXPECT_EQ(rings.ring(1).sources(), before);
}

} // namespace
} // namespace kevent::test
