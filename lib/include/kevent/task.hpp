// SPDX-License-Identifier: MIT
/// @file
/// Coroutines that can be awaited, and several of them at once.
#pragma once

#include <atomic>
#include <coroutine>
#include <cstddef>
#include <cstdlib>
#include <exception>
#include <optional>
#include <stop_token>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

namespace kevent {

template <class T = void>
class task;

namespace detail {

/// Resumes a coroutine when so many others have ended, in whatever threads.
class gate {
public:
    explicit gate(std::size_t others) noexcept : left_(others + 1) {}

    /// One has ended.  Returns what goes on: the one that waits, or nobody.
    std::coroutine_handle<> arrive() noexcept {
        const bool last = left_.fetch_sub(1, std::memory_order_acq_rel) == 1;
        return last ? waiting_ : std::noop_coroutine();
    }
    /// @p waiting goes on at the last arrival; it is about to arrive itself.
    void wait(std::coroutine_handle<> waiting) noexcept { waiting_ = waiting; }

private:
    std::atomic<std::size_t> left_;
    std::coroutine_handle<> waiting_;
};

/// What a task's promise has whatever its type.
class promise_base {
public:
    static std::suspend_always initial_suspend() noexcept { return {}; }

    struct ending {
        static bool await_ready() noexcept { return false; }
        template <class P>
        static std::coroutine_handle<>
        await_suspend(std::coroutine_handle<P> ended) noexcept {
            auto &promise = ended.promise();
            return promise.gate_ != nullptr ? promise.gate_->arrive()
                                            : promise.next_;
        }
        static void await_resume() noexcept {}
    };
    static ending final_suspend() noexcept { return {}; }

    void unhandled_exception() noexcept { error_ = std::current_exception(); }
    void rethrow() const {
        if (error_)
            std::rethrow_exception(error_);
    }
    [[nodiscard]] const std::exception_ptr &error() const noexcept {
        return error_;
    }

    /// What goes on when this has ended.
    void before(std::coroutine_handle<> next) noexcept { next_ = next; }
    void before(gate &next) noexcept { gate_ = &next; }

    /// The token that its operations heed; null: none.  It belongs to a frame
    /// further out.
    [[nodiscard]] const std::stop_token *token() const noexcept {
        return token_;
    }
    void heed(const std::stop_token *token) noexcept { token_ = token; }

private:
    std::coroutine_handle<> next_ = std::noop_coroutine();
    gate *gate_ = nullptr;
    const std::stop_token *token_ = nullptr;
    std::exception_ptr error_;
};

/// The token of whatever coroutine awaits; null where it knows none.
template <class P>
const std::stop_token *token_of(std::coroutine_handle<P> awaiting) noexcept {
    if constexpr (requires { awaiting.promise().token(); })
        return awaiting.promise().token();
    else
        return nullptr;
}

template <class T>
class promise final : public promise_base {
public:
    task<T> get_return_object() noexcept;
    template <class U>
    void return_value(U &&value) {
        value_.emplace(std::forward<U>(value));
    }
    T take() {
        rethrow();
        return std::move(*value_);
    }

private:
    std::optional<T> value_;
};

template <>
class promise<void> final : public promise_base {
public:
    task<void> get_return_object() noexcept;
    void return_void() noexcept {}
    void take() const { rethrow(); }
};

template <class... Tasks>
class all_of;

} // namespace detail

/// A coroutine that begins when it is awaited: `auto got = co_await work();`.
///
/// Its result, or what it throws, goes to the one that awaits, which is resumed
/// by a jump: chains of any length take no stack.  It heeds the stop token of
/// the one that awaits it.
///
/// Move-only; awaited once; destroying it destroys the coroutine.  One that was
/// begun may be destroyed before its end only in the thread of the loop that it
/// waits in: what it has in flight is cancelled, and waited for there.
template <class T>
class [[nodiscard]] task {
public:
    using promise_type = detail::promise<T>;
    using value_type = T;

    task(task &&other) noexcept : frame_(std::exchange(other.frame_, {})) {}
    task &operator=(task &&other) noexcept {
        task(std::move(other)).swap(*this);
        return *this;
    }
    ~task() {
        if (frame_)
            frame_.destroy();
    }

    class awaiter {
    public:
        static bool await_ready() noexcept { return false; }
        template <class P>
        std::coroutine_handle<>
        await_suspend(std::coroutine_handle<P> awaiting) noexcept {
            auto &promise = frame_.promise();
            promise.before(std::coroutine_handle<>(awaiting));
            promise.heed(detail::token_of(awaiting));
            return frame_;
        }
        T await_resume() { return frame_.promise().take(); }

    private:
        friend task;
        explicit awaiter(std::coroutine_handle<promise_type> frame) noexcept
            : frame_(frame) {}

