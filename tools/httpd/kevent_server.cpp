// SPDX-License-Identifier: MIT
#include "kevent_server.hpp"

#include "listener.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <fmt/format.h>
#include <fstream>
#include <stdexcept>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace httpd {

namespace {
using kevent::queue;

/// A ring for each thread: by default one for each node, else the default
/// nodes in turn.
queue open_rings(const options &wanted, kevent::kernel &kernel) {
    auto usual = queue::open({.entries = wanted.entries}, kernel).value();
    if (wanted.threads == 0 || wanted.threads == usual.size())
        return usual;
    std::vector<std::uint32_t> nodes;
    for (unsigned i = 0; i < wanted.threads; i++)
        nodes.push_back(usual.ring(i % usual.size()).node());
    return queue::open({.rings = wanted.threads,
                        .entries = wanted.entries,
                        .nodes = nodes},
                       kernel)
        .value();
}

sigset_t our_signals() {
    sigset_t set;
    sigemptyset(&set);
    for (const int each : {SIGTERM, SIGINT, SIGUSR1})
        sigaddset(&set, each);
    return set;
}

/// Each connection may have a file open, and some descriptors are ours.
std::int64_t connections_limit(unsigned wanted) {
    constexpr std::int64_t ours = 32;
    rlimit limit{};
    ::getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &limit);
    const auto descriptors =
        static_cast<std::int64_t>(std::min<rlim_t>(limit.rlim_cur, 1 << 30));
    const auto most = std::max<std::int64_t>((descriptors - ours) / 2, 1);
    return wanted != 0 ? std::min<std::int64_t>(wanted, most) : most;
}

void write_whole(const std::string &path, const std::string &text) {
    if (path.empty()) {
        fmt::print("{}", text);
        std::fflush(stdout);
        return;
    }
    const auto temporary = path + ".new";
    std::ofstream(temporary) << text;
    if (std::rename(temporary.c_str(), path.c_str()) != 0)
        fmt::print(stderr, "kevent-httpd: cannot write {}\n", path);
}
} // namespace

kevent_server::kevent_server(const options &wanted)
    : wanted_(wanted),
      pages_(wanted.root),
      rings_(open_rings(wanted, kernel_)),
      reclaim_(rings_),
      world_{.rings = &rings_,
             .reclaim = &reclaim_,
             .pages = &pages_,
             .wanted = &wanted_,
             .workers = {},
             .work = {},
             .connections_limit = connections_limit(wanted.connections)} {
    make_workers();
    watch_signals();
}

kevent_server::~kevent_server() = default;

void kevent_server::make_workers() {
    if (!kevent::any_policy::named(wanted_.policy, &world_.work))
        throw std::invalid_argument("no such policy: " + wanted_.policy);
    port_ = wanted_.port;
    for (unsigned i = 0; i < rings_.size(); i++) {
        auto socket = listen_on(wanted_.address, port_);
        port_ = port_of(socket);
        world_.workers.push_back(
            std::make_unique<kevent_worker>(world_, i, std::move(socket)));
    }
}

/// Threads started later inherit the mask.
void kevent_server::watch_signals() {
    std::signal(SIGPIPE, SIG_IGN);
    const auto set = our_signals();
    ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
    signals_ = descriptor(::signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC));
    if (!signals_)
        throw std::system_error(errno, std::generic_category(), "signalfd");
    on_signal_.emplace([this](auto &) { on_signals(); });
    rings_
        .add(on_signal_->source(kevent::watch(signals_.get(), EPOLLIN), 0)
                 .level())
        .value();
}

void kevent_server::on_signals() {
    signalfd_siginfo news{};
    while (::read(signals_.get(), &news, sizeof(news)) == sizeof(news))
        if (news.ssi_signo == SIGUSR1)
            write_statistics();
        else
            stop();
}

void kevent_server::stop() noexcept {
    world_.stopping = true;
    for (auto &worker : world_.workers)
        worker->wake();
}

void kevent_server::run() {
    {
        std::vector<std::jthread> threads;
        for (auto &worker : world_.workers)
            threads.emplace_back([&worker] { worker->run(); });
    }
    for (auto &worker : world_.workers)
        worker->settle();
    write_statistics();
}

void kevent_server::write_statistics() const {
    std::vector<snapshot> numbers;
    for (const auto &worker : world_.workers)
        numbers.push_back(worker->numbers());
    write_whole(wanted_.stats,
                to_json(numbers, {kernel_.collects(), kernel_.changes(),
                                  kernel_.submits()}));
}

} // namespace httpd
