// SPDX-License-Identifier: MIT
#include "fake_kernel.hpp"

#include <kevent/kevent.hpp>

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <functional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace kevent::test {
namespace {

using namespace std::chrono_literals;

static_assert(std::is_nothrow_move_constructible_v<task<int>>);
static_assert(!std::is_copy_constructible_v<task<int>>);

/// Says when it goes away.
struct token {
    explicit token(int &count) : alive(&count) { ++*alive; }
    token(token &&other) noexcept
        : alive(std::exchange(other.alive, nullptr)) {}
    token &operator=(token &&) = delete;
    ~token() {
        if (alive != nullptr)
            --*alive;
    }

    int *alive;
};

// --- callbacks

struct recorder final : operation {
    std::vector<completion> seen;

    void on_complete(const completion &how) override { seen.push_back(how); }
};

class Async : public ::testing::Test {
public:
    fake_kernel system;
    queue rings = queue::open({.rings = 2, .entries = 64}, system).value();
    loop events{rings, {.ring = 0, .steal = false}};
    int fd = system.make_store("hello, world");
    std::array<char, 8> buffer{};

    request reading(std::uint64_t offset = 0) {
        return read(fd, buffer.data(), buffer.size(), offset);
    }
    /// Calls that made changes.
    unsigned calls() const { return system.change_calls; }
};

using Operation = Async;

TEST_F(Operation, IsToldOfItsEnd) {
    recorder one;
    events.submit(reading(7), one);
    EXPECT_TRUE(one.seen.empty());
    events.run_once().value();
    ASSERT_EQ(one.seen.size(), 1U);
    EXPECT_EQ(*one.seen[0], 5U);
    EXPECT_EQ(one.seen[0].flags(), KEVENT_EV_INLINE);
}

TEST_F(Operation, OfARefusedEntryIsToldWhy) {
    recorder one;
    events.submit(fsync(77), one);
    events.run_once().value();
    ASSERT_EQ(one.seen.size(), 1U);
    EXPECT_EQ(one.seen[0].error(), errno_code(EBADF));
}

TEST_F(Operation, IsToldOfAFailedCall) {
    recorder one;
    events.submit(reading(), one);
    system.fail(KEVENT_IOC_CHANGE, ENOMEM);
    events.run_once().value();
    system.fail(KEVENT_IOC_CHANGE, 0);
    ASSERT_EQ(one.seen.size(), 1U);
    EXPECT_EQ(one.seen[0].error(), errno_code(ENOMEM));
}

TEST_F(Operation, SeveralGoInOneCall) {
    std::array<recorder, 10> several;
    for (auto &each : several)
        events.submit(reading(), each);
    EXPECT_EQ(calls(), 1U); // the loop's wakeup
    events.run_once().value();
    EXPECT_EQ(calls(), 2U);
    EXPECT_EQ(system.get_calls, 0U);
    for (auto &each : several)
        EXPECT_EQ(each.seen.size(), 1U);
}

TEST_F(Operation, AFullArrayGoesAtOnce) {
    std::vector<recorder> several(loop::max_chain + 1);
    for (auto &each : several)
        events.submit(nop(3), each);
    EXPECT_EQ(calls(), 2U);
    while (several.back().seen.empty() || several.front().seen.empty())
        events.run_once().value();
    for (auto &each : several)
        EXPECT_EQ(each.seen.size(), 1U);
}

TEST_F(Operation, IsCancelledBeforeItWasSubmitted) {
    recorder one;
    system.hold_requests(fd, hold::waiting);
    events.submit(reading(), one);
    one.cancel();
    while (one.seen.empty())
        events.run_once().value();
    EXPECT_EQ(one.seen[0].error(), errno_code(ECANCELED));
}

TEST_F(Operation, IsCancelledInFlightByAnotherThread) {
    recorder one;
    system.hold_requests(fd, hold::waiting);
    events.submit(reading(), one);
    events.run_once(0ns).value();
    std::thread([&] { one.cancel(); }).join();
    events.run_once().value();
    EXPECT_EQ(one.seen.at(0).error(), errno_code(ECANCELED));
}

TEST_F(Operation, CancelledTooLateEndsAsItDoes) {
    recorder one;
    system.hold_requests(fd, hold::busy);
    events.submit(reading(), one);
    events.run_once(0ns).value();
    one.cancel();
    events.run_once(0ns).value();
    EXPECT_TRUE(one.seen.empty());
    system.release(fd);
    events.run_once().value();
    EXPECT_EQ(*one.seen.at(0), 8U);
}

TEST_F(Operation, IsSubmittedAgainFromItsEnd) {
    struct repeated final : operation {
        loop *where = nullptr;
        int left = 5;
        void on_complete(const completion &how) override {
            EXPECT_TRUE(how);
            if (--left != 0)
                where->submit(nop(), *this);
        }
    } one;
    one.where = &events;
    events.submit(nop(), one);
    while (one.left != 0)
        events.run_once().value();
}

TEST_F(Operation, DestroyedInFlightWaitsForItsEvent) {
    system.hold_requests(fd, hold::waiting);
    {
        recorder gone;
        events.submit(reading(), gone);
        events.run_once(0ns).value();
        EXPECT_EQ(system.in_flight(fd), 1U);
    }
    EXPECT_EQ(system.in_flight(fd), 0U);
    {
        recorder gone;
        events.submit(reading(), gone);
    }
    EXPECT_EQ(system.in_flight(fd), 0U);
    EXPECT_EQ(rings.ring(0).backlog(), 0U);
}

TEST_F(Operation, KeepsOthersEventsWhileItIsDestroyed) {
    recorder other;
    system.hold_requests(fd, hold::waiting);
    {
        recorder gone;
        events.submit(reading(), gone);
        events.submit(nop(4), other);
    }
    EXPECT_TRUE(other.seen.empty());
    events.run_once(0ns).value();
    EXPECT_EQ(*other.seen.at(0), 4U);
}

TEST_F(Operation, AWholeChainGoesInOneArray) {
    std::vector<recorder> filler(loop::max_chain - 1);
    for (auto &each : filler)
        events.submit(nop(), each);
    std::array<recorder, 2> one;
    const std::array<request, 2> what{nop(1), nop(2)};
    const std::array<operation *, 2> told{&one[0], &one[1]};
    events.submit(what, told);
    while (one[1].seen.empty() || filler.back().seen.empty())
        events.run_once().value();
    EXPECT_EQ(*one[0].seen.at(0), 1U);
    EXPECT_EQ(*one[1].seen.at(0), 2U);
}

TEST_F(Operation, TheLoopsEndWaitsForIt) {
    recorder one;
    {
        loop other(rings, {.ring = 1, .steal = false});
        other.submit(nop(), one);
    }
    EXPECT_EQ(one.seen.size(), 1U);
}

TEST_F(Operation, TakenByAnotherLoopLetsItsOwnEnd) {
    recorder one;
    system.hold_requests(fd, hold::busy);
    auto own = std::make_unique<loop>(
        rings, collector_options{.ring = 1, .steal = false});
    own->submit(reading().home(0), one);
    own->run_once(0ns).value();
    const auto before = system.get_calls.load();
    std::thread ends([&] { own.reset(); });
    while (system.get_calls == before) // until it sleeps, or is about to
        std::this_thread::yield();
    system.release(fd);
    events.run_once().value();
    ends.join();
    EXPECT_EQ(*one.seen.at(0), 8U);
    EXPECT_EQ(rings.ring(1).sources(), 0U);
}

TEST_F(Operation, HomesAreChosenByThePolicy) {
    loop spread(rings, {.ring = 0}, round_robin());
    std::array<recorder, 4> several;
    for (auto &each : several) {
        system.hold_requests(fd, hold::waiting);
        spread.submit(reading(), each);
    }
    spread.run_once(0ns).value();
    EXPECT_EQ(rings.ring(0).requests(), 2U);
    EXPECT_EQ(rings.ring(1).requests(), 2U);
    system.release(fd);
}

TEST_F(Operation, WhatIsDoneIsReportedToThePolicy) {
    ring_work work;
    std::vector<char> large(100000);
    const int store = system.make_store("");
    {
        loop spread(rings, {.ring = 0}, least_work(work), &work);
        std::array<recorder, 6> several;
        system.hold_requests(store, hold::waiting);
        system.hold_requests(fd, hold::waiting);
        spread.submit(write(store, large.data(), large.size()), several[0]);
        for (unsigned i = 1; i < 5; i++)
            spread.submit(reading(), several[i]);
        spread.submit(nop().home(0), several[5]);
        spread.run_once(0ns).value();
        EXPECT_EQ(std::max(work.on(0), work.on(1)), 104096U);
        EXPECT_EQ(std::min(work.on(0), work.on(1)), 4 * 4104U);
        system.release(store);
        system.release(fd);
        while (several[0].seen.empty() || several[4].seen.empty())
            spread.run_once().value();
        spread.submit(fsync(77), several[0]);
        spread.run_once().value();
    }
    EXPECT_EQ(work.on(0) + work.on(1), 0U);
}

TEST_F(Operation, ItsOwnHomeIsHeeded) {
    recorder one;
    system.hold_requests(fd, hold::waiting);
    loop both(rings, {.ring = 0});
    both.submit(reading().home(1), one);
    both.run_once(0ns).value();
    EXPECT_EQ(rings.ring(1).requests(), 1U);
    system.release(fd);
    both.run_once(0ns).value();
    EXPECT_EQ(one.seen.size(), 1U);
}

// --- tasks

using Task = Async;

task<int> number(int value) {
    co_return value;
}
task<> failing() {
    throw std::runtime_error("failed");
    co_return;
}

TEST_F(Task, BeginsWhenItIsAwaited) {
    int alive = 0;
    {
        auto idle = [](token held) -> task<> {
            EXPECT_EQ(*held.alive, -1) << "it began";
            co_return;
        }(token(alive));
        EXPECT_EQ(alive, 1);
    }
    EXPECT_EQ(alive, 0);
}

TEST_F(Task, ReturnsAValue) {
    EXPECT_EQ(events.run(number(3)), 3);
    auto moved = events.run([]() -> task<std::unique_ptr<int>> {
        co_return std::make_unique<int>(co_await number(4));
    }());
    EXPECT_EQ(*moved, 4);
}

TEST_F(Task, WhatItThrowsReachesTheOneThatAwaits) {
    const auto work = []() -> task<std::string> {
        try {
            co_await failing();
        } catch (const std::runtime_error &error) {
            co_return error.what();
        }
        co_return "";
    };
    EXPECT_EQ(events.run(work()), "failed");
    EXPECT_THROW(events.run(failing()), std::runtime_error);
}

TEST_F(Task, WhatASpawnedOneThrowsLeavesRun) {
    events.spawn(failing());
    EXPECT_THROW(static_cast<void>(events.run()), std::runtime_error);
    events.stop();
    EXPECT_TRUE(events.run());
}

TEST_F(Task, WhatASpawnedOneThrowsStopsTheMainTask) {
    std::error_code seen;
    const auto main = [&]() -> task<int> {
        seen = (co_await sleep_for(1h)).error();
        co_return 1;
    };
    events.spawn(failing());
    EXPECT_THROW(events.run(main()), std::runtime_error);
    EXPECT_EQ(seen, errno_code(ECANCELED));
}

TEST_F(Task, TheMainTaskIsStoppedWhereTheLoopCannotCollect) {
    std::error_code seen;
    const auto main = [&]() -> task<> {
        seen = (co_await sleep_for(1h)).error();
    };
    system.fail(KEVENT_IOC_GETEVENTS, EFAULT);
    try {
        events.run(main());
        FAIL() << "did not throw";
    } catch (const std::system_error &error) {
        EXPECT_EQ(error.code(), errno_code(EFAULT));
    }
    EXPECT_EQ(seen, errno_code(ECANCELED));
    system.fail(KEVENT_IOC_GETEVENTS, 0);
    EXPECT_EQ(events.run(number(3)), 3);
}

TEST_F(Task, LongLoopsTakeNoStack) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) ||           \
    !defined(__OPTIMIZE__)
    constexpr int many = 1000; // jumps are calls there
#else
    constexpr int many = 1000000;
#endif
    const auto work = []() -> task<int> {
        int sum = 0;
        for (int i = 0; i < many; i++)
            sum += co_await number(1);
        co_return sum;
    };
    EXPECT_EQ(events.run(work()), many);
}

