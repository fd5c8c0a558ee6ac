// SPDX-License-Identifier: MIT
/*
 * Threads on every CPU write eventfds at full rate (the stress-epoll workload):
 * the time for each event collected.  Run under tools/vm with two CPUs and two
 * nodes.
 *
 * In the bracket: the writes, and their events' way to a consumer that counts
 * them.  A thread on each CPU writes 1,024 eventfds of its own in turn, and
 * waits for the event of its last write to an eventfd before it writes that
 * again, so that each write is an event and none is lost or merged: that is
 * checked for each one.
 *
 * In two shapes: with a consumer on each CPU, for what is written there; and
 * with one for all.  The figure of a peer is that of the better shape, and both
 * stand beside it.  producers_one: the same for programs that have one of each,
 * as stress-epoll has: one queue of kevent, which has a ring for each node, one
 * epoll, one ring of io_uring.
 *
 * Consumers sleep when there is nothing, and take up to 256 events at a time.
 * They have the policy SCHED_BATCH, so that an event that wakes one does not
 * take the CPU from the producer: that makes all peers two to three times as
 * fast, and spares them every look again before they sleep.
 *
 *   kevent    edge sources, a ring for each consumer with a slot for each
 *             source, collected by the library
 *   epoll     edge-triggered, an epoll for each consumer; epoll_pwait2
 *   io_uring  multishot polls, a ring for each consumer with SINGLE_ISSUER and
 *             DEFER_TASKRUN; its descriptor is registered
 *
 * The peers take turns.  What else the machine does slows down all of a round:
 * a time counts as the part that it is of the round's mean, and that of the
 * median round.  The figures are medians, the spreads half the distance between
 * the quartiles.
 */
#include <kevent/kevent.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <barrier>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <liburing.h>
#include <memory>
#include <optional>
#include <sched.h>
#include <span>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <thread>
#include <unistd.h>
#include <vector>

// C, and fine there: its volatile counter.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wvolatile"
#include "measure.h"
#pragma GCC diagnostic pop

namespace {

constexpr unsigned eventfds = 1024; // of each producer
constexpr unsigned batch = 256;

constexpr unsigned events = 50'000; // of each producer, in a round

/// An eventfd.  Its event is on its way from the write until it is collected.
struct source {
    int fd = ::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    std::atomic<bool> on_its_way{false};

    source() { must(fd >= 0, "eventfd"); }
    source(const source &) = delete;
    source &operator=(const source &) = delete;
    ~source() { ::close(fd); }

    void write() {
        const std::uint64_t one = 1;
        on_its_way.store(true, std::memory_order_relaxed);
        must(::write(fd, &one, sizeof(one)) == sizeof(one), "write");
    }
    void collected() {
        must(on_its_way.load(std::memory_order_relaxed),
             "an event for a write");
        on_its_way.store(false, std::memory_order_release);
    }
};

using sources = std::array<source, eventfds>;

/// Collects from what it watches.  Made, used and destroyed in one thread.
class consumer {
public:
    virtual ~consumer() = default;
    virtual void watch(source &what) = 0;
    /// Waits for events.  Returns how many there were.
    virtual unsigned collect() = 0;
};

class by_kevent final : public consumer {
public:
    by_kevent(const kevent::queue &rings, unsigned ring)
        : rings_(&rings),
          ring_(ring),
          collector_(rings, {.ring = ring, .steal = false}) {}

    void watch(source &what) override {
        rings_
            ->add(kevent::watch(what.fd, EPOLLIN)
                      .home(ring_)
                      .cookie(reinterpret_cast<std::uintptr_t>(&what)))
            .value();
    }
    unsigned collect() override {
        const auto count = collector_.collect(found_).value();
        for (const auto &each : std::span(found_).first(count))
            reinterpret_cast<source *>(each.cookie)->collected();
        return count;
    }

private:
    const kevent::queue *rings_;
    unsigned ring_;
    kevent::collector collector_;
    std::array<kevent::event, batch> found_;
};

class by_epoll final : public consumer {
public:
    by_epoll() { must(epoll_ >= 0, "epoll_create1"); }
    ~by_epoll() override { ::close(epoll_); }

