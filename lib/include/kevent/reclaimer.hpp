// SPDX-License-Identifier: MIT
/// @file
/// Frees what a removed source's cookie points to, when no consumer can hold
/// it.
#pragma once

#include <kevent/queue.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <vector>

namespace kevent {

/// Removes sources and frees their objects at the right time.
///
/// After a removal no event is posted, but an entry of the source may still be
/// unclaimed in its ring, and another thread may have claimed one and not yet
/// acted on it.  So an object is freed when
///   1. the ring's head has passed where the tail was after the removal, and
///   2. every consumer that may take from that ring has since come back to
///      collect (a quiescent point).
///
/// Each collector that takes events whose cookies are addresses is given the
/// reclaimer in its options; code that collects otherwise holds a consumer and
/// calls quiesce() when it has dealt with what it took.  A consumer that sleeps
/// in collect() delays freeing until it wakes.
///
/// Thread-safe.  retire() allocates; nothing on the collection path does.
/// Deleters run in whichever thread calls retire(), quiesce(), collect() or
/// release(), and must neither throw nor call the reclaimer's release().
class reclaimer {
    struct seat {
        std::atomic<std::uint64_t> announced{0};
        std::uint32_t ring = KEVENT_RING_ANY;
    };

public:
    /// @p rings outlives the reclaimer.
    explicit reclaimer(const queue &rings) noexcept : queue_(&rings) {}
    reclaimer(const reclaimer &) = delete;
    reclaimer &operator=(const reclaimer &) = delete;

    /// Frees what is left: all consumers are gone by now.
    ~reclaimer();

    /// One thread that takes events.  Move-only; used by one thread at a time;
    /// the reclaimer outlives it.
    class consumer {
    public:
        consumer() noexcept = default;
        /// @p ring: the only ring that it takes from, or KEVENT_RING_ANY.
        /// Allocates.
        consumer(reclaimer &owner, std::uint32_t ring);
        consumer(consumer &&other) noexcept;
        consumer &operator=(consumer &&other) noexcept;
        ~consumer() { leave(); }

        /// Says: I hold no event that I took before.
        void quiesce() noexcept;

    private:
        void leave() noexcept;

        reclaimer *owner_ = nullptr;
        seat *seat_ = nullptr;
    };

    /// Makes a removal (made by remove() or remove_and_close()) and frees
    /// @p object when nobody can hold an event of the source.
    ///
    /// @p ring: the source's home ring, or KEVENT_RING_ANY when it is not
    /// known; knowing it frees sooner.  A source that is gone already (ENOENT:
    /// it was closed) is no error.  On any other error, and where memory is
    /// short (std::bad_alloc), nothing is removed and the object stays the
    /// caller's.
    template <class T>
    result<void> retire(const change &removal, std::unique_ptr<T> &object,
                        std::uint32_t ring = KEVENT_RING_ANY) {
        auto done = retire(
            removal, [](void *held) noexcept { delete static_cast<T *>(held); },
            object.get(), ring);
        if (done)
            static_cast<void>(object.release());
        return done;
    }

    /// The same with a deleter of any kind: `deleter(object)`.
    result<void> retire(const change &removal, void (*deleter)(void *) noexcept,
                        void *object, std::uint32_t ring = KEVENT_RING_ANY);

    /// Frees what can be freed now.  Returns how much waits.
    std::size_t release() noexcept;

    /// Objects that wait.
    [[nodiscard]] std::size_t waiting() const noexcept {
        return waiting_.load(std::memory_order_relaxed);
    }

private:
    struct position {
        std::uint32_t ring;
        std::uint64_t tail;
    };
    struct entry {
        void (*deleter)(void *) noexcept;
        void *object;
        std::vector<position> unclaimed; // step 1
        std::uint64_t epoch = 0;         // step 2
    };
    using entries = std::list<entry>;

    /// What was retired with the same home ring, oldest first; only the oldest
    /// is looked at.
    struct line {
        std::uint32_t ring;
        entries unclaimed;
        entries claimed;
    };

    void mark(std::vector<position> &tails, std::uint32_t ring) const;
    line &line_of(std::uint32_t ring);
    bool claimed(const entry &candidate) const noexcept;
    bool passed(const entry &candidate, std::uint32_t ring) const noexcept;
    void advance(line &each, entries &free) noexcept;
    void release_some(std::unique_lock<std::mutex> guard) noexcept;

    // Constant after construction.
    const queue *queue_;

    // Written by every retirement, read by every quiescent point.
    std::atomic<std::uint64_t> epoch_{1};
    std::atomic<std::size_t> waiting_{0};

    // Under the lock.
    std::mutex lock_;
    std::vector<std::unique_ptr<seat>> seats_;
    std::vector<line> lines_;
};

} // namespace kevent