        std::coroutine_handle<promise_type> frame_;
    };

    /// Begins it, and waits for its end.
    awaiter operator co_await() &&noexcept { return awaiter(frame_); }

private:
    friend promise_type;
    template <class...>
    friend class detail::all_of;

    explicit task(std::coroutine_handle<promise_type> frame) noexcept
        : frame_(frame) {}
    void swap(task &other) noexcept { std::swap(frame_, other.frame_); }

    std::coroutine_handle<promise_type> frame_;
};

namespace detail {

template <class T>
task<T> promise<T>::get_return_object() noexcept {
    return task<T>(std::coroutine_handle<promise>::from_promise(*this));
}

inline task<void> promise<void>::get_return_object() noexcept {
    return task<void>(std::coroutine_handle<promise>::from_promise(*this));
}

/// Begins tasks, and waits for the end of all.  Does not throw what they throw:
/// take() does.
template <class... Tasks>
class all_of {
public:
    all_of(std::size_t count, Tasks &...tasks) noexcept
        : gate_(count),
          tasks_(tasks...) {}

    static bool await_ready() noexcept { return false; }
    template <class P>
    std::coroutine_handle<>
    await_suspend(std::coroutine_handle<P> awaiting) noexcept {
        gate_.wait(awaiting);
        const auto *token = token_of(awaiting);
        std::apply([&](auto &...each) { (begin(each, token), ...); }, tasks_);
        return gate_.arrive();
    }
    static void await_resume() noexcept {}

    /// The result of one that has ended; void is std::monostate.
    template <class T>
    static auto take(task<T> &ended) {
        if constexpr (std::is_void_v<T>) {
            ended.frame_.promise().take();
            return std::monostate{};
        } else {
            return ended.frame_.promise().take();
        }
    }

    /// What one that has ended threw; null: nothing.
    template <class T>
    static std::exception_ptr error(const task<T> &ended) noexcept {
        return ended.frame_.promise().error();
    }

private:
    template <class T>
    void begin(task<T> &each, const std::stop_token *token) noexcept {
        each.frame_.promise().before(gate_);
        each.frame_.promise().heed(token);
        each.frame_.resume();
    }
    template <class T>
    void begin(std::vector<task<T>> &several,
               const std::stop_token *token) noexcept {
        for (auto &each : several)
            begin(each, token);
    }

    gate gate_;
    std::tuple<Tasks &...> tasks_;
};

/// Replaces the token that the awaiting task heeds.
struct heed {
    const std::stop_token *token;

    static bool await_ready() noexcept { return false; }
    template <class P>
    bool await_suspend(std::coroutine_handle<P> awaiting) const noexcept {
        awaiting.promise().heed(token);
        return false;
    }
    static void await_resume() noexcept {}
};

template <class T>
using value_of = std::conditional_t<std::is_void_v<T>, std::monostate, T>;

} // namespace detail

/// Begins all, one after the other, and waits until all have ended.  Their
/// results in the same order.  When some throw, one of them is thrown on, after
/// the end of all: while one of the others waits for what never comes, nobody
/// hears of it.  So give them with_stop(), and request a stop where one fails, or
/// with_timeout().
template <class T>
task<std::vector<T>> when_all(std::vector<task<T>> tasks) {
    using all = detail::all_of<std::vector<task<T>>>;
    all ended(tasks.size(), tasks);
    co_await ended;
    std::vector<T> values;
    values.reserve(tasks.size());
    for (auto &each : tasks)
        values.push_back(all::take(each));
    co_return values;
}
inline task<void> when_all(std::vector<task<void>> tasks) {
    using all = detail::all_of<std::vector<task<void>>>;
    all ended(tasks.size(), tasks);
    co_await ended;
    for (auto &each : tasks)
        static_cast<void>(all::take(each));
}
/// The same for a few of several types; std::monostate stands for void.
template <class... Ts>
task<std::tuple<detail::value_of<Ts>...>> when_all(task<Ts>... tasks) {
    using all = detail::all_of<task<Ts>...>;
    all ended(sizeof...(Ts), tasks...);
    co_await ended;
    co_return std::tuple<detail::value_of<Ts>...>{all::take(tasks)...};
}

/// The stop token of the task that awaits this.
struct this_stop_token {
    static bool await_ready() noexcept { return false; }
    template <class P>
    bool await_suspend(std::coroutine_handle<P> awaiting) noexcept {
        if (const auto *token = detail::token_of(awaiting))
            found_ = *token;
        return false;
    }
    std::stop_token await_resume() noexcept { return std::move(found_); }

private:
    std::stop_token found_;
};

/// A task that heeds @p token, and not that of the one that awaits it.
template <class T>
task<T> with_stop(std::stop_token token, task<T> work) {
    co_await detail::heed{&token};
    co_return co_await std::move(work);
}

} // namespace kevent
