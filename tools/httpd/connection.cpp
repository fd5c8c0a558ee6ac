// SPDX-License-Identifier: MIT
#include "connection.hpp"

#include "files.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <utility>

namespace httpd {

namespace {
/// Steps before other connections have their turn.
constexpr unsigned step_limit = 64;
/// Bytes of a file that one step sends.
constexpr std::uint64_t file_chunk = 256 << 10;
/// What a client whose requests we no longer want may still send.
constexpr std::size_t discard_limit = 256 << 10;
/// Larger input buffers are given back when they are empty.
constexpr std::size_t keep_capacity = 1024;

} // namespace

/// After a system call that failed.
connection::step connection::failed() {
    if (errno == EINTR)
        return step::done;
    return errno == EAGAIN ? step::blocked : step::close;
}

connection::next connection::ready(bool hangup) {
    drained_ = false;
    hangup_ |= hangup;
    return take_steps();
}

connection::next connection::advance() {
    return take_steps();
}

connection::next connection::take_steps() {
    for (unsigned i = 0; i < step_limit; i++)
        switch (take_step()) {
        case step::done:
            break;
        case step::blocked:
            return lingering_ ? next::linger : next::wait;
        case step::close:
            return next::close;
        }
    return next::again;
}

connection::step connection::take_step() {
    if (lingering_)
        return discard();
    if (sending())
        return send();
    if (last_)
        return finish();
    return handle_input();
}

connection::step connection::handle_input() {
    if (!in_.empty()) {
        const auto found = parse(in_);
        if (found.found != parsed::state::incomplete) {
            respond(found);
            return step::done;
        }
    }
    return receive();
}

connection::step connection::receive() {
    if (drained_)
        return step::blocked;
    std::array<char, head_limit> buffer;
    const auto room = head_limit - in_.size();
    const auto got = ::recv(socket_, buffer.data(), room, 0);
    if (got < 0)
        return failed();
    if (got == 0)
        return step::close;
    in_.append(buffer.data(), static_cast<std::size_t>(got));
    // A short read means that there is no more: what comes later is news.
    drained_ = !hangup_ && static_cast<std::size_t>(got) < room;
    return step::done;
}

void connection::respond(const parsed &found) {
    const bool valid = found.found == parsed::state::complete;
    sending_ =
        valid ? pages_->answer(found.what) : error_page(found.what.status);
    unread_ = !valid || found.what.has_body;
    last_ = winding_ || unread_ || !found.what.keep_alive;
    out_ = head_of(sending_, !last_);
    if (sending_.head || sending_.status == 304)
        sending_.file.reset();
    else
        out_ += sending_.text;
    sending_.text.clear();
    consume(valid ? found.length : in_.size());
    counters_->count(sending_.status);
    moved_ = true;
}

void connection::consume(std::size_t bytes) {
    in_.erase(0, bytes);
    if (in_.empty() && in_.capacity() > keep_capacity)
        std::string().swap(in_);
}

connection::step connection::send() {
    return out_.empty() ? send_file() : send_text();
}

connection::step connection::send_text() {
    const int more = sending_.file && sending_.part.length ? MSG_MORE : 0;
    const auto sent = ::send(socket_, out_.data() + sent_, out_.size() - sent_,
                             MSG_NOSIGNAL | more);
    if (sent < 0)
        return failed();
    moved_ = true;
    sent_ += static_cast<std::size_t>(sent);
    counters_->bytes += static_cast<std::uint64_t>(sent);
    if (sent_ == out_.size()) {
        std::string().swap(out_);
        sent_ = 0;
    }
    return step::done;
}

/// A file that has become shorter cannot be made good: the connection ends.
connection::step connection::send_file() {
    auto &part = sending_.part;
    if (part.length == 0) {
        sending_.file.reset();
        return step::done;
    }
    auto offset = static_cast<off_t>(part.first);
    const auto sent = ::sendfile(socket_, sending_.file.get(), &offset,
                                 std::min(part.length, file_chunk));
    if (sent < 0)
        return failed();
    if (sent == 0)
        return step::close;
    moved_ = true;
    part.first += static_cast<std::uint64_t>(sent);
    part.length -= static_cast<std::uint64_t>(sent);
    counters_->bytes += static_cast<std::uint64_t>(sent);
    return step::done;
}

/// Closing with unread input would reset the connection, and the client might
/// never see the response.
connection::step connection::finish() {
    if (!unread_ && in_.empty())
        return step::close;
    lingering_ = true;
    ::shutdown(socket_, SHUT_WR);
    return step::done;
}

connection::step connection::discard() {
    std::array<char, head_limit> buffer;
    const auto got = ::recv(socket_, buffer.data(), buffer.size(), 0);
    if (got < 0)
        return failed();
    if (got == 0 || discarded_ > discard_limit)
        return step::close;
    discarded_ += static_cast<std::size_t>(got);
    return step::done;
}

connection::next connection::wind_down() {
    winding_ = true;
    last_ |= sending();
    const auto what = ready(false);
    const bool idle = !sending() && in_.empty();
    return what == next::wait && idle ? next::close : what;
}

void connection::time_out() {
    if (sending() || in_.empty() || lingering_)
        return;
    auto page = error_page(408);
    const auto text = head_of(page, false) + page.text;
    static_cast<void>(::send(socket_, text.data(), text.size(), MSG_NOSIGNAL));
    counters_->count(408);
}

void connection::drop() noexcept {
    sending_.file.reset();
}

} // namespace httpd
