// SPDX-License-Identifier: MIT
/// @file
/// When a collector sweeps level sources although the ring still has events.
#pragma once

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>

namespace kevent {

using std::chrono::nanoseconds;

/// Decides when a sweep is due while level sources may be ready.
///
/// fixed(N, T): after N events from the ring, or when T has passed since the
/// last sweep began.
///
/// adaptive(budget, bound): a sweep that cost c nanoseconds is followed by the
/// next one not before c / budget, which holds its share of time to the budget,
/// and not so late that a level event would be older than the bound when it is
/// delivered.  In between, sweeping twice as often makes level events half as
/// old for twice the share; a sweep is due when the share, as a fraction of the
/// budget, and the age, as a fraction of the bound, add up to the least: after
/// the geometric mean of c / budget and the bound (or at the call nearest to
/// that).  tools/benchmark/sweep_n.cpp measures it against fixed rules.
///
/// Where both limits cannot be had (sweeps that cost more than budget * bound)
/// the bound wins.  The bound counts the time from one call of collect() to the
/// next as long as the last ones; a caller that takes longer once adds that
/// excess.  It holds while a sweep has room for all that is ready.
///
/// A value; used by one thread at a time.
class pace {
public:
    /// @p events 0: no count; @p interval 0: no time, and then no clock is
    /// read.
    static constexpr pace fixed(unsigned events,
                                nanoseconds interval) noexcept {
        pace made;
        made.events_ = events;
        made.interval_ = interval.count();
        return made;
    }

    /// @p budget: share of time for sweeps, above 0 and up to 1.
    static constexpr pace adaptive(double budget, nanoseconds bound) noexcept {
        pace made;
        made.budget_ = budget;
        made.bound_ = bound.count();
        return made;
    }

    /// Does due() look at the clock?
    [[nodiscard]] bool timed() const noexcept {
        return bound_ != 0 || interval_ != 0;
    }

    /// Is a sweep due?  @p events were taken from the ring since the last one.
    /// @p now in nanoseconds; any value where timed() is false.
    bool due(unsigned events, std::int64_t now) noexcept;

    /// A sweep ran from @p start to @p end.
    void swept(std::int64_t start, std::int64_t end) noexcept;

    /// Nobody asks for a while (the hint is zero): forget how long calls took.
    void rest() noexcept { asked_ = 0; }

private:
    constexpr pace() noexcept = default;

    void note_gap(std::int64_t now) noexcept;

    // Constant after construction.
    unsigned events_ = 0;
    std::int64_t interval_ = 0;
    double budget_ = 1;
    std::int64_t bound_ = 0;

    // Written at each sweep.
    std::int64_t started_ = INT64_MIN / 2;
    std::int64_t cost_ = 0;
    std::int64_t least_ = 0; ///< what the budget asks for
    std::int64_t best_ = 0;

    // Written at each question of a timed pace.
    std::int64_t asked_ = 0;
    std::int64_t gap_ = 0;
};

inline void pace::note_gap(std::int64_t now) noexcept {
    const auto gap = asked_ == 0 ? 0 : now - asked_;
    gap_ = std::max(gap, gap_ - gap_ / 8);
    asked_ = now;
}

inline bool pace::due(unsigned events, std::int64_t now) noexcept {
    const auto since = now - started_;
    if (bound_ == 0)
        return (events_ != 0 && events >= events_) ||
               (interval_ != 0 && since >= interval_);
    note_gap(now);
    // Half a gap: the next question would come later than this one is early.
    return (since >= least_ && since + gap_ / 2 >= best_) ||
           since + gap_ + cost_ > bound_;
}

inline void pace::swept(std::int64_t start, std::int64_t end) noexcept {
    started_ = start;
    const auto cost = end - start;
    cost_ = std::max(cost, cost_ - cost_ / 8);
    const auto least = static_cast<double>(cost) / budget_;
    least_ = static_cast<std::int64_t>(least);
    best_ = static_cast<std::int64_t>(
        std::sqrt(least * static_cast<double>(bound_)));
    asked_ = asked_ == 0 ? 0 : end;
}

} // namespace kevent