TEST_F(Task, WhenAllWaitsForAll) {
    std::vector<task<int>> several;
    for (int i = 0; i < 5; i++)
        several.push_back([](int value) -> task<int> {
            co_await sleep_for((10 - value) * 1ms);
            co_return value;
        }(i));
    EXPECT_EQ(events.run(when_all(std::move(several))),
              (std::vector{0, 1, 2, 3, 4}));
    EXPECT_TRUE(events.run(when_all(std::vector<task<int>>{})).empty());
}

TEST_F(Task, WhenAllOfSeveralTypes) {
    const auto nothing = []() -> task<> { co_return; };
    const auto [one, none, three] = events.run(
        when_all(number(1), nothing(), [](fake_kernel &) -> task<std::string> {
            co_await sleep_for(1ms);
            co_return "3";
        }(system)));
    EXPECT_EQ(one, 1);
    EXPECT_EQ(none, std::monostate{});
    EXPECT_EQ(three, "3");
}

TEST_F(Task, WhenAllThrowsAfterTheEndOfAll) {
    bool ended = false;
    const auto slow = [&]() -> task<> {
        co_await sleep_for(1ms);
        ended = true;
    };
    std::vector<task<>> several;
    several.push_back(failing());
    several.push_back(slow());
    EXPECT_THROW(events.run(when_all(std::move(several))), std::runtime_error);
    EXPECT_TRUE(ended);
}

