// SPDX-License-Identifier: MIT
#include "copier.hpp"
#include "metadata.hpp"
#include "names.hpp"
#include "options.hpp"
#include "report.hpp"

#include <httpd/kevent_counting.hpp>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <exception>
#include <fcntl.h>
#include <fmt/format.h>
#include <ftw.h>
#include <stop_token>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <thread>
#include <vector>

namespace {
using namespace std::chrono_literals;
using steady = std::chrono::steady_clock;

double seconds_since(steady::time_point start) {
    return std::chrono::duration<double>(steady::now() - start).count();
}

/// A loop's work, as its thread saw it.
struct loop_counts {
    kevent::collector_statistics collected;
    std::exception_ptr error;
};

/// Everything of one run.
struct session {
    cp::options wanted;
    cp::reporter report;
    cp::counters counts;
    cp::copier copier;
    std::stop_source stop;
    int signal = 0; ///< that ended it
    steady::time_point start = steady::now();

    explicit session(const cp::options &options)
        : wanted(options),
          report(options.progress && ::isatty(STDERR_FILENO) == 1),
          copier(wanted, report, counts) {}
};

// --- beside the copying

/// Whoever began us (nohup, a shell) may have had some ignored: they stay so.
sigset_t ending_signals() {
    sigset_t all;
    sigemptyset(&all);
    for (const int each : {SIGINT, SIGTERM, SIGHUP}) {
        struct sigaction now {};
        ::sigaction(each, nullptr, &now);
        if (now.sa_handler != SIG_IGN)
            sigaddset(&all, each);
    }
    return all;
}

/// The first asks for a clean end; the next one has its usual effect.
kevent::task<> heed_signals(session &all, int fd) {
    signalfd_siginfo news{};
    while (co_await kevent::readable(fd))
        if (::read(fd, &news, sizeof(news)) == sizeof(news))
            break;
    if (news.ssi_signo == 0)
        co_return;
    all.signal = static_cast<int>(news.ssi_signo);
    const auto ending = ending_signals();
    ::pthread_sigmask(SIG_UNBLOCK, &ending, nullptr);
    all.stop.request_stop();
}

kevent::task<> draw(session &all) {
    cp::meter meter;
    do {
        cp::progress now;
        now.bytes = all.counts.bytes;
        now.files = all.counts.files;
        now.errors = all.report.failures();
        now.counted = all.counts.counted;
        now.total_bytes = all.counts.total_bytes;
        now.total_files = all.counts.total_files;
        meter.sample(seconds_since(all.start), now.bytes);
        now.rate = meter.rate();
        all.report.draw(now);
    } while (co_await kevent::sleep_for(100ms));
}

/// Counts what is to be copied, for the bar alone.
class census {
public:
    explicit census(session &all)
        : thread_([&all](const std::stop_token &stop) {
              counts_ = &all.counts;
              stop_ = &stop;
              bool whole = true;
              for (const auto &each : all.wanted.sources)
                  whole = ::nftw(each.c_str(), add, 32, FTW_PHYS) == 0 && whole;
              all.counts.counted = whole;
          }) {}

private:
    static int add(const char *, const struct stat *meta, int kind, FTW *) {
        if (kind != FTW_D && kind != FTW_DNR)
            counts_->total_files++;
        if (kind == FTW_F && S_ISREG(meta->st_mode))
            counts_->total_bytes += static_cast<std::uint64_t>(meta->st_size);
        return stop_->stop_requested() ? 1 : 0;
    }

    static inline thread_local cp::counters *counts_ = nullptr;
    static inline thread_local const std::stop_token *stop_ = nullptr;

