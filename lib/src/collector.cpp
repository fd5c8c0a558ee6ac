// SPDX-License-Identifier: MIT
#include <kevent/collector.hpp>

#include <algorithm>
#include <limits>

namespace kevent {

namespace {
constexpr std::int64_t no_wait = 0;
constexpr std::int64_t no_limit = -1;

/// Of so many calls, one begins at another ring, lest a busy home ring starve
/// the others.
constexpr unsigned turns = 16;

unsigned home_of(const queue &rings, std::uint32_t wanted) noexcept {
    return wanted == KEVENT_RING_LOCAL ? rings.local_ring() : wanted;
}
} // namespace

collector::collector(const queue &rings, const collector_options &options)
    : queue_(&rings),
      home_(home_of(rings, options.ring)),
      steal_(options.steal && rings.size() > 1),
      pace_(options.sweeps) {
    if (options.reclaim != nullptr)
        consumer_ = reclaimer::consumer(*options.reclaim,
                                        steal_ ? KEVENT_RING_ANY : home_);
}

/// Is a word of the rings that this collector serves non-zero?
template <class Word>
bool collector::any(Word word) const noexcept {
    if ((queue_->ring(home_).*word)() != 0)
        return true;
    for (unsigned i = 0; steal_ && i < queue_->size(); i++)
        if ((queue_->ring(i).*word)() != 0)
            return true;
    return false;
}

bool collector::kernel_holds_something() const noexcept {
    return any(&ring_view::pending) || any(&ring_view::need_enter) ||
           any(&ring_view::hint);
}

/// Only while the rings have events (else wait() enters anyway), and only if
/// some were taken since the last sweep: level events never starve the ring.
bool collector::sweep_due() noexcept {
    if (since_sweep_ == 0 || !any(&ring_view::backlog))
        return false;
    if (any(&ring_view::need_enter))
        return true;
    if (!any(&ring_view::hint)) {
        pace_.rest();
        return false;
    }
    const auto now = pace_.timed() ? queue_->system().now() : 0;
    return pace_.due(since_sweep_, now);
}

/// Level events get what the home ring leaves, half of the room at least.
std::span<event> collector::level_room(std::span<event> out) const noexcept {
    const auto waiting = queue_->ring(home_).backlog();
    return out.first(out.size() -
                     std::min<std::size_t>(waiting, out.size() / 2));
}

result<unsigned> collector::sweep(std::span<event> room) noexcept {
    auto &system = queue_->system();
    const auto start = pace_.timed() ? system.now() : 0;
    auto count = enter(room, 0, no_wait);
    pace_.swept(start, pace_.timed() ? system.now() : 0);
    statistics_.sweeps++;
    return count;
}

/// The ioctl leaves the rings alone: stores level events, and moves into the
/// rings what the kernel holds.
result<unsigned> collector::enter(std::span<event> room, unsigned min,
                                  std::int64_t deadline) noexcept {
    kevent_get argument{};
    argument.flags = KEVENT_GET_MAPPED;
    if (deadline > 0)
        argument.flags |= KEVENT_GET_ABSTIME;
    argument.ring = steal_ ? KEVENT_RING_ANY : home_;
    argument.min = min;
    argument.max = static_cast<__u32>(room.size());
    argument.events = reinterpret_cast<std::uintptr_t>(room.data());
    argument.timeout = deadline;
    auto count = queue_->get(argument);
    since_sweep_ = 0;
    statistics_.ioctls++;
    statistics_.level_events += count ? *count : 0;
    return count;
}

unsigned collector::take_from(unsigned index, std::span<event> out) noexcept {
    const auto count = queue_->ring(index).collect(out);
    since_sweep_ += count;
    statistics_.ring_events += count;
    if (index != home_)
        statistics_.steals += count;
    return count;
}

unsigned collector::first_ring() noexcept {
    if (!steal_ || ++turn_ % turns != 0)
        return home_;
    return (home_ + turn_ / turns) % queue_->size();
}

/// One ring's events: the home ring's, or another's when that is empty.
unsigned collector::take(std::span<event> out) noexcept {
    const auto first = first_ring();
    auto count = take_from(first, out);
    for (unsigned i = 1; count == 0 && steal_ && i < queue_->size(); i++)
        count = take_from((first + i) % queue_->size(), out);
    return count;
}

std::int64_t collector::deadline_of(nanoseconds timeout) const noexcept {
    if (timeout.count() <= 0)
        return timeout.count() == 0 ? no_wait : no_limit;
    const auto now = queue_->system().now();
    const auto left = std::numeric_limits<std::int64_t>::max() - now;
    return now + std::min<std::int64_t>(timeout.count(), left);
}

/// Nothing was found in the rings.
result<unsigned> collector::wait(std::span<event> out,
                                 nanoseconds timeout) noexcept {
    if (timeout.count() == 0 && !kernel_holds_something())
        return 0U;
    const auto deadline = deadline_of(timeout);
    for (;;) {
        const auto level = enter(out, deadline == no_wait ? 0 : 1, deadline);
        const auto stored = level ? *level : 0;
        const auto count = stored + take(out.subspan(stored));
        if (count != 0 || deadline == no_wait)
            return level || count != 0 ? result<unsigned>(count) : level;
        if (!level)
            return level;
        if (deadline > 0 && queue_->system().now() >= deadline)
            return 0U;
        consumer_.quiesce(); // another consumer was faster
    }
}

result<unsigned> collector::collect(std::span<event> out,
                                    nanoseconds timeout) noexcept {
    consumer_.quiesce();
    if (out.empty())
        return 0U;
    unsigned count = 0;
    if (sweep_due()) {
        auto level = sweep(level_room(out));
        if (!level)
            return level;
        count = *level;
    }
    count += take(out.subspan(count));
    return count != 0 ? result<unsigned>(count) : wait(out, timeout);
}

} // namespace kevent
