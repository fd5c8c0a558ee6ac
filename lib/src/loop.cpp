// SPDX-License-Identifier: MIT
#include <kevent/loop.hpp>

namespace kevent {

/// The wakeup is a level event, which is reported until it is removed: a loop
/// that shares the ring cannot swallow it.
loop::loop(const queue &rings, const collector_options &options)
    : queue_(&rings),
      collector_(rings, options) {
    auto added = rings.add(user_event()
                               .level()
                               .home(collector_.home())
                               .cookie(static_cast<handler *>(this)));
    if (!added)
        detail::fail(added.error());
    wakeup_ = *added;
}

loop::~loop() {
    static_cast<void>(queue_->remove(wakeup_));
}

void loop::stop() noexcept {
    if (!stopping_.exchange(true, std::memory_order_acq_rel))
        static_cast<void>(queue_->trigger(wakeup_));
}

result<unsigned> loop::run_once(nanoseconds timeout) {
    const auto count = collector_.collect(events_, timeout);
    if (!count)
        return count;
    for (const auto &each : std::span(events_).first(*count))
        if (each.cookie != 0)
            reinterpret_cast<handler *>(each.cookie)->on_event(each);
    return count;
}

result<void> loop::run() {
    while (!stopping()) {
        const auto count = run_once();
        if (!count && count.error() != errno_code(EINTR))
            return count.error();
    }
    return {};
}

} // namespace kevent
