// SPDX-License-Identifier: MIT
#include <kevent/operation.hpp>

#include <kevent/loop.hpp>

#include <utility>

namespace kevent {

void jobs::push(job &last) noexcept {
    last.next_ = nullptr;
    (first_ == nullptr ? first_ : last_->next_) = &last;
    last_ = &last;
    size_++;
}

job &jobs::pop() noexcept {
    auto &oldest = *first_;
    first_ = oldest.next_;
    size_--;
    return oldest;
}

void jobs::remove(const job &unwanted) noexcept {
    for (auto left = size_; left != 0; left--)
        if (auto &each = pop(); &each != &unwanted)
            push(each);
}

/// The later becomes the first child of the earlier.  Neither has siblings.
timer *timers::meld(timer *one, timer *other) noexcept {
    if (one == nullptr || other == nullptr)
        return one == nullptr ? other : one;
    if (other->when_ < one->when_)
        std::swap(one, other);
    other->before_ = one;
    other->sibling_ = one->child_;
    if (one->child_ != nullptr)
        one->child_->before_ = other;
    one->child_ = other;
    return one;
}

/// In pairs, then the pairs from the last to the first.
timer *timers::meld_all(timer *siblings) noexcept {
    timer *pairs = nullptr;
    while (siblings != nullptr) {
        auto *one = siblings;
        auto *other = std::exchange(one->sibling_, nullptr);
        siblings = other == nullptr ? nullptr
                                    : std::exchange(other->sibling_, nullptr);
        auto *pair = meld(one, other);
        pair->sibling_ = std::exchange(pairs, pair);
    }
    timer *all = nullptr;
    while (pairs != nullptr) {
        auto *pair = pairs;
        pairs = std::exchange(pair->sibling_, nullptr);
        all = meld(all, pair);
    }
    if (all != nullptr)
        all->before_ = nullptr;
    return all;
}

void timers::push(timer &added) noexcept {
    added.child_ = added.sibling_ = added.before_ = nullptr;
    first_ = meld(first_, &added);
}

timer &timers::pop() noexcept {
    auto &earliest = *first_;
    first_ = meld_all(std::exchange(earliest.child_, nullptr));
    return earliest;
}

void timers::remove(timer &unwanted) noexcept {
    if (first_ == &unwanted) {
        pop();
        return;
    }
    auto *before = std::exchange(unwanted.before_, nullptr);
    auto *after = std::exchange(unwanted.sibling_, nullptr);
    (before->child_ == &unwanted ? before->child_ : before->sibling_) = after;
    if (after != nullptr)
        after->before_ = before;
    first_ = meld(first_, meld_all(std::exchange(unwanted.child_, nullptr)));
}

operation::~operation() {
    if (busy_)
        loop_->abandon(*this);
}

void operation::cancel() noexcept {
    const auto before = state_.fetch_or(stop, std::memory_order_acq_rel);
    if (before == started)
        loop_->cancel(id_);
}

/// The event may be taken by another thread before the submitter has the
/// kernel's answer: whoever comes second completes.
void operation::on_event(const event &news) {
    value_ = news.result;
    flags_ = news.flags;
    const auto before = state_.fetch_or(done, std::memory_order_acq_rel);
    if (before & started)
        loop::current()->complete(*this);
}

void operation::answered(std::int32_t error, std::uint64_t id) noexcept {
    auto &here = *loop_;
    id_ = id;
    if (error < 0) { // no event comes
        value_ = error;
        flags_ = 0;
        state_.fetch_or(started | done, std::memory_order_acq_rel);
        here.complete(*this);
        return;
    }
    const auto before = state_.fetch_or(started, std::memory_order_acq_rel);
    if (before & done)
        here.complete(*this);
    else if (before & stop)
        here.cancel(id);
}

bool operation::over() const noexcept {
    const auto both = started | done;
    return (state_.load(std::memory_order_acquire) & both) == both;
}

void operation::run() {
    const completion how(value_, flags_);
    busy_ = false;
    loop_->finished(*this);
    state_.store(0, std::memory_order_relaxed);
    on_complete(how);
}

} // namespace kevent
