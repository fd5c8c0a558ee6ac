// SPDX-License-Identifier: MIT
/// @file
/// A thread's event loop: gives each event to the object that its cookie names,
/// gathers submissions, and runs tasks.
#pragma once

#include <kevent/balancer.hpp>
#include <kevent/collector.hpp>
#include <kevent/operation.hpp>
#include <kevent/task.hpp>

#include <array>
#include <atomic>
#include <cstdint>
#include <exception>
#include <optional>
#include <span>
#include <stop_token>

namespace kevent {

namespace detail {
class time_awaiter;
class readiness_awaiter;
class readiness_slot;
} // namespace detail

/// Collects and calls handlers; submits requests and runs coroutines.
///
/// Every source that can report to the rings of the loop has the address of a
/// handler as its cookie: `source.cookie(static_cast<handler *>(this))`; events
/// with cookie 0 are dropped, and 1 is for loops.
/// Handlers are called in the thread that runs the loop.  A handler that has
/// ended is handed to the reclaimer: later events of the same batch may still
/// name it.  What a handler throws leaves run(); the rest of the batch is dealt
/// with by the next.
///
/// Which thread.  A loop with steal = false has its home ring to itself (nobody
/// else collects from it), and what begins in it stays in its thread.  Loops
/// that share rings share the work too: an operation completes, and its task
/// goes on, in the loop that took the event.  Either way a function that says
/// "the loop's thread" is called within run() or run_once(), or while no thread
/// runs the loop.
///
/// What is gathered.  Requests submitted by handlers and tasks go to the kernel
/// in one array, by one system call before the next collection (which makes
/// another if it must sleep); a full array goes at once.
///
/// Lifetime.  Tasks and operations live in the program's memory, are linked
/// into the loop's lists, and are named by the kernel until their event came:
///
/// | list       | who touches it                | until                      |
/// |------------|-------------------------------|----------------------------|
/// | gathered_  | the loop's thread             | the kernel has answered    |
/// | (kernel)   |                               | the event was taken        |
/// | ready_     | the loop's thread             | run                        |
/// | timers_    | the loop's thread             | expired or cancelled       |
/// | inbox_     | any thread adds; the loop's   | moved to ready_            |
/// |            | thread takes all              |                            |
///
/// There is no lock.  The inbox is one word: jobs, nothing, or "sleeps", which
/// only the loop's thread puts there, before it sleeps and after everything
/// else was looked at; who takes that away wakes the loop.  A stop callback may
/// run in any thread: it finds the operation alive, because the callback is
/// taken away (which waits for it) before the coroutine goes on.
class loop {
public:
    /// Adds a user event for wakeups to the queue, which outlives the loop.
    /// @p homes chooses the home ring of requests that name none; without it
    /// that is the loop's own.  Every ring that it chooses needs a loop.  It is
    /// told the work of each: its bytes and 4096; what is done is reported to
    /// @p work, that of a least_work policy, which outlives the loop.
    /// Throws std::system_error when it cannot (aborts without exceptions).
    explicit loop(const queue &rings, const collector_options &options = {},
                  std::optional<any_policy> homes = std::nullopt,
                  ring_work *work = nullptr);
    loop(const loop &) = delete;
    loop &operator=(const loop &) = delete;

    /// Requests a stop of its tasks, and runs until they have ended, and all
    /// that waits in this loop (cancel what may take long).  Loops that share
    /// rings may end at the same time, each in its thread: none goes before the
    /// tasks of the others have left it.  Where one thread ends them one after
    /// the other, their tasks have ended before.
    ~loop();

    /// The loop that runs in this thread; null if none does.
    static loop *current() noexcept { return current_; }

    /// Runs until stop().  A signal does not end it.  Throws what a handler or
    /// a spawned task throws.
    result<void> run();

    /// Runs until @p main has ended, and returns its result or throws what it
    /// threw.  Spawned tasks go on in the next run, or are stopped with the
    /// loop.  What a handler or a spawned task throws stops the main task, and
    /// leaves run() when that has ended; and so does std::system_error when it
    /// cannot collect.
    template <class T>
    T run(task<T> main);

    /// Submits what was gathered, collects once, calls handlers, and runs what
    /// is ready.  Waits up to @p timeout, if there is nothing to run.  Returns
    /// how many events there were.  Errors: of collector::collect(), EINTR
    /// included.
    result<unsigned> run_once(nanoseconds timeout = nanoseconds{-1});

    /// Ends run() after its current batch.  From any thread, any number of
    /// times; not from a signal handler.
    void stop() noexcept;

    /// Has stop() been called?
    [[nodiscard]] bool stopping() const noexcept {
        return stopping_.load(std::memory_order_acquire);
    }