    std::jthread thread_;
};

// --- the loops

void run_loop(session &all, const kevent::queue &queue, unsigned index,
              int signals, loop_counts &counts) try {
    const bool shared = all.wanted.rings != 0;
    kevent::loop loop(queue, {.ring = index % queue.size(), .steal = shared});
    if (index == 0) {
        loop.spawn(heed_signals(all, signals));
        if (all.report.draws())
            loop.spawn(draw(all));
    }
    std::vector<kevent::task<>> workers;
    for (auto i = index; i < all.wanted.depth; i += all.wanted.threads)
        workers.push_back(all.copier.worker(loop));
    loop.run(kevent::with_stop(all.stop.get_token(),
                               kevent::when_all(std::move(workers))));
    counts.collected = loop.statistics();
} catch (...) {
    counts.error = std::current_exception();
    all.stop.request_stop();
}

void print_stats(const session &all, const httpd::counting_kernel &system,
                 const kevent::queue &queue,
                 const std::vector<loop_counts> &loops) {
    const auto &counts = all.counts;
    const auto took = seconds_since(all.start);
    const auto data = counts.bytes - counts.holes;
    fmt::print("copied: {} files, {} directories, {} in {:.2f} s, {}/s\n",
               counts.files.load(), counts.directories.load(),
               cp::human(counts.bytes), took,
               cp::human(static_cast<std::uint64_t>(static_cast<double>(data) /
                                                    took)));
    fmt::print("of these: {} hard links, {} skipped, {} of holes; {} failed\n",
               counts.links.load(), counts.skipped.load(),
               cp::human(counts.holes), all.report.failures());
    fmt::print("requests: {}, inline {}, direct {}, worker {}, again {}\n",
               counts.requests.load(), counts.inlined.load(),
               counts.direct.load(), counts.worker.load(), counts.again.load());
    fmt::print("ioctls: {} to submit, {} to collect\n", system.changes(),
               system.collects());
    for (unsigned i = 0; i < loops.size(); i++)
        fmt::print("loop {}: {} events from mapped rings, {} from other loops' "
                   "rings, {} ioctls\n",
                   i, loops[i].collected.ring_events, loops[i].collected.steals,
                   loops[i].collected.ioctls);
    for (unsigned i = 0; i < queue.size(); i++) {
        const auto ring = queue.ring(i);
        fmt::print("ring {}: node {}, {} posted, {} claimed\n", i, ring.node(),
                   ring.tail(), ring.head());
    }
}

/// As many descriptors as there may be; fewer requests if these are few.
void provide_descriptors(cp::options &wanted) {
    rlimit limit{};
    ::getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &limit);
    ::getrlimit(RLIMIT_NOFILE, &limit);
    wanted.depth = cp::affordable_depth(wanted.depth, limit.rlim_cur);
    wanted.threads = std::min(wanted.threads, wanted.depth);
}

int run(cp::options wanted) {
    struct stat there {};
    if (wanted.sources.size() > 1 &&
        (::stat(wanted.destination.c_str(), &there) < 0 ||
         !S_ISDIR(there.st_mode))) {
        fmt::print(stderr, "kevent-cp: {}: is no directory\n",
                   wanted.destination);
        return 1;
    }
    provide_descriptors(wanted);
    const auto ending = ending_signals();
    ::pthread_sigmask(SIG_BLOCK, &ending, nullptr);
    const cp::descriptor signals(
        ::signalfd(-1, &ending, SFD_CLOEXEC | SFD_NONBLOCK));
    if (!signals)
        throw std::system_error(cp::last_error(), "signalfd");

    httpd::counting_kernel system;
    auto queue = kevent::queue::open(
        {.rings = wanted.rings != 0 ? wanted.rings : wanted.threads}, system);
    if (!queue)
        throw std::system_error(queue.error(), KEVENT_DEVICE);
    session all(wanted);
    std::vector<loop_counts> counts(wanted.threads);
    {
        std::optional<census> counted;
        if (all.report.draws())
            counted.emplace(all);
        std::vector<std::jthread> threads;
        for (unsigned i = 1; i < wanted.threads; i++)
            threads.emplace_back(
                [&, i] { run_loop(all, *queue, i, signals.get(), counts[i]); });
        run_loop(all, *queue, 0, signals.get(), counts[0]);
    }
    all.report.erase();
    for (const auto &each : counts)
        if (each.error)
            std::rethrow_exception(each.error);
    if (wanted.stats)
        print_stats(all, system, *queue, counts);
    std::fflush(stdout);
    if (all.signal != 0) { // our parent sees what it was
        std::signal(all.signal, SIG_DFL);
        ::pthread_sigmask(SIG_UNBLOCK, &ending, nullptr);
        std::raise(all.signal);
    }
    return all.report.failures() == 0 ? 0 : 1;
}
} // namespace

int main(int argc, char **argv) {
    int status = 0;
    const auto wanted = cp::parse_options(argc, argv, status);
    if (!wanted)
        return status;
    try {
        return run(*wanted);
    } catch (const std::exception &error) {
        fmt::print(stderr, "kevent-cp: {}\n", error.what());
        return 1;
    }
}