TEST_F(Task, ResumesInTheThreadOfALoop) {
    std::thread::id seen;
    const auto work = [&]() -> task<> {
        co_await resume_on(events);
        seen = std::this_thread::get_id();
        events.stop();
    };
    loop other(rings, {.ring = 1, .steal = false});
    std::thread runs([&] { EXPECT_TRUE(events.run()); });
    const auto id = runs.get_id();
    other.run(work());
    runs.join();
    EXPECT_EQ(seen, id);
}

TEST_F(Task, IsSpawnedFromAnotherThread) {
    std::thread([&] {
        events.spawn([](loop &where) -> task<> {
            EXPECT_EQ(loop::current(), &where);
            where.stop();
            co_return;
        }(events));
    }).join();
    EXPECT_TRUE(events.run());
}

TEST_F(Task, SpawningWakesTheLoop) {
    std::atomic<int> ran{0};
    std::thread runs([&] { EXPECT_TRUE(events.run()); });
    for (int i = 0; i < 100; i++) {
        const int before = ran;
        events.spawn([](std::atomic<int> &count) -> task<> {
            count++;
            co_return;
        }(ran));
        while (ran == before)
            std::this_thread::yield();
    }
    events.stop();
    runs.join();
}

// --- what tasks await

using Await = Async;

