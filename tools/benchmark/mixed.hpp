// SPDX-License-Identifier: MIT
/// @file
/// The load of `mixed` and `sweep_n`: level sources that are always ready,
/// beside edges at full rate.  All are eventfds, the cheapest files to poll.
#pragma once

#include <kevent/collector.hpp>

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

// C, and fine there: its volatile counter.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wvolatile"
#include "measure.h"
#pragma GCC diagnostic pop

namespace mixed_load {

/// Eventfds of one side of a comparison.
class files {
public:
    files(unsigned count, unsigned value) {
        for (unsigned i = 0; i < count; i++) {
            fds_.push_back(::eventfd(value, EFD_NONBLOCK | EFD_CLOEXEC));
            must(fds_.back() >= 0, "eventfd");
        }
    }
    files(const files &) = delete;
    files &operator=(const files &) = delete;
    ~files() {
        for (const int fd : fds_)
            ::close(fd);
    }

    /// Makes an edge of each of the first @p count.
    void write(unsigned count) const {
        const std::uint64_t one = 1;
        for (const int fd : std::span(fds_).first(count))
            must(::write(fd, &one, sizeof(one)) == sizeof(one), "write");
    }

    [[nodiscard]] unsigned size() const {
        return static_cast<unsigned>(fds_.size());
    }
    [[nodiscard]] auto begin() const { return fds_.begin(); }
    [[nodiscard]] auto end() const { return fds_.end(); }

private:
    std::vector<int> fds_;
};

/// Ages of level events, as old as they can be: a source that is always ready
/// stands for one whose news came just after it was last polled.  So the age
/// counts from the start of the call that delivered the source before, to the
/// return of the call that delivers it now.  A call delivers all level sources
/// or none, so one age stands for all of them.
class age_record {
public:
    explicit age_record(std::size_t room) { seen_.reserve(room); }

    void forget() {
        seen_.clear();
        polled_ = 0;
    }

    /// A call begins.
    void asked() { asked_ = kevent::device::instance().now(); }

    /// It returns with level events.
    void delivered() {
        const auto now = kevent::device::instance().now();
        if (polled_ != 0 && seen_.size() < seen_.capacity())
            seen_.push_back(now - polled_);
        polled_ = asked_;
    }

    [[nodiscard]] std::size_t size() const { return seen_.size(); }

    /// The age that no more than 1 - @p fraction of the events exceed.
    [[nodiscard]] double quantile(double fraction) const {
        must(!seen_.empty(), "no level events");
        auto sorted = seen_;
        std::ranges::sort(sorted);
        const auto last = static_cast<double>(sorted.size() - 1);
        const auto place = static_cast<std::size_t>(fraction * last + 0.999999);
        return static_cast<double>(sorted[place]);
    }

private:
    std::vector<std::int64_t> seen_;
    std::int64_t asked_ = 0;
    std::int64_t polled_ = 0;
};

/// One way to collect.
class side {
public:
    virtual ~side() = default;

    /// Collects @p edges edge events: all that there are.  Level events too, if
    /// this side thinks that it is time.
    virtual void collect(unsigned edges) = 0;

    age_record ages{1U << 16};
};

/// The clock is read for the bare writes too, so that it is subtracted.
inline void write_and_collect(const files &edges, unsigned count, side &how) {
    edges.write(count);
    how.ages.asked();
    how.collect(count);
}

/// Only the writes.
class bare final : public side {
public:
    void collect(unsigned) override {}
};

/// The library's collector on a queue with default rings.
class with_kevent final : public side {
public:
    with_kevent(const files &edges, const files &levels, kevent::pace sweeps)
        : queue_(kevent::queue::open().value()),
          collector_(queue_, {.sweeps = sweeps}),
          levels_(levels.size()),
          out_(edges.size() + 2 * levels_) {
        for (const int fd : edges)
            queue_.add(kevent::watch(fd, EPOLLIN)).value();
        for (const int fd : levels)
            queue_.add(kevent::watch(fd, EPOLLIN).level()).value();
        must(queue_.ring(collector_.home()).entries() >= edges.size(), "ring");
    }

