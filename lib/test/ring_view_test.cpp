// SPDX-License-Identifier: MIT
#include <kevent/ring_view.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

namespace kevent {
namespace {

/// A ring in ordinary memory, and its one producer.
struct raw_ring {
    static constexpr unsigned entries = 8;

    alignas(64) kevent_ring header{};
    event slots[entries]{};
    kevent_claim claim{};

    explicit raw_ring(std::uint64_t position = 0) {
        header.magic = KEVENT_MAGIC;
        header.header_len = sizeof(header);
        header.entries = entries;
        header.slots_offset = offsetof(raw_ring, slots);
        header.tail = claim.head = position;
    }

    result<ring_view> open() {
        return ring_view::at(&header, sizeof(*this), &claim);
    }

    /// False when the ring is full.
    bool put(std::uint64_t cookie) {
        const auto head =
            std::atomic_ref(claim.head).load(std::memory_order_acquire);
        if (header.tail - head == entries)
            return false;
        auto *words = reinterpret_cast<__u64 *>(&slots[header.tail % entries]);
        for (unsigned i = 0; i < 4; i++)
            std::atomic_ref(words[i]).store(cookie, std::memory_order_relaxed);
        std::atomic_ref(header.tail).fetch_add(1, std::memory_order_release);
        return true;
    }
};

TEST(RingView, TakesEventsInOrder) {
    raw_ring ring;
    auto view = ring.open().value();
    for (std::uint64_t i = 0; i < 5; i++)
        ring.put(i);
    event out[8];
    ASSERT_EQ(view.collect(out), 5U);
    for (std::uint64_t i = 0; i < 5; i++)
        EXPECT_EQ(out[i].cookie, i);
}

TEST(RingView, TakesNoMoreThanThereIsRoomFor) {
    raw_ring ring;
    auto view = ring.open().value();
    ring.put(1);
    ring.put(2);
    event out[1];
    EXPECT_EQ(view.collect(out), 1U);
    EXPECT_EQ(view.backlog(), 1U);
    EXPECT_EQ(view.collect(std::span<event>()), 0U);
}

TEST(RingView, ReadsTheWordsOfTheHeader) {
    raw_ring ring;
    auto &header = ring.header;
    header.index = 3;
    header.node = 2;
    header.pending = 4;
    header.hint = 5;
    header.need_enter = 6;
    header.sources = 7;
    header.requests = 8;
    header.ring_of_node[9] = 1;
    const auto view = ring.open().value();
    EXPECT_EQ(view.index(), 3U);
    EXPECT_EQ(view.node(), 2U);
    EXPECT_EQ(view.pending(), 4U);
    EXPECT_EQ(view.hint(), 5U);
    EXPECT_EQ(view.need_enter(), 6U);
    EXPECT_EQ(view.sources(), 7U);
    EXPECT_EQ(view.requests(), 8U);
    EXPECT_EQ(view.nearest(9), 1U);
    EXPECT_EQ(view.entries(), raw_ring::entries);
}

TEST(RingView, PositionsMayWrap) {
    raw_ring ring(UINT64_MAX - 2);
    auto view = ring.open().value();
    event out[4];
    for (std::uint64_t i = 0; i < 20; i++) {
        ASSERT_TRUE(ring.put(i));
        ASSERT_EQ(view.collect(out), 1U);
        ASSERT_EQ(out[0].cookie, i);
    }
}

TEST(RingView, AForgedHeadYieldsNoMoreThanARingFull) {
    raw_ring ring;
    auto view = ring.open().value();
    ring.claim.head = 1000;
    event out[64];
    EXPECT_LE(view.collect(out), raw_ring::entries);
    EXPECT_LE(view.backlog(), raw_ring::entries);
}

TEST(RingView, RefusesAnUnknownIncompatBit) {
    raw_ring ring;
    ring.header.incompat = KEVENT_INCOMPAT | 0x80000000U;
    EXPECT_EQ(ring.open().error(), errno_code(ENOTSUP));
}

TEST(RingView, IgnoresAnUnknownCompatBit) {
    raw_ring ring;
    ring.header.compat = 0x80000000U;
    EXPECT_TRUE(ring.open());
}

TEST(RingView, RefusesABadMagic) {
    raw_ring ring;
    ring.header.magic++;
    EXPECT_EQ(ring.open().error(), errno_code(EPROTO));
}

TEST(RingView, RefusesAGeometryThatDoesNotFit) {
    for (auto entries : {0U, 3U, 16U, 1U << 31}) {
        raw_ring ring;
        ring.header.entries = entries;
        EXPECT_EQ(ring.open().error(), errno_code(EPROTO)) << entries;
    }
    raw_ring shorter;
    shorter.header.header_len = 64;
    EXPECT_EQ(shorter.open().error(), errno_code(EPROTO));
}

TEST(RingView, SeveralConsumersTakeEachEventOnce) {
    constexpr std::uint64_t total = 100'000;
    raw_ring ring;
    const auto view = ring.open().value();
    std::vector<std::atomic<int>> ledger(total);
    std::atomic<bool> done{false};
    std::vector<std::thread> consumers;
    for (unsigned i = 0; i < 3; i++)
        consumers.emplace_back([&, mine = view, room = i + 1]() mutable {
            event out[3];
            while (!done || mine.backlog() != 0)
                if (const auto count = mine.collect(std::span(out).first(room)))
                    for (const auto &each : std::span(out).first(count))
                        ledger[each.id]++;
                else
                    std::this_thread::yield();
        });
    for (std::uint64_t i = 0; i < total; i++)
        while (!ring.put(i))
            std::this_thread::yield();
    done = true;
    for (auto &each : consumers)
        each.join();
    EXPECT_TRUE(std::all_of(ledger.begin(), ledger.end(),
                            [](const auto &times) { return times == 1; }));
}

} // namespace
} // namespace kevent