TEST_F(Await, ReadsAndWrites) {
    const int to = system.make_store("");
    const auto copy = [](int from, int into) -> task<std::uint64_t> {
        std::array<std::byte, 5> part;
        for (std::uint64_t at = 0;;) {
            const auto got = (co_await read(from, part, at)).value();
            if (got == 0)
                co_return at;
            at +=
                (co_await write(into, std::span(part).first(got), at)).value();
        }
    };
    EXPECT_EQ(events.run(copy(fd, to)), 12U);
    EXPECT_EQ(system.contents(to), "hello, world");
}

TEST_F(Await, ReadsAndWritesVectors) {
    const auto work = [&]() -> task<> {
        std::string one(5, ' ');
        std::string other(5, ' ');
        const std::array parts{iovec{one.data(), 5}, iovec{other.data(), 5}};
        EXPECT_EQ(*co_await readv(fd, parts, 2), 10U);
        EXPECT_EQ(one + other, "llo, world");
        EXPECT_EQ(*co_await writev(fd, parts).rw_flags(RWF_APPEND), 10U);
        EXPECT_TRUE(co_await fsync(fd));
        EXPECT_TRUE(co_await fdatasync(fd));
    };
    events.run(work());
    EXPECT_EQ(system.contents(fd), "hello, worldllo, world");
    EXPECT_EQ(system.syncs(fd), 2U);
}

TEST_F(Await, SaysWhichWayItWent) {
    const auto work = [&]() -> task<> {
        EXPECT_EQ((co_await reading()).flags(), KEVENT_EV_INLINE);
        system.hold_requests(fd, hold::waiting);
        EXPECT_EQ((co_await reading()).flags(), KEVENT_EV_WORKER);
    };
    events.spawn(work());
    while (system.in_flight(fd) == 0)
        events.run_once(0ns).value();
    system.release(fd);
    events.run_once().value();
}

TEST_F(Await, ErrorsAreResults) {
    const auto work = [&]() -> task<> {
        system.fail_requests(fd, EIO);
        EXPECT_EQ((co_await reading()).error(), errno_code(EIO));
        EXPECT_EQ((co_await fsync(77)).error(), errno_code(EBADF));
        system.limit_requests(0);
        EXPECT_EQ((co_await reading()).error(), errno_code(EAGAIN));
        EXPECT_EQ((co_await readable(77)).error(), errno_code(EBADF));
    };
    events.run(work());
}

TEST_F(Await, ManyTasksSubmitInOneArray) {
    int ended = 0;
    const auto work = [&]() -> task<> {
        EXPECT_TRUE(co_await reading());
        EXPECT_TRUE(co_await reading());
        ended++;
    };
    for (int i = 0; i < 20; i++)
        events.spawn(work());
    const auto gets = system.get_calls.load();
    const auto sets = system.change_calls.load();
    while (ended != 20)
        events.run_once().value();
    EXPECT_LE(system.get_calls - gets + system.change_calls - sets, 3U);
}

TEST_F(Await, AChainInOrder) {
    const auto work = [&]() -> task<> {
        const auto [written, synced] =
            co_await chain(write(fd, "HELLO", 5), fsync(fd));
        EXPECT_EQ(*written, 5U);
        EXPECT_TRUE(synced);
        const auto [got, cut] = co_await chain(reading(8), fsync(fd));
        EXPECT_EQ(*got, 4U);
        EXPECT_EQ(cut.error(), errno_code(ECANCELED));
        const auto [bad, none] = co_await chain(fsync(77), fsync(fd));
        EXPECT_EQ(bad.error(), errno_code(EBADF));
        EXPECT_EQ(none.error(), errno_code(ECANCELED));
    };
    events.run(work());
    EXPECT_EQ(system.contents(fd), "HELLO, world");
    EXPECT_EQ(system.syncs(fd), 1U);
}

