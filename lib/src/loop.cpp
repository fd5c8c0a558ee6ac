// SPDX-License-Identifier: MIT
#include <kevent/async.hpp>

#include <algorithm>
#include <cassert>
#include <cstdlib>
#include <utility>

namespace kevent {

namespace {
/// What a request costs beside its bytes, in bytes.
constexpr std::uint64_t request_work = 4096;

/// The cookie of every loop's wakeup, no handler's address: a loop that shares
/// the ring may find it when the one it is for has gone.
constexpr std::uint64_t wakeup_cookie = 1;

/// In the count of what is unfinished: the loop ends, and may have to be woken
/// for that.
constexpr std::size_t ending = ~(~std::size_t{0} >> 1);
} // namespace

/// The loop runs in this thread for as long as this lives.
struct loop::here {
    explicit here(loop &runs) noexcept
        : before(std::exchange(current_, &runs)) {}
    here(const here &) = delete;
    here &operator=(const here &) = delete;
    ~here() { current_ = before; }

    loop *before;
};

struct loop::outcome {
    bool ended = false;
    std::exception_ptr error;
};

/// The outermost coroutine: nobody awaits it, its end destroys it.
struct loop::root {
    struct promise_type {
        static root get_return_object() noexcept { return {}; }
        static std::suspend_never initial_suspend() noexcept { return {}; }
        static std::suspend_never final_suspend() noexcept { return {}; }
        static void return_void() noexcept {}
        [[noreturn]] static void unhandled_exception() noexcept {
            std::abort();
        }
        [[nodiscard]] const std::stop_token *token() const noexcept {
            return heeded;
        }
        void heed(const std::stop_token *token) noexcept { heeded = token; }