    void collect(unsigned edges) override {
        const auto count = collector_.collect(out_).value();
        const bool swept = (out_[0].flags & KEVENT_EV_LEVEL) != 0;
        must(count == edges + (swept ? levels_ : 0), "collect");
        if (!swept)
            return;
        must((out_[levels_ - 1].flags & KEVENT_EV_LEVEL) != 0, "sweep");
        ages.delivered();
    }

    [[nodiscard]] const kevent::collector_statistics &statistics() const {
        return collector_.statistics();
    }

private:
    kevent::queue queue_;
    kevent::collector collector_;
    unsigned levels_;
    std::vector<kevent::event> out_;
};

/// An epoll instance and its descriptor.
class epoll {
public:
    epoll() : fd_(::epoll_create1(EPOLL_CLOEXEC)) {
        must(fd_ >= 0, "epoll_create1");
    }
    epoll(const epoll &) = delete;
    epoll &operator=(const epoll &) = delete;
    ~epoll() { ::close(fd_); }

    void add(int fd, std::uint32_t events) const {
        epoll_event entry{};
        entry.events = events;
        entry.data.fd = fd;
        must(::epoll_ctl(fd_, EPOLL_CTL_ADD, fd, &entry) == 0, "epoll_ctl");
    }

    unsigned wait(std::span<epoll_event> out) const {
        const int count =
            ::epoll_wait(fd_, out.data(), static_cast<int>(out.size()), 0);
        must(count >= 0, "epoll_wait");
        return static_cast<unsigned>(count);
    }

    [[nodiscard]] int fd() const { return fd_; }

private:
    int fd_;
};

/// All in one epoll instance.  There is room for all that is ready: with less,
/// edges would wait while level events are told again.
class with_one_epoll final : public side {
public:
    with_one_epoll(const files &edges, const files &levels)
        : levels_(levels.size()),
          out_(edges.size() + levels_) {
        for (const int fd : edges)
            epoll_.add(fd, EPOLLIN | EPOLLET);
        for (const int fd : levels)
            epoll_.add(fd, EPOLLIN);
    }

    void collect(unsigned edges) override {
        must(epoll_.wait(out_) == edges + levels_, "epoll_wait");
        ages.delivered();
    }

private:
    epoll epoll_;
    unsigned levels_;
    std::vector<epoll_event> out_;
};

/// What the collector does, on epoll: the level sources have an instance of
/// their own, which the other watches edge-triggered, so that a sleeper in that
/// one is woken, and which is asked only when the pace says so.
class with_two_epolls final : public side {
public:
    with_two_epolls(const files &edges, const files &levels,
                    kevent::pace sweeps)
        : pace_(sweeps),
          out_(edges.size() + 1),
          level_out_(levels.size()) {
        for (const int fd : edges)
            edges_.add(fd, EPOLLIN | EPOLLET);
        for (const int fd : levels)
            levels_.add(fd, EPOLLIN);
        edges_.add(levels_.fd(), EPOLLIN | EPOLLET);
    }

    void collect(unsigned edges) override {
        if (any_ready_)
            sweep_if_due();
        auto count = edges_.wait(out_);
        if (count == edges + 1) { // the other instance: only once
            must(!any_ready_, "told again of what it knows");
            any_ready_ = true;
            count--;
        }
        must(count == edges, "epoll_wait");
        since_sweep_ += count;
    }

private:
    void sweep_if_due() {
        auto &system = kevent::device::instance();
        const auto start = pace_.timed() ? system.now() : 0;
        if (!pace_.due(since_sweep_, start))
            return;
        must(levels_.wait(level_out_) == level_out_.size(), "epoll_wait");
        ages.delivered();
        pace_.swept(start, pace_.timed() ? system.now() : 0);
        since_sweep_ = 0;
    }

    kevent::pace pace_;
    epoll edges_;
    epoll levels_;
    std::vector<epoll_event> out_;
    std::vector<epoll_event> level_out_;
    unsigned since_sweep_ = 0;
    bool any_ready_ = false;
};

} // namespace mixed_load
