// SPDX-License-Identifier: MIT
#include "fake_ring.hpp"
#include "fake_kernel.hpp"

#include <algorithm>
#include <atomic>
#include <cassert>
#include <cstring>
#include <utility>

namespace kevent::test {

/// The fence is the full barrier of the wakeup callback, paired with the
/// consumer's fence after its claim.
std::uint64_t fake_ring::head() noexcept {
    std::atomic_ref word(claim_->head);
#if defined(KEVENT_TSAN)
    const std::uint64_t seen = word.fetch_add(0, std::memory_order_seq_cst);
#else
    std::atomic_thread_fence(std::memory_order_seq_cst);
    const std::uint64_t seen = word.load(std::memory_order_acquire);
#endif
    if (seen - believed_ <= tail_ - believed_)
        believed_ = seen;
    return believed_;
}

unsigned fake_ring::collect(std::span<event> out) noexcept {
    auto view = ring_view::at(
        ring_, ring_->slots_offset + ring_->entries * sizeof(event), claim_);
    return view->collect(out);
}

bool fake_ring::unclaimed(const fake_source &source) noexcept {
    return source.posted && source.position >= head();
}

void fake_ring::count(__u32 &word, int by) noexcept {
    std::atomic_ref(word).fetch_add(static_cast<__u32>(by),
                                    std::memory_order_release);
}

void fake_ring::publish_pending() noexcept {
    std::atomic_ref(ring_->pending)
        .store(static_cast<__u32>(pending_.size()), std::memory_order_release);
}

void fake_ring::put(const event &made) noexcept {
    std::uint64_t words[4];
    std::memcpy(words, &made, sizeof(words));
    auto *slot = reinterpret_cast<std::uint64_t *>(
        reinterpret_cast<std::byte *>(ring_) + ring_->slots_offset +
        (tail_ & (ring_->entries - 1)) * sizeof(event));
    for (unsigned i = 0; i < 4; i++)
        std::atomic_ref(slot[i]).store(words[i], std::memory_order_relaxed);
    std::atomic_ref(ring_->tail).store(++tail_, std::memory_order_release);
}

/// Bits need room; values need their last entry claimed as well.
bool fake_ring::movable(fake_source &source) noexcept {
    if (full())
        return false;
    return source.is(KEVENT_KIND_FILE) || !unclaimed(source);
}

/// What the newest unclaimed entry says is carried by the new one too.
void fake_ring::move(fake_source &source) {
    const auto before = unclaimed(source) ? source.posted_bits : 0;
    source.waiting = false;
    if (source.is(KEVENT_KIND_FILE) && (source.bits & ~before) == 0)
        return;
    event made{};
    made.cookie = source.settings.cookie;
    made.id = source.id;
    made.kind = source.settings.kind;
    made.events = source.posted_bits = source.bits | before;
    made.result = std::exchange(source.value, 0);
    made.flags = source.flags;
    if (source.settings.flags & KEVENT_ONESHOT) {
        made.flags = KEVENT_EV_DISABLED;
        source.enabled = false;
    }
    source.gathered = false;
    source.bits = 0;
    source.posted = true;
    source.position = tail_;
    put(made);
    if (source.request())
        count_request(-1);
}

void fake_ring::drain() {
    for (auto each = pending_.begin(); each != pending_.end();)
        if (movable(**each)) {
            move(**each);
            each = pending_.erase(each);
        } else {
            ++each;
        }
    publish_pending();
}

void fake_ring::post(fake_source &source) {
    if (!source.waiting)
        pending_.push_back(&source);
    source.waiting = true;
    drain();
}

void fake_ring::close(const fake_source &source) noexcept {
    assert(!full());
    event made{};
    made.cookie = source.settings.cookie;
    made.id = source.id;
    made.kind = source.settings.kind;
    made.events = EPOLLHUP;
    made.flags = KEVENT_EV_CLOSED;
    put(made);
}

void fake_ring::list(fake_source &source) {
    if (!source.listed)
        listed_.push_back(&source);
    if (!source.counted)
        count_hint(1);
    source.listed = source.counted = true;
}

void fake_ring::unlist(fake_source &source) {
    pending_.remove(&source);
    listed_.remove(&source);
    publish_pending();
    if (std::exchange(source.counted, false))
        count_hint(-1);
    if (std::exchange(source.poll_again, false))
        count_poll_again(-1);
    source.listed = source.waiting = false;
    source.bits = 0;
}

void fake_ring::forget(fake_source &source) {
    unlist(source);
    source.gathered = false;
    source.value = 0;
}

/// Unlists a source first, then polls it; a ready one goes to the end.
unsigned fake_ring::sweep(std::span<event> out) {
    unsigned stored = 0;
    for (auto left = listed_.size(); left != 0 && stored < out.size(); left--) {
        auto &source = *listed_.front();
        listed_.pop_front();
        source.listed = false;
        const auto bits = source.file ? source.poll(source.file->ready) : 0;
        if (bits == 0 && !source.gathered) {
            source.counted = false;
            count_hint(-1);
            continue;
        }
        auto &made = out[stored++] = {};
        made.cookie = source.settings.cookie;
        made.id = source.id;
        made.kind = source.settings.kind;
        made.flags = KEVENT_EV_LEVEL;
        made.events = bits;
        made.result = source.value;
        list(source);
    }
    return stored;
}

} // namespace kevent::test
