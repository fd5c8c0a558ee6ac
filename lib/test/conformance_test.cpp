// SPDX-License-Identifier: MIT
// What the interface promises: the same cases on the fake (kevent-tests) and on
// the module (kevent-device-tests, compiled with KEVENT_DEVICE_TESTS).
#include "world.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdlib>
#include <map>
#include <string>
#include <thread>
#include <vector>

namespace kevent::test {
namespace {

using namespace std::chrono_literals;

constexpr auto patience = 5s;

template <class World>
class Conformance : public ::testing::Test {
public:
    World world;
    queue rings =
        queue::open({.rings = 2, .entries = 4}, world.system()).value();
    std::array<event, 64> events{};

    /// Collects all there is, without waiting.
    std::vector<event> drain() {
        std::vector<event> all;
        for (;;) {
            const auto count =
                rings.get(events, {.min = 0, .timeout = 0ns}).value();
            all.insert(all.end(), events.begin(), events.begin() + count);
            if (count == 0 || events[count - 1].flags & KEVENT_EV_LEVEL)
                return all;
        }
    }

    /// Waits for one event at least.
    std::vector<event> await() {
        const auto count = rings.get(events, {.timeout = patience}).value();
        return {events.begin(), events.begin() + count};
    }

    /// Waits for so many events.
    std::vector<event> await(std::size_t count) {
        std::vector<event> all;
        while (all.size() < count) {
            const auto some = await();
            if (some.empty())
                break;
            all.insert(all.end(), some.begin(), some.end());
        }
        EXPECT_EQ(all.size(), count);
        all.resize(count);
        return all;
    }
    /// Makes changes in one array; returns their results.
    template <std::size_t N>
    std::array<int, N> change(std::array<kevent::change, N> &entries) {
        for (auto &each : entries)
            if (each.op == KEVENT_OP_SUBMIT)
                each.ring = 0;
        EXPECT_EQ(rings.change(std::span(entries)).value(), N);
        std::array<int, N> results{};
        for (std::size_t i = 0; i < N; i++)
            results[i] = entries[i].result;
        return results;
    }

