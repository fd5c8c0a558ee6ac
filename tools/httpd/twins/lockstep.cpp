// SPDX-License-Identifier: MIT
//
// No event system: blocks in recv(2) for each connection in turn.  The client
// must ask on one after the other in the order in which it connected.
#include "twin.hpp"

#include <fcntl.h>
#include <poll.h>
#include <vector>

namespace httpd {

namespace {
class lockstep_twin final : twin<peer> {
public:
    lockstep_twin(const options &wanted, const site &pages, descriptor socket)
        : twin(wanted, pages, std::move(socket)) {
        while (peers_.size() < wanted.connections)
            accept();
    }

    [[noreturn]] void run() {
        for (;;) {
            begin_turn();
            for (auto &each : peers_)
                go_on(*each, each->talk.ready(false));
        }
    }

private:
    void accept() {
        pollfd socket{socket_.get(), POLLIN, 0};
        ::poll(&socket, 1, -1);
        auto accepted = accept_from(socket_);
        if (!accepted)
            return;
        ::fcntl(accepted.get(), F_SETFL, 0);
        peers_.push_back(make(std::move(accepted)));
    }

    /// The client is done.
    void close(peer &) override { std::_Exit(0); }

    std::vector<std::unique_ptr<peer>> peers_;
};
} // namespace

void serve_in_lockstep(const options &wanted, const site &pages,
                       descriptor socket) {
    lockstep_twin(wanted, pages, std::move(socket)).run();
}

} // namespace httpd
