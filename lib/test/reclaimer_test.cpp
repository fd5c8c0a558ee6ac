// SPDX-License-Identifier: MIT
#include "fake_kernel.hpp"

#include <kevent/collector.hpp>
#include <kevent/reclaimer.hpp>

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <memory>
#include <optional>
#include <random>
#include <thread>
#include <utility>
#include <vector>

namespace kevent::test {
namespace {

using namespace std::chrono_literals;

/// Counts those that live.
struct object {
    explicit object(std::atomic<int> &alive) : alive_(alive) { alive_++; }
    object(const object &) = delete;
    object &operator=(const object &) = delete;
    ~object() { alive_--; }

    std::uint64_t id = 0;
    std::atomic<unsigned> events{0};

private:
    std::atomic<int> &alive_;
};

class Reclaimer : public ::testing::Test {
public:
    fake_kernel system;
    queue rings = queue::open({.rings = 2, .entries = 64}, system).value();
    reclaimer reclaim{rings};
    std::atomic<int> alive{0};
    std::unique_ptr<object> held = std::make_unique<object>(alive);
    std::uint64_t id =
        rings.add(user_event().home(0).cookie(held.get())).value();
    std::array<event, 4> out{};
};

TEST_F(Reclaimer, FreesAtOnceWithoutConsumers) {
    reclaim.retire(remove(id), held).value();
    EXPECT_EQ(alive, 0);
    EXPECT_EQ(held, nullptr);
}

TEST_F(Reclaimer, KeepsTheObjectWhileItsEntryIsUnclaimed) {
    rings.trigger(id).value();
    reclaim.retire(remove(id), held).value();
    EXPECT_EQ(reclaim.release(), 1U);
    EXPECT_EQ(alive, 1);
}

TEST_F(Reclaimer, KeepsTheObjectUntilTheCollectorIsBack) {
    collector one(rings, {.ring = 0, .reclaim = &reclaim});
    rings.trigger(id).value();
    reclaim.retire(remove(id), held).value();
    ASSERT_EQ(one.collect(out, 0ns).value(), 1U);
    EXPECT_EQ(reclaim.release(), 1U);
    EXPECT_EQ(one.collect(out, 0ns).value(), 0U);
    EXPECT_EQ(alive, 0);
}

TEST_F(Reclaimer, KeepsTheObjectOfAnEventThatWasClaimedBefore) {
    collector one(rings, {.ring = 0, .reclaim = &reclaim});
    rings.trigger(id).value();
    ASSERT_EQ(one.collect(out, 0ns).value(), 1U);
    reclaim.retire(remove(id), held).value();
    EXPECT_EQ(alive, 1);
    one.collect(out, 0ns).value();
    EXPECT_EQ(alive, 0);
}

TEST_F(Reclaimer, WaitsForEveryConsumer) {
    reclaimer::consumer first(reclaim, KEVENT_RING_ANY);
    reclaimer::consumer second(reclaim, KEVENT_RING_ANY);
    reclaim.retire(remove(id), held).value();
    first.quiesce();
    EXPECT_EQ(alive, 1);
    second.quiesce();
    EXPECT_EQ(alive, 0);
}

TEST_F(Reclaimer, DoesNotWaitForConsumersOfOtherRings) {
    reclaimer::consumer other(reclaim, 1);
    reclaim.retire(remove(id), held, 0).value();
    EXPECT_EQ(alive, 0);
}

TEST_F(Reclaimer, WaitsForAllWhereTheRingIsNotKnown) {
    reclaimer::consumer other(reclaim, 1);
    reclaim.retire(remove(id), held).value();
    EXPECT_EQ(alive, 1);
}

TEST_F(Reclaimer, DoesNotWaitForAConsumerThatLeft) {
    {
        reclaimer::consumer leaves(reclaim, KEVENT_RING_ANY);
        reclaim.retire(remove(id), held).value();
        EXPECT_EQ(alive, 1);
    }
    EXPECT_EQ(alive, 0);
}

TEST_F(Reclaimer, WaitsForAConsumerThatMoved) {
    {
        std::optional<reclaimer::consumer> first(std::in_place, reclaim,
                                                 KEVENT_RING_ANY);
        reclaimer::consumer second(std::move(*first));
        first.reset();
        reclaim.retire(remove(id), held).value();
        EXPECT_EQ(reclaim.release(), 1U);
        second.quiesce();
        EXPECT_EQ(alive, 0);
        held = std::make_unique<object>(alive);
        id = rings.add(user_event().home(0).cookie(held.get())).value();
        reclaim.retire(remove(id), held).value();
        EXPECT_EQ(alive, 1);
    }
    EXPECT_EQ(alive, 0);
}

TEST_F(Reclaimer, ANewcomerIsNotWaitedFor) {
    reclaimer::consumer old(reclaim, KEVENT_RING_ANY);
    reclaim.retire(remove(id), held).value();
    reclaimer::consumer newcomer(reclaim, KEVENT_RING_ANY);
    old.quiesce();
    EXPECT_EQ(alive, 0);
}

TEST_F(Reclaimer, ASourceThatIsGoneIsNoError) {
    rings.remove(id).value();
    EXPECT_TRUE(reclaim.retire(remove(id), held));
    EXPECT_EQ(alive, 0);
}

TEST_F(Reclaimer, AnEntryOfASourceThatIsGoneMayBeUnclaimed) {
    rings.trigger(id).value();
    rings.remove(id).value();
    EXPECT_TRUE(reclaim.retire(remove(id), held));
    EXPECT_EQ(alive, 1);
}

TEST_F(Reclaimer, AFailedRemovalLeavesTheObjectAlone) {
    EXPECT_EQ(reclaim.retire(remove_and_close(id, -1), held).error(),
              errno_code(EBADF));
    EXPECT_NE(held, nullptr);
    EXPECT_EQ(alive, 1);
}

TEST_F(Reclaimer, FreesWhatIsLeftAtTheEnd) {
    {
        reclaimer last(rings);
        rings.trigger(id).value();
        last.retire(remove(id), held).value();
        EXPECT_EQ(alive, 1);
    }
    EXPECT_EQ(alive, 0);
}

/// Threads collect and touch the objects; each event's object is retired by the
/// thread that saw it first, while others may hold events of it.
TEST(ReclaimerThreads, NoObjectIsTouchedAfterItIsFreed) {
    constexpr int objects = 3000;
    fake_kernel system;
    const auto rings = queue::open({.rings = 2, .entries = 16}, system).value();
    std::atomic<int> alive{0};
    std::atomic<int> retired{0};
    {
        reclaimer reclaim(rings);
        std::vector<std::thread> pool;
        for (unsigned i = 0; i < 3; i++)
            pool.emplace_back([&, i] {
                collector mine(rings, {.ring = i % 2, .reclaim = &reclaim});
                std::array<event, 4> out{};
                while (retired != objects) {
                    const auto count = mine.collect(out, 0ns).value();
                    for (const auto &each : std::span(out).first(count)) {
                        auto *seen = reinterpret_cast<object *>(each.cookie);
                        if (seen->events.fetch_add(1) != 0)
                            continue;
                        std::unique_ptr<object> held(seen);
                        reclaim.retire(remove(each.id), held).value();
                        retired++;
                    }
                    if (count == 0)
                        std::this_thread::yield();
                }
            });
        for (int i = 0; i < objects; i++) {
            auto *made = new object(alive);
            const auto ring = static_cast<std::uint32_t>(i % 2);
            const auto id =
                rings.add(user_event().home(ring).cookie(made)).value();
            static_cast<void>(rings.trigger(id));
            static_cast<void>(rings.trigger(id)); // gone already, perhaps
        }
        for (auto &each : pool)
            each.join();
    }
    EXPECT_EQ(retired, objects);
    EXPECT_EQ(alive, 0);
}

} // namespace
} // namespace kevent::test
