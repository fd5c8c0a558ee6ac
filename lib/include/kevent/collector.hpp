// SPDX-License-Identifier: MIT
/// @file
/// One call that collects ring events and level events.
#pragma once

#include <kevent/pace.hpp>
#include <kevent/queue.hpp>
#include <kevent/reclaimer.hpp>

#include <chrono>
#include <cstdint>
#include <span>

namespace kevent {

/// How a collector works.
struct collector_options {
    /// Home ring: an index, or KEVENT_RING_LOCAL for that of the CPU that
    /// constructs the collector.
    std::uint32_t ring = KEVENT_RING_LOCAL;

    /// Take from other rings when the home ring is empty, sweep their level
    /// sources too, and sleep on all.  Without it every ring needs a collector
    /// of its own.
    bool steal = true;

    /// When to sweep while the ring has events.
    pace sweeps = pace::adaptive(0.05, std::chrono::milliseconds{1});

    /// What frees retired objects; each collect() is a quiescent point.
    reclaimer *reclaim = nullptr;
};

/// What a collector has done so far.
struct collector_statistics {
    std::uint64_t ring_events = 0;  ///< taken from mapped rings
    std::uint64_t level_events = 0; ///< stored by the ioctl
    std::uint64_t steals = 0;       ///< of ring_events: not from the home ring
    std::uint64_t ioctls = 0;       ///< calls that collected; not submissions
    std::uint64_t sweeps = 0;       ///< of ioctls: did not wait
};

/// Collects events: one call from the user's view.
///
/// Takes events from the mapped home ring, then (when that is empty) from other
/// rings.  Makes the ioctl when
///   - nothing was found and it is to wait, or the kernel holds something;
///   - need_enter is non-zero;
///   - the hint is non-zero and a sweep is due (see pace).
/// So there is no system call while the hint is zero and the ring has events,
/// and no clock is read while the hint is zero.
///
/// A collector is used by one thread at a time; a queue may have any number of
/// them, each event goes to one.  Allocates nothing after construction.
class collector {
public:
    /// @p rings outlives the collector.  Allocates only with a reclaimer.
    explicit collector(const queue &rings,
                       const collector_options &options = {});
    collector(collector &&) noexcept = default;
    collector &operator=(collector &&) noexcept = default;

    /// Collects up to out.size() events.  Returns how many; 0 when @p timeout
    /// (relative; 0: do not wait; negative: no limit) has passed, or out is
    /// empty.
    ///
    /// Events of an earlier call have been dealt with by now: this is the
    /// caller's quiescent point.
    ///
    /// EINTR: a signal came before any event.  Others: of KEVENT_IOC_GETEVENTS.
    result<unsigned> collect(std::span<event> out,
                             nanoseconds timeout = nanoseconds{-1}) noexcept;

    /// Index of the home ring.
    [[nodiscard]] unsigned home() const noexcept { return home_; }

    /// Read by the thread that collects.
    [[nodiscard]] const collector_statistics &statistics() const noexcept {
        return statistics_;
    }

private:
    template <class Word>
    [[nodiscard]] bool any(Word word) const noexcept;
    [[nodiscard]] bool kernel_holds_something() const noexcept;

    bool sweep_due() noexcept;
    [[nodiscard]] std::span<event>
    level_room(std::span<event> out) const noexcept;
    result<unsigned> sweep(std::span<event> room) noexcept;
    result<unsigned> enter(std::span<event> room, unsigned min,
                           std::int64_t deadline) noexcept;
    unsigned take(std::span<event> out) noexcept;
    unsigned take_from(unsigned index, std::span<event> out) noexcept;
    [[nodiscard]] unsigned first_ring() noexcept;
    result<unsigned> wait(std::span<event> out, nanoseconds timeout) noexcept;
    [[nodiscard]] std::int64_t deadline_of(nanoseconds timeout) const noexcept;

    // Constant after construction.
    const queue *queue_;
    unsigned home_;
    bool steal_;

    // Written by the thread that collects.
    pace pace_;
    reclaimer::consumer consumer_;
    unsigned since_sweep_ = 0;
    unsigned turn_ = 0;
    collector_statistics statistics_;
};

} // namespace kevent
