// SPDX-License-Identifier: MIT
//
// A ring for each thread, with SINGLE_ISSUER and DEFER_TASKRUN; one
// io_uring_enter a turn, which submits, waits, and has the timeout of the first
// connection to have had its time, so that no timer is ever set.
//
// Connections are accepted by a multishot accept and watched by multishot
// polls; their sockets are asked by recv(2) and sendmsg(2).  That is the
// cheapest of the ways here.  A multishot recv with provided buffers costs 520
// to 620 instructions more for each request on Linux 6.1, where it tries again
// after each request and finds nothing, and 80 to 110 more on 6.12; to send by
// the ring too, 380 to 520 on top of that.
#include "twin.hpp"

#include <cerrno>
#include <cstdint>
#include <liburing.h>
#include <poll.h>
#include <system_error>

namespace httpd {

namespace {
constexpr unsigned submissions = 512;
constexpr unsigned completions = 4096;

/// Where an address would stand.
constexpr std::uint64_t of_listener = 0;
constexpr std::uint64_t of_nobody = 1;

struct uring_peer : peer {
    using peer::peer;

    bool watched = false;
    bool closed = false; // its poll's last completion is to come
};

class uring_twin final : twin<uring_peer> {
public:
    uring_twin(const options &wanted, const site &pages, descriptor socket)
        : twin(wanted, pages, std::move(socket)) {
        io_uring_params how{};
        how.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                    IORING_SETUP_CQSIZE;
        how.cq_entries = completions;
        const int error =
            ::io_uring_queue_init_params(submissions, &ring_, &how);
        if (error < 0)
            throw std::system_error(-error, std::generic_category(),
                                    "io_uring");
        ::io_uring_register_ring_fd(&ring_);
        listen();
    }

    ~uring_twin() { ::io_uring_queue_exit(&ring_); }

    [[noreturn]] void run() {
        for (;;) {
            begin_turn();
            wait();
            handle_all();
            end_turn();
        }
    }

private:
    /// An entry that the next wait submits.
    io_uring_sqe *entry() {
        auto *made = ::io_uring_get_sqe(&ring_);
        while (made == nullptr) {
            ::io_uring_submit(&ring_);
            made = ::io_uring_get_sqe(&ring_);
        }
        return made;
    }

    static std::uint64_t name(const uring_peer &who) {
        return reinterpret_cast<std::uintptr_t>(&who);
    }

    void listen() {
        auto *made = entry();
        ::io_uring_prep_multishot_accept(made, socket_.get(), nullptr, nullptr,
                                         SOCK_NONBLOCK | SOCK_CLOEXEC);
        ::io_uring_sqe_set_data64(made, of_listener);
    }

    void watch(uring_peer &who) {
        auto *made = entry();
        ::io_uring_prep_poll_multishot(made, who.socket.get(),
                                       POLLIN | POLLOUT | POLLRDHUP);
        ::io_uring_sqe_set_data64(made, name(who));
        who.watched = true;
    }

    void wait() {
        const auto timeout = patience();
        __kernel_timespec limit{};
        if (timeout)
            limit = {timeout->tv_sec, timeout->tv_nsec};
        io_uring_cqe *first = nullptr;
        ::io_uring_submit_and_wait_timeout(&ring_, &first, 1,
                                           timeout ? &limit : nullptr, nullptr);
    }

    void handle_all() {
        const io_uring_cqe *news = nullptr;
        unsigned head = 0;
        unsigned count = 0;
        io_uring_for_each_cqe(&ring_, head, news) {
            handle(*news);
            count++;
        }
        ::io_uring_cq_advance(&ring_, count);
    }

    void handle(const io_uring_cqe &news) {
        if (news.user_data == of_listener)
            accepted(news);
        else if (news.user_data != of_nobody)
            polled(*reinterpret_cast<uring_peer *>(news.user_data), news);
    }

    void accepted(const io_uring_cqe &news) {
        if ((news.flags & IORING_CQE_F_MORE) == 0)
            listen();
        if (news.res >= 0)
            watch(*make(descriptor(news.res)).release());
    }

    void polled(uring_peer &who, const io_uring_cqe &news) {
        who.watched = (news.flags & IORING_CQE_F_MORE) != 0;
        if (who.closed)
            return release(who);
        if (!who.watched)
            watch(who);
        const auto hangup = POLLRDHUP | POLLHUP | POLLERR;
        go_on(who, who.talk.ready(news.res < 0 || (news.res & hangup) != 0));
    }

    void forget(const uring_peer &who) {
        auto *made = entry();
        ::io_uring_prep_poll_remove(made, name(who));
        ::io_uring_sqe_set_data64(made, of_nobody);
    }

    /// The poll holds the socket open, and names the object.
    void close(uring_peer &who) override {
        who.link::unlink();
        who.closed = true;
        if (who.watched)
            forget(who);
        release(who);
    }

    void release(const uring_peer &who) {
        if (!who.watched)
            delete &who;
    }

    io_uring ring_{};
};
} // namespace

void serve_by_uring(const options &wanted, const site &pages,
                    descriptor socket) {
    uring_twin(wanted, pages, std::move(socket)).run();
}

} // namespace httpd