    /// Begins a task, which runs beside others until its end; from any thread.
    /// Its operations are cancelled when a stop is requested of @p token or of
    /// the loop's tasks.  What it throws leaves run().
    void spawn(task<void> work, std::stop_token token = {});

    /// Requests a stop of all tasks that were spawned here.  From any thread.
    void stop_tasks() noexcept { tasks_stop_.request_stop(); }

    /// Submits a request: @p done is told of its end.  In the loop's thread.
    ///
    /// An entry that the kernel refuses completes with its errno.  EAGAIN: too
    /// many in flight; see request.
    void submit(const request &what, operation &done) noexcept;

    /// Submits a chain: each but the last is linked to the next.  At most
    /// max_chain requests, an operation for each.
    void submit(std::span<const request> chain,
                std::span<operation *const> done) noexcept;

    /// Makes a change of another kind, whose result nobody wants.  In the
    /// loop's thread.
    void make(const change &entry) noexcept;

    /// Runs a job in the loop's thread, soon.  From any thread.  The job stays
    /// where it is until it is run.
    void post(job &work) noexcept;

    /// Runs a job when CLOCK_MONOTONIC shows @p when (nanoseconds).  In the
    /// loop's thread.  The timer stays where it is until it is run or disarmed.
    void arm(timer &what, std::int64_t when) noexcept;
    /// Takes a timer back, unless it has been run.  In the loop's thread.
    void disarm(timer &what) noexcept;
    /// Takes a job back, unless it has been run.  In the loop's thread.
    void withdraw(const job &work) noexcept;

    /// Index of the home ring.
    [[nodiscard]] unsigned home() const noexcept { return collector_.home(); }

    /// The queue.
    [[nodiscard]] const queue &rings() const noexcept { return *queue_; }

    /// Read by the thread that runs the loop.
    [[nodiscard]] const collector_statistics &statistics() const noexcept {
        return collector_.statistics();
    }

    /// Requests in the longest chain, and in the largest array.
    static constexpr unsigned max_chain = 128;

private:
    friend class operation;
    friend class detail::time_awaiter;
    friend class detail::readiness_awaiter;
    friend class detail::readiness_slot;
    struct here;
    struct outcome;
    struct root;

    static constexpr unsigned batch = max_chain;

    void woken(std::uint64_t id) noexcept;
    /// Something waits in this loop, or no longer does (then from any thread).
    void begun() noexcept {
        unfinished_.fetch_add(1, std::memory_order_relaxed);
    }
    void finished() noexcept;
    void place(change &entry, const request &what, operation &done) noexcept;
    void gather(const change &entry, operation *owner) noexcept;
    void flush() noexcept;
    void complete(operation &ended) noexcept;
    void finished(const operation &ended) noexcept;
    void cancel(std::uint64_t id) noexcept;
    void abandon(operation &unwanted) noexcept;
    static void must(const result<unsigned> &collected) noexcept;

    [[nodiscard]] job *asleep() noexcept;
    void take_inbox() noexcept;
    void expire() noexcept;
    void run_ready();
    nanoseconds patience(nanoseconds timeout) noexcept;
    result<unsigned> take_events(nanoseconds timeout);
    result<unsigned> step(nanoseconds timeout);
    result<unsigned> turn(nanoseconds timeout);
    [[nodiscard]] bool idle() const noexcept;
    root begin(task<void> work, std::stop_token token, outcome *ended);
    void drive(task<void> main);

    static inline constinit thread_local loop *current_ = nullptr;

    // Constant after construction.
    const queue *queue_;
    ring_work *work_;
    std::uint64_t wakeup_ = 0;

    // Written by any thread.
    std::atomic<bool> stopping_{false};
    std::atomic<job *> inbox_{nullptr};
    std::atomic<std::size_t> unfinished_{0}; // what begun() counted
    std::stop_source tasks_stop_;

    // Written by the thread that runs the loop.
    collector collector_;
    any_policy homes_;
    jobs ready_;
    timers timers_;
    std::exception_ptr failure_;
    unsigned gathered_ = 0;
    unsigned taken_ = 0;
    unsigned next_ = 0;
    std::array<change, batch> changes_;
    std::array<operation *, batch> owners_;
    std::array<event, batch> events_;
};

namespace detail {
template <class T>
task<void> keep(task<T> from, std::optional<T> &to) {
    to.emplace(co_await std::move(from));
}
} // namespace detail

template <class T>
T loop::run(task<T> main) {
    if constexpr (std::is_void_v<T>) {
        drive(std::move(main));
    } else {
        std::optional<T> kept;
        drive(detail::keep(std::move(main), kept));
        return std::move(*kept);
    }
}

} // namespace kevent
