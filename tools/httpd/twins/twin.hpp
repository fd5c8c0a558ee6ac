// SPDX-License-Identifier: MIT
/// @file
/// What the twins of kevent-httpd have in common: the same connections, files
/// and timeouts, on other event systems.
///
/// They are there to be measured.  What only a product needs is left out: they
/// end with SIGTERM's default action, and print no statistics.
#pragma once

#include "../buffers.hpp"
#include "../connection.hpp"
#include "../descriptor.hpp"
#include "../files.hpp"
#include "../listener.hpp"
#include "../options.hpp"
#include "../stats.hpp"
#include "../timetable.hpp"

#include <algorithm>
#include <memory>
#include <optional>
#include <time.h>
#include <unistd.h>
#include <utility>

namespace httpd {

/// Each serves, on a listening socket of its own, until the process ends.
/// Throws std::system_error.
void serve_by_epoll(const options &wanted, const site &pages,
                    descriptor socket);
void serve_by_uring(const options &wanted, const site &pages,
                    descriptor socket);
/// Serves options::connections, blocking for each in turn.
void serve_in_lockstep(const options &wanted, const site &pages,
                       descriptor socket);

/// A connection.
struct peer : link {
    peer(descriptor accepted, const site &pages, traffic &counters,
         buffer_pool &memory)
        : socket(std::move(accepted)),
          talk(socket.get(), pages, counters, memory) {}

    descriptor socket;
    connection talk;
    instant touched = 0;
    bool lingers = false;
};

/// One thread's connections.  Peer: one of them, with its event system's part;
/// see timetable.
template <class Peer>
class twin {
protected:
    twin(const options &wanted, const site &pages, descriptor socket)
        : pages_(&pages),
          socket_(std::move(socket)),
          buffers_(two_for_each_descriptor()),
          times_(wanted.idle().count()) {}
    ~twin() = default;

    /// Ends the connection, at once or soon.
    virtual void close(Peer &who) = 0;

    std::unique_ptr<Peer> make(descriptor accepted) {
        return std::make_unique<Peer>(std::move(accepted), *pages_, traffic_,
                                      buffers_);
    }

    /// After each step of a connection.  What the page cache lacks is waited
    /// for.
    void go_on(Peer &who, connection::next what) {
        while (what != connection::next::close) {
            const auto slow = who.talk.next_read();
            if (!slow)
                break;
            what = who.talk.filled(::pread(slow->file, slow->room.data(),
                                           slow->room.size(),
                                           static_cast<off_t>(slow->offset)));
        }
        switch (what) {
        case connection::next::wait:
            times_.rest(who, who.talk.moved());
            return;
        case connection::next::linger:
            return times_.linger(who);
        case connection::next::again:
            return times_.queue(who);
        case connection::next::close:
            return close(who);
        }
    }

    /// Before and after each batch of events.
    void begin_turn() noexcept { times_.begin_turn(); }
    void end_turn() {
        times_.take_turns(
            [this](Peer &who) { go_on(who, who.talk.advance()); });
        const auto next = times_.next();
        if (!next || *next > times_.now())
            return;
        while (auto *who = times_.overdue()) {
            who->talk.time_out();
            close(*who);
        }
    }

    /// How long to wait for events; nothing: forever.
    [[nodiscard]] std::optional<timespec> patience() noexcept {
        if (times_.busy())
            return timespec{};
        const auto next = times_.next();
        if (!next)
            return std::nullopt;
        const auto left = std::max<instant>(*next - times_.now(), 0);
        return timespec{left / 1'000'000'000, left % 1'000'000'000};
    }

    const site *pages_;
    descriptor socket_;

private:
    /// None ever lacks one.
    static std::size_t two_for_each_descriptor() {
        return static_cast<std::size_t>(2 * ::sysconf(_SC_OPEN_MAX));
    }

    traffic traffic_;
    buffer_pool buffers_;
    timetable<Peer> times_;
};

} // namespace httpd