TEST_F(Await, SleepsWithoutMakingChanges) {
    const auto before = calls();
    const auto start = system.now();
    const auto work = [&]() -> task<> {
        EXPECT_TRUE(co_await sleep_for(5ms));
        EXPECT_GE(system.now() - start, 5'000'000);
        EXPECT_TRUE(co_await sleep_until(std::chrono::steady_clock::time_point(
            nanoseconds(start + 9'000'000))));
        EXPECT_GE(system.now() - start, 9'000'000);
        EXPECT_TRUE(co_await sleep_for(-1ms));
        EXPECT_TRUE(co_await sleep_for(0ns));
    };
    events.run(work());
    EXPECT_LT(system.now() - start, 10'000'000);
    EXPECT_EQ(calls(), before);
}

TEST_F(Await, SleepersWakeInOrder) {
    std::vector<int> order;
    const auto work = [&](int delay) -> task<> {
        co_await sleep_for(delay * 1ms);
        order.push_back(delay);
    };
    std::vector<task<>> several;
    for (int i = 0; i < 50; i++)
        several.push_back(work((i * 37) % 50));
    events.run(when_all(std::move(several)));
    EXPECT_TRUE(std::is_sorted(order.begin(), order.end()));
    EXPECT_EQ(order.size(), 50U);
}

TEST_F(Await, Readiness) {
    const int file = system.make_file();
    const auto work = [&]() -> task<> {
        EXPECT_EQ(*co_await readable(file), std::uint32_t{EPOLLIN});
        system.settle(file, EPOLLIN);
        EXPECT_EQ(*co_await ready(file, EPOLLOUT | EPOLLIN),
                  std::uint32_t{EPOLLOUT});
    };
    events.spawn(work());
    events.run_once(0ns).value();
    const auto sources = rings.ring(0).sources();
    system.announce(file, EPOLLIN);
    events.run_once().value();
    system.announce(file, EPOLLOUT);
    events.run_once().value();
    EXPECT_EQ(rings.ring(0).sources(), sources - 1);
}

TEST_F(Await, ReadinessOfAFileThatIsClosedIsEbadf) {
    const int file = system.make_file();
    std::error_code seen;
    events.spawn([](int closed, std::error_code &error) -> task<> {
        error = (co_await readable(closed)).error();
    }(file, seen));
    events.run_once(0ns).value();
    EXPECT_EQ(rings.ring(0).sources(), 2U);
    const auto before = calls();
    system.drop(file);
    events.run_once().value();
    EXPECT_EQ(seen, errno_code(EBADF));
    EXPECT_EQ(calls(), before) << "its source has gone";
    EXPECT_EQ(rings.ring(0).sources(), 1U);
    const auto other = [&]() -> task<> {
        EXPECT_TRUE(co_await readable(system.make_file(EPOLLIN)));
    };
    events.run(other());
}

TEST_F(Await, OutsideALoopIsEinval) {
    struct eager {
        struct promise_type {
            eager get_return_object() { return {}; }
            std::suspend_never initial_suspend() { return {}; }
            std::suspend_never final_suspend() noexcept { return {}; }
            void return_void() {}
            void unhandled_exception() { std::abort(); }
        };
    };
    int seen = 0;
    [](int &count) -> eager {
        count += (co_await nop()).error() == errno_code(EINVAL);
        count += (co_await sleep_for(1ms)).error() == errno_code(EINVAL);
        count += (co_await readable(0)).error() == errno_code(EINVAL);
    }(seen);
    EXPECT_EQ(seen, 3);
}

// --- stopping

class Stop : public Async {
public:
    std::stop_source source;
    int file = system.make_file();
    std::vector<std::error_code> seen;

    task<> read_one() { seen.push_back((co_await reading()).error()); }
    task<> wait_one() { seen.push_back((co_await readable(file)).error()); }
    task<> sleep_one() { seen.push_back((co_await sleep_for(1h)).error()); }
    task<> chain_one() {
        const auto [one, two] = co_await chain(reading(), fsync(fd));
        seen.push_back(one.error());
        seen.push_back(two.error());
    }

    void spawn_all() {
        system.hold_requests(fd, hold::waiting);
        events.spawn(read_one(), source.get_token());
        events.spawn(wait_one(), source.get_token());
        events.spawn(sleep_one(), source.get_token());
        events.spawn(chain_one(), source.get_token());
    }
    void run_until_seen(std::size_t count) {
        for (int i = 0; i < 100 && seen.size() != count; i++)
            events.run_once(0ns).value();
    }
    void expect_cancelled(std::size_t count = 5) {
        run_until_seen(count);
        EXPECT_EQ(seen, std::vector(count, errno_code(ECANCELED)));
        EXPECT_EQ(system.in_flight(fd), 0U);
        events.run_once(0ns).value();
        EXPECT_EQ(rings.ring(0).sources(), 1U) << "a source was left";
        EXPECT_EQ(rings.ring(0).backlog(), 0U);
    }
};