        const std::stop_token *heeded = nullptr;
    };
};

/// The wakeup is a level event, which is reported until it is acknowledged: a
/// loop that shares the ring cannot swallow it.
loop::loop(const queue &rings, const collector_options &options,
           std::optional<any_policy> homes, ring_work *work)
    : queue_(&rings),
      work_(work),
      collector_(rings, options),
      homes_(homes ? *homes : pinned(collector_.home())) {
    auto added = rings.add(
        user_event().level().home(collector_.home()).cookie(wakeup_cookie));
    if (!added)
        detail::fail(added.error());
    wakeup_ = *added;
}

loop::~loop() {
    {
        const here guard(*this);
        stop_tasks();
        unfinished_.fetch_or(ending, std::memory_order_acq_rel);
        while (!idle())
            must(step(nanoseconds{-1}));
        flush();
    }
    static_cast<void>(queue_->remove(wakeup_));
}

/// What the kernel still names cannot be left behind.
void loop::must(const result<unsigned> &collected) noexcept {
    if (!collected && collected.error() != errno_code(EINTR))
        std::abort();
}

// --- from any thread

/// Once others see the flag, the loop may end.
void loop::stop() noexcept {
    const auto &rings = *queue_;
    const auto wakeup = wakeup_;
    if (!stopping_.exchange(true, std::memory_order_acq_rel))
        static_cast<void>(rings.trigger(wakeup));
}

/// One wakeup wakes one sleeper.  If that is another loop than the one meant,
/// which shares the ring, it wakes the next.
void loop::woken(std::uint64_t id) noexcept {
    static_cast<void>(id == wakeup_ ? queue_->acknowledge(id)
                                    : queue_->trigger(id));
}

/// The last to leave a loop that waits for its end wakes it, unless it is that.
void loop::finished() noexcept {
    const auto &rings = *queue_;
    const auto wakeup = wakeup_;
    const bool elsewhere = current_ != this;
    const auto before = unfinished_.fetch_sub(1, std::memory_order_acq_rel);
    if (before == ending + 1 && elsewhere)
        static_cast<void>(rings.trigger(wakeup));
}

/// The word in the inbox of a loop that sleeps: no job's address.
job *loop::asleep() noexcept {
    return reinterpret_cast<job *>(&inbox_);
}

void loop::post(job &work) noexcept {
    if (current_ == this)
        return ready_.push(work);
    // Once the job is there, the loop may run it and end.
    const auto &rings = *queue_;
    const auto wakeup = wakeup_;
    auto *const sleeps = asleep();
    auto *seen = inbox_.load(std::memory_order_relaxed);
    do
        work.next_ = seen == sleeps ? nullptr : seen;
    while (!inbox_.compare_exchange_weak(seen, &work, std::memory_order_acq_rel,
                                         std::memory_order_relaxed));
    if (seen == sleeps)
        static_cast<void>(rings.trigger(wakeup));
}

void loop::spawn(task<void> work, std::stop_token token) {
    begin(std::move(work), std::move(token), nullptr);
}

// --- submitting

void loop::place(change &entry, const request &what, operation &done) noexcept {
    entry = what;
    entry.flags &= ~std::uint32_t{KEVENT_LINK};
    entry.cookie =
        reinterpret_cast<std::uintptr_t>(static_cast<handler *>(&done));
    done.work_ = 0;
    if (entry.ring == KEVENT_RING_LOCAL) {
        done.work_ = request_work + what.bytes();
        entry.ring = homes_.choose(*queue_, {what.buffer(), done.work_});
    }
    done.ring_ = entry.ring;
    done.loop_ = this;
    done.busy_ = true;
    begun();
}

void loop::submit(const request &what, operation &done) noexcept {
    change entry;
    place(entry, what, done);
    gather(entry, &done);
}

void loop::submit(std::span<const request> chain,
                  std::span<operation *const> done) noexcept {
    assert(chain.size() <= max_chain && chain.size() == done.size());
    if (chain.size() > batch - gathered_)
        flush();
    change entry;
    for (std::size_t i = 0; i < chain.size(); i++) {
        place(entry, chain[i], *done[i]);
        if (i + 1 != chain.size())
            entry.flags |= KEVENT_LINK;
        gather(entry, done[i]);
    }
}

void loop::make(const change &entry) noexcept {
    gather(entry, nullptr);
}

void loop::gather(const change &entry, operation *owner) noexcept {
    if (gathered_ == batch)
        flush();
    changes_[gathered_] = entry;
    owners_[gathered_++] = owner;
}

/// Operations learn the kernel's answers.  Those that were cancelled meanwhile
/// gather changes anew, in places that have been read.
void loop::flush() noexcept {
    while (gathered_ != 0) {
        const auto made = queue_->change(std::span(changes_).first(gathered_));
        const auto answered = made ? *made : 0;
        const auto error = made ? EINTR : made.error().value();
        const auto count = std::exchange(gathered_, 0);
        for (unsigned i = 0; i < count; i++) {
            const auto &entry = changes_[i];
            if (auto *owner = owners_[i])
                owner->answered(i < answered ? entry.result : -error, entry.id);
        }
    }
}

void loop::complete(operation &ended) noexcept {
    ended.taker_ = this;
    ready_.push(ended);
}

void loop::finished(const operation &ended) noexcept {
    if (work_ != nullptr && ended.work_ != 0)
        work_->done(ended.ring_, ended.work_);
    finished();
}

void loop::cancel(std::uint64_t id) noexcept {
    if (current_ == this)
        gather(kevent::cancel(id), nullptr);
    else
        static_cast<void>(queue_->cancel(id));
}

/// Other tasks do not go on meanwhile.
void loop::abandon(operation &unwanted) noexcept {
    const here guard(*this);
    unwanted.cancel();
    while (!unwanted.over())
        must(take_events(nanoseconds{-1}));
    unwanted.taker_->withdraw(unwanted);
    finished(unwanted);
}

// --- timers and jobs

void loop::arm(timer &what, std::int64_t when) noexcept {
    what.when_ = when;
    timers_.push(what);
}

void loop::disarm(timer &what) noexcept {
    if (timers_.contains(what))
        timers_.remove(what);
    else
        withdraw(what);
}

void loop::withdraw(const job &work) noexcept {
    take_inbox();
    ready_.remove(work);
}

void loop::expire() noexcept {
    if (timers_.empty())
        return;
    const auto now = queue_->system().now();
    while (!timers_.empty() && timers_.next() <= now)
        if (auto &expired = timers_.pop(); expired.expire())
            ready_.push(expired);
}

/// The newest is on top.
void loop::take_inbox() noexcept {
    if (inbox_.load(std::memory_order_relaxed) == nullptr)
        return;
    auto *left = inbox_.exchange(nullptr, std::memory_order_acq_rel);
    if (left == asleep())
        return;
    job *oldest = nullptr;
    while (left != nullptr)
        oldest = std::exchange(left, std::exchange(left->next_, oldest));
    while (oldest != nullptr)
        ready_.push(*std::exchange(oldest, oldest->next_));
}

/// Those that are ready now: what they make ready has its turn after the next
/// collection.
void loop::run_ready() {
    for (auto left = ready_.size(); left != 0 && !ready_.empty(); left--)
        ready_.pop().run();
}

// --- running

/// How long to sleep.  Who posts a job later wakes us.
nanoseconds loop::patience(nanoseconds timeout) noexcept {
    if (!ready_.empty())
        return nanoseconds{0};
    if (!timers_.empty()) {
        const auto left = timers_.next() - queue_->system().now();
        const nanoseconds next{std::max<std::int64_t>(left, 0)};
        timeout = timeout.count() < 0 ? next : std::min(timeout, next);
    }
    job *nothing = nullptr;
    if (timeout.count() != 0 &&
        !inbox_.compare_exchange_strong(nothing, asleep(),
                                        std::memory_order_acq_rel))
        return nanoseconds{0};
    return timeout;
}

/// Submits, collects and calls handlers; first those that are left of a batch
/// whose handler threw, or destroyed an operation.
///
/// Not in one call: it would sleep although an entry was refused, and its
/// operations could not be cancelled before it wakes, for want of their ids.
result<unsigned> loop::take_events(nanoseconds timeout) {
    flush();
    if (next_ == taken_) {
        const auto count = collector_.collect(events_, patience(timeout));
        take_inbox();
        if (!count)
            return count;
        next_ = 0;
        taken_ = *count;
    }
    const auto count = taken_ - next_;
    while (next_ != taken_) {
        const auto each = events_[next_++];
        if (each.cookie == wakeup_cookie)
            woken(each.id);
        else if (each.cookie != 0)
            reinterpret_cast<handler *>(each.cookie)->on_event(each);
    }
    return count;
}

result<unsigned> loop::step(nanoseconds timeout) {
    auto count = take_events(timeout);
    expire();
    run_ready();
    return count;
}

result<unsigned> loop::turn(nanoseconds timeout) {
    auto count = step(timeout);
    if (failure_)
        std::rethrow_exception(std::exchange(failure_, nullptr));
    return count;
}

result<unsigned> loop::run_once(nanoseconds timeout) {
    const here guard(*this);
    auto count = turn(timeout);
    flush();
    return count;
}

result<void> loop::run() {
    const here guard(*this);
    while (!stopping()) {
        const auto count = turn(nanoseconds{-1});
        if (!count && count.error() != errno_code(EINTR))
            return count.error();
    }
    flush();
    return {};
}

bool loop::idle() const noexcept {
    const auto left = unfinished_.load(std::memory_order_acquire) & ~ending;
    return left == 0 && ready_.empty() &&
           inbox_.load(std::memory_order_relaxed) == nullptr;
}

// --- tasks

namespace {
struct pass_on {
    std::stop_source *to;
    void operator()() const noexcept { to->request_stop(); }
};
using link = std::stop_callback<pass_on>;
} // namespace

/// Begins and ends in the loop's thread.
loop::root loop::begin(task<void> work, std::stop_token token, outcome *ended) {
    begun();
    co_await resume_on(*this);
    std::stop_source both(std::nostopstate);
    std::optional<link> one;
    std::optional<link> other;
    auto heeded = tasks_stop_.get_token();
    if (token.stop_possible()) {
        both = std::stop_source();
        one.emplace(token, pass_on{&both});
        other.emplace(heeded, pass_on{&both});
        heeded = both.get_token();
    }
    co_await detail::heed{&heeded};
    detail::all_of<task<void>> all(1, work);
    co_await all;
    if (current_ != this)
        co_await resume_on(*this);
    const auto error = all.error(work);
    if (ended != nullptr)
        *ended = {true, error};
    else if (!failure_)
        failure_ = error;
    finished();
}

/// What a handler throws does not leave the main task behind.
void loop::drive(task<void> main) {
    struct driven {
        loop &where;
        std::stop_source source;
        outcome main;

        ~driven() {
            source.request_stop();
            while (!main.ended)
                where.must(where.step(nanoseconds{-1}));
        }
    };
    const here guard(*this);
    driven all{*this, {}, {}};
    begin(std::move(main), all.source.get_token(), &all.main);
    while (!all.main.ended) {
        const auto count = turn(nanoseconds{-1});
        if (!count && count.error() != errno_code(EINTR))
            detail::fail(count.error());
    }
    flush();
    if (all.main.error)
        std::rethrow_exception(all.main.error);
}

} // namespace kevent
