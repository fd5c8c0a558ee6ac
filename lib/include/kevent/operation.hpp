// SPDX-License-Identifier: MIT
/// @file
/// What a loop keeps no memory of its own for: things that live where the
/// program puts them (in coroutine frames, say) and are linked into its lists.
#pragma once

#include <kevent/request.hpp>
#include <kevent/result.hpp>
#include <kevent/ring_view.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace kevent {

class loop;

/// Takes the events of the sources whose cookie is its address.
class handler {
public:
    virtual void on_event(const event &news) = 0;

protected:
    ~handler() = default;
};

/// Something that a loop runs once, soon; see loop::post().
class job {
public:
    virtual void run() = 0;

protected:
    ~job() = default;

private:
    friend class jobs;
    friend class loop;

    job *next_ = nullptr;
};

/// Jobs in a row.  Used by one thread at a time.
class jobs {
public:
    [[nodiscard]] bool empty() const noexcept { return first_ == nullptr; }
    [[nodiscard]] std::size_t size() const noexcept { return size_; }
    void push(job &last) noexcept;
    /// The oldest; only when there is one.
    job &pop() noexcept;
    /// Takes one out, if it is there; looks at all.
    void remove(const job &unwanted) noexcept;

private:
    job *first_ = nullptr;
    job *last_ = nullptr;
    std::size_t size_ = 0;
};

/// A time at which a loop runs a job.
class timer : public job {
protected:
    ~timer() = default;

private:
    friend class timers;
    friend class loop;

    /// Its time has come.  Is it to be run?
    virtual bool expire() noexcept { return true; }

    std::int64_t when_ = 0; // CLOCK_MONOTONIC, nanoseconds
    timer *child_ = nullptr;
    timer *sibling_ = nullptr;
    timer *before_ = nullptr; // the elder sibling, or the parent; none: no heap
};

/// Timers by their time: a pairing heap, which neither allocates nor fails.
/// Used by one thread at a time.
class timers {
public:
    [[nodiscard]] bool empty() const noexcept { return first_ == nullptr; }
    /// The earliest time; only when there is one.
    [[nodiscard]] std::int64_t next() const noexcept { return first_->when_; }
    [[nodiscard]] bool contains(const timer &which) const noexcept {
        return first_ == &which || which.before_ != nullptr;
    }
    void push(timer &added) noexcept;
    /// Takes the earliest.
    timer &pop() noexcept;
    void remove(timer &unwanted) noexcept;

private:
    static timer *meld(timer *one, timer *other) noexcept;
    static timer *meld_all(timer *siblings) noexcept;

    timer *first_ = nullptr;
};

/// The end of a request: bytes (or the 0 of a sync), or the errno, and which
/// way it went (KEVENT_EV_INLINE and its like).
class [[nodiscard]] completion : public result<std::size_t> {
public:
    completion(std::error_code error = {}) noexcept
        : result<std::size_t>(error) {}
    /// What an event says.
    completion(std::int64_t value, std::uint16_t flags) noexcept
        : result<std::size_t>(of(value)),
          flags_(flags) {}

    [[nodiscard]] std::uint16_t flags() const noexcept { return flags_; }

private:
    static result<std::size_t> of(std::int64_t value) noexcept {
        if (value < 0)
            return errno_code(static_cast<int>(-value));
        return static_cast<std::size_t>(value);
    }

    std::uint16_t flags_ = 0;
};

/// A request in flight, which a loop submits: see loop::submit().
///
/// Belongs to the program, and stays where it is until on_complete() has been
/// called: exactly once for each submission, in the thread of the loop that
/// takes the event, never from within submit().  It may be submitted again or
/// destroyed from then on, on_complete() included.
///
/// One that is destroyed earlier, in its loop's thread, is cancelled, and its
/// event is waited for there; handlers of other events may run meanwhile.
class operation : private handler, private job {
public:
    operation() noexcept = default;
    operation(const operation &) = delete;
    operation &operator=(const operation &) = delete;

    /// Asks for an early end; its completion says whether it came in time.
    /// From any thread, before on_complete() is called.
    void cancel() noexcept;

protected:
    ~operation();

    virtual void on_complete(const completion &how) = 0;

private:
    friend class loop;

    // Three parties meet in the state: the submitter, who learns the id when
    // the kernel has answered; the one who takes the event, perhaps earlier and
    // in another thread; and the one who cancels.  Each sets its bit by one
    // read-modify-write, and what it finds tells it what is left to do.
    static constexpr unsigned started = 1; // the id is there
    static constexpr unsigned done = 2;    // the result is there
    static constexpr unsigned stop = 4;    // cancel() was called

    void on_event(const event &news) override;
    void run() override;
    /// The kernel's answer.  Unless it was the last to come, does not touch the
    /// operation after its own mark.
    void answered(std::int32_t error, std::uint64_t id) noexcept;
    [[nodiscard]] bool over() const noexcept;

    // Constant while it is in flight.
    loop *loop_ = nullptr;
    bool busy_ = false;
    std::uint32_t ring_ = 0;
    std::uint64_t work_ = 0; // as the policy counts it
    // Once started.
    std::uint64_t id_ = 0;
    // Once done.
    std::int64_t value_ = 0;
    std::uint16_t flags_ = 0;
    loop *taker_ = nullptr; // whose list it is on
    // Written by any thread.
    std::atomic<unsigned> state_{0};
};

} // namespace kevent
