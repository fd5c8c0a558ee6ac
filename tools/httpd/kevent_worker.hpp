// SPDX-License-Identifier: MIT
/// @file
/// One thread of a server on kevent, with a ring of its own.
#pragma once

#include "buffers.hpp"
#include "connection.hpp"
#include "descriptor.hpp"
#include "files.hpp"
#include "options.hpp"
#include "patience.hpp"
#include "stats.hpp"
#include "timetable.hpp"

#include <kevent/kevent.hpp>

#include <atomic>
#include <boost/intrusive/list.hpp>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <numa.h>
#include <vector>

namespace httpd {

class kevent_worker;
struct kevent_peer;

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
    kevent::ring_work work; ///< connections, if the policy counts them
    std::int64_t connections_limit;
    std::atomic<std::int64_t> connections{0};
    std::atomic<bool> stopping{false};
    std::atomic<unsigned> accepting{0}; ///< workers that may still place

    /// A connection on that ring has ended.
    void settle_work(unsigned ring) noexcept {
        if (wanted->policy == "least_work")
            work.done(ring, kevent::placement().work);
    }
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

/// The read of a connection's file.
class peer_read final : public kevent::operation {
public:
    explicit peer_read(kevent_peer &whose) noexcept : whose_(&whose) {}

private:
    void on_complete(const kevent::completion &how) override;

    kevent_peer *whose_;
};

/// A place in the line of those who want buffers, or of those who have some.
using buffer_link = boost::intrusive::list_base_hook<
    boost::intrusive::tag<class buffer_line>,
    boost::intrusive::link_mode<boost::intrusive::auto_unlink>>;

/// One connection, its source and its read.
struct kevent_peer final : kevent::handler, link, buffer_link {
    kevent_peer(kevent_worker &owner, descriptor accepted, const site &pages,
                traffic &counters, buffer_pool &memory)
        : home(&owner),
          socket(std::move(accepted)),
          talk(socket.get(), pages, counters, memory),
          read(*this) {}
    void on_event(const kevent::event &news) override;

    kevent_worker *home; ///< whose ring it was placed on
    descriptor socket;
    connection talk;
    peer_read read;
    std::uint64_t id = 0; ///< of its source; 0: not adopted yet
    instant touched = 0;
    bool lingers = false;
    bool suspect = false; ///< was ready when it was to time out
    bool closed = false;  ///< later events may still come
};

/// Accepts connections on a socket of its own, places them on rings, and serves
/// those that were placed on its own ring: only this thread collects from that
/// ring, so a connection needs no lock.
///
/// The listening socket is a LEVEL source; connections are EDGE sources.
/// Connections belong to the thread of their home ring from the moment that
/// their source is added; a fresh socket is writable, so that thread gets an
/// event at once.
///
/// What the page cache lacks of a file is read by requests to the same ring:
/// those of one turn are submitted together.  A connection that ends while its
/// read is in flight cancels it, and stays until its event has come.  One that
/// finds no buffer (or the limit of requests reached) is hungry, and waits in
/// line.  Clients that do not take what was read for them cannot keep the
/// buffers: it is read again if they ever do.
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
    friend peer_read;
    using peer = kevent_peer;

    // accepting
    void accept_some();
    void place(descriptor socket);
    void pause_accepting();

    // connections
    void on_peer(peer &who, const kevent::event &news);
    void adopt(peer &who, std::uint64_t id);
    void go_on(peer &who, connection::next what);
    connection::next hurry(peer &who, connection::next what) const;
    void close(peer &who);
    void bury(peer &who);

    // reading
    using line =
        boost::intrusive::list<peer, boost::intrusive::base_hook<buffer_link>,
                               boost::intrusive::constant_time_size<false>>;
    void read_on(peer &who);
    void submit(peer &who, const file_read &what);
    void on_read(peer &who, const kevent::completion &how);
    void feed();

    // timeouts
    void set_alarm(instant when);
    void set_next_alarm();
    void expire();
    bool expire_all();
    bool has_stalled(const peer &who);

    // the loop
    void look();
    unsigned handle_batch(std::chrono::nanoseconds timeout);
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
    kevent::loop loop_;
    kevent::balancer<kevent::any_policy> balancer_;
    descriptor socket_;
    callback accept_;
    callback wake_;
    std::uint64_t accept_id_ = 0;
    std::uint64_t wake_id_ = 0;
    alarm resume_;
    alarm timeout_;
    alarm give_up_;
    alarm retry_;
    buffer_pool buffers_;
    line hungry_;          // want a buffer and a request
    line holding_;         // have buffers, and sockets that are full
    bool refused_ = false; // hungry ones wait for the limit of requests
    bool retrying_ = false;
    unsigned tries_ = 0;
    timetable<peer> times_;
    instant alarm_at_ = 0; // 0: not set
    bool due_ = false;
    bool draining_ = false;
    bool forced_ = false;
    patience patience_;
    traffic traffic_;
    connection_counts counts_;
    read_counts reads_;

    // Under the lock.
    mutable std::mutex lock_;
    snapshot published_;
};

} // namespace httpd
