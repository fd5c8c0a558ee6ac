// SPDX-License-Identifier: MIT
/// @file
/// When each connection of a thread has its turn, or has had its time.
#pragma once

#include "deadlines.hpp"

#include <algorithm>
#include <ctime>
#include <optional>
#include <utility>

namespace httpd {

/// As old as a tick, and cheap.  Not inlined, lest every step of a connection
/// pay for its place on the stack.
[[gnu::noinline]] inline instant coarse_now() noexcept {
    timespec time{};
    ::clock_gettime(CLOCK_MONOTONIC_COARSE, &time);
    return instant{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

/// Connections in three rows: those that wait for news, for at most as long as
/// a client may do nothing; those that linger; and those whose turn it is.
///
/// Reads a clock at most once in a turn of the owner's loop, and none if
/// clients may take any time.
///
/// T derives from link and has members `instant touched` and `bool lingers`,
/// which begins as false.
template <class T>
class timetable {
public:
    /// @p idle: how long a client may do nothing; 0: forever.
    explicit timetable(instant idle) noexcept
        : forever_(idle == 0),
          idle_(idle),
          lingering_(forever_ ? linger_time : std::min(linger_time, idle)) {}

    /// A new turn begins: time may have passed.
    void begin_turn() noexcept { now_ = 0; }

    /// The time of the turn.
    instant now() noexcept {
        if (now_ == 0)
            now_ = coarse_now();
        return now_;
    }

    /// It waits for news.  A client that sends a request bit by bit, and so has
    /// not @p moved on, does not gain time.  Did it gain some?
    bool rest(T &who, bool moved) noexcept {
        if (who.link::is_linked() && (forever_ || !moved))
            return false;
        idle_.touch(who, forever_ ? 0 : now());
        return true;
    }

    /// It waits for a client that was told to go away.
    void linger(T &who) noexcept {
        if (!std::exchange(who.lingers, true))
            lingering_.touch(who, now());
    }

    /// It goes on soon.
    void queue(T &who) noexcept { turn_.touch(who, 0); }

    /// Is it anybody's turn?
    [[nodiscard]] bool busy() const noexcept {
        return turn_.next().has_value();
    }

    /// Calls @p action with each whose turn it is.
    template <class Action>
    void take_turns(Action action) {
        turn_.for_each([&](T &who) {
            who.link::unlink();
            action(who);
        });
    }

    /// When the first will have had its time.
    [[nodiscard]] std::optional<instant> next() const noexcept {
        const auto one = forever_ ? std::nullopt : idle_.next();
        const auto other = lingering_.next();
        return one && other ? std::min(one, other) : one ? one : other;
    }

    /// One that has had its time: now, not when the turn began.
    T *overdue() noexcept {
        now_ = coarse_now();
        T *const first = forever_ ? nullptr : idle_.overdue(now_);
        return first != nullptr ? first : lingering_.overdue(now_);
    }

    /// Calls @p action with each that waits for news.
    template <class Action>
    void for_each_at_rest(Action action) {
        idle_.for_each(action);
    }

    /// Calls @p action with each.
    template <class Action>
    void for_each(Action action) {
        for (auto *row : {&idle_, &lingering_, &turn_})
            row->for_each(action);
    }

private:
    /// A client that was told to go away has so long to do so.
    static constexpr instant linger_time = 2'000'000'000;

    bool forever_;
    instant now_ = 0; // 0: not read in this turn
    deadlines<T> idle_;
    deadlines<T> lingering_;
    deadlines<T> turn_{0};
};

} // namespace httpd
