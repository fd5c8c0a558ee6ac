// SPDX-License-Identifier: MIT
/// @file
/// One thread of a server on kevent, with a ring of its own.
#pragma once

#include "connection.hpp"
#include "deadlines.hpp"
#include "descriptor.hpp"
#include "files.hpp"
#include "options.hpp"
#include "patience.hpp"
#include "stats.hpp"

#include <kevent/kevent.hpp>

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <numa.h>
#include <vector>

namespace httpd {

class kevent_worker;

struct free_cpus {
    void operator()(bitmask *cpus) const { ::numa_free_cpumask(cpus); }
};
using cpu_set = std::unique_ptr<bitmask, free_cpus>;

/// What the threads share.  Constant once they run, but for the atomics.
struct kevent_world {
    const kevent::queue *rings;
    kevent::reclaimer *reclaim;
    const site *pages;
    const options *wanted;
    std::vector<std::unique_ptr<kevent_worker>> workers; ///< by ring
    std::int64_t connections_limit;
    std::atomic<std::int64_t> connections{0};
    std::atomic<bool> stopping{false};
    std::atomic<unsigned> accepting{0}; ///< workers that may still place
};

/// A handler that calls a function.
class callback final : public kevent::handler {
public:
    using function = std::function<void(const kevent::event &)>;
    explicit callback(function call) : call_(std::move(call)) {}
    void on_event(const kevent::event &news) override { call_(news); }

    /// @p what with this as its cookie, and @p ring as its home.
    kevent::source source(kevent::source what, unsigned ring) {
        return what.home(ring).cookie(static_cast<kevent::handler *>(this));
    }

private:
    function call_;
};

/// A timer that is set again and again.
class alarm {
public:
    alarm(const kevent::queue &rings, unsigned ring, callback::function call);
    void set(std::chrono::nanoseconds delay);

private:
    const kevent::queue *rings_;
    unsigned ring_;
    callback call_;
    std::uint64_t id_;
};

/// One connection and its source.
struct kevent_peer final : kevent::handler, link {
    kevent_peer(kevent_worker &owner, descriptor accepted, const site &pages,
                traffic &counters)
        : home(&owner),
          socket(std::move(accepted)),
          talk(socket.get(), pages, counters) {}
    void on_event(const kevent::event &news) override;

    kevent_worker *home; ///< whose ring it was placed on
    descriptor socket;
    connection talk;
    std::uint64_t id = 0; ///< of its source; 0: not adopted yet
    instant touched = 0;
    bool lingers = false;
    bool closed = false; ///< later events of the batch may still come
};

/// Accepts connections on a socket of its own, places them on rings, and serves
/// those that were placed on its own ring: only this thread collects from that
/// ring, so a connection needs no lock.
///
/// The listening socket is a LEVEL source; connections are EDGE sources.
/// Connections belong to the thread of their home ring from the moment that
/// their source is added; a fresh socket is writable, so that thread gets an
/// event at once.
class kevent_worker {
public:
    /// Throws std::system_error.
    kevent_worker(kevent_world &world, unsigned index, descriptor socket);
    kevent_worker(const kevent_worker &) = delete;
    kevent_worker &operator=(const kevent_worker &) = delete;
    ~kevent_worker();

    /// Serves until the world is stopping and all connections have ended.
    void run();

    /// After run(): takes what is left in the ring, for exact numbers.
    void settle();

    /// Makes it look at the world's words.  From any thread.
    void wake() noexcept;

    /// Its numbers as of its last batch.  From any thread.
    [[nodiscard]] snapshot numbers() const;

private:
    friend kevent_peer;
    using peer = kevent_peer;

    // accepting
    void accept_some();
    void place(descriptor socket);
    void pause_accepting();

    // connections
    void on_peer(peer &who, const kevent::event &news);
    void adopt(peer &who, std::uint64_t id);
    void go_on(peer &who, connection::next what);
    void close(peer &who);

    // timeouts
    void rest(peer &who);
    void linger(peer &who);
    void set_alarm(instant when);
    void set_next_alarm();
    void expire();
    bool expire(deadlines<peer> &list);
    bool has_stalled(const peer &who);

    // the loop
    void look();
    unsigned handle_batch(std::chrono::nanoseconds timeout);
    void run_waiting();
    void publish();
    void begin_drain();
    [[nodiscard]] bool finished() const;
    [[nodiscard]] kevent::ring_view ring() const;

    // Constant after construction.
    kevent_world *world_;
    unsigned index_;
    std::uint64_t start_; // of the ring's positions
    cpu_set cpus_;        // where the ring's memory is

    // Written by any thread.
    std::atomic<std::int64_t> open_{0}; // connections placed here

    // Written by the thread that runs.
    kevent::collector collector_;
    std::array<kevent::event, 128> events_;
    kevent::balancer<kevent::any_policy> balancer_;
    descriptor socket_;
    callback accept_;
    callback wake_;
    std::uint64_t accept_id_ = 0;
    std::uint64_t wake_id_ = 0;
    alarm resume_;
    alarm timeout_;
    alarm give_up_;
    deadlines<peer> idle_;
    deadlines<peer> lingering_;
    deadlines<peer> waiting_{0}; // for their turn
    instant alarm_at_ = 0;       // 0: not set
    bool due_ = false;
    bool draining_ = false;
    bool forced_ = false;
    patience patience_;
    traffic traffic_;
    connection_counts counts_;

    // Under the lock.
    mutable std::mutex lock_;
    snapshot published_;
};

} // namespace httpd
