// SPDX-License-Identifier: MIT
#include "twin.hpp"

#include <csignal>
#include <cstdio>
#include <exception>
#include <fmt/format.h>
#include <sched.h>
#include <stdexcept>
#include <string_view>
#include <thread>
#include <vector>

namespace httpd {

namespace {
using serve = void (*)(const options &, const site &, descriptor);

serve server_on(std::string_view name) {
    if (name == "epoll")
        return serve_by_epoll;
    if (name == "io_uring")
        return serve_by_uring;
    if (name == "lockstep")
        return serve_in_lockstep;
    throw std::invalid_argument("epoll, io_uring or lockstep?");
}

/// As kevent-httpd's threads are, where each node has a CPU.
void stay_on(unsigned thread) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(thread % std::thread::hardware_concurrency(), &set);
    ::sched_setaffinity(0, sizeof(set), &set);
}

void run(serve how, options wanted) {
    const site pages(wanted.root);
    std::vector<descriptor> sockets;
    do {
        sockets.push_back(listen_on(wanted.address, wanted.port));
        wanted.port = port_of(sockets.back());
    } while (sockets.size() < wanted.threads);
    fmt::print("twin-httpd: http://{}:{}/ on {} threads\n", wanted.address,
               wanted.port, sockets.size());
    std::fflush(stdout);
    std::vector<std::jthread> threads;
    for (unsigned i = 0; i < sockets.size(); i++)
        threads.emplace_back([&, i] {
            stay_on(i);
            how(wanted, pages, std::move(sockets[i]));
        });
}
} // namespace

} // namespace httpd

/// The first argument names the event system; the others are those of
/// kevent-httpd.
int main(int argc, char **argv) {
    std::signal(SIGPIPE, SIG_IGN);
    int status = 0;
    try {
        const auto how = httpd::server_on(argc > 1 ? argv[1] : "");
        const auto wanted = httpd::parse_options(argc - 1, argv + 1, status);
        if (!wanted)
            return status;
        httpd::run(how, *wanted);
    } catch (const std::exception &error) {
        fmt::print(stderr, "twin-httpd: {}\n", error.what());
        return 1;
    }
    return 0;
}
