// SPDX-License-Identifier: MIT
#include <kevent/reclaimer.hpp>

#include <algorithm>
#include <utility>

namespace kevent {

reclaimer::~reclaimer() {
    for (const auto &each : lines_)
        for (const auto *list : {&each.unclaimed, &each.claimed})
            for (const auto &left : *list)
                left.deleter(left.object);
}

reclaimer::consumer::consumer(reclaimer &owner, std::uint32_t ring)
    : owner_(&owner) {
    auto made = std::make_unique<seat>();
    made->ring = ring;
    seat_ = made.get();
    const std::lock_guard guard(owner.lock_);
    // A newcomer has taken nothing: it is as if it had just come back.
    made->announced = owner.epoch_.load();
    owner.seats_.push_back(std::move(made));
}

reclaimer::consumer::consumer(consumer &&other) noexcept
    : owner_(std::exchange(other.owner_, nullptr)),
      seat_(std::exchange(other.seat_, nullptr)) {}

reclaimer::consumer &reclaimer::consumer::operator=(consumer &&other) noexcept {
    leave();
    owner_ = std::exchange(other.owner_, nullptr);
    seat_ = std::exchange(other.seat_, nullptr);
    return *this;
}

void reclaimer::consumer::leave() noexcept {
    if (owner_ == nullptr)
        return;
    {
        const std::lock_guard guard(owner_->lock_);
        std::erase_if(owner_->seats_,
                      [this](const auto &each) { return each.get() == seat_; });
    }
    std::exchange(owner_, nullptr)->release();
}

/// Release: all that this consumer did with its events comes before; pairs with
/// the acquire in passed().
void reclaimer::consumer::quiesce() noexcept {
    if (owner_ == nullptr)
        return;
    seat_->announced.store(owner_->epoch_.load(std::memory_order_acquire),
                           std::memory_order_release);
    if (owner_->waiting() != 0)
        owner_->release_some({owner_->lock_, std::try_to_lock});
}

/// Where the tails are now: no entry of the source lies beyond.
void reclaimer::mark(std::vector<position> &tails, std::uint32_t ring) const {
    for (std::uint32_t i = 0; i < queue_->size(); i++)
        if (ring == KEVENT_RING_ANY || ring == i)
            tails.push_back({i, queue_->ring(i).tail()});
}

reclaimer::line &reclaimer::line_of(std::uint32_t ring) {
    const auto found =
        std::find_if(lines_.begin(), lines_.end(),
                     [=](const line &each) { return each.ring == ring; });
    return found != lines_.end() ? *found
                                 : lines_.emplace_back(line{ring, {}, {}});
}

result<void> reclaimer::retire(const change &removal,
                               void (*deleter)(void *) noexcept, void *object,
                               std::uint32_t ring) {
    // All memory first: without it nothing is removed.
    entries made;
    made.push_back({deleter, object, {}});
    auto &tails = made.front().unclaimed;
    tails.reserve(ring == KEVENT_RING_ANY ? queue_->size() : 1);
    {
        const std::lock_guard guard(lock_);
        line_of(ring);
    }
    const auto removed = queue_->change(change(removal));
    if (!removed && removed.error() != errno_code(ENOENT))
        return removed.error();
    if (!removed || *removed == KEVENT_UNCLAIMED)
        mark(tails, ring);
    std::unique_lock guard(lock_);
    auto &oldest_first = line_of(ring).unclaimed;
    oldest_first.splice(oldest_first.end(), made);
    waiting_.fetch_add(1, std::memory_order_relaxed);
    release_some(std::move(guard));
    return {};
}

/// Step 1: has the head passed where the tail was?
bool reclaimer::claimed(const entry &candidate) const noexcept {
    return std::all_of(candidate.unclaimed.begin(), candidate.unclaimed.end(),
                       [this](const position &each) {
                           return queue_->ring(each.ring).head() >= each.tail;
                       });
}

/// Step 2: has every consumer that may take from the ring been back since?
bool reclaimer::passed(const entry &candidate,
                       std::uint32_t ring) const noexcept {
    return std::all_of(seats_.begin(), seats_.end(), [&](const auto &each) {
        const bool elsewhere = each->ring != KEVENT_RING_ANY &&
                               ring != KEVENT_RING_ANY && each->ring != ring;
        return elsewhere || each->announced.load(std::memory_order_acquire) >=
                                candidate.epoch;
    });
}

/// Between the steps a new epoch begins.  A consumer that announces it has read
/// it after the claim was seen; if it was the one who claimed, it is done.
void reclaimer::advance(line &each, entries &free) noexcept {
    auto &first = each.unclaimed;
    auto &second = each.claimed;
    while (!first.empty() && claimed(first.front())) {
        first.front().epoch =
            epoch_.fetch_add(1, std::memory_order_acq_rel) + 1;
        second.splice(second.end(), first, first.begin());
    }
    while (!second.empty() && passed(second.front(), each.ring)) {
        free.splice(free.end(), second, second.begin());
        waiting_.fetch_sub(1, std::memory_order_relaxed);
    }
}

/// Deleters run without the lock.
void reclaimer::release_some(std::unique_lock<std::mutex> guard) noexcept {
    if (!guard)
        return; // another thread is at it
    entries free;
    for (auto &each : lines_)
        advance(each, free);
    guard.unlock();
    for (const auto &each : free)
        each.deleter(each.object);
}

std::size_t reclaimer::release() noexcept {
    release_some(std::unique_lock(lock_));
    return waiting();
}

} // namespace kevent