TEST_F(Stop, RequestedBefore) {
    source.request_stop();
    spawn_all();
    expect_cancelled();
    EXPECT_EQ(system.changes_made, 1U) << "something was submitted";
}

TEST_F(Stop, RequestedInFlight) {
    spawn_all();
    events.run_once(0ns).value();
    EXPECT_EQ(system.in_flight(fd), 3U);
    source.request_stop();
    expect_cancelled();
}

TEST_F(Stop, RequestedByATaskOfTheLoop) {
    spawn_all();
    events.spawn([](std::stop_source which) -> task<> {
        co_await sleep_for(1ms);
        which.request_stop();
    }(source));
    events.run_once(0ns).value();
    system.advance(1ms);
    expect_cancelled();
}

TEST_F(Stop, RequestedBetweenGatheringAndSubmission) {
    spawn_all();
    events.spawn([](std::stop_source which) -> task<> {
        which.request_stop();
        co_return;
    }(source));
    expect_cancelled();
}

TEST_F(Stop, RequestedByAnotherThreadWhileTheLoopSleeps) {
    system.hold_requests(fd, hold::waiting);
    events.spawn(read_one(), source.get_token());
    events.spawn(wait_one(), source.get_token());
    events.spawn(chain_one(), source.get_token());
    std::thread runs([&] { EXPECT_TRUE(events.run()); });
    while (system.in_flight(fd) != 3 || rings.ring(0).sources() != 2)
        std::this_thread::yield();
    source.request_stop();
    while (system.in_flight(fd) != 0)
        std::this_thread::yield();
    events.stop();
    runs.join();
    expect_cancelled(4);
}

TEST_F(Stop, RequestedAfterTheEndChangesNothing) {
    const auto work = [&]() -> task<> {
        EXPECT_TRUE(co_await reading());
        EXPECT_TRUE(co_await sleep_for(1ms));
    };
    events.run(with_stop(source.get_token(), work()));
    source.request_stop();
    EXPECT_EQ(events.run_once(0ns).value(), 0U);
}

TEST_F(Stop, TooLateIsNoError) {
    system.hold_requests(fd, hold::busy);
    events.spawn(read_one(), source.get_token());
    events.run_once(0ns).value();
    source.request_stop();
    events.run_once(0ns).value();
    EXPECT_TRUE(seen.empty());
    system.release(fd);
    run_until_seen(1);
    EXPECT_EQ(seen.at(0), std::error_code());
}

TEST_F(Stop, OfReadinessThatHasBeenPosted) {
    events.spawn(wait_one(), source.get_token());
    events.run_once(0ns).value();
    system.announce(file, EPOLLIN);
    EXPECT_EQ(rings.ring(0).backlog(), 1U);
    source.request_stop();
    run_until_seen(1);
    EXPECT_EQ(seen.at(0), errno_code(ECANCELED));
    // The slot is used again; the old event is not the new one's.
    events.spawn(wait_one());
    events.run_once(0ns).value();
    EXPECT_EQ(seen.size(), 1U);
    system.settle(file, EPOLLIN);
    system.announce(file, EPOLLIN);
    run_until_seen(2);
    EXPECT_EQ(seen.at(1), std::error_code());
}

TEST_F(Stop, OfASleeperWhoseTimeHasCome) {
    events.spawn(sleep_one(), source.get_token());
    events.run_once(0ns).value();
    system.advance(2h);
    source.request_stop();
    run_until_seen(1);
    EXPECT_EQ(seen.size(), 1U);
}

TEST_F(Stop, TheTokenReachesTasksWithin) {
    const auto outer = [&]() -> task<> {
        EXPECT_TRUE((co_await this_stop_token()).stop_possible());
        std::vector<task<>> both;
        both.push_back(read_one());
        both.push_back(sleep_one());
        co_await when_all(std::move(both));
    };
    system.hold_requests(fd, hold::waiting);
    events.spawn(outer(), source.get_token());
    events.run_once(0ns).value();
    source.request_stop();
    run_until_seen(2);
    EXPECT_EQ(seen, std::vector(2, errno_code(ECANCELED)));
}

TEST_F(Stop, ATimeoutStopsWhatIsWithin) {
    system.hold_requests(fd, hold::waiting);
    const auto start = system.now();
    events.run(with_timeout(5ms, read_one()));
    EXPECT_EQ(seen.at(0), errno_code(ECANCELED));
    EXPECT_GE(system.now() - start, 5'000'000);
    system.hold_requests(fd, hold::none);
    EXPECT_EQ(events.run(with_timeout(1h, number(4))), 4);
    events.run(with_timeout(1h, read_one()));
    EXPECT_EQ(seen.at(1), std::error_code());
    EXPECT_THROW(events.run(with_timeout(1h, failing())), std::runtime_error);
}

