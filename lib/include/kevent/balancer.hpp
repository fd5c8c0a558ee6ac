// SPDX-License-Identifier: MIT
/// @file
/// Chooses the home ring of a source or request.
#pragma once

#include <kevent/queue.hpp>

#include <array>
#include <atomic>
#include <compare>
#include <concepts>
#include <cstdint>
#include <optional>
#include <random>
#include <string_view>
#include <utility>
#include <variant>

namespace kevent {

/// What is to be placed.
struct placement {
    /// The buffer that the work will touch, if any.
    const void *buffer = nullptr;
    /// How much work it is, in a unit that the program keeps to: requests,
    /// bytes, nanoseconds of the device.
    std::uint64_t work = 1;
};

/// A way to choose a ring: `choose(queue, placement)` gives an index below
/// queue.size().  Programs write their own; it need not be thread-safe, for a
/// balancer belongs to one thread.
template <class P>
concept policy = requires(P &chooser, const queue &rings,
                          const placement &what) {
    { chooser.choose(rings, what) }
    noexcept->std::convertible_to<unsigned>;
};

/// How busy a ring is, as its mapped header shows: requests in flight and
/// events not yet collected; of equals, the one with fewer sources is less
/// busy.
///
/// The header counts a request from its submission on.  Requests that are
/// placed one after the other and submitted in one array all see the same
/// header, and all take the same ring: least_work knows better.
struct ring_load {
    std::uint64_t outstanding;
    std::uint64_t sources;

    static ring_load of(const ring_view &ring) noexcept {
        return {std::uint64_t{ring.requests()} + ring.backlog() +
                    ring.pending(),
                ring.sources()};
    }
    auto operator<=>(const ring_load &) const noexcept = default;
};

/// The ring nearest to the CPU that the caller runs on.
struct local {
    unsigned choose(const queue &rings, const placement &) noexcept {
        return rings.local_ring();
    }
};

/// One ring after the other.  Balancers of several threads begin at different
/// rings if they are given different @p start.
class round_robin {
public:
    explicit round_robin(unsigned start = 0) noexcept : next_(start) {}
    unsigned choose(const queue &rings, const placement &) noexcept {
        return next_++ % rings.size();
    }

private:
    unsigned next_;
};

/// The ring with the least load; reads the header of every ring.  Of equals,
/// the one after the last choice.
class least_loaded {
public:
    unsigned choose(const queue &rings, const placement &) noexcept;

private:
    unsigned last_ = 0;
};

/// The less loaded of two rings drawn at random: nearly as even as
/// least_loaded, at the price of two headers.
class two_choices {
public:
    explicit two_choices(std::uint32_t seed = 1) noexcept : random_(seed) {}
    unsigned choose(const queue &rings, const placement &) noexcept;

private:
    unsigned draw(unsigned below) noexcept {
        return static_cast<unsigned>(random_() % below);
    }

    std::minstd_rand random_;
};

/// The work that a program has placed on each ring and not yet seen the end of.
/// One for all threads of the program; every function may be called from any
/// thread.  No memory is ordered by it: the numbers guide, they guard nothing.
class ring_work {
public:
    /// Work was placed on a ring.  least_work calls it.
    void placed(unsigned ring, std::uint64_t work) noexcept {
        work_[ring].fetch_add(work, std::memory_order_relaxed);
    }

    /// Work is finished: its event was collected, by whichever thread, or it
    /// was not submitted after all.  The same amount as was placed, once; what
    /// is never reported counts against the ring for ever.
    void done(unsigned ring, std::uint64_t work) noexcept {
        work_[ring].fetch_sub(work, std::memory_order_relaxed);
    }

    /// What remains on a ring.
    [[nodiscard]] std::uint64_t on(unsigned ring) const noexcept {
        return work_[ring].load(std::memory_order_relaxed);
    }

private:
    // Side by side: whoever chooses reads them all, and so eight lines at most.
    alignas(
        64) std::array<std::atomic<std::uint64_t>, KEVENT_MAX_RINGS> work_{};
};

/// The ring with the least unfinished work; of equals, the one after the last
/// choice.  Knows sizes, which no header shows, and what is placed but not yet
/// submitted; knows nothing of what others than this program place.  At the
/// price of an atomic addition when work is placed and one when it is done.
class least_work {
public:
    /// @p shared outlives the policy.  Each thread's policy is given the same.
    explicit least_work(ring_work &shared) noexcept : work_(&shared) {}

    /// Counts what.work on the ring that it returns, until the program reports
    /// it done.
    unsigned choose(const queue &rings, const placement &what) noexcept;

private:
    ring_work *work_;
    unsigned last_ = 0;
};

/// The ring nearest to the memory of the buffer; local where there is no buffer
/// or its page has not been touched.  Makes a system call.
struct buffer_node {
    unsigned choose(const queue &rings, const placement &what) noexcept;
};

/// Always the same ring (modulo the number of rings).
class pinned {
public:
    explicit pinned(unsigned ring = 0) noexcept : ring_(ring) {}
    unsigned choose(const queue &rings, const placement &) noexcept {
        return ring_ % rings.size();
    }

private:
    unsigned ring_;
};

/// A policy chosen while the program runs.
class any_policy {
public:
    template <policy P>
    any_policy(P chosen) noexcept : policy_(std::move(chosen)) {}

    /// The policy of that name: local, round_robin, least_loaded, two_choices,
    /// buffer_node, pinned (to ring 0), or least_work if there is @p work for
    /// it.  Nothing for another name.
    static std::optional<any_policy> named(std::string_view name,
                                           ring_work *work = nullptr) noexcept;

    unsigned choose(const queue &rings, const placement &what) noexcept {
        return std::visit(
            [&](auto &chosen) noexcept { return chosen.choose(rings, what); },
            policy_);
    }

private:
    std::variant<local, round_robin, least_loaded, two_choices, least_work,
                 buffer_node, pinned>
        policy_;
};

/// Chooses home rings by a policy.  Belongs to one thread (a thread each, with
/// its own state, rather than a shared word that bounces).  Neither fails nor
/// allocates.
template <policy P>
class balancer {
public:
    /// @p rings outlives the balancer.
    explicit balancer(const queue &rings, P chooser = P()) noexcept
        : queue_(&rings),
          policy_(std::move(chooser)) {}

    /// The index of the ring for the next source or request.
    unsigned home(const placement &what = {}) noexcept {
        return policy_.choose(*queue_, what);
    }

    /// Gives a source or request its home.
    template <class Placed>
    Placed &place(Placed &what, const placement &about = {}) noexcept {
        return what.home(home(about));
    }

private:
    const queue *queue_;
    P policy_;
};

} // namespace kevent
