// SPDX-License-Identifier: MIT
#include "kevent_worker.hpp"

#include "listener.hpp"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <thread>
#include <utility>

namespace httpd {

namespace {
using namespace std::chrono_literals;
using kevent::event;

/// The listening socket rests for so long when descriptors have run out.
constexpr auto pause_time = 100ms;
/// Connections accepted before others have their turn.
constexpr unsigned accept_limit = 64;
/// A timeout that finds unclaimed events looks again so much later.
constexpr instant look_again = 10'000'000;
/// If no read of ours ends, the limit of requests is tried again so much later.
constexpr auto retry_time = 50ms;

constexpr std::uint32_t connection_events = EPOLLIN | EPOLLOUT | EPOLLRDHUP;
constexpr std::uint32_t hangup_events = EPOLLRDHUP | EPOLLHUP | EPOLLERR;

/// The policy of that name, so that the threads do not all begin alike.
kevent::any_policy policy_of(const std::string &name, unsigned thread,
                             kevent::ring_work &work) {
    if (name == "round_robin")
        return kevent::round_robin(thread);
    if (name == "two_choices")
        return kevent::two_choices(thread + 1);
    return kevent::any_policy::named(name, &work).value();
}

/// Buffers for each thread.
std::size_t buffers_of(const kevent_world &world) {
    const auto bytes = std::size_t{world.wanted->buffers} << 20;
    return std::max<std::size_t>(
        bytes / buffer_pool::size / world.rings->size(), 1);
}

/// The CPUs of a node; none if they are not known.  Not in several threads at
/// once: libnuma fills a table.
cpu_set cpus_of(unsigned node) {
    cpu_set cpus(::numa_available() < 0 ? nullptr : ::numa_allocate_cpumask());
    if (cpus && ::numa_node_to_cpus(static_cast<int>(node), cpus.get()) != 0)
        cpus.reset();
    return cpus;
}
} // namespace

alarm::alarm(const kevent::queue &rings, unsigned ring, callback::function call)
    : rings_(&rings),
      ring_(ring),
      call_(std::move(call)),
      id_(rings.add(call_.source(kevent::after(1s), ring).disabled()).value()) {
}

void alarm::set(std::chrono::nanoseconds delay) {
    const auto soonest = std::max(delay, std::chrono::nanoseconds{1});
    rings_->modify(id_, call_.source(kevent::after(soonest), ring_)).value();
}

void kevent_peer::on_event(const event &news) {
    home->on_peer(*this, news);
}

void peer_read::on_complete(const kevent::completion &how) {
    whose_->home->on_read(*whose_, how);
}

kevent_worker::kevent_worker(kevent_world &world, unsigned index,
                             descriptor socket)
    : world_(&world),
      index_(index),
      start_(world.rings->ring(index).head()),
      cpus_(cpus_of(world.rings->ring(index).node())),
      loop_(*world.rings,
            {.ring = index, .steal = false, .reclaim = world.reclaim}),
      balancer_(*world.rings,
                policy_of(world.wanted->policy, index, world.work)),
      socket_(std::move(socket)),
      accept_([this](auto &) { accept_some(); }),
      wake_([](auto &) {}),
      resume_(*world.rings, index,
              [this](auto &) {
                  if (socket_)
                      world_->rings->enable(accept_id_).value();
              }),
      timeout_(*world.rings, index,
               [this](auto &) {
                   alarm_at_ = 0;
                   due_ = true;
               }),
      give_up_(*world.rings, index, [this](auto &) { forced_ = true; }),
      retry_(*world.rings, index,
             [this](auto &) {
                 retrying_ = false;
                 tries_++;
             }),
      buffers_(buffers_of(world)),
      times_(world.wanted->idle().count()) {
    const auto &rings = *world.rings;
    wake_id_ = rings.add(wake_.source(kevent::user_event(), index)).value();
    accept_id_ =
        rings
            .add(accept_.source(kevent::watch(socket_.get(), EPOLLIN), index)
                     .level())
            .value();
    world.accepting++;
}

kevent_worker::~kevent_worker() = default;

kevent::ring_view kevent_worker::ring() const {
    return world_->rings->ring(index_);
}

// --- accepting --------------------------------------------------------------

void kevent_worker::accept_some() {
    for (unsigned i = 0; i < accept_limit && socket_; i++) {
        if (world_->connections >= world_->connections_limit)
            return pause_accepting();
        auto accepted = accept_from(socket_);
        if (accepted) {
            counts_.accepted++;
            place(std::move(accepted));
        } else if (exhausted(errno)) {
            return pause_accepting();
        } else if (errno == EAGAIN) {
            return;
        }
    }
}

/// From the moment that the source is added, the connection is its home's.
void kevent_worker::place(descriptor socket) {
    auto &home = *world_->workers[balancer_.home()];
    auto made = std::make_unique<peer>(home, std::move(socket), *world_->pages,
                                       home.traffic_, home.buffers_);
    auto source = kevent::watch(made->socket.get(), connection_events);
    source.home(home.index_).cookie(static_cast<kevent::handler *>(made.get()));
    home.open_.fetch_add(1, std::memory_order_release);
    world_->connections++;
    if (world_->rings->add(source)) {
        static_cast<void>(made.release());
        return;
    }
    home.open_--;
    world_->connections--;
    world_->settle_work(home.index_);
    counts_.refused++;
}

/// The level source would report what cannot be accepted again and again.
void kevent_worker::pause_accepting() {
    counts_.paused++;
    world_->rings->disable(accept_id_).value();
    resume_.set(pause_time);
}

// --- connections ------------------------------------------------------------

/// The kernel's locks order what another thread did to a connection before it
/// placed it here, and our events of it.  The load says so to tools that do not
/// see the kernel; its pair is in place().
void kevent_worker::on_peer(peer &who, const event &news) {
    static_cast<void>(open_.load(std::memory_order_acquire));
    if (who.closed)
        return;
    if (who.id == 0)
        adopt(who, news.id);
    if ((news.events & (EPOLLHUP | EPOLLERR)) != 0 && who.talk.file().reading())
        return close(who);
    go_on(who, who.talk.ready((news.events & hangup_events) != 0));
}

void kevent_worker::adopt(peer &who, std::uint64_t id) {
    who.id = id;
    counts_.adopted++;
}

/// The server is to end: what follows that answer?
connection::next kevent_worker::hurry(peer &who, connection::next what) const {
    if (forced_)
        return connection::next::close;
    return what == connection::next::wait ? who.talk.wind_down() : what;
}

void kevent_worker::go_on(peer &who, connection::next what) {
    if (draining_)
        what = hurry(who, what);
    if (what != connection::next::close &&
        (who.talk.sending() || who.buffer_link::is_linked()))
        read_on(who);
    switch (what) {
    case connection::next::wait:
        if (times_.rest(who, who.talk.moved()))
            who.suspect = false;
        return;
    case connection::next::linger:
        times_.linger(who);
        return set_next_alarm();
    case connection::next::again:
        return times_.queue(who);
    case connection::next::close:
        return close(who);
    }
}

/// The client learns it at once.
void kevent_worker::close(peer &who) {
    who.link::unlink();
    who.buffer_link::unlink();
    who.closed = true;
    if (!who.talk.file().reading())
        return bury(who);
    who.read.cancel();
    ::shutdown(who.socket.get(), SHUT_RDWR);
}

/// The source goes, and with it the descriptor; the object follows when no
/// event of the batch can name it any more.
void kevent_worker::bury(peer &who) {
    who.talk.drop();
    const int fd = who.socket.release();
    std::unique_ptr<peer> owned(&who);
    world_->reclaim->retire(kevent::remove_and_close(who.id, fd), owned, index_)
        .value();
    counts_.closed++;
    world_->connections--;
    world_->settle_work(index_);
    open_--;
}

// --- reading ----------------------------------------------------------------

/// Reads what can be read now, or stands in the right line.
void kevent_worker::read_on(peer &who) {
    who.buffer_link::unlink();
    const auto &file = who.talk.file();
    if (hungry_.empty() || !file.starving())
        if (const auto wanted = refused_ ? std::nullopt : who.talk.next_read())
            return submit(who, *wanted);
    if (file.starving()) {
        reads_.starved++;
        hungry_.push_back(who);
    } else if (file.has_spare()) {
        holding_.push_back(who);
    }
}

void kevent_worker::submit(peer &who, const file_read &what) {
    loop_.submit(
        kevent::read(what.file, what.room.data(), what.room.size(), what.offset)
            .home(index_),
        who.read);
}

void kevent_worker::on_read(peer &who, const kevent::completion &how) {
    if (how.error() == kevent::errno_code(EAGAIN)) {
        reads_.refused++;
        refused_ = true;
        who.talk.file().put_back();
        return who.closed ? bury(who) : read_on(who);
    }
    reads_.made++;
    reads_.cached += (how.flags() & KEVENT_EV_INLINE) != 0;
    tries_ += 2;
    const auto bytes = how ? static_cast<ssize_t>(*how) : -1;
    if (who.closed) {
        reads_.abandoned++;
        who.talk.file().put_back();
        return bury(who);
    }
    reads_.failed += bytes <= 0;
    go_on(who, who.talk.filled(bytes));
}

/// Those who wait in line.  Under the limit of requests, each read that ends
/// lets two try, and so does time.
void kevent_worker::feed() {
    while (!hungry_.empty() && (!refused_ || tries_ != 0)) {
        auto &first = hungry_.front();
        if (const auto wanted = first.talk.next_read()) {
            first.buffer_link::unlink();
            tries_ -= refused_;
            submit(first, *wanted);
        } else if (!holding_.empty()) {
            auto &last = holding_.front();
            last.buffer_link::unlink();
            last.talk.file().surrender();
        } else {
            break;
        }
    }
    tries_ = 0;
    if (hungry_.empty()) {
        refused_ = false;
    } else if (refused_ && !std::exchange(retrying_, true)) {
        retry_.set(retry_time);
    }
}

// --- timeouts ---------------------------------------------------------------

void kevent_worker::set_alarm(instant when) {
    if (alarm_at_ != 0 && alarm_at_ <= when)
        return;
    alarm_at_ = when;
    const auto delay = std::max<instant>(when - coarse_now(), 1'000'000);
    timeout_.set(std::chrono::nanoseconds{delay});
}

/// The alarm is not moved when its connection does something: it is looked at
/// when it goes off.
void kevent_worker::set_next_alarm() {
    if (const auto next = times_.next())
        set_alarm(*next);
}

/// After the batch, so that nothing taken from the ring is unheard.
void kevent_worker::expire() {
    if (std::exchange(due_, false) && !expire_all())
        set_alarm(coarse_now() + look_again);
    else if (alarm_at_ == 0)
        set_next_alarm();
}

/// False if there is news that must be heard first.
bool kevent_worker::expire_all() {
    while (auto *who = times_.overdue()) {
        if (has_stalled(*who)) {
            // Its event is in the ring, or may be about to be.
            if (ring().backlog() != 0 || !std::exchange(who->suspect, true))
                return false;
            counts_.stalled++;
        }
        who->talk.time_out();
        counts_.timed_out++;
        close(*who);
    }
    return true;
}

/// What a connection waited for is there, and it was not told?
bool kevent_worker::has_stalled(const peer &who) {
    pollfd socket{who.socket.get(), who.talk.awaits(), 0};
    return socket.events != 0 && ::poll(&socket, 1, 0) != 0;
}

// --- the loop ---------------------------------------------------------------

void kevent_worker::run() {
    if (cpus_)
        ::numa_sched_setaffinity(0, cpus_.get());
    while (!finished()) {
        times_.begin_turn();
        look();
        times_.take_turns(
            [this](peer &who) { go_on(who, who.talk.advance()); });
        expire();
        if (world_->stopping && !draining_)
            begin_drain();
        if (forced_)
            times_.for_each([this](peer &who) { close(who); });
        feed();
        publish();
    }
}

void kevent_worker::settle() {
    while (handle_batch(0ns) != 0)
        continue;
    publish();
}

/// Handles a batch; sleeps if nothing comes for a while.
void kevent_worker::look() {
    const bool busy = times_.busy();
    for (unsigned i = 0; i < patience_.tries(); i++) {
        if (handle_batch(0ns) != 0) {
            if (i != 0)
                patience_.paid();
            return;
        }
        if (busy)
            return;
        std::this_thread::yield();
    }
    patience_.in_vain();
    handle_batch(-1ns);
}

unsigned kevent_worker::handle_batch(std::chrono::nanoseconds timeout) {
    auto count = loop_.run_once(timeout);
    if (!count && count.error() == kevent::errno_code(EINTR))
        return 0;
    return count.value();
}

/// A ring's words and what was collected from it fit together here, where
/// nobody else collects.
void kevent_worker::publish() {
    const auto &collected = loop_.statistics();
    const auto view = ring();
    const std::lock_guard guard(lock_);
    published_.sent = traffic_;
    published_.connections = counts_;
    published_.reads = reads_;
    published_.ring = {.index = index_,
                       .node = view.node(),
                       .posted = view.tail() - start_,
                       .claimed = view.head() - start_,
                       .ring_events = collected.ring_events,
                       .level_events = collected.level_events,
                       .ioctls = collected.ioctls,
                       .sleeps = collected.ioctls - collected.sweeps,
                       .pending = view.pending()};
}

snapshot kevent_worker::numbers() const {
    const std::lock_guard guard(lock_);
    return published_;
}

void kevent_worker::wake() noexcept {
    static_cast<void>(world_->rings->trigger(wake_id_));
}

// --- the end ----------------------------------------------------------------

/// Takes what has been accepted by the system already; then nobody places
/// connections from here.  The last one to stop wakes those who wait for that.
void kevent_worker::begin_drain() {
    draining_ = true;
    accept_some();
    world_->rings->remove_and_close(accept_id_, socket_.release()).value();
    give_up_.set(world_->wanted->drain());
    times_.for_each_at_rest(
        [this](peer &who) { go_on(who, connection::next::wait); });
    if (--world_->accepting == 0)
        for (auto &worker : world_->workers)
            worker->wake();
}

bool kevent_worker::finished() const {
    return draining_ && world_->accepting == 0 && open_ == 0;
}

} // namespace httpd