TEST_F(Stop, OfTheLoopsTasks) {
    spawn_all();
    events.run_once(0ns).value();
    std::thread([&] { events.stop_tasks(); }).join();
    expect_cancelled();
}

TEST_F(Stop, TheLoopsEndStopsItsTasks) {
    system.hold_requests(fd, hold::waiting);
    {
        loop other(rings, {.ring = 1, .steal = false});
        other.spawn(read_one(), source.get_token());
        other.spawn(wait_one());
        other.spawn(sleep_one());
        other.spawn(chain_one());
        other.run_once(0ns).value();
        EXPECT_EQ(system.in_flight(fd), 3U);
    }
    EXPECT_EQ(seen, std::vector(5, errno_code(ECANCELED)));
    EXPECT_EQ(rings.ring(1).requests(), 0U);
    EXPECT_EQ(rings.ring(1).sources(), 0U);
}

TEST_F(Stop, TheEndOfALoopThatNeverRan) {
    loop other(rings, {.ring = 1, .steal = false});
    other.spawn(read_one());
}

/// Begins a task in a loop, in a frame that can be destroyed.
struct starter final : job {
    std::optional<task<>> held;
    struct begun {
        struct promise_type {
            begun get_return_object() {
                return {
                    std::coroutine_handle<promise_type>::from_promise(*this)};
            }
            std::suspend_never initial_suspend() { return {}; }
            std::suspend_always final_suspend() noexcept { return {}; }
            void return_void() {}
            void unhandled_exception() { std::abort(); }
        };
        std::coroutine_handle<promise_type> frame;
    };
    static begun begin(task<> inner) { co_await std::move(inner); }
    std::coroutine_handle<begun::promise_type> frame;
    void run() override { frame = begin(std::move(*held)).frame; }
};

TEST_F(Stop, ATaskIsDestroyedWhereItWaits) {
    system.hold_requests(fd, hold::waiting);
    for (auto make : {&Stop::read_one, &Stop::wait_one, &Stop::sleep_one,
                      &Stop::chain_one}) {
        starter one;
        one.held.emplace((this->*make)());
        events.post(one);
        events.run_once(0ns).value();
        one.frame.destroy();
        EXPECT_EQ(system.in_flight(fd), 0U);
        events.run_once(0ns).value();
        EXPECT_EQ(rings.ring(0).sources(), 1U);
        EXPECT_EQ(rings.ring(0).backlog(), 0U);
    }
    EXPECT_TRUE(seen.empty());
}

/// The event after the one that is waited for, in the same batch.
struct next_event final : handler {
    std::function<void()> what;

    void on_event(const event &) override { what(); }
};

TEST_F(Stop, OfReadinessThatWasTakenIsTooLate) {
    next_event next;
    next.what = [&] { source.request_stop(); };
    events.spawn(wait_one(), source.get_token());
    events.run_once(0ns).value();
    system.announce(file, EPOLLIN);
    rings.add(nop().home(0).cookie(static_cast<handler *>(&next))).value();
    EXPECT_EQ(events.run_once(0ns).value(), 2U);
    EXPECT_TRUE(source.stop_requested());
    EXPECT_EQ(seen, std::vector(1, std::error_code()));
    EXPECT_EQ(rings.ring(0).sources(), 1U);
}

TEST_F(Stop, ATaskIsDestroyedAfterItsReadinessWasTaken) {
    starter one;
    next_event next;
    next.what = [&] { one.frame.destroy(); };
    one.held.emplace(wait_one());
    events.post(one);
    events.run_once(0ns).value();
    system.announce(file, EPOLLIN);
    rings.add(nop().home(0).cookie(static_cast<handler *>(&next))).value();
    EXPECT_EQ(events.run_once(0ns).value(), 2U);
    EXPECT_TRUE(seen.empty());
    EXPECT_EQ(rings.ring(0).sources(), 1U);
    events.run(wait_one());
    EXPECT_EQ(seen, std::vector(1, std::error_code()));
}

/// As a stop by another thread at that moment.
TEST_F(Stop, RequestedWhileTheWaitBegins) {
    for (auto make : {&Stop::wait_one, &Stop::sleep_one}) {
        std::stop_source which;
        const std::function<void()> stop = [&] { which.request_stop(); };
        const auto stopped = [&]() -> task<> {
            system.meanwhile = &stop;
            co_await (this->*make)();
        };
        events.run(with_stop(which.get_token(), stopped()));
    }
    expect_cancelled(2);
}

// --- several threads

/// Loops with a ring each, or that share all rings; tasks read, sleep, wait,
/// and are stopped at any moment.
class AsyncThreads : public ::testing::TestWithParam<bool> {
public:
    static constexpr unsigned threads = 3;
    fake_kernel system{threads};
    queue rings =
        queue::open({.rings = threads, .entries = 16}, system).value();
    int fd = system.make_store(std::string(4096, 'x'));
    std::atomic<unsigned> completed{0};
    std::atomic<unsigned> cancelled{0};

