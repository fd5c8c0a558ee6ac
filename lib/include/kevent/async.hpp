// SPDX-License-Identifier: MIT
/// @file
/// What a task awaits: requests, time, readiness.
///
///     kevent::task<> copy(int from, int to) {
///         std::array<std::byte, 65536> buffer;
///         for (std::uint64_t at = 0;;) {
///             auto got = co_await kevent::read(from, buffer, at);
///             if (got.value() == 0)
///                 co_return;
///             auto part = std::span(buffer).first(*got);
///             at += (co_await kevent::write(to, part, at)).value();
///         }
///     }
///
/// Everything here is awaited in a task (or another coroutine) that runs in a
/// loop; elsewhere its result is EINVAL.  Nothing throws by itself, allocates
/// for an operation, or needs a lock: an operation lives in the frame of the
/// coroutine.  A stop that is requested of the task's token ends it with
/// ECANCELED, unless it came too late; what was transferred is not lost.
#pragma once

#include <kevent/loop.hpp>

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <concepts>
#include <coroutine>
#include <cstdint>
#include <optional>
#include <stop_token>

#include <sys/epoll.h>

namespace kevent {

namespace detail {

/// Calls cancel() of what the frame awaits.  The callback is gone, and not
/// running, before the coroutine goes on.
template <class Awaiter>
struct canceller {
    Awaiter *what;
    void operator()() const noexcept { what->cancel(); }
};
template <class Awaiter>
using stop_link = std::optional<std::stop_callback<canceller<Awaiter>>>;

/// What all awaiters begin with: a loop to work in, and no stop yet.  The errno
/// that stands in the way, or 0.
inline int obstacle(const std::stop_token *token) noexcept {
    if (loop::current() == nullptr)
        return EINVAL;
    return token != nullptr && token->stop_requested() ? ECANCELED : 0;
}

/// Awaits the end of one request.
class request_awaiter final : operation {
public:
    explicit request_awaiter(const request &what) noexcept : what_(what) {}

    static bool await_ready() noexcept { return false; }
    template <class P>
    bool await_suspend(std::coroutine_handle<P> awaiting) noexcept {
        const auto *token = token_of(awaiting);
        if (const int error = obstacle(token)) {
            how_ = errno_code(error);
            return false;
        }
        awaiting_ = awaiting;
        if (token != nullptr && token->stop_possible())
            stop_.emplace(*token, canceller<operation>{this});
        loop::current()->submit(what_, *this); // and it may be over
        return true;
    }
    completion await_resume() noexcept { return how_; }

private:
    void on_complete(const completion &how) override {
        how_ = how;
        stop_.reset();
        awaiting_.resume();
    }

    request what_;
    completion how_;
    std::coroutine_handle<> awaiting_;
    stop_link<operation> stop_;
};

/// Awaits the end of a chain.
template <std::size_t N>
class chain_awaiter {
public:
    explicit chain_awaiter(const std::array<request, N> &chain) noexcept
        : chain_(chain) {}
    /// The last does not end before the first.
    ~chain_awaiter() {
        if (left_.load(std::memory_order_acquire) != 0)
            cancel();
    }

    static bool await_ready() noexcept { return false; }
    template <class P>
    bool await_suspend(std::coroutine_handle<P> awaiting) noexcept {
        const auto *token = token_of(awaiting);
        if (const int error = obstacle(token)) {
            for (auto &each : links_)
                each.how = errno_code(error);
            return false;
        }
        awaiting_ = awaiting;
        std::array<operation *, N> done;
        for (std::size_t i = 0; i < N; i++) {
            links_[i].whole = this;
            done[i] = &links_[i];
        }
        if (token != nullptr && token->stop_possible())
            stop_.emplace(*token, canceller<chain_awaiter>{this});
        loop::current()->submit(chain_, done);
        return true;
    }
    std::array<completion, N> await_resume() const noexcept {
        std::array<completion, N> all;
        for (std::size_t i = 0; i < N; i++)
            all[i] = links_[i].how;
        return all;
    }

    void cancel() noexcept {
        for (auto &each : links_)
            each.cancel();
    }

private:
    struct link final : operation {
        chain_awaiter *whole = nullptr;
        completion how;

        void on_complete(const completion &ended) override {
            how = ended;
            whole->one_ended();
        }
    };

    void one_ended() {
        if (left_.fetch_sub(1, std::memory_order_acq_rel) != 1)
            return;
        stop_.reset();
        awaiting_.resume();
    }

    std::array<request, N> chain_;
    std::atomic<std::size_t> left_{N};
    std::coroutine_handle<> awaiting_;
    std::array<link, N> links_;
    stop_link<chain_awaiter> stop_;
};

/// Awaits a time.
class time_awaiter final : timer {
public:
    /// @p when: on CLOCK_MONOTONIC, or from now; nanoseconds.
    time_awaiter(std::int64_t when, bool relative) noexcept
        : when_(when),
          relative_(relative) {}

    static bool await_ready() noexcept { return false; }
    template <class P>
    bool await_suspend(std::coroutine_handle<P> awaiting) noexcept {
        const auto *token = token_of(awaiting);
        error_ = obstacle(token);
        if (error_ != 0)
            return false;
        awaiting_ = awaiting;
        if (token != nullptr && token->stop_possible())
            stop_.emplace(*token, canceller<time_awaiter>{this});
        return begin();
    }
    result<void> await_resume() noexcept {
        stop_.reset();
        return error_ != 0 ? result<void>(errno_code(error_)) : result<void>();
    }

