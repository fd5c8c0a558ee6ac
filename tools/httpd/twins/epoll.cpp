// SPDX-License-Identifier: MIT
//
// Edge-triggered, so that a connection is registered once and never changed;
// batches of 256; one epoll_pwait2 a turn, whose timeout is that of the first
// connection to have had its time, so that no timer is ever set.
#include "twin.hpp"

#include <array>
#include <cerrno>
#include <sys/epoll.h>
#include <system_error>

namespace httpd {

namespace {
class epoll_twin final : twin<peer> {
public:
    epoll_twin(const options &wanted, const site &pages, descriptor socket)
        : twin(wanted, pages, std::move(socket)),
          epoll_(::epoll_create1(EPOLL_CLOEXEC)) {
        if (!epoll_ || !watch(socket_, EPOLLIN, nullptr))
            throw std::system_error(errno, std::generic_category(), "epoll");
    }

    [[noreturn]] void run() {
        std::array<epoll_event, 256> events;
        for (;;) {
            begin_turn();
            const auto timeout = patience();
            const int count =
                ::epoll_pwait2(epoll_.get(), events.data(), events.size(),
                               timeout ? &*timeout : nullptr, nullptr);
            for (int i = 0; i < count; i++)
                handle(events[static_cast<unsigned>(i)]);
            end_turn();
        }
    }

private:
    bool watch(const descriptor &what, std::uint32_t bits, peer *who) {
        epoll_event event{};
        event.events = bits | EPOLLET;
        event.data.ptr = who;
        return ::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, what.get(), &event) ==
               0;
    }

    void handle(const epoll_event &event) {
        auto *who = static_cast<peer *>(event.data.ptr);
        if (who == nullptr)
            return accept_all();
        const auto hangup = EPOLLRDHUP | EPOLLHUP | EPOLLERR;
        go_on(*who, who->talk.ready((event.events & hangup) != 0));
    }

    void accept_all() {
        while (auto accepted = accept_from(socket_)) {
            auto made = make(std::move(accepted));
            if (watch(made->socket, EPOLLIN | EPOLLOUT | EPOLLRDHUP,
                      made.get()))
                static_cast<void>(made.release());
        }
    }

    /// The descriptor's end takes it out of the set, and a batch has no second
    /// event of it.
    void close(peer &who) override { delete &who; }

    descriptor epoll_;
};
} // namespace

void serve_by_epoll(const options &wanted, const site &pages,
                    descriptor socket) {
    epoll_twin(wanted, pages, std::move(socket)).run();
}

} // namespace httpd
