// SPDX-License-Identifier: MIT
/// @file
/// A thread's event loop: gives each event to the object that its cookie names.
#pragma once

#include <kevent/collector.hpp>

#include <array>
#include <atomic>
#include <cstdint>
#include <span>

namespace kevent {

/// Takes the events of the sources whose cookie is its address.
class handler {
public:
    virtual void on_event(const event &news) = 0;

protected:
    ~handler() = default;
};

/// Collects and calls handlers.
///
/// Every source that can report to the rings of the loop has the address of a
/// handler as its cookie: `source.cookie(static_cast<handler *>(this))`; events
/// with cookie 0 are dropped.
/// Handlers are called in the thread that runs the loop.  A handler that has
/// ended is handed to the reclaimer: later events of the same batch may still
/// name it.  What a handler throws leaves run(), and drops the rest of the
/// batch.
class loop : private handler {
public:
    /// Adds a user event for stop() to the queue, which outlives the loop.
    /// Throws std::system_error when it cannot (aborts without exceptions).
    explicit loop(const queue &rings, const collector_options &options = {});
    loop(const loop &) = delete;
    loop &operator=(const loop &) = delete;
    ~loop();

    /// Runs until stop().  A signal does not end it.
    result<void> run();

    /// Collects once, up to @p timeout, and calls handlers.  Returns how many
    /// events there were.  Errors: of collector::collect(), EINTR included.
    result<unsigned> run_once(nanoseconds timeout = nanoseconds{-1});

    /// Ends run() after its current batch.  From any thread, any number of
    /// times; not from a signal handler.
    void stop() noexcept;

    /// Has stop() been called?
    [[nodiscard]] bool stopping() const noexcept {
        return stopping_.load(std::memory_order_acquire);
    }

    /// Index of the home ring.
    [[nodiscard]] unsigned home() const noexcept { return collector_.home(); }

    /// Read by the thread that runs the loop.
    [[nodiscard]] const collector_statistics &statistics() const noexcept {
        return collector_.statistics();
    }

private:
    static constexpr unsigned batch = 128;

    void on_event(const event &) override {}

    // Constant after construction.
    const queue *queue_;
    std::uint64_t wakeup_ = 0;

    // Written by any thread.
    std::atomic<bool> stopping_{false};

    // Written by the thread that runs the loop.
    collector collector_;
    std::array<event, batch> events_;
};

} // namespace kevent
