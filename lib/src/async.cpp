// SPDX-License-Identifier: MIT
#include <kevent/async.hpp>

#include <limits>
#include <mutex>
#include <new>
#include <utility>

namespace kevent::detail {

namespace {
constexpr unsigned started = 1; // cancel() may act
constexpr unsigned done = 2;    // the time has come
constexpr unsigned stop = 4;    // cancel() was called

std::int64_t from_now(const loop &where, std::int64_t delay) noexcept {
    const auto now = where.rings().system().now();
    const auto most = std::numeric_limits<std::int64_t>::max() - now;
    return now + std::min(delay, most);
}
} // namespace

// --- time

bool time_awaiter::begin() noexcept {
    loop_ = loop::current();
    loop_->begun();
    waiting_ = true;
    loop_->arm(*this, relative_ ? from_now(*loop_, when_) : when_);
    if (!(state_.fetch_or(started, std::memory_order_acq_rel) & stop))
        return true;
    loop_->disarm(*this);
    loop_->finished();
    waiting_ = false;
    error_ = ECANCELED;
    return false;
}

/// In the loop's thread it is run soon, in whatever list it is then.
void time_awaiter::cancel() noexcept {
    if (state_.fetch_or(stop, std::memory_order_acq_rel) == started)
        loop_->post(*this);
}

/// One that was cancelled has been posted, or will be at once.
bool time_awaiter::expire() noexcept {
    return !(state_.fetch_or(done, std::memory_order_acq_rel) & stop);
}

void time_awaiter::run() {
    waiting_ = false;
    if (!(state_.load(std::memory_order_acquire) & done)) {
        loop_->disarm(*this);
        error_ = ECANCELED;
    }
    stop_.reset();
    loop_->finished();
    awaiting_.resume();
}

time_awaiter::~time_awaiter() {
    stop_.reset();
    if (!waiting_)
        return;
    loop_->disarm(*this);
    loop_->withdraw(*this);
    loop_->finished();
}

alarm::alarm(loop &where, nanoseconds delay, std::stop_source &what) noexcept
    : loop_(&where),
      what_(&what) {
    where.arm(*this, from_now(where, delay.count()));
}

// --- readiness

/// What a readiness source has as its cookie in place of the awaiter, which may
/// go away before an event that somebody has claimed is dealt with.  Slots are
/// never freed, and used again: an event that does not carry the id of the
/// present source is an old one.
///
/// The id is known before the source is enabled.  Whoever takes the awaiter out
/// (the event, or cancel(), under the lock) completes it.
class readiness_slot final : public handler {
public:
    /// A free one; null where memory is short.
    static readiness_slot *get() noexcept {
        auto &slots = all();
        const std::lock_guard guard(slots.lock);
        if (slots.free == nullptr)
            return new (std::nothrow) readiness_slot;
        return std::exchange(slots.free, slots.free->next_);
    }
    void put() noexcept {
        auto &slots = all();
        const std::lock_guard guard(slots.lock);
        next_ = std::exchange(slots.free, this);
    }

    void fill(readiness_awaiter &waiter, std::uint64_t id) noexcept {
        const std::lock_guard guard(lock_);
        waiter_ = &waiter;
        id_ = id;
    }
    /// The id, if that awaiter was still there; else 0.
    std::uint64_t clear(const readiness_awaiter &waiter) noexcept {
        const std::lock_guard guard(lock_);
        if (waiter_ != &waiter)
            return 0;
        waiter_ = nullptr;
        return std::exchange(id_, 0);
    }

private:
    struct pool {
        std::mutex lock;
        readiness_slot *free = nullptr;
    };
    static pool &all() noexcept {
        // For threads that outlive main().  Without memory for it nothing goes on.
        // NOLINTNEXTLINE(bugprone-unhandled-exception-at-new)
        static auto &one = *new pool;
        return one;
    }

    void on_event(const event &news) override;

    std::mutex lock_;
    readiness_awaiter *waiter_ = nullptr;
    std::uint64_t id_ = 0;
    readiness_slot *next_ = nullptr;
};

void readiness_slot::on_event(const event &news) {
    auto &here = *loop::current();
    readiness_awaiter *waiter = nullptr;
    {
        const std::lock_guard guard(lock_);
        if (news.id != id_)
            return;
        id_ = 0;
        waiter = std::exchange(waiter_, nullptr);
    }
    if (news.flags & KEVENT_EV_CLOSED)
        waiter->error_ = EBADF;
    else
        here.make(remove(news.id));
    waiter->events_ = news.events;
    here.begun();
    std::exchange(waiter->loop_, &here)->finished();
    here.post(*waiter);
    put();
}

bool readiness_awaiter::begin() noexcept {
    auto &here = *loop::current();
    auto *slot = readiness_slot::get();
    auto source = watch(fd_, events_).oneshot().disabled().home(here.home());
    source.cookie(static_cast<handler *>(slot));
    const auto id = slot != nullptr ? here.rings().add(source)
                                    : result<std::uint64_t>(errno_code(ENOMEM));
    if (!id) {
        if (slot != nullptr)
            slot->put();
        error_ = id.error().value();
        return false;
    }
    loop_ = &here;
    slot_ = slot;
    waiting_ = true;
    here.begun();
    slot->fill(*this, *id);
    if (state_.fetch_or(started, std::memory_order_acq_rel) & stop) {
        give_up();
        leave();
        return false;
    }
    here.make(enable(*id)); // and it may be over
    return true;
}

/// Was it in time?
bool readiness_awaiter::give_up() noexcept {
    const auto id = slot_->clear(*this);
    if (id == 0)
        return false;
    static_cast<void>(loop_->rings().remove(id));
    slot_->put();
    error_ = ECANCELED;
    return true;
}

void readiness_awaiter::leave() noexcept {
    waiting_ = false;
    loop_->finished();
}

void readiness_awaiter::cancel() noexcept {
    if (state_.fetch_or(stop, std::memory_order_acq_rel) == started &&
        give_up())
        loop_->post(*this);
}

void readiness_awaiter::run() {
    stop_.reset();
    leave();
    awaiting_.resume();
}

result<std::uint32_t> readiness_awaiter::await_resume() noexcept {
    stop_.reset();
    if (error_ != 0)
        return errno_code(error_);
    return std::uint32_t{events_};
}

readiness_awaiter::~readiness_awaiter() {
    stop_.reset();
    if (!waiting_)
        return;
    if (!give_up())
        loop_->withdraw(*this);
    leave();
}

} // namespace kevent::detail
