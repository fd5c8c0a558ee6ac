// SPDX-License-Identifier: MIT
/// @file
/// Objects that time out, all after the same time.
#pragma once

#include <boost/intrusive/list.hpp>
#include <cstdint>
#include <optional>

namespace httpd {

/// Nanoseconds on CLOCK_MONOTONIC.
using instant = std::int64_t;

/// A place in one list; leaves it on destruction.
using link = boost::intrusive::list_base_hook<
    boost::intrusive::link_mode<boost::intrusive::auto_unlink>>;

/// Objects in the order in which they were last touched.  Touching one costs a
/// few pointers, however many there are, and no system call.
///
/// T derives from link and has a member `instant touched`.
template <class T>
class deadlines {
public:
    explicit deadlines(instant timeout) noexcept : timeout_(timeout) {}

    /// Puts @p object, which may be in another list, behind all others.
    void touch(T &object, instant now) noexcept {
        object.link::unlink();
        object.touched = now;
        list_.push_back(object);
    }

    /// When the first object times out.
    [[nodiscard]] std::optional<instant> next() const noexcept {
        if (list_.empty())
            return std::nullopt;
        return list_.front().touched + timeout_;
    }

    /// The first object if it has timed out.
    T *overdue(instant now) noexcept {
        const auto first = next();
        return first && *first <= now ? &list_.front() : nullptr;
    }

    /// Calls @p action with each object, which it may unlink or touch.
    template <class Action>
    void for_each(Action action) {
        boost::intrusive::list<T, boost::intrusive::constant_time_size<false>>
            all;
        all.swap(list_);
        while (!all.empty()) {
            T &object = all.front();
            object.link::unlink();
            list_.push_back(object);
            action(object);
        }
    }

private:
    instant timeout_;
    boost::intrusive::list<T, boost::intrusive::constant_time_size<false>>
        list_;
};

} // namespace httpd