    void watch(source &what) override {
        epoll_event event{};
        event.events = EPOLLIN | EPOLLET;
        event.data.ptr = &what;
        must(::epoll_ctl(epoll_, EPOLL_CTL_ADD, what.fd, &event) == 0,
             "epoll_ctl");
    }
    unsigned collect() override {
        const int count =
            ::epoll_pwait2(epoll_, found_.data(), batch, nullptr, nullptr);
        must(count >= 0, "epoll_pwait2");
        for (int i = 0; i < count; i++)
            static_cast<source *>(found_[static_cast<unsigned>(i)].data.ptr)
                ->collected();
        return static_cast<unsigned>(count);
    }

private:
    int epoll_ = ::epoll_create1(EPOLL_CLOEXEC);
    std::array<epoll_event, batch> found_;
};

class by_uring final : public consumer {
public:
    by_uring() {
        io_uring_params how{};
        how.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                    IORING_SETUP_CQSIZE;
        how.cq_entries = 8192;
        must(::io_uring_queue_init_params(256, &ring_, &how) == 0,
             "io_uring_queue_init");
        must(::io_uring_register_ring_fd(&ring_) == 1, "register_ring_fd");
    }
    ~by_uring() override { ::io_uring_queue_exit(&ring_); }

    void watch(source &what) override {
        auto *entry = ::io_uring_get_sqe(&ring_);
        ::io_uring_prep_poll_multishot(entry, what.fd, EPOLLIN);
        ::io_uring_sqe_set_data(entry, &what);
        must(::io_uring_submit(&ring_) == 1, "io_uring_submit");
    }
    unsigned collect() override {
        must(::io_uring_submit_and_wait(&ring_, 1) >= 0, "submit_and_wait");
        const io_uring_cqe *each = nullptr;
        unsigned head = 0;
        unsigned count = 0;
        io_uring_for_each_cqe(&ring_, head, each) {
            must((each->flags & IORING_CQE_F_MORE) != 0, "a multishot poll");
            reinterpret_cast<source *>(each->user_data)->collected();
            count++;
        }
        ::io_uring_cq_advance(&ring_, count);
        return count;
    }

private:
    io_uring ring_{};
};

void stay_on(unsigned cpu) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    must(::sched_setaffinity(0, sizeof(set), &set) == 0, "sched_setaffinity");
}

void be_polite() {
    const sched_param none{};
    must(::sched_setscheduler(0, SCHED_BATCH, &none) == 0, "SCHED_BATCH");
}

void produce(sources &own, bool watched) {
    for (unsigned i = 0; i < events; i++) {
        auto &next = own[i % eventfds];
        while (next.on_its_way.load(std::memory_order_acquire))
            ::sched_yield();
        next.write();
        if (!watched)
            next.collected();
    }
}

void consume(consumer &from, unsigned wanted) {
    while (wanted != 0) {
        const auto count = from.collect();
        must(count <= wanted, "the events that were written");
        wanted -= count;
    }
}

enum peer { on_kevent, on_epoll, on_uring, peers, nobody };
constexpr std::array<const char *, peers> names{"kevent", "epoll", "io_uring"};

/// Producers and consumers of one peer, for one round.
class round_of {
public:
    round_of(peer which, unsigned consumers)
        : which_(which),
          consumers_(consumers),
          written_(cpus()),
          all_here_(static_cast<std::ptrdiff_t>(cpus() + consumers + 1)) {
        if (which == on_kevent)
            rings_ =
                kevent::queue::open(
                    {.rings = consumers,
                     .entries = std::bit_ceil(cpus() / consumers * eventfds)})
                    .value();
    }

    static unsigned cpus() { return std::thread::hardware_concurrency(); }

