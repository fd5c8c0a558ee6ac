// SPDX-License-Identifier: MIT
// Nothing is allocated on the collection path, nor for the operations of a task
// that runs.  A program of its own, for it
// replaces operator new.
#include "fake_kernel.hpp"

#include <kevent/kevent.hpp>

#include <gtest/gtest.h>

#include <array>
#include <cstdlib>
#include <memory>
#include <new>
#include <utility>

namespace {
thread_local unsigned allocations = 0;
thread_local unsigned available = ~0U; // so many more succeed

void *counted(std::size_t bytes) noexcept {
    allocations++;
    if (available == 0)
        return nullptr;
    available--;
    return std::malloc(bytes);
}

void *counted_or_thrown(std::size_t bytes) {
    if (void *made = counted(bytes))
        return made;
    throw std::bad_alloc();
}
} // namespace

void *operator new(std::size_t bytes) {
    return counted_or_thrown(bytes);
}
void *operator new[](std::size_t bytes) {
    return counted_or_thrown(bytes);
}
void *operator new(std::size_t bytes, const std::nothrow_t &) noexcept {
    return counted(bytes);
}
void operator delete(void *held) noexcept {
    std::free(held);
}
void operator delete[](void *held) noexcept {
    std::free(held);
}
void operator delete(void *held, std::size_t) noexcept {
    std::free(held);
}
void operator delete[](void *held, std::size_t) noexcept {
    std::free(held);
}

namespace kevent::test {
namespace {

using namespace std::chrono_literals;

/// Stands between the library and the fake, whose allocations are its own.
class uncounted final : public kernel {
public:
    explicit uncounted(kernel &behind) : behind_(behind) {}
    int open() noexcept override { return behind_.open(); }
    int close(int fd) noexcept override { return behind_.close(fd); }
    int ioctl(int fd, unsigned long request, void *argument) noexcept override {
        const auto before = allocations;
        const auto left = std::exchange(available, ~0U);
        const int answer = behind_.ioctl(fd, request, argument);
        allocations = before;
        available = left;
        return answer;
    }
    void *map(int fd, std::uint64_t offset, std::size_t bytes, bool writable,
              int &error) noexcept override {
        return behind_.map(fd, offset, bytes, writable, error);
    }
    int unmap(void *address, std::size_t bytes) noexcept override {
        return behind_.unmap(address, bytes);
    }
    int cpu_node() noexcept override { return behind_.cpu_node(); }
    int memory_node(const void *address) noexcept override {
        return behind_.memory_node(address);
    }
    std::int64_t now() noexcept override { return behind_.now(); }

private:
    kernel &behind_;
};

class Allocation : public ::testing::Test {
public:
    fake_kernel fake;
    uncounted system{fake};
    queue rings = queue::open({.rings = 2, .entries = 8}, system).value();
    reclaimer reclaim{rings};
    collector one{rings, {.ring = 0, .reclaim = &reclaim}};
    std::array<event, 4> out{};

    unsigned allocated_by_collecting() {
        const auto before = allocations;
        for (int i = 0; i < 100; i++)
            one.collect(out, 0ns).value();
        return allocations - before;
    }
};

TEST_F(Allocation, IsCounted) {
    const auto before = allocations;
    delete new int;
    EXPECT_EQ(allocations, before + 1);
}

TEST_F(Allocation, NoneFromTheRing) {
    for (unsigned i = 0; i < 50; i++)
        rings.add(nop().home(i % 2)).value();
    EXPECT_EQ(allocated_by_collecting(), 0U);
    EXPECT_EQ(one.statistics().ring_events, 50U);
}

TEST_F(Allocation, NoneForLevelEvents) {
    rings.add(user_event().level().home(0).disabled()).value();
    const auto id = rings.add(user_event().level().home(0)).value();
    rings.trigger(id).value();
    EXPECT_EQ(allocated_by_collecting(), 0U);
    EXPECT_GT(one.statistics().level_events, 0U);
}

TEST_F(Allocation, NoneWhileSleeping) {
    const auto before = allocations;
    one.collect(out, 1ms).value();
    EXPECT_EQ(allocations, before);
}

TEST_F(Allocation, NoneWhileFreeingRetiredObjects) {
    for (int i = 0; i < 20; i++) {
        auto held = std::make_unique<int>(i);
        const auto id =
            rings.add(user_event().home(0).cookie(held.get())).value();
        rings.trigger(id).value();
        reclaim.retire(remove(id), held).value();
    }
    EXPECT_GT(reclaim.waiting(), 0U);
    EXPECT_EQ(allocated_by_collecting(), 0U);
    EXPECT_EQ(reclaim.waiting(), 0U);
}

TEST_F(Allocation, NoneForTheOperationsOfATask) {
    const int store = fake.make_store("hello");
    const int file = fake.make_file(EPOLLIN);
    loop events(rings, {.ring = 0, .steal = false});
    const auto work = [&]() -> task<unsigned> {
        std::array<std::byte, 5> buffer;
        std::stop_source source;
        const auto token = source.get_token();
        co_await detail::heed{&token};
        unsigned before = 0;
        for (int i = 0; i < 100; i++) {
            if (i == 1)
                before = allocations; // the first makes the slot
            (co_await read(store, buffer)).value();
            (co_await chain(write(store, buffer), fsync(store)))[1].value();
            (co_await sleep_for(1us)).value();
            (co_await readable(file)).value();
        }
        co_return allocations - before;
    };
    EXPECT_EQ(events.run(work()), 0U);
}

TEST_F(Allocation, ReadinessWithoutMemoryIsEnomem) {
    const int ready = fake.make_file(EPOLLIN);
    const int never = fake.make_file();
    loop events(rings, {.ring = 0, .steal = false});
    for (int i = 0; i < 4; i++) // they take the slots there are
        events.spawn([](int file) -> task<> {
            static_cast<void>(co_await readable(file));
        }(never));
    events.run_once(0ns).value();
    const auto before = rings.ring(0).sources();
    const auto wait = [&](unsigned memory) -> task<std::error_code> {
        available = memory;
        const auto got = co_await readable(ready);
        available = ~0U;
        co_return got.error();
    };
    EXPECT_EQ(events.run(wait(0)), errno_code(ENOMEM));
    EXPECT_EQ(rings.ring(0).sources(), before);
    EXPECT_EQ(events.run(wait(~0U)), std::error_code());
    EXPECT_EQ(rings.ring(0).sources(), before);
}

/// It can be retired once more, whether or not its source is gone by then.
TEST_F(Allocation, RetiringWithoutMemoryLeavesTheObject) {
    for (unsigned memory = 0, failed = 1; failed != 0; memory++) {
        reclaimer fresh(rings);
        auto held = std::make_unique<int>(7);
        const auto id =
            rings.add(user_event().home(0).cookie(held.get())).value();
        rings.trigger(id).value();
        failed = 0;
        available = memory;
        try {
            fresh.retire(remove(id), held).value();
        } catch (const std::bad_alloc &) {
            failed = 1;
        }
        available = ~0U;
        if (failed != 0) {
            ASSERT_TRUE(held) << memory;
            EXPECT_EQ(*held, 7);
            EXPECT_EQ(fresh.waiting(), 0U);
            EXPECT_TRUE(rings.change(enable(id))) << "it was not removed";
            fresh.retire(remove(id), held).value();
        }
        EXPECT_FALSE(held);
        EXPECT_EQ(fresh.release(), 1U) << "the event is unclaimed";
        ASSERT_EQ(one.collect(out, 0ns).value(), 1U);
        EXPECT_EQ(fresh.release(), 0U);
    }
}

} // namespace
} // namespace kevent::test
