// SPDX-License-Identifier: MIT
/// @file
/// One mapped ring.  The only place that touches mapped words.
#pragma once

#include <kevent/result.hpp>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include <linux/kevent.h>

namespace kevent {

/// One event; see struct ukevent.
using event = ::ukevent;

/// A mapped ring: takes events from it and reads its words.
///
/// A value of a few pointers, owned by nobody; valid as long as the mapping
/// (that is, the queue that it came from).  Every function may be called from
/// any number of threads at once.  None fails, allocates, sleeps or makes a
/// system call.
///
/// The numbers that the kernel changes (all but the geometry) are snapshots.
class ring_view {
public:
    ring_view() noexcept = default;

    /// Looks at a mapped ring of @p ring_bytes.
    ///
    /// ENOTSUP: an incompat bit that this library does not know.  EPROTO: not a
    /// ring, or a geometry that does not fit.
    static result<ring_view> at(const void *ring, std::size_t ring_bytes,
                                void *claim) noexcept;

    /// Takes up to out.size() events, oldest first.  Returns how many; 0 when
    /// the ring is empty.  Each event goes to exactly one caller.
    unsigned collect(std::span<event> out) noexcept;

    /// Unclaimed events in the ring.
    [[nodiscard]] unsigned backlog() const noexcept {
        const auto first = head();
        return available(first);
    }

    /// Events that wait in the kernel for room or for their turn.
    [[nodiscard]] unsigned pending() const noexcept {
        return word(ring_->pending);
    }

    /// Level sources that may be ready.
    [[nodiscard]] unsigned hint() const noexcept { return word(ring_->hint); }

    /// Sources that must be polled again by an ioctl.
    [[nodiscard]] unsigned need_enter() const noexcept {
        return word(ring_->need_enter);
    }

    /// Sources whose home is this ring.
    [[nodiscard]] unsigned sources() const noexcept {
        return word(ring_->sources);
    }

    /// Requests in flight whose home is this ring.
    [[nodiscard]] unsigned requests() const noexcept {
        return word(ring_->requests);
    }

    /// Position of the oldest unclaimed event.
    [[nodiscard]] std::uint64_t head() const noexcept {
        return std::atomic_ref(claim_->head).load(std::memory_order_acquire);
    }

    /// Position after the newest event.
    [[nodiscard]] std::uint64_t tail() const noexcept {
        return std::atomic_ref(const_cast<kevent_ring *>(ring_)->tail)
            .load(std::memory_order_acquire);
    }

    /// Index of this ring in its queue.
    [[nodiscard]] unsigned index() const noexcept { return ring_->index; }

    /// NUMA node of the ring's memory.
    [[nodiscard]] unsigned node() const noexcept { return ring_->node; }

    /// Slots.
    [[nodiscard]] unsigned entries() const noexcept { return entries_; }

    /// Index of the ring that is nearest to a NUMA node.
    [[nodiscard]] unsigned nearest(unsigned node_number) const noexcept {
        return ring_->ring_of_node[node_number % KEVENT_MAX_NODES];
    }

private:
    // Else a load might be a write in disguise, and the mapping is read-only.
    static_assert(std::atomic_ref<__u64>::is_always_lock_free);

    using slot_words = __u64[sizeof(event) / sizeof(__u64)];

    ring_view(const kevent_ring *ring, kevent_claim *claim) noexcept
        : ring_(ring),
          claim_(claim),
          entries_(ring->entries),
          slots_(reinterpret_cast<const slot_words *>(
              reinterpret_cast<const std::byte *>(ring) + ring->slots_offset)) {
    }

    static unsigned word(const __u32 &mapped) noexcept {
        return std::atomic_ref(const_cast<__u32 &>(mapped))
            .load(std::memory_order_acquire);
    }

    unsigned available(std::uint64_t first) const noexcept;
    void copy(std::uint64_t first, std::span<event> out) const noexcept;
    bool claim(__u64 &first, unsigned count) noexcept;

    // Constant after construction.
    const kevent_ring *ring_ = nullptr;
    kevent_claim *claim_ = nullptr;
    unsigned entries_ = 0;
    const slot_words *slots_ = nullptr;
};

/// Events between @p first and the tail.  A position that other consumers have
/// passed meanwhile shows as too many, and the claim will fail.
///
/// The head was loaded with acquire, so that this tail is not older than it:
/// else a tail from before the head would show as too many as well, and the
/// claim would succeed.
inline unsigned ring_view::available(std::uint64_t first) const noexcept {
    return static_cast<unsigned>(
        std::min<std::uint64_t>(tail() - first, entries_));
}

/// Copies word by word: a slot may be overwritten meanwhile, then the claim
/// fails and the copy is forgotten.
inline void ring_view::copy(std::uint64_t first,
                            std::span<event> out) const noexcept {
    static_assert(sizeof(event) == sizeof(slot_words) &&
                  sizeof(event) == 4 * sizeof(__u64));
    const auto *slots = slots_;
    const auto mask = entries_ - 1;
    for (auto &copied : out) {
        const auto &slot = slots[first++ & mask];
        auto *const to = reinterpret_cast<std::byte *>(&copied);
        const auto copy_word = [&](unsigned i) noexcept {
            const auto word = std::atomic_ref(const_cast<__u64 &>(slot[i]))
                                  .load(std::memory_order_relaxed);
            std::memcpy(to + i * sizeof(word), &word, sizeof(word));
        };
        copy_word(0);
        copy_word(1);
        copy_word(2);
        copy_word(3);
    }
}

/// Release: the copy is done before the kernel may reuse the slots.  The fence
/// pairs with the full barrier in the kernel's wakeup callback: either it sees
/// this claim and posts a new entry, or the caller sees the readiness that it
/// announced.
inline bool ring_view::claim(__u64 &first, unsigned count) noexcept {
    std::atomic_ref head_word(claim_->head);
    if (!head_word.compare_exchange_strong(first, first + count,
                                           std::memory_order_release,
                                           std::memory_order_acquire))
        return false;
#if defined(KEVENT_TSAN)
    head_word.fetch_add(0, std::memory_order_seq_cst); // knows no fences
#else
    std::atomic_thread_fence(std::memory_order_seq_cst);
#endif
    return true;
}

inline unsigned ring_view::collect(std::span<event> out) noexcept {
    __u64 first = head();
    for (;;) {
        const auto count = static_cast<unsigned>(
            std::min<std::size_t>(available(first), out.size()));
        if (count == 0)
            return 0;
        copy(first, out.first(count));
        if (claim(first, count))
            return count;
    }
}

inline result<ring_view> ring_view::at(const void *ring, std::size_t ring_bytes,
                                       void *claim) noexcept {
    const auto *header = static_cast<const kevent_ring *>(ring);
    if (ring_bytes < sizeof(kevent_ring) || header->magic != KEVENT_MAGIC)
        return errno_code(EPROTO);
    if (header->incompat & ~KEVENT_INCOMPAT)
        return errno_code(ENOTSUP);
    const auto entries = header->entries;
    const bool power = entries != 0 && (entries & (entries - 1)) == 0;
    const auto end =
        header->slots_offset + entries * std::uint64_t{sizeof(event)};
    if (!power || header->header_len < sizeof(kevent_ring) || end > ring_bytes)
        return errno_code(EPROTO);
    return ring_view(header, static_cast<kevent_claim *>(claim));
}

} // namespace kevent