    /// Returns microseconds for each event.
    double run() {
        std::vector<std::jthread> threads;
        for (unsigned i = 0; i < consumers_; i++)
            threads.emplace_back([this, i] { run_consumer(i); });
        for (unsigned i = 0; i < cpus(); i++)
            threads.emplace_back([this, i] { run_producer(i); });
        all_here_.arrive_and_wait();
        const double start = now();
        all_here_.arrive_and_wait();
        return (now() - start) / 1000 / cpus() / events;
    }

private:
    [[nodiscard]] std::unique_ptr<consumer> make(unsigned index) const {
        if (which_ == on_kevent)
            return std::make_unique<by_kevent>(*rings_, index);
        if (which_ == on_epoll)
            return std::make_unique<by_epoll>();
        return std::make_unique<by_uring>();
    }

    void run_consumer(unsigned index) {
        stay_on(index);
        be_polite();
        const unsigned share = cpus() / consumers_;
        const auto own = make(index);
        for (auto &written : std::span(written_).subspan(index * share, share))
            for (auto &each : written)
                own->watch(each);
        all_here_.arrive_and_wait();
        consume(*own, share * events);
        all_here_.arrive_and_wait();
    }

    void run_producer(unsigned index) {
        stay_on(index);
        all_here_.arrive_and_wait();
        produce(written_[index], which_ != nobody);
        all_here_.arrive_and_wait();
    }

    peer which_;
    unsigned consumers_;
    std::vector<sources> written_; // by producer
    std::optional<kevent::queue> rings_;
    std::barrier<> all_here_;
};

struct figure {
    double median;
    double spread;
};

/// Times of the peers in turn, of the rounds in turn, as figures of each peer.
template <std::size_t N>
std::array<figure, N> sum_up(const std::vector<std::array<double, N>> &rounds) {
    std::vector<double> means;
    for (const auto &times : rounds) {
        double logarithms = 0;
        for (const double time : times)
            logarithms += std::log(time);
        means.push_back(std::exp(logarithms / N));
    }
    auto sorted = means;
    std::ranges::sort(sorted);
    const double scale = sorted[sorted.size() / 2];
    std::array<figure, N> found;
    for (std::size_t i = 0; i < N; i++) {
        std::vector<double> parts;
        for (std::size_t k = 0; k < rounds.size(); k++)
            parts.push_back(scale * rounds[k][i] / means[k]);
        std::ranges::sort(parts);
        const auto n = parts.size();
        found[i] = {parts[n / 2], (parts[3 * n / 4] - parts[n / 4]) / 2};
    }
    return found;
}

} // namespace

int main() {
    const std::array<unsigned, 2> shapes{round_of::cpus(), 1};
    std::vector<std::array<double, 2 * peers + 1>> rounds;
    for (unsigned i = getenv("KEVENT_QUICK") ? 9 : 21; i != 0; i--) {
        auto time = rounds.emplace_back().begin();
        for (const unsigned consumers : shapes)
            for (const auto which : {on_kevent, on_epoll, on_uring})
                *time++ = round_of(which, consumers).run();
        *time = round_of(nobody, 0).run();
    }
    rounds.erase(rounds.begin()); // to warm up
    const auto all = sum_up(rounds);
    std::printf("{\"producers\": {\"unit\": \"us per event\"");
    for (const auto which : {on_kevent, on_epoll, on_uring}) {
        const auto &many = all[which];
        const auto &one = all[which + peers];
        const auto &best = many.median < one.median ? many : one;
        std::printf(", \"%s\": %.3f, \"%s_spread\": %.3f", names[which],
                    best.median, names[which], best.spread);
        std::printf(", \"%s_each\": %.3f, \"%s_one\": %.3f", names[which],
                    many.median, names[which], one.median);
    }
    std::printf(", \"bare_write\": %.3f}}\n", all.back().median);
    // Either shape of kevent is one queue.
    const auto &own = all[on_kevent].median < all[on_kevent + peers].median
                          ? all[on_kevent]
                          : all[on_kevent + peers];
    std::printf("{\"producers_one\": {\"unit\": \"us per event\", "
                "\"kevent\": %.3f, \"kevent_spread\": %.3f",
                own.median, own.spread);
    for (const auto which : {on_epoll, on_uring})
        std::printf(", \"%s\": %.3f, \"%s_spread\": %.3f", names[which],
                    all[which + peers].median, names[which],
                    all[which + peers].spread);
    std::printf("}}\n");
    return 0;
}