    ~time_awaiter();
    void cancel() noexcept;

private:
    bool begin() noexcept;
    bool expire() noexcept override;
    void run() override;

    std::int64_t when_;
    bool relative_;
    bool waiting_ = false;
    int error_ = 0;
    loop *loop_ = nullptr;
    std::atomic<unsigned> state_{0};
    std::coroutine_handle<> awaiting_;
    stop_link<time_awaiter> stop_;
};

class readiness_slot;

/// Awaits a file's readiness.
class readiness_awaiter final : job {
public:
    readiness_awaiter(int fd, std::uint32_t events) noexcept
        : fd_(fd),
          events_(events) {}

    static bool await_ready() noexcept { return false; }
    template <class P>
    bool await_suspend(std::coroutine_handle<P> awaiting) noexcept {
        const auto *token = token_of(awaiting);
        error_ = obstacle(token);
        if (error_ != 0)
            return false;
        awaiting_ = awaiting;
        if (token != nullptr && token->stop_possible())
            stop_.emplace(*token, canceller<readiness_awaiter>{this});
        return begin();
    }
    result<std::uint32_t> await_resume() noexcept;

    ~readiness_awaiter();
    void cancel() noexcept;

private:
    friend class readiness_slot;

    bool begin() noexcept;
    bool give_up() noexcept;
    void leave() noexcept;
    void run() override;

    int fd_;
    std::uint32_t events_;
    bool waiting_ = false;
    int error_ = 0;
    loop *loop_ = nullptr; // whose list it is on
    readiness_slot *slot_ = nullptr;
    std::atomic<unsigned> state_{0};
    std::coroutine_handle<> awaiting_;
    stop_link<readiness_awaiter> stop_;
};

/// Goes on in the thread of a loop.
class resumption final : job {
public:
    explicit resumption(loop &where) noexcept : where_(&where) {}

    static bool await_ready() noexcept { return false; }
    void await_suspend(std::coroutine_handle<> awaiting) noexcept {
        awaiting_ = awaiting;
        where_->post(*this);
    }
    static void await_resume() noexcept {}

private:
    void run() override { awaiting_.resume(); }

    loop *where_;
    std::coroutine_handle<> awaiting_;
};

/// Requests a stop after a time.  In one loop's thread.
class alarm final : timer {
public:
    alarm(loop &where, nanoseconds delay, std::stop_source &what) noexcept;
    ~alarm() { loop_->disarm(*this); }

private:
    void run() override { what_->request_stop(); }

    loop *loop_;
    std::stop_source *what_;
};

} // namespace detail

/// `co_await read(fd, buffer, offset)`: a completion, which is a result of
/// bytes.  The request goes to the kernel with others, when the loop collects
/// next.
inline detail::request_awaiter operator co_await(const request &what) noexcept {
    return detail::request_awaiter(what);
}

/// `auto [written, synced] = co_await chain(write(...), fsync(fd));`: each
/// starts when the one before it has succeeded, else it is ECANCELED.
template <std::convertible_to<request>... Requests>
auto chain(const Requests &...all) noexcept {
    static_assert(sizeof...(all) != 0 && sizeof...(all) <= loop::max_chain);
    return detail::chain_awaiter<sizeof...(all)>(
        std::array<request, sizeof...(all)>{all...});
}

/// Waits for @p delay.  ECANCELED, or success.  Costs no system call: the loop
/// sleeps no longer than until the next time.
inline detail::time_awaiter sleep_for(nanoseconds delay) noexcept {
    return {delay.count(), true};
}

/// Waits until a time of std::chrono::steady_clock, which is CLOCK_MONOTONIC.
inline detail::time_awaiter
sleep_until(std::chrono::steady_clock::time_point when) noexcept {
    return {nanoseconds(when.time_since_epoch()).count(), false};
}

/// Waits until a file is ready; the result is EPOLL bits.  For what has no
/// request: accept4(2), connect(2), files of other libraries.
///
/// One wait is a source of its own, added and removed.  EBADF: the file was
/// closed meanwhile.  Other errors: of KEVENT_OP_ADD.
inline detail::readiness_awaiter ready(int fd, std::uint32_t events) noexcept {
    return {fd, events};
}
inline detail::readiness_awaiter readable(int fd) noexcept {
    return ready(fd, EPOLLIN);
}
inline detail::readiness_awaiter writable(int fd) noexcept {
    return ready(fd, EPOLLOUT);
}

/// Goes on in the thread of @p where.  Also for coroutines outside a loop.
inline detail::resumption resume_on(loop &where) noexcept {
    return detail::resumption(where);
}

/// A task that is told to stop after @p limit (and when its awaiter is).  Its
/// result is its own: what it was waiting for then says ECANCELED.
template <class T>
task<T> with_timeout(nanoseconds limit, task<T> work) {
    auto *const home = loop::current();
    if (home == nullptr)
        co_return co_await std::move(work);
    std::stop_source both;
    const auto token = both.get_token();
    const std::stop_callback link(co_await this_stop_token(),
                                  [&both]() noexcept { both.request_stop(); });
    detail::alarm bell(*home, limit, both);
    co_await detail::heed{&token};
    detail::all_of<task<T>> ended(1, work);
    co_await ended;
    if (loop::current() != home)
        co_await resume_on(*home);
    if constexpr (std::is_void_v<T>)
        static_cast<void>(ended.take(work));
    else
        co_return ended.take(work);
}

} // namespace kevent
