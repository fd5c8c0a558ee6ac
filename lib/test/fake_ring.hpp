// SPDX-License-Identifier: MIT
/// @file
/// One ring of the fake kernel: the producer's side of the protocol.
#pragma once

#include <kevent/ring_view.hpp>

#include <cstdint>
#include <list>
#include <span>

namespace kevent::test {

struct fake_source;

/// Every function is called with the fake's lock held; consumers work on the
/// same memory without it.
class fake_ring {
public:
    fake_ring(kevent_ring *ring, kevent_claim *claim) noexcept
        : ring_(ring),
          claim_(claim) {}

    /// Where the consumers are: a head outside its range is not believed.
    std::uint64_t head() noexcept;
    [[nodiscard]] bool full() noexcept {
        return tail_ - head() == ring_->entries;
    }
    [[nodiscard]] unsigned backlog() noexcept {
        return static_cast<unsigned>(tail_ - head());
    }
    /// As a consumer without a mapping does.
    unsigned collect(std::span<event> out) noexcept;

    /// Brings news of an edge source: into the ring, or onto the pending list.
    void post(fake_source &source);
    /// The last event of a file's source; there is room for it.
    void close(const fake_source &source) noexcept;
    /// Moves what can be moved from the pending list into the ring.
    void drain();
    /// Is the source's newest entry unclaimed?
    bool unclaimed(const fake_source &source) noexcept;

    /// The source is to be polled by the next sweep.
    void list(fake_source &source);
    /// Takes the source off all lists.
    void unlist(fake_source &source);
    /// Besides, drops what it gathered.
    void forget(fake_source &source);
    /// Polls listed sources, each once at most.
    unsigned sweep(std::span<event> out);
    [[nodiscard]] bool sweepable() const noexcept { return !listed_.empty(); }

    void count_source(int by) noexcept { count(ring_->sources, by); }
    void count_request(int by) noexcept { count(ring_->requests, by); }
    void count_poll_again(int by) noexcept { count(ring_->need_enter, by); }
    void count_hint(int by) noexcept { count(ring_->hint, by); }

private:
    bool movable(fake_source &source) noexcept;
    void move(fake_source &source);
    void put(const event &made) noexcept;
    static void count(__u32 &word, int by) noexcept;
    void publish_pending() noexcept;

    kevent_ring *ring_;
    kevent_claim *claim_;
    std::uint64_t tail_ = 0;
    std::uint64_t believed_ = 0;
    std::list<fake_source *> pending_;
    std::list<fake_source *> listed_;
};

} // namespace kevent::test
