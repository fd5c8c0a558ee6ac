// SPDX-License-Identifier: MIT
#include "connection.hpp"

#include "files.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <utility>

namespace httpd {

namespace {
/// Steps before other connections have their turn.
constexpr unsigned step_limit = 64;
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

connection::next connection::filled(ssize_t result) {
    moved_ = true;
    return body_.filled(result) ? take_steps() : next::close;
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
    auto answer =
        valid ? pages_->answer(found.what) : error_page(found.what.status);
    unread_ = !valid || found.what.has_body;
    last_ = winding_ || unread_ || !found.what.keep_alive;
    out_ = head_of(answer, !last_);
    if (!answer.head && answer.status != 304) {
        out_ += answer.text;
        body_.begin(std::move(answer.file), answer.part);
        slow_ = false;
    }
    consume(valid ? found.length : in_.size());
    counters_->count(answer.status);
    moved_ = true;
}

void connection::consume(std::size_t bytes) {
    in_.erase(0, bytes);
    if (in_.empty() && in_.capacity() > keep_capacity)
        std::string().swap(in_);
}

/// The head waits for the first piece of the file: most often one system call
/// sends both.
bool connection::lacks_file() const noexcept {
    return !body_.over() && body_.ready().empty();
}

/// One system call is what the page cache costs; to ask somebody else to read
/// what is not there costs more, but does not wait.
connection::step connection::fetch() noexcept {
    const auto wanted = body_.next_read();
    if (!wanted)
        return step::blocked;
    const auto got = read_cached(*wanted);
    if (got >= 0)
        return body_.filled(got) ? step::done : step::close;
    body_.put_back();
    slow_ = true;
    return step::blocked;
}

connection::step connection::send() {
    if (lacks_file())
        return fetch();
    const auto piece = body_.ready();
    std::array<iovec, 2> parts{
        {{out_.data() + sent_, out_.size() - sent_},
         {const_cast<char *>(piece.data()), piece.size()}}};
    msghdr message{};
    message.msg_iov = parts.data();
    message.msg_iovlen = parts.size();
    const int more = body_.left() > piece.size() ? MSG_MORE : 0;
    const auto bytes = ::sendmsg(socket_, &message, MSG_NOSIGNAL | more);
    if (bytes < 0)
        return failed();
    sent(static_cast<std::size_t>(bytes));
    return step::done;
}

void connection::sent(std::size_t bytes) {
    moved_ = true;
    counters_->bytes += bytes;
    const auto text = std::min(bytes, out_.size() - sent_);
    sent_ += text;
    if (sent_ == out_.size()) {
        std::string().swap(out_);
        sent_ = 0;
    }
    if (bytes != text)
        body_.sent(bytes - text);
}

short connection::awaits() const noexcept {
    if (sending())
        return lacks_file() ? 0 : POLLOUT;
    return POLLIN;
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

} // namespace httpd