    task<> work(loop *where, unsigned rounds) {
        std::array<std::byte, 64> buffer;
        for (unsigned i = 0; i < rounds; i++) {
            const auto got = co_await read(fd, buffer, i);
            count(got.error());
            count((co_await sleep_for(1us)).error());
            const auto [one, two] = co_await chain(nop(1), fdatasync(fd));
            count(two.error());
            static_cast<void>(one);
            if (where != nullptr) {
                EXPECT_EQ(loop::current(), where);
            }
        }
    }
    void count(std::error_code error) {
        if (!error)
            completed++;
        else if (error == errno_code(ECANCELED))
            cancelled++;
        else
            ADD_FAILURE() << error.message();
    }
};

TEST_P(AsyncThreads, ShareAQueue) {
    constexpr unsigned tasks = 30;
    constexpr unsigned rounds = 40;
    const bool shared = GetParam();
    std::vector<std::unique_ptr<loop>> loops;
    for (unsigned i = 0; i < threads; i++)
        loops.push_back(std::make_unique<loop>(
            rings, collector_options{.ring = i, .steal = shared}));
    std::vector<std::thread> pool;
    for (auto &each : loops)
        pool.emplace_back([&] { EXPECT_TRUE(each->run()); });
    for (unsigned i = 0; i < tasks; i++) {
        auto &where = *loops[i % threads];
        where.spawn(work(shared ? nullptr : &where, rounds));
    }
    while (completed != tasks * rounds * 3)
        std::this_thread::yield();
    for (auto &each : loops)
        each->stop();
    for (auto &each : pool)
        each.join();
    EXPECT_EQ(cancelled, 0U);
}

TEST_P(AsyncThreads, AreStoppedAtAnyMoment) {
    const bool shared = GetParam();
    for (int round = 0; round < 30; round++) {
        std::vector<std::unique_ptr<loop>> loops;
        for (unsigned i = 0; i < threads; i++)
            loops.push_back(std::make_unique<loop>(
                rings, collector_options{.ring = i, .steal = shared}));
        std::vector<std::thread> pool;
        for (auto &each : loops)
            pool.emplace_back([&] { EXPECT_TRUE(each->run()); });
        std::stop_source source;
        const int file = system.make_file();
        std::atomic<unsigned> ended{0};
        system.hold_requests(fd, round % 2 ? hold::waiting : hold::none);
        for (unsigned i = 0; i < 12; i++)
            loops[i % threads]->spawn(
                [](AsyncThreads &self, int waits,
                   std::atomic<unsigned> &count) -> task<> {
                    co_await self.work(nullptr, 5);
                    self.count((co_await with_timeout(
                        1ms, [](int one) -> task<std::error_code> {
                            co_return (co_await readable(one)).error();
                        }(waits))));
                    count++;
                }(*this, file, ended),
                source.get_token());
        for (int i = 0; i < round; i++)
            std::this_thread::yield();
        source.request_stop();
        while (ended != 12)
            std::this_thread::yield();
        for (auto &each : loops)
            each->stop();
        for (auto &each : pool)
            each.join();
        EXPECT_EQ(system.in_flight(fd), 0U);
    }
    EXPECT_GT(cancelled, 0U);
}

/// Each thread has a loop of its own, which ends with tasks in it.
TEST_P(AsyncThreads, EndWithTasksInFlight) {
    const int file = system.make_file();
    for (int round = 0; round < 30; round++) {
        std::atomic<unsigned> began{0};
        system.hold_requests(fd, round % 2 ? hold::waiting : hold::none);
        const auto endless = [&](int kind) -> task<> {
            began++;
            for (std::error_code error; !error;) {
                if (kind == 0)
                    error = (co_await sleep_for(1us)).error();
                else if (kind == 1)
                    error = (co_await readable(file)).error();
                else
                    error = (co_await fsync(fd)).error();
            }
        };
        std::vector<std::thread> pool;
        for (unsigned i = 0; i < threads; i++)
            pool.emplace_back([&, i] {
                loop mine(rings, {.ring = i, .steal = GetParam()});
                for (int each = 0; each < 6; each++)
                    mine.spawn(endless(each % 3));
                for (int turns = 0; turns < round || began < 6 * threads;
                     turns++)
                    mine.run_once(0ns).value();
            });
        for (auto &each : pool)
            each.join();
        for (unsigned i = 0; i < threads; i++) {
            EXPECT_EQ(rings.ring(i).requests(), 0U);
            EXPECT_EQ(rings.ring(i).sources(), 0U);
        }
    }
}

INSTANTIATE_TEST_SUITE_P(Rings, AsyncThreads, ::testing::Bool(),
                         [](const auto &shares) {
                             return shares.param ? "Shared" : "Own";
                         });

} // namespace
} // namespace kevent::test