    std::uint64_t add(auto what) { return rings.add(what.home(0)).value(); }
    std::error_code error_of(const kevent::change &entry) {
        return rings.change(kevent::change(entry)).error();
    }
};

TYPED_TEST_SUITE_P(Conformance);

// --- files

TYPED_TEST_P(Conformance, AddOfAReadyFileReportsAtOnce) {
    const int fd = this->world.make_file();
    this->world.make_readable(fd);
    const auto id = this->add(watch(fd, EPOLLIN).cookie(7));
    const auto all = this->drain();
    ASSERT_EQ(all.size(), 1U);
    EXPECT_EQ(all[0].cookie, 7U);
    EXPECT_EQ(all[0].id, id);
    EXPECT_EQ(all[0].events, std::uint32_t{EPOLLIN});
    EXPECT_EQ(all[0].kind, KEVENT_KIND_FILE);
    EXPECT_EQ(all[0].flags, 0U);
    EXPECT_EQ(all[0].result, 0);
}

TYPED_TEST_P(Conformance, AddOfAnIdleFileReportsNothing) {
    this->add(watch(this->world.make_file(), EPOLLIN));
    EXPECT_TRUE(this->drain().empty());
}

TYPED_TEST_P(Conformance, EdgeReportsANewsOnce) {
    const int fd = this->world.make_file();
    this->add(watch(fd, EPOLLIN));
    this->world.make_readable(fd);
    EXPECT_EQ(this->drain().size(), 1U);
    EXPECT_TRUE(this->drain().empty());
}

TYPED_TEST_P(Conformance, EdgeCoalescesWhileUnclaimed) {
    const int fd = this->world.make_file();
    this->add(watch(fd, EPOLLIN));
    for (int i = 0; i < 10; i++)
        this->world.make_readable(fd);
    EXPECT_EQ(this->drain().size(), 1U);
}

TYPED_TEST_P(Conformance, EdgeReportsAgainAfterTheClaim) {
    const int fd = this->world.make_file();
    this->add(watch(fd, EPOLLIN));
    for (int i = 0; i < 10; i++) {
        this->world.make_readable(fd);
        ASSERT_EQ(this->drain().size(), 1U) << i;
    }
}

TYPED_TEST_P(Conformance, EdgeAddsAnEntryForMissingBits) {
    const int fd = this->world.make_file();
    this->add(watch(fd, EPOLLIN));
    this->world.make_readable(fd);
    this->world.hang_up(fd);
    const auto all = this->drain();
    ASSERT_EQ(all.size(), 2U);
    EXPECT_EQ(all[0].events, std::uint32_t{EPOLLIN});
    EXPECT_EQ(all[1].events, std::uint32_t{EPOLLIN | EPOLLHUP});
}

TYPED_TEST_P(Conformance, AWakeupWithoutAKeyAsksForTheIoctl) {
    const int fd = this->world.make_file();
    this->add(watch(fd, EPOLLIN));
    this->world.hang_up(fd);
    EXPECT_EQ(this->rings.ring(0).need_enter(), 1U);
    const auto all = this->drain();
    ASSERT_EQ(all.size(), 1U);
    EXPECT_EQ(all[0].events, std::uint32_t{EPOLLHUP});
    EXPECT_EQ(this->rings.ring(0).need_enter(), 0U);
}

TYPED_TEST_P(Conformance, OneshotReportsOnceAndSaysSo) {
    const int fd = this->world.make_file();
    this->add(watch(fd, EPOLLIN).oneshot());
    this->world.make_readable(fd);
    const auto all = this->drain();
    ASSERT_EQ(all.size(), 1U);
    EXPECT_EQ(all[0].flags, KEVENT_EV_DISABLED);
    this->world.make_readable(fd);
    EXPECT_TRUE(this->drain().empty());
}

TYPED_TEST_P(Conformance, OneshotEnabledAgainReportsWhatIsReady) {
    const int fd = this->world.make_file();
    const auto id = this->add(watch(fd, EPOLLIN).oneshot());
    this->world.make_readable(fd);
    ASSERT_EQ(this->drain().size(), 1U);
    this->rings.enable(id).value();
    EXPECT_EQ(this->drain().size(), 1U);
}

TYPED_TEST_P(Conformance, LevelIsReportedAsLongAsReady) {
    const int fd = this->world.make_file();
    this->add(watch(fd, EPOLLIN).level().cookie(3));
    this->world.make_readable(fd);
    for (int i = 0; i < 3; i++) {
        const auto all = this->drain();
        ASSERT_EQ(all.size(), 1U) << i;
        EXPECT_EQ(all[0].cookie, 3U);
        EXPECT_EQ(all[0].flags, KEVENT_EV_LEVEL);
        EXPECT_EQ(all[0].events, std::uint32_t{EPOLLIN});
    }
    this->world.drain(fd);
    EXPECT_TRUE(this->drain().empty());
}

TYPED_TEST_P(Conformance, LevelIsNeverInTheRing) {
    const int fd = this->world.make_file();
    this->add(watch(fd, EPOLLIN).level());
    this->world.make_readable(fd);
    EXPECT_EQ(this->rings.ring(0).backlog(), 0U);
}

TYPED_TEST_P(Conformance, HintIsUpUntilASweepFoundTheSourceUnready) {
    const int fd = this->world.make_file();
    this->add(watch(fd, EPOLLIN).level());
    EXPECT_EQ(this->rings.ring(0).hint(), 0U);
    this->world.make_readable(fd);
    EXPECT_EQ(this->rings.ring(0).hint(), 1U);
    this->drain();
    EXPECT_EQ(this->rings.ring(0).hint(), 1U);
    this->world.drain(fd);
    this->drain();
    EXPECT_EQ(this->rings.ring(0).hint(), 0U);
}

TYPED_TEST_P(Conformance, RemoveOfALevelSourceTakesTheHintDown) {
    const int fd = this->world.make_file();
    const auto id = this->add(watch(fd, EPOLLIN).level());
    this->world.make_readable(fd);
    this->rings.remove(id).value();
    EXPECT_TRUE(this->drain().empty());
    EXPECT_EQ(this->rings.ring(0).hint(), 0U);
}

// --- changes

TYPED_TEST_P(Conformance, ModifyReplacesCookieAndEvents) {
    const int fd = this->world.make_file();
    const auto id = this->add(watch(fd, EPOLLIN).cookie(1));
    this->rings.modify(id, watch(fd, EPOLLPRI).cookie(2)).value();
    this->world.make_readable(fd);
    EXPECT_TRUE(this->drain().empty());
    this->rings.modify(id, watch(fd, EPOLLIN).cookie(3)).value();
    const auto all = this->drain();
    ASSERT_EQ(all.size(), 1U);
    EXPECT_EQ(all[0].cookie, 3U);
}

TYPED_TEST_P(Conformance, ModifyEnables) {
    const int fd = this->world.make_file();
    const auto id = this->add(watch(fd, EPOLLIN).disabled());
    this->rings.modify(id, watch(fd, EPOLLIN)).value();
    this->world.make_readable(fd);
    EXPECT_EQ(this->drain().size(), 1U);
}

TYPED_TEST_P(Conformance, ADisabledSourceReportsNothingUntilEnabled) {
    const int fd = this->world.make_file();
    const auto id = this->add(watch(fd, EPOLLIN).disabled());
    this->world.make_readable(fd);
    EXPECT_TRUE(this->drain().empty());
    this->rings.enable(id).value();
    EXPECT_EQ(this->drain().size(), 1U);
}

TYPED_TEST_P(Conformance, DisableSilences) {
    const int fd = this->world.make_file();
    const auto id = this->add(watch(fd, EPOLLIN));
    this->rings.disable(id).value();
    this->world.make_readable(fd);
    EXPECT_TRUE(this->drain().empty());
}

TYPED_TEST_P(Conformance, RemoveSilences) {
    const int fd = this->world.make_file();
    const auto id = this->add(watch(fd, EPOLLIN));
    EXPECT_EQ(this->rings.remove(id).value(), 0);
    this->world.make_readable(fd);
    EXPECT_TRUE(this->drain().empty());
}

TYPED_TEST_P(Conformance, RemoveSaysWhetherAnEntryIsUnclaimed) {
    const int fd = this->world.make_file();
    const auto id = this->add(watch(fd, EPOLLIN));
    this->world.make_readable(fd);
    EXPECT_EQ(this->rings.remove(id).value(), KEVENT_UNCLAIMED);
    EXPECT_EQ(this->drain().size(), 1U);
}

TYPED_TEST_P(Conformance, AMissingIdIsEnoent) {
    const auto id = this->add(user_event());
    this->rings.remove(id).value();
    for (const auto &entry :
         {remove(id), enable(id), disable(id), trigger(id), acknowledge(id)})
        EXPECT_EQ(this->error_of(entry), errno_code(ENOENT)) << entry.op;
}

TYPED_TEST_P(Conformance, IdsAreNotReused) {
    const auto id = this->add(user_event());
    this->rings.remove(id).value();
    EXPECT_NE(this->add(user_event()), id);
}

TYPED_TEST_P(Conformance, RemoveAndCloseDoesBoth) {
    // dup(2) of a real one would keep the file open; this is the number alone.
    const int fd = this->world.make_file();
    const auto id = this->add(watch(fd, EPOLLIN));
    const int other = this->world.make_file();
    EXPECT_EQ(this->error_of(remove_and_close(id, other)), errno_code(EBADF));
    this->world.make_readable(fd);
    EXPECT_EQ(this->drain().size(), 1U)
        << "a refused removal changed something";
    EXPECT_EQ(this->rings.remove_and_close(id, fd).value(), 0);
    EXPECT_EQ(this->rings.add(watch(fd, EPOLLIN)).error(), errno_code(EBADF));
}

TYPED_TEST_P(Conformance, EachChangeHasItsOwnResult) {
    std::array<kevent::change, 3> entries = {
        user_event().home(0), user_event().home(99), nop().home(0)};
    EXPECT_EQ(this->rings.change(std::span(entries)).value(), 3U);
    EXPECT_EQ(entries[0].result, 0);
    EXPECT_NE(entries[0].id, 0U);
    EXPECT_EQ(entries[1].result, -EINVAL);
    EXPECT_EQ(entries[2].result, 0);
    EXPECT_EQ(this->drain().size(), 1U);
}

TYPED_TEST_P(Conformance, SourcesAreCountedInTheirHome) {
    const auto id = this->add(user_event());
    this->rings.add(user_event().home(1)).value();
    EXPECT_EQ(this->rings.ring(0).sources(), 1U);
    EXPECT_EQ(this->rings.ring(1).sources(), 1U);
    this->rings.remove(id).value();
    EXPECT_EQ(this->rings.ring(0).sources(), 0U);
}

TYPED_TEST_P(Conformance, DisableLeavesAnEntryInTheRing) {
    const auto id = this->add(user_event());
    this->rings.trigger(id).value();
    this->rings.disable(id).value();
    EXPECT_EQ(this->drain().size(), 1U);
}

TYPED_TEST_P(Conformance, ATriggerWhileDisabledIsReportedByEnable) {
    const auto id = this->add(user_event().disabled());
    this->rings.trigger(id, 2).value();
    this->rings.trigger(id, 3).value();
    EXPECT_TRUE(this->drain().empty());
    this->rings.enable(id).value();
    EXPECT_EQ(this->drain().at(0).result, 5);
}

TYPED_TEST_P(Conformance, WhatWasNotPostedBeforeDisableIsReportedByEnable) {
    const auto id = this->add(user_event());
    this->rings.trigger(id, 1).value();
    this->rings.trigger(id, 2).value();
    this->rings.disable(id).value();
    EXPECT_EQ(this->drain().at(0).result, 1);
    EXPECT_TRUE(this->drain().empty());
    this->rings.enable(id).value();
    EXPECT_EQ(this->drain().at(0).result, 2);
}

TYPED_TEST_P(Conformance, ModifyDropsWhatWasNotPosted) {
    const auto id = this->add(user_event().disabled());
    this->rings.trigger(id, 2).value();
    this->rings.modify(id, user_event()).value();
    EXPECT_TRUE(this->drain().empty());
}

// --- timers

TYPED_TEST_P(Conformance, ATimerExpiresOnce) {
    this->add(after(1ms).cookie(5));
    const auto all = this->await();
    ASSERT_EQ(all.size(), 1U);
    EXPECT_EQ(all[0].cookie, 5U);
    EXPECT_EQ(all[0].kind, KEVENT_KIND_TIMER);
    EXPECT_EQ(all[0].result, 1);
    this->world.pass(5ms);
    EXPECT_TRUE(this->drain().empty());
}

TYPED_TEST_P(Conformance, APeriodicTimerCountsItsExpirations) {
    this->add(every(10ms));
    this->world.pass(55ms);
    std::int64_t sum = 0;
    for (int i = 0; i < 3 && sum < 5; i++)
        for (const auto &each : this->await())
            sum += each.result;
    EXPECT_GE(sum, 5);
}

TYPED_TEST_P(Conformance, AnAbsoluteTimerInThePastExpiresAtOnce) {
    this->add(at(1ns));
    EXPECT_EQ(this->await().size(), 1U);
}

TYPED_TEST_P(Conformance, ALevelTimerIsReadyUntilAcknowledged) {
    const auto id = this->add(after(1ms).level());
    ASSERT_EQ(this->await().size(), 1U);
    EXPECT_EQ(this->drain().size(), 1U);
    this->rings.acknowledge(id).value();
    EXPECT_TRUE(this->drain().empty());
    EXPECT_EQ(this->rings.ring(0).hint(), 0U);
}

TYPED_TEST_P(Conformance, ATimerWithoutATimeIsEinval) {
    EXPECT_EQ(this->rings.add(every(0ns)).error(), errno_code(EINVAL));
}

// --- user events and requests

TYPED_TEST_P(Conformance, AUserEventAddsUp) {
    const auto id = this->add(user_event().cookie(9));
    for (int i = 1; i <= 4; i++)
        this->rings.trigger(id, i).value();
    std::int64_t sum = 0;
    for (const auto &each : this->drain())
        sum += each.result;
    EXPECT_EQ(sum, 10);
}

TYPED_TEST_P(Conformance, OfAUserEventTheLatestCanWin) {
    const auto id = this->add(user_event().latest());
    for (int i = 1; i <= 4; i++)
        this->rings.trigger(id, i).value();
    EXPECT_EQ(this->drain().back().result, 4);
}

TYPED_TEST_P(Conformance, ATriggerThatMustNotMergeIsEagain) {
    const auto id = this->add(user_event());
    this->rings.change(trigger_alone(id)).value();
    EXPECT_EQ(this->error_of(trigger_alone(id)), errno_code(EAGAIN));
    this->drain();
    EXPECT_FALSE(this->error_of(trigger_alone(id)));
}

TYPED_TEST_P(Conformance, ASumThatIsTooLargeIsEoverflow) {
    const auto id = this->add(user_event().level());
    this->rings.trigger(id, INT64_MAX).value();
    EXPECT_EQ(this->error_of(trigger(id, 1)), errno_code(EOVERFLOW));
}

TYPED_TEST_P(Conformance, ALevelUserEventIsReadyUntilAcknowledged) {
    const auto id = this->add(user_event().level());
    this->rings.trigger(id, 3).value();
    this->rings.trigger(id, 4).value();
    EXPECT_EQ(this->drain().at(0).result, 7);
    EXPECT_EQ(this->drain().at(0).result, 7);
    this->rings.acknowledge(id).value();
    EXPECT_TRUE(this->drain().empty());
}

TYPED_TEST_P(Conformance, OnlyUserEventsAreTriggered) {
    const auto id = this->add(watch(this->world.make_file(), EPOLLIN));
    EXPECT_EQ(this->error_of(trigger(id)), errno_code(EOPNOTSUPP));
    EXPECT_EQ(this->error_of(acknowledge(id)), errno_code(EOPNOTSUPP));
}

TYPED_TEST_P(Conformance, ANopReportsItsResult) {
    this->add(nop(-EIO).cookie(4));
    const auto all = this->drain();
    ASSERT_EQ(all.size(), 1U);
    EXPECT_EQ(all[0].kind, KEVENT_KIND_NOP);
    EXPECT_EQ(all[0].cookie, 4U);
    EXPECT_EQ(all[0].result, -EIO);
}

// --- overflow

TYPED_TEST_P(Conformance, OverflowLosesNothing) {
    std::map<std::uint64_t, int> seen;
    std::vector<int> files;
    for (std::uint64_t i = 0; i < 100; i++) {
        files.push_back(this->world.make_file());
        this->add(watch(files.back(), EPOLLIN).cookie(i));
    }
    for (const int fd : files)
        this->world.make_readable(fd);
    EXPECT_EQ(this->rings.ring(0).backlog(), 4U);
    EXPECT_EQ(this->rings.ring(0).pending(), 96U);
    for (const auto &each : this->drain())
        seen[each.cookie]++;
    EXPECT_EQ(seen.size(), 100U);
    for (const auto &each : seen)
        EXPECT_EQ(each.second, 1) << each.first;
    EXPECT_EQ(this->rings.ring(0).pending(), 0U);
}

TYPED_TEST_P(Conformance, OverflowLosesNoValue) {
    std::vector<std::uint64_t> ids;
    for (int i = 0; i < 20; i++)
        ids.push_back(this->add(user_event()));
    for (int round = 0; round < 10; round++)
        for (const auto id : ids)
            this->rings.trigger(id).value();
    std::int64_t sum = 0;
    for (const auto &each : this->drain())
        sum += each.result;
    EXPECT_EQ(sum, 200);
}

TYPED_TEST_P(Conformance, ARemovedSourceLeavesThePendingList) {
    std::vector<std::uint64_t> ids;
    for (int i = 0; i < 6; i++)
        ids.push_back(this->add(user_event()));
    for (const auto id : ids)
        this->rings.trigger(id).value();
    EXPECT_EQ(this->rings.ring(0).pending(), 2U);
    EXPECT_EQ(this->rings.remove(ids[5]).value(), 0);
    EXPECT_EQ(this->rings.ring(0).pending(), 1U);
    EXPECT_EQ(this->drain().size(), 5U);
}

// --- collection

TYPED_TEST_P(Conformance, GetDoesNotWaitWithoutATimeout) {
    EXPECT_EQ(this->rings.get(this->events, {.timeout = 0ns}).value(), 0U);
}

TYPED_TEST_P(Conformance, GetReturnsAfterTheTimeout) {
    auto &system = this->world.system();
    const auto start = system.now();
    EXPECT_EQ(this->rings.get(this->events, {.timeout = 2ms}).value(), 0U);
    EXPECT_GE(system.now() - start, 2'000'000);
}

TYPED_TEST_P(Conformance, AfterMinWaitOneEventIsEnough) {
    this->add(nop());
    const get_options options{.min = 3, .timeout = patience, .min_wait = 2ms};
    const auto start = this->world.system().now();
    EXPECT_EQ(this->rings.get(this->events, options).value(), 1U);
    EXPECT_GE(this->world.system().now() - start, 2'000'000);
}

TYPED_TEST_P(Conformance, ASleeperIsWokenByATrigger) {
    const auto id = this->add(user_event());
    std::thread waker([&] { this->rings.trigger(id).value(); });
    EXPECT_EQ(this->rings.get(this->events, {}).value(), 1U);
    waker.join();
}

TYPED_TEST_P(Conformance, MappedAndCopyingConsumersShareTheEvents) {
    for (int i = 0; i < 3; i++)
        this->add(nop(i));
    event one{};
    EXPECT_EQ(this->rings.ring(0).collect({&one, 1}), 1U);
    EXPECT_EQ(one.result, 0);
    const auto rest = this->drain();
    ASSERT_EQ(rest.size(), 2U);
    EXPECT_EQ(rest[0].result, 1);
}

TYPED_TEST_P(Conformance, ACollectorStealsFromOtherRings) {
    collector helper(this->rings, {.ring = 1});
    this->add(nop(6));
    ASSERT_EQ(helper.collect(this->events, 0ns).value(), 1U);
    EXPECT_EQ(this->events[0].result, 6);
    EXPECT_EQ(helper.statistics().steals, 1U);
    EXPECT_EQ(helper.statistics().ioctls, 0U);
}

TYPED_TEST_P(Conformance, ACollectorWithoutStealingLeavesOtherRingsAlone) {
    collector lone(this->rings, {.ring = 1, .steal = false});
    this->add(nop());
    EXPECT_EQ(lone.collect(this->events, 0ns).value(), 0U);
    EXPECT_EQ(this->rings.ring(0).backlog(), 1U);
}

TYPED_TEST_P(Conformance, ACollectorFindsLevelEvents) {
    collector one(this->rings, {.ring = 0});
    const int fd = this->world.make_file();
    this->add(watch(fd, EPOLLIN).level());
    this->world.make_readable(fd);
    ASSERT_EQ(one.collect(this->events).value(), 1U);
    EXPECT_EQ(this->events[0].flags, KEVENT_EV_LEVEL);
    EXPECT_EQ(one.statistics().level_events, 1U);
}

TYPED_TEST_P(Conformance, ACollectorGetsPendingEventsFromTheKernel) {
    collector one(this->rings, {.ring = 0});
    for (int i = 0; i < 20; i++)
        this->add(nop());
    unsigned sum = 0;
    while (const auto count = one.collect(this->events, 0ns).value())
        sum += count;
    EXPECT_EQ(sum, 20U);
}

// --- several threads

TYPED_TEST_P(Conformance, SeveralCollectorsTakeEachEventOnce) {
    constexpr unsigned threads = 3;
    constexpr unsigned per_producer = 2000;
    std::vector<std::atomic<int>> ledger(2 * per_producer);
    std::atomic<bool> done{false};
    const auto stop =
        this->rings.add(user_event().level().cookie(~0ULL)).value();
    std::vector<std::thread> pool;
    for (unsigned i = 0; i < threads; i++)
        pool.emplace_back([&, i] {
            collector mine(this->rings, {.ring = i % 2});
            std::array<event, 3> taken{};
            for (unsigned count = 1; count != 0 || !done;) {
                count = mine.collect(taken, done ? 0ns : -1ns).value();
                for (const auto &each : std::span(taken).first(count)) {
                    if (each.cookie != ~0ULL)
                        ledger[each.cookie]++;
                    else
                        count -= done ? 1 : 0;
                }
            }
        });
    std::vector<std::thread> producers;
    for (unsigned p = 0; p < 2; p++)
        producers.emplace_back([&, p] {
            for (unsigned i = 0; i < per_producer; i++)
                this->rings.add(nop().home(p).cookie(p * per_producer + i))
                    .value();
        });
    for (auto &each : producers)
        each.join();
    done = true;
    this->rings.trigger(stop).value();
    for (auto &each : pool)
        each.join();
    for (const auto &each : this->drain())
        if (each.cookie != ~0ULL)
            ledger[each.cookie]++;
    EXPECT_TRUE(std::all_of(ledger.begin(), ledger.end(),
                            [](const auto &times) { return times == 1; }));
}

// --- requests on files

TYPED_TEST_P(Conformance, AReadReportsItsBytes) {
    const int fd = this->world.make_store("hello, world");
    std::array<char, 16> buffer{};
    const auto id =
        this->add(read(fd, buffer.data(), buffer.size(), 7).cookie(6));
    const auto all = this->await(1);
    EXPECT_EQ(all[0].id, id);
    EXPECT_EQ(all[0].cookie, 6U);
    EXPECT_EQ(all[0].kind, KEVENT_KIND_READ);
    EXPECT_EQ(all[0].events, 0U);
    EXPECT_EQ(all[0].result, 5);
    EXPECT_NE(all[0].flags & (KEVENT_EV_INLINE | KEVENT_EV_WORKER), 0);
    EXPECT_STREQ(buffer.data(), "world");
    this->add(read(fd, buffer.data(), buffer.size(), 100));
    EXPECT_EQ(this->await(1)[0].result, 0);
}

TYPED_TEST_P(Conformance, AWriteIsThere) {
    const int fd = this->world.make_store("hello, world");
    this->add(write(fd, "HELLO", 5));
    EXPECT_EQ(this->await(1)[0].result, 5);
    this->add(write(fd, "!", 1).rw_flags(RWF_APPEND | RWF_DSYNC));
    EXPECT_EQ(this->await(1)[0].result, 1);
    EXPECT_EQ(this->world.contents(fd), "HELLO, world!");
}

TYPED_TEST_P(Conformance, VectorsKeepTheirOrder) {
    const int fd = this->world.make_store("hello, world");
    std::string one(3, ' ');
    std::string other(4, ' ');
    const std::array parts{iovec{one.data(), 3}, iovec{other.data(), 4}};
    this->add(readv(fd, parts, 1));
    EXPECT_EQ(this->await(1)[0].result, 7);
    EXPECT_EQ(one + other, "ello, w");
    this->add(writev(fd, parts, 5));
    EXPECT_EQ(this->await(1)[0].result, 7);
    EXPECT_EQ(this->world.contents(fd), "helloello, w");
}

TYPED_TEST_P(Conformance, SyncsReportZero) {
    const int fd = this->world.make_store("x");
    this->add(fsync(fd));
    EXPECT_EQ(this->await(1)[0].result, 0);
    this->add(fdatasync(fd));
    EXPECT_EQ(this->await(1)[0].result, 0);
}

TYPED_TEST_P(Conformance, AnEntryThatIsRefusedHasNoEvent) {
    const int pipe = this->world.make_file();
    char byte = 0;
    EXPECT_EQ(this->error_of(fsync(-1)), errno_code(EBADF));
    EXPECT_EQ(this->error_of(read(pipe, &byte, 1, 1)), errno_code(ESPIPE));
    EXPECT_EQ(this->error_of(write(pipe, &byte, 1)), errno_code(EBADF));
    EXPECT_EQ(this->rings.ring(0).requests(), 0U);
    EXPECT_TRUE(this->drain().empty());
}

TYPED_TEST_P(Conformance, AChainRunsInOrder) {
    const int fd = this->world.make_store("");
    std::array<char, 6> buffer{};
    std::array<kevent::change, 3> entries = {
        write(fd, "hello", 5).cookie(1).link(),
        read(fd, buffer.data(), 5).cookie(2).link(), fsync(fd).cookie(3)};
    this->change(entries);
    const auto all = this->await(3);
    for (std::uint64_t i = 0; i < 3; i++)
        EXPECT_EQ(all[i].cookie, i + 1);
    EXPECT_STREQ(buffer.data(), "hello");
}

TYPED_TEST_P(Conformance, AChainEndsAtAShortTransfer) {
    const int fd = this->world.make_store("hello");
    std::array<char, 6> buffer{};
    std::array<kevent::change, 3> entries = {
        read(fd, buffer.data(), 6).link(), write(fd, "!", 1).link(), fsync(fd)};
    this->change(entries);
    const auto all = this->await(3);
    EXPECT_EQ(all[0].result, 5);
    EXPECT_EQ(all[1].result, -ECANCELED);
    EXPECT_EQ(all[2].result, -ECANCELED);
    EXPECT_EQ(this->world.contents(fd), "hello");
}

TYPED_TEST_P(Conformance, ARefusedEntryEndsTheChainBeforeIt) {
    const int fd = this->world.make_store("hello");
    std::array<kevent::change, 4> entries = {fsync(fd).link(), fsync(-1).link(),
                                             fsync(fd), nop(9)};
    EXPECT_EQ(this->change(entries), (std::array{0, -EBADF, -ECANCELED, 0}));
    const auto all = this->await(2);
    EXPECT_EQ(all[0].result + all[1].result, 9);
}

TYPED_TEST_P(Conformance, AReadOfAPipeWaits) {
    const int fd = this->world.make_file();
    std::array<char, 8> buffer{};
    this->add(read(fd, buffer.data(), buffer.size()));
    EXPECT_TRUE(this->drain().empty());
    EXPECT_EQ(this->rings.ring(0).requests(), 1U);
    this->world.make_readable(fd);
    const auto all = this->await(1);
    EXPECT_EQ(all[0].result, 1);
    EXPECT_TRUE(all[0].flags & KEVENT_EV_WAITED);
    EXPECT_EQ(buffer[0], 'x');
    EXPECT_EQ(this->rings.ring(0).requests(), 0U);
}

TYPED_TEST_P(Conformance, ACancelledReadLeavesThePipeAlone) {
    const int fd = this->world.make_file();
    char byte = 0;
    const auto id = this->add(read(fd, &byte, 1));
    EXPECT_EQ(this->rings.cancel(id).value(), 0);
    EXPECT_EQ(this->await(1)[0].result, -ECANCELED);
    EXPECT_EQ(this->rings.cancel(id).error(), errno_code(ENOENT));
    this->world.make_readable(fd);
    EXPECT_TRUE(this->drain().empty());
    this->add(read(fd, &byte, 1));
    EXPECT_EQ(this->await(1)[0].result, 1);
}

TYPED_TEST_P(Conformance, AllRequestsOfAFileAreCancelled) {
    const int fd = this->world.make_file();
    const int other = this->world.make_file();
    char byte = 0;
    for (int i = 0; i < 3; i++)
        this->add(read(fd, &byte, 1));
    this->add(read(other, &byte, 1));
    EXPECT_EQ(this->rings.cancel_file(fd).value(), 3);
    for (const auto &each : this->await(3))
        EXPECT_EQ(each.result, -ECANCELED);
    EXPECT_EQ(this->rings.ring(0).requests(), 1U);
}

TYPED_TEST_P(Conformance, ACancelledRequestEndsTheChain) {
    const int fd = this->world.make_file();
    char byte = 0;
    std::array<kevent::change, 2> entries = {read(fd, &byte, 1).link(), nop()};
    this->change(entries);
    EXPECT_TRUE(this->drain().empty());
    this->rings.cancel(entries[0].id).value();
    for (const auto &each : this->await(2))
        EXPECT_EQ(each.result, -ECANCELED);
}

TYPED_TEST_P(Conformance, RequestsFindRoomInAFullRing) {
    const int fd = this->world.make_store("hello");
    std::array<std::array<char, 5>, 20> buffers{};
    for (auto &each : buffers)
        this->add(read(fd, each.data(), each.size()));
    for (const auto &each : this->await(buffers.size()))
        EXPECT_EQ(each.result, 5);
    for (const auto &each : buffers)
        EXPECT_EQ(std::string(each.data(), 5), "hello");
}

// --- tasks

/// Each with one request in flight, from a cursor that they share.
task<> copier(int from, int to, std::uint64_t &next, std::uint64_t size) {
    std::array<std::byte, 100> buffer;
    while (next < size) {
        const auto at = std::exchange(next, next + buffer.size());
        const auto got = (co_await read(from, buffer, at)).value();
        EXPECT_EQ(
            (co_await write(to, std::span(buffer).first(got), at)).value(),
            got);
    }
}

task<std::error_code> one_byte(int fd) {
    char byte = 0;
    co_return (co_await read(fd, &byte, 1)).error();
}

task<std::error_code> ready_byte(int fd) {
    if (const auto ready = co_await readable(fd); !ready)
        co_return ready.error();
    co_return co_await one_byte(fd);
}

template <class World>
task<> make_readable(World &world, int fd) {
    co_await sleep_for(1ms);
    world.make_readable(fd);
}

TYPED_TEST_P(Conformance, TasksCopyAFile) {
    std::string text(5000, 0);
    for (std::size_t i = 0; i < text.size(); i++)
        text[i] = static_cast<char>(i / 7);
    const int from = this->world.make_store(text);
    const int to = this->world.make_store("");
    loop own(this->rings, {.ring = 0, .steal = false});
    std::uint64_t next = 0;
    std::vector<task<>> several;
    for (int i = 0; i < 8; i++)
        several.push_back(copier(from, to, next, text.size()));
    own.run(when_all(std::move(several)));
    EXPECT_EQ(this->world.contents(to), text);
}

TYPED_TEST_P(Conformance, ATaskWaitsForAPipe) {
    const int fd = this->world.make_file();
    loop own(this->rings, {.ring = 0, .steal = false});
    EXPECT_EQ(std::get<0>(own.run(
                  when_all(ready_byte(fd), make_readable(this->world, fd)))),
              std::error_code());
}

TYPED_TEST_P(Conformance, ATaskGivesUpAPipe) {
    const int fd = this->world.make_file();
    loop own(this->rings, {.ring = 0, .steal = false});
    EXPECT_EQ(own.run(with_timeout(2ms, one_byte(fd))), errno_code(ECANCELED));
    EXPECT_EQ(own.run(with_timeout(2ms, ready_byte(fd))),
              errno_code(ECANCELED));
    this->world.make_readable(fd);
    EXPECT_EQ(own.run(with_timeout(10s, one_byte(fd))), std::error_code());
}

TYPED_TEST_P(Conformance, TheEndOfALoopEndsItsTasks) {
    const int fd = this->world.make_file();
    {
        loop own(this->rings, {.ring = 0, .steal = false});
        for (int i = 0; i < 5; i++)
            own.spawn([](int from) -> task<> {
                EXPECT_EQ(co_await one_byte(from), errno_code(ECANCELED));
            }(fd));
        while (this->rings.ring(0).requests() != 5)
            own.run_once(0ns).value();
    }
    EXPECT_EQ(this->rings.ring(0).requests(), 0U);
    EXPECT_EQ(this->rings.ring(0).sources(), 0U);
}

TYPED_TEST_P(Conformance, LoopsInThreadsShareAQueue) {
    const int fd = this->world.make_store("hello");
    std::atomic<int> done{0};
    for (const bool shared : {false, true}) {
        loop one(this->rings, {.ring = 0, .steal = shared});
        loop other(this->rings, {.ring = 1, .steal = shared});
        std::thread first([&] { one.run().value(); });
        std::thread second([&] { other.run().value(); });
        done = 0;
        for (int i = 0; i < 40; i++)
            (i % 2 ? one : other)
                .spawn([](int from, std::atomic<int> &count) -> task<> {
                    for (int round = 0; round < 50; round++) {
                        EXPECT_FALSE(co_await one_byte(from));
                        count++;
                    }
                }(fd, done));
        while (done != 2000)
            std::this_thread::yield();
        one.stop();
        other.stop();
        first.join();
        second.join();
    }
}

REGISTER_TYPED_TEST_SUITE_P(
    Conformance, AddOfAReadyFileReportsAtOnce, AddOfAnIdleFileReportsNothing,
    EdgeReportsANewsOnce, EdgeCoalescesWhileUnclaimed,
    EdgeReportsAgainAfterTheClaim, EdgeAddsAnEntryForMissingBits,
    AWakeupWithoutAKeyAsksForTheIoctl, OneshotReportsOnceAndSaysSo,
    OneshotEnabledAgainReportsWhatIsReady, LevelIsReportedAsLongAsReady,
    LevelIsNeverInTheRing, HintIsUpUntilASweepFoundTheSourceUnready,
    RemoveOfALevelSourceTakesTheHintDown, ModifyReplacesCookieAndEvents,
    ModifyEnables, ADisabledSourceReportsNothingUntilEnabled, DisableSilences,
    DisableLeavesAnEntryInTheRing, ATriggerWhileDisabledIsReportedByEnable,
    WhatWasNotPostedBeforeDisableIsReportedByEnable,
    ModifyDropsWhatWasNotPosted, AfterMinWaitOneEventIsEnough, RemoveSilences,
    RemoveSaysWhetherAnEntryIsUnclaimed, AMissingIdIsEnoent, IdsAreNotReused,
    RemoveAndCloseDoesBoth, EachChangeHasItsOwnResult,
    SourcesAreCountedInTheirHome, ATimerExpiresOnce,
    APeriodicTimerCountsItsExpirations, AnAbsoluteTimerInThePastExpiresAtOnce,
    ALevelTimerIsReadyUntilAcknowledged, ATimerWithoutATimeIsEinval,
    AUserEventAddsUp, OfAUserEventTheLatestCanWin,
    ATriggerThatMustNotMergeIsEagain, ASumThatIsTooLargeIsEoverflow,
    ALevelUserEventIsReadyUntilAcknowledged, OnlyUserEventsAreTriggered,
    ANopReportsItsResult, OverflowLosesNothing, OverflowLosesNoValue,
    ARemovedSourceLeavesThePendingList, GetDoesNotWaitWithoutATimeout,
    GetReturnsAfterTheTimeout, ASleeperIsWokenByATrigger,
    MappedAndCopyingConsumersShareTheEvents, ACollectorStealsFromOtherRings,
    ACollectorWithoutStealingLeavesOtherRingsAlone, ACollectorFindsLevelEvents,
    ACollectorGetsPendingEventsFromTheKernel,
    SeveralCollectorsTakeEachEventOnce, AReadReportsItsBytes, AWriteIsThere,
    VectorsKeepTheirOrder, SyncsReportZero, AnEntryThatIsRefusedHasNoEvent,
    AChainRunsInOrder, AChainEndsAtAShortTransfer,
    ARefusedEntryEndsTheChainBeforeIt, AReadOfAPipeWaits,
    ACancelledReadLeavesThePipeAlone, AllRequestsOfAFileAreCancelled,
    ACancelledRequestEndsTheChain, RequestsFindRoomInAFullRing, TasksCopyAFile,
    ATaskWaitsForAPipe, ATaskGivesUpAPipe, TheEndOfALoopEndsItsTasks,
    LoopsInThreadsShareAQueue);

#if defined(KEVENT_DEVICE_TESTS)
INSTANTIATE_TYPED_TEST_SUITE_P(Device, Conformance, device_world);
#else
INSTANTIATE_TYPED_TEST_SUITE_P(Fake, Conformance, fake_world);
#endif

} // namespace
} // namespace kevent::test
