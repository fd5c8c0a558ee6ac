// SPDX-License-Identifier: MIT
/// @file
/// One client's conversation, whatever tells us that its socket is ready.
#pragma once

#include "body.hpp"
#include "http.hpp"
#include "response.hpp"
#include "stats.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace httpd {

class site;

/// Reads requests and sends responses on a nonblocking stream socket, one after
/// the other; further requests wait in the buffer.  Used by one thread at a
/// time.  Memory: head_limit, one response head, one error page or listing, and
/// the pieces of a file that body has.
///
/// What is in the page cache is read on the way.  What is not is the owner's to
/// read, in its way: it calls ready() at first and whenever the socket has
/// become readable or writable (edges suffice), advance() soon after an answer
/// of `again`, and after each of them next_read().  It need not wait for the
/// end of that read, but keeps the connection until then.
class connection {
public:
    /// What the owner does next.
    enum class next {
        wait,   ///< for readiness, a read, or the idle timeout
        again,  ///< call again soon: others come first
        linger, ///< wait likewise, but for a short time only
        close   ///< close the socket
    };

    /// @p socket stays the owner's; the others outlive the connection.
    connection(int socket, const site &pages, traffic &counters,
               buffer_pool &memory) noexcept
        : socket_(socket),
          pages_(&pages),
          counters_(&counters),
          body_(memory) {}

    /// The socket may be ready: goes on as far as that leads.  @p hangup: the
    /// peer has closed, or an error is waiting.
    next ready(bool hangup);

    /// Goes on after `again`.
    next advance();

    /// The read of a file to be made now; see body.
    std::optional<file_read> next_read() noexcept {
        if (!slow_ && !body_.starving())
            return std::nullopt;
        return body_.next_read();
    }

    /// That read has ended, with the result of pread(2): goes on.
    next filled(ssize_t result);

    /// The file that is being sent.
    [[nodiscard]] body &file() noexcept { return body_; }
    [[nodiscard]] const body &file() const noexcept { return body_; }

    /// Answers what has been asked so far, and closes.
    next wind_down();

    /// The client took too long; tells it so if it began a request.
    void time_out();

    /// Was there a complete request, or did a response move, since last asked?
    bool moved() noexcept {
        const bool before = moved_;
        moved_ = false;
        return before;
    }

    /// Is there a response that has not been sent?
    [[nodiscard]] bool sending() const noexcept {
        return !out_.empty() || !body_.over();
    }

    /// What it waits for its socket to become: POLLIN, POLLOUT; 0 if it waits
    /// for a file.
    [[nodiscard]] short awaits() const noexcept;

    /// Lets go of all but the socket.  Not while a read is being made.
    void drop() noexcept { body_.drop(); }

private:
    enum class step { done, blocked, close };

    next take_steps();
    step take_step();
    step handle_input();
    step receive();
    [[nodiscard]] bool lacks_file() const noexcept;
    step fetch() noexcept;
    step send();
    void sent(std::size_t bytes);
    step finish();
    static step failed();
    step discard();
    void respond(const parsed &found);
    void consume(std::size_t bytes);

    // Constant after construction.
    int socket_;
    const site *pages_;
    traffic *counters_;

    std::string in_;  // received, not yet understood
    std::string out_; // to be sent from sent_ on
    std::size_t sent_ = 0;
    body body_;              // follows out_
    bool slow_ = false;      // the page cache lacks a part of the file
    bool drained_ = false;   // nothing to receive until the next edge
    bool hangup_ = false;    // the end is near: read until it comes
    bool winding_ = false;   // the next response is the last
    bool last_ = false;      // close after what is being sent
    bool unread_ = false;    // the client may still be sending
    bool lingering_ = false; // all was sent; waiting for the client to close
    bool moved_ = false;
    std::size_t discarded_ = 0;
};

} // namespace httpd
