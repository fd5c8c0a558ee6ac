// SPDX-License-Identifier: MIT
#include "fake_kernel.hpp"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <new>
#include <unordered_map>

namespace kevent::test {

namespace {
constexpr std::size_t page = 4096;
constexpr std::int64_t timer_floor = 100'000;
constexpr std::size_t default_bytes = 65536;

constexpr std::size_t pages(std::size_t bytes) {
    return (bytes + page - 1) / page * page;
}

struct free_pages {
    void operator()(void *area) const {
        ::operator delete (area, std::align_val_t{page});
    }
};
using area = std::unique_ptr<std::byte, free_pages>;

area allocate(std::size_t bytes) {
    auto *made = ::operator new (bytes, std::align_val_t{page});
    std::memset(made, 0, bytes);
    return area(static_cast<std::byte *>(made));
}
} // namespace

struct fake_queue {
    kevent_setup setup{};
    area ring_area;
    area claim_area;
    std::vector<fake_ring> rings;
    std::unordered_map<std::uint64_t, std::unique_ptr<fake_source>> sources;
    std::map<std::uint64_t, std::unique_ptr<fake_source>> requests;
    std::set<fake_source *> armed;
    std::map<std::uint32_t, kevent_buffer> buffers;
    std::uint64_t next_id = 1;

    kevent_ring *header(unsigned index) const {
        return reinterpret_cast<kevent_ring *>(
            ring_area.get() + std::size_t{index} * setup.ring_bytes);
    }
    fake_ring &home(const fake_source &source) {
        return rings[source.settings.ring];
    }
    /// Forgets requests whose event is in the ring.
    void forget_ended() {
        std::erase_if(requests, [](const auto &each) {
            return each.second->ended && !each.second->waiting;
        });
    }
    std::span<fake_ring> range(std::uint32_t ring) {
        return ring == KEVENT_RING_ANY ? std::span(rings)
                                       : std::span(rings).subspan(ring, 1);
    }
};

// --- descriptors and memory

int fake_kernel::open() noexcept {
    if (open_error_ != 0)
        return -open_error_;
    const lock guard(lock_);
    queues_[++next_fd_] = std::make_shared<fake_queue>();
    return next_fd_;
}

int fake_kernel::close(int fd) noexcept {
    const lock guard(lock_);
    return queues_.erase(fd) + files_.erase(fd) != 0 ? 0 : -EBADF;
}

std::size_t fake_kernel::alive() {
    const lock guard(lock_);
    return queues_.size() + files_.size() + mappings_.size();
}

void *fake_kernel::map(int fd, std::uint64_t offset, std::size_t bytes,
                       bool writable, int &error) noexcept {
    const lock guard(lock_);
    const auto found = queues_.find(fd);
    error = -EINVAL;
    if (const auto failure = failures_[offset]) {
        error = -failure;
        return nullptr;
    }
    if (found == queues_.end() || found->second->rings.empty())
        return nullptr;
    const auto &queue = *found->second;
    const bool claims = offset == KEVENT_MMAP_CLAIMS;
    const auto each = claims ? queue.setup.claim_bytes : queue.setup.ring_bytes;
    if (writable != claims || bytes != queue.rings.size() * each)
        return nullptr;
    error = 0;
    auto *address = (claims ? queue.claim_area : queue.ring_area).get();
    mappings_[address] = found->second;
    return address;
}

int fake_kernel::unmap(void *address, std::size_t) noexcept {
    const lock guard(lock_);
    return mappings_.erase(address) != 0 ? 0 : -EINVAL;
}

kevent_ring &fake_kernel::header(int fd, unsigned ring) {
    const lock guard(lock_);
    return *queues_.at(fd)->header(ring);
}

kevent_setup &fake_kernel::setup(int fd) {
    const lock guard(lock_);
    return queues_.at(fd)->setup;
}

// --- the world around

int fake_kernel::memory_node(const void *address) noexcept {
    const lock guard(lock_);
    const auto found = places_.find(address);
    return found == places_.end() ? -ENOENT : found->second;
}

namespace {
void do_once(const std::function<void()> *&what) {
    if (what != nullptr)
        (*std::exchange(what, nullptr))();
}
} // namespace

std::int64_t fake_kernel::now() noexcept {
    do_once(meanwhile);
    clock_reads++;
    const lock guard(lock_);
    return time_;
}

void fake_kernel::advance(nanoseconds time) {
    const lock guard(lock_);
    time_ += time.count();
    for (auto &each : queues_)
        expire(*each.second);
    changed_.notify_all();
}

void fake_kernel::fail(unsigned long request, int error) {
    const lock guard(lock_);
    failures_[request] = error;
}

int fake_kernel::make_file(std::uint32_t ready) {
    const lock guard(lock_);
    files_[++next_fd_] = std::make_shared<fake_file>();
    files_.at(next_fd_)->ready = ready;
    return next_fd_;
}

void fake_kernel::announce(int fd, std::uint32_t bits) {
    const lock guard(lock_);
    auto &file = *files_.at(fd);
    file.ready |= bits;
    wake_all(file, bits, true);
}

void fake_kernel::announce_without_key(int fd, std::uint32_t bits) {
    const lock guard(lock_);
    auto &file = *files_.at(fd);
    file.ready |= bits;
    wake_all(file, bits, false);
}

void fake_kernel::drop(int fd) {
    const lock guard(lock_);
    const auto file = files_.at(fd);
    files_.erase(fd);
    for (auto &queue : queues_)
        std::erase_if(queue.second->sources, [&](const auto &each) {
            auto &source = *each.second;
            if (source.file != file)
                return false;
            auto &ring = queue.second->home(source);
            ring.forget(source);
            ring.count_source(-1);
            ring.close(source);
            return true;
        });
    changed_.notify_all();
}

void fake_kernel::settle(int fd, std::uint32_t bits) {
    const lock guard(lock_);
    auto &file = *files_.at(fd);
    file.ready &= ~bits;
    if (!file.positions && (bits & EPOLLIN))
        file.contents.clear();
}

// --- news

namespace {
void tell_file(fake_queue &queue, fake_source &source, std::uint32_t key) {
    auto &ring = queue.home(source);
    const auto bits = source.poll(key);
    if (!source.enabled || bits == 0)
        return;
    if (source.level())
        return ring.list(source);
    source.bits |= bits;
    ring.post(source);
}

void tell_gathered(fake_queue &queue, fake_source &source) {
    auto &ring = queue.home(source);
    if (source.level())
        ring.list(source);
    else
        ring.post(source);
}

void tell_value(fake_queue &queue, fake_source &source, std::int64_t value) {
    const bool latest = source.settings.flags & KEVENT_LATEST;
    source.value = latest ? value : source.value + value;
    source.gathered = true;
    if (source.enabled)
        tell_gathered(queue, source);
}

/// A wakeup that does not say what happened.
void tell_vaguely(fake_queue &queue, fake_source &source) {
    if (!source.enabled)
        return;
    if (source.level())
        return queue.home(source).list(source);
    if (!std::exchange(source.poll_again, true))
        queue.home(source).count_poll_again(1);
}
} // namespace

void fake_kernel::wake_all(const fake_file &file, std::uint32_t bits,
                           bool keyed) {
    for (auto &queue : queues_)
        for (auto &each : queue.second->sources)
            if (each.second->file.get() == &file) {
                if (keyed)
                    tell_file(*queue.second, *each.second, bits);
                else
                    tell_vaguely(*queue.second, *each.second);
            }
    go_on(file, ~0U);
    changed_.notify_all();
}

void fake_kernel::expire(fake_queue &queue) {
    const auto armed = queue.armed;
    for (auto *timer : armed) {
        if (timer->expiry > time_)
            continue;
        const auto period = static_cast<std::int64_t>(timer->settings.period);
        const auto times = period ? 1 + (time_ - timer->expiry) / period : 1;
        timer->expiry += times * period;
        tell_value(queue, *timer, times);
        if (period == 0 || !timer->enabled)
            queue.armed.erase(timer);
    }
}

void fake_kernel::arm(fake_queue &queue, fake_source &timer) {
    const auto &settings = timer.settings;
    const auto value = static_cast<std::int64_t>(settings.value);
    const auto period = static_cast<std::int64_t>(settings.period);
    if (settings.flags & KEVENT_ABSTIME)
        timer.expiry = std::max<std::int64_t>(value, 1);
    else
        timer.expiry = time_ + (value != 0 ? value : period);
    queue.armed.insert(&timer);
}

void fake_kernel::enable(fake_queue &queue, fake_source &source) {
    source.enabled = true;
    if (source.file)
        tell_file(queue, source, source.file->ready);
    if (source.gathered)
        tell_gathered(queue, source);
    if (source.is(KEVENT_KIND_TIMER))
        arm(queue, source);
    changed_.notify_all();
}

// --- changes

std::uint32_t fake_kernel::home_of(const fake_queue &queue,
                                   std::uint32_t ring) const {
    if (ring == KEVENT_RING_LOCAL)
        return queue.header(0)->ring_of_node[node_ % KEVENT_MAX_NODES];
    return ring;
}

/// A chain is begun before its later entries are looked at.
int fake_kernel::change_all(fake_queue &queue, std::span<change> entries) {
    fake_source *before = nullptr; // the end of the chain that goes on
    bool broken = false;
    for (auto &each : entries) {
        const bool submits = each.op == KEVENT_OP_SUBMIT;
        if (before == nullptr)
            queue.forget_ended();
        if (submits && broken)
            each.result = -ECANCELED;
        else
            each.result =
                submits ? submit(queue, each, before) : change_one(queue, each);
        const bool more = submits && (each.flags & KEVENT_LINK);
        broken = more && (broken || each.result < 0);
        before = more && !broken ? before : nullptr;
        changes_made++;
    }
    queue.forget_ended();
    return static_cast<int>(entries.size());
}

int fake_kernel::change_one(fake_queue &queue, change &entry) {
    if (entry.op == KEVENT_OP_ADD)
        return add(queue, entry);
    if (entry.op == KEVENT_OP_CANCEL)
        return entry.flags & KEVENT_CANCEL_FILE ? cancel_file(queue, entry)
                                                : cancel(queue, entry);
    const auto found = queue.sources.find(entry.id);
    if (found == queue.sources.end())
        return -ENOENT;
    return change_source(queue, entry, *found->second);
}

int fake_kernel::change_source(fake_queue &queue, change &entry,
                               fake_source &source) {
    switch (entry.op) {
    case KEVENT_OP_MODIFY:
        return modify(queue, entry, source);
    case KEVENT_OP_REMOVE:
        return remove(queue, entry, source);
    case KEVENT_OP_ENABLE:
        enable(queue, source);
        return 0;
    case KEVENT_OP_DISABLE:
        source.enabled = false;
        queue.armed.erase(&source);
        queue.home(source).unlist(source);
        return 0;
    case KEVENT_OP_TRIGGER:
        return trigger(queue, entry, source);
    case KEVENT_OP_ACK:
        return acknowledge(queue, source);
    default:
        return -EINVAL;
    }
}

namespace {
/// The rules for ADD and MODIFY.
int check(const change &entry) {
    const bool both =
        (entry.flags & KEVENT_ONESHOT) && (entry.flags & KEVENT_LEVEL);
    if (both || entry.buffer != 0)
        return -EINVAL;
    switch (entry.kind) {
    case KEVENT_KIND_FILE:
        return entry.events != 0 ? 0 : -EINVAL;
    case KEVENT_KIND_TIMER:
        return entry.value != 0 || entry.period != 0 ? 0 : -EINVAL;
    case KEVENT_KIND_USER:
        return 0;
    default:
        return -EINVAL;
    }
}

void settle_period(change &settings) {
    if (settings.period != 0)
        settings.period = std::max<std::uint64_t>(settings.period, timer_floor);
}
} // namespace

int fake_kernel::add(fake_queue &queue, change &entry) {
    const auto ring = home_of(queue, entry.ring);
    if (entry.id != 0 || ring >= queue.rings.size())
        return -EINVAL;
    if (const int error = check(entry))
        return error;
    auto made = std::make_unique<fake_source>();
    if (entry.kind == KEVENT_KIND_FILE) {
        const auto found = files_.find(entry.fd);
        if (found == files_.end())
            return -EBADF;
        made->file = found->second;
    }
    auto &source = *made;
    source.settings = entry;
    source.settings.ring = ring;
    settle_period(source.settings);
    source.id = entry.id = queue.next_id++;
    queue.sources.emplace(entry.id, std::move(made));
    queue.rings[ring].count_source(1);
    if (!(entry.flags & KEVENT_DISABLED))
        enable(queue, source);
    return 0;
}

int fake_kernel::modify(fake_queue &queue, const change &entry,
                        fake_source &source) {
    if (entry.kind != source.settings.kind || entry.fd != 0 || entry.ring != 0)
        return -EINVAL;
    if (const int error = check(entry))
        return error;
    queue.home(source).forget(source);
    queue.armed.erase(&source);
    auto settings = entry;
    settings.ring = source.settings.ring;
    settle_period(settings);
    source.settings = settings;
    source.enabled = false;
    source.posted = false;
    if (!(entry.flags & KEVENT_DISABLED))
        enable(queue, source);
    return 0;
}

int fake_kernel::remove(fake_queue &queue, const change &entry,
                        fake_source &source) {
    if (entry.flags & KEVENT_CLOSE_FD) {
        const auto found = files_.find(entry.fd);
        if (found == files_.end() || found->second != source.file)
            return -EBADF;
        files_.erase(found);
    }
    auto &ring = queue.home(source);
    const bool unclaimed = ring.unclaimed(source);
    ring.forget(source);
    ring.count_source(-1);
    queue.armed.erase(&source);
    queue.sources.erase(entry.id);
    return unclaimed ? KEVENT_UNCLAIMED : 0;
}

int fake_kernel::trigger(fake_queue &queue, const change &entry,
                         fake_source &source) {
    const auto value = static_cast<std::int64_t>(entry.value);
    if (!source.is(KEVENT_KIND_USER))
        return -EOPNOTSUPP;
    if (value < 0)
        return -EINVAL;
    const bool outstanding =
        source.gathered || queue.home(source).unclaimed(source);
    if ((entry.flags & KEVENT_NOMERGE) && outstanding)
        return -EAGAIN;
    if (!(source.settings.flags & KEVENT_LATEST) &&
        value > INT64_MAX - source.value)
        return -EOVERFLOW;
    tell_value(queue, source, value);
    changed_.notify_all();
    return 0;
}

int fake_kernel::acknowledge(fake_queue &queue, fake_source &source) {
    if (!source.level() || source.file)
        return -EOPNOTSUPP;
    queue.home(source).forget(source);
    return 0;
}

// --- requests

int fake_kernel::make_store(std::string contents) {
    const int fd = make_file(EPOLLIN | EPOLLOUT);
    const lock guard(lock_);
    files_.at(fd)->positions = true;
    files_.at(fd)->contents = std::move(contents);
    return fd;
}

std::string fake_kernel::contents(int fd) {
    const lock guard(lock_);
    return files_.at(fd)->contents;
}

unsigned fake_kernel::syncs(int fd) {
    const lock guard(lock_);
    return files_.at(fd)->syncs;
}

void fake_kernel::feed(int fd, std::string_view bytes) {
    {
        const lock guard(lock_);
        files_.at(fd)->contents += bytes;
    }
    announce(fd, EPOLLIN);
}

void fake_kernel::hold_requests(int fd, hold how) {
    const lock guard(lock_);
    files_.at(fd)->held = how;
}

void fake_kernel::release(int fd, unsigned count) {
    const lock guard(lock_);
    auto &file = *files_.at(fd);
    const auto before = std::exchange(file.held, hold::none);
    go_on(file, count);
    file.held = before;
    changed_.notify_all();
}

void fake_kernel::fail_requests(int fd, int error) {
    const lock guard(lock_);
    files_.at(fd)->error = error;
}

std::size_t fake_kernel::in_flight(int fd) {
    const lock guard(lock_);
    std::size_t count = 0;
    for (auto &queue : queues_)
        for (auto &each : queue.second->requests)
            count += !each.second->ended && each.second->file == files_.at(fd);
    return count;
}

namespace {
bool reads(const fake_source &request) {
    return request.is(KEVENT_KIND_READ) || request.is(KEVENT_KIND_READV);
}
bool writes(const fake_source &request) {
    return request.is(KEVENT_KIND_WRITE) || request.is(KEVENT_KIND_WRITEV);
}

std::int64_t read_some(fake_source &request, std::string_view from) {
    std::size_t done = 0;
    for (const auto &each : request.buffers) {
        const auto some = std::min(each.iov_len, from.size() - done);
        std::memcpy(each.iov_base, from.data() + done, some);
        done += some;
    }
    return static_cast<std::int64_t>(done);
}

std::int64_t write_all(const fake_source &request, std::string &to) {
    std::size_t at = request.settings.rw_flags & RWF_APPEND
                         ? to.size()
                         : request.settings.offset;
    to.resize(std::max(to.size(), at + request.length()));
    for (const auto &each : request.buffers) {
        std::memcpy(to.data() + at, each.iov_base, each.iov_len);
        at += each.iov_len;
    }
    return static_cast<std::int64_t>(request.length());
}

bool in_full(const fake_source &request, std::int64_t value) {
    if (reads(request) || writes(request))
        return value == static_cast<std::int64_t>(request.length());
    return value >= 0;
}
} // namespace

/// What is wrong with the entry itself.
int fake_kernel::prepare(fake_source &request) const {
    const auto &entry = request.settings;
    if (entry.kind == KEVENT_KIND_NOP)
        return entry.fd != 0 || entry.len != 0 ? -EINVAL : 0;
    if (entry.kind < KEVENT_KIND_NOP || entry.kind > KEVENT_KIND_FDATASYNC)
        return -EINVAL;
    const auto found = files_.find(entry.fd);
    if (found == files_.end())
        return -EBADF;
    request.file = found->second;
    auto *const address = reinterpret_cast<void *>(entry.addr);
    if (entry.kind == KEVENT_KIND_READ || entry.kind == KEVENT_KIND_WRITE)
        request.buffers = {{address, entry.len}};
    else if (reads(request) || writes(request))
        request.buffers.assign(static_cast<iovec *>(address),
                               static_cast<iovec *>(address) + entry.len);
    if (!request.file->positions)
        return writes(request) ? -EBADF : entry.offset != 0 ? -ESPIPE : 0;
    return 0;
}

namespace {
/// Does its memory lie in the registered buffer that it names?
int check_buffer(const fake_queue &queue, const change &entry) {
    if (entry.buffer == 0)
        return 0;
    if (entry.kind != KEVENT_KIND_READ && entry.kind != KEVENT_KIND_WRITE)
        return -EINVAL;
    const auto found = queue.buffers.find(entry.buffer);
    if (found == queue.buffers.end())
        return -EFAULT;
    const auto &[start, length] = found->second;
    const auto from = entry.addr - start; // before it: too large
    return from <= length && entry.len <= length - from ? 0 : -EFAULT;
}
} // namespace

int fake_kernel::register_buffers(fake_queue &queue, kevent_buffers &argument) {
    argument.done = 0;
    if (argument.first == 0 || argument.first > KEVENT_MAX_BUFFERS ||
        argument.nr > KEVENT_MAX_BUFFERS + 1 - argument.first)
        return -EINVAL;
    const std::span array(
        reinterpret_cast<const kevent_buffer *>(argument.buffers), argument.nr);
    for (const auto &each : array) {
        if (each.len != 0 && each.addr == 0)
            return argument.done != 0 ? static_cast<int>(argument.done)
                                      : -EFAULT;
        const auto number = argument.first + argument.done++;
        queue.buffers.erase(number);
        if (each.len != 0)
            queue.buffers[number] = each;
    }
    return static_cast<int>(argument.done);
}

int fake_kernel::submit(fake_queue &queue, change &entry,
                        fake_source *&before) {
    const auto ring = home_of(queue, entry.ring);
    if (entry.id != 0 || ring >= queue.rings.size())
        return -EINVAL;
    auto made = std::make_unique<fake_source>();
    auto &request = *made;
    request.settings = entry;
    request.settings.ring = ring;
    request.enabled = true;
    if (const int error = prepare(request))
        return error;
    if (const int error = check_buffer(queue, entry))
        return error;
    if (queue.requests.size() >= most_requests_)
        return -EAGAIN;
    request.id = entry.id = queue.next_id++;
    queue.requests.emplace(entry.id, std::move(made));
    queue.rings[ring].count_request(1);
    auto *const first = std::exchange(before, &request);
    if (first != nullptr) {
        first->next = &request;
        request.linked = !first->ended;
        request.cancelled = first->ended && !in_full(*first, first->outcome);
    }
    if (!request.linked)
        start(queue, request, KEVENT_EV_INLINE);
    return 0;
}

/// The result, or nothing while it has to wait.
std::optional<std::int64_t> fake_kernel::perform(fake_source &request) {
    if (request.is(KEVENT_KIND_NOP))
        return static_cast<std::int64_t>(request.settings.value);
    auto &file = *request.file;
    if (file.held != hold::none)
        return std::nullopt;
    if (file.error != 0)
        return -file.error;
    if (writes(request))
        return write_all(request, file.contents);
    if (!reads(request)) {
        file.syncs++;
        return 0;
    }
    std::string_view from = file.contents;
    if (file.positions) {
        from.remove_prefix(
            std::min<std::size_t>(request.settings.offset, from.size()));
        return read_some(request, from);
    }
    if (!(file.ready & (EPOLLIN | EPOLLHUP)))
        return std::nullopt;
    const auto done = read_some(request, from);
    file.contents.erase(0, static_cast<std::size_t>(done));
    if (file.contents.empty())
        file.ready &= ~std::uint32_t{EPOLLIN};
    return done;
}

void fake_kernel::start(fake_queue &queue, fake_source &request,
                        std::uint16_t way) {
    if (request.cancelled)
        return end(queue, request, -ECANCELED, 0);
    if (const auto value = perform(request))
        end(queue, request, *value, way);
}

void fake_kernel::end(fake_queue &queue, fake_source &request,
                      std::int64_t value, std::uint16_t way) {
    request.ended = true;
    request.flags = way;
    request.outcome = value;
    tell_value(queue, request, value);
    changed_.notify_all();
    if (auto *next = request.next) {
        next->linked = false;
        next->cancelled |= !in_full(request, value);
        start(queue, *next, way);
    }
}

/// The file is ready, or no longer held.
void fake_kernel::go_on(const fake_file &file, unsigned count) {
    for (auto &queue : queues_) {
        std::vector<fake_source *> waiting;
        for (auto &each : queue.second->requests)
            if (each.second->file.get() == &file && !each.second->ended &&
                !each.second->linked)
                waiting.push_back(each.second.get());
        for (auto *each : waiting)
            if (count != 0 && !each->ended) {
                start(*queue.second, *each,
                      file.positions ? KEVENT_EV_WORKER : KEVENT_EV_WAITED);
                count -= each->ended;
            }
        queue.second->forget_ended();
    }
}

int fake_kernel::cancel(fake_queue &queue, const change &entry) {
    const auto found = queue.requests.find(entry.id);
    if (found == queue.requests.end() || found->second->ended)
        return -ENOENT;
    auto &request = *found->second;
    const bool busy = request.file && request.file->held == hold::busy;
    if (busy && !request.linked)
        return -EALREADY;
    request.cancelled = true;
    if (!request.linked)
        end(queue, request, -ECANCELED, 0);
    return 0;
}

int fake_kernel::cancel_file(fake_queue &queue, const change &entry) {
    const auto found = files_.find(entry.fd);
    if (found == files_.end())
        return -EBADF;
    int count = 0;
    for (auto &each : queue.requests)
        if (each.second->file == found->second && !each.second->cancelled)
            count += cancel(queue, kevent::cancel(each.first)) == 0;
    return count;
}

// --- collection

/// Timers, polling again, pending events.
void fake_kernel::refresh(fake_queue &queue) {
    expire(queue);
    for (auto &each : queue.sources)
        if (auto &source = *each.second; source.poll_again) {
            source.poll_again = false;
            queue.home(source).count_poll_again(-1);
            tell_file(queue, source, source.file->ready);
        }
    for (auto &ring : queue.rings)
        ring.drain();
    queue.forget_ended();
}

/// Waits for news, @p deadline or @p eased; false when the time is over.
bool fake_kernel::sleep(lock &guard, fake_queue &queue, std::int64_t deadline,
                        std::int64_t eased) {
    auto next = deadline < 0 ? INT64_MAX : deadline;
    if (time_ >= next)
        return false;
    if (time_ < eased)
        next = std::min(next, eased);
    for (const auto *timer : queue.armed)
        next = std::min(next, timer->expiry);
    if (next == INT64_MAX)
        changed_.wait(guard);
    else
        time_ = std::max(time_, next);
    return true;
}

namespace {
unsigned backlog(std::span<fake_ring> rings) {
    unsigned sum = 0;
    for (auto &ring : rings)
        sum += ring.backlog();
    return sum;
}

unsigned sweep(std::span<fake_ring> rings, std::span<event> out) {
    unsigned stored = 0;
    for (auto &ring : rings)
        stored += ring.sweep(out.subspan(stored));
    return stored;
}

unsigned collect(std::span<fake_ring> rings, std::span<event> out) {
    unsigned stored = 0;
    for (auto &ring : rings)
        stored += ring.collect(out.subspan(stored));
    return stored;
}

bool bad(const fake_queue &queue, const kevent_get &argument) {
    const bool mapped = argument.flags & KEVENT_GET_MAPPED;
    return (argument.flags & ~(KEVENT_GET_MAPPED | KEVENT_GET_ABSTIME)) ||
           (argument.ring != KEVENT_RING_ANY &&
            argument.ring >= queue.rings.size()) ||
           (!mapped && argument.min > argument.max) || argument.timeout < -1;
}
} // namespace

int fake_kernel::get(lock &guard, fake_queue &queue, kevent_get &argument) {
    argument.ring = home_of(queue, argument.ring);
    if (bad(queue, argument))
        return -EINVAL;
    argument.changes_done = static_cast<__u32>(change_all(
        queue, std::span(reinterpret_cast<change *>(argument.changes),
                         argument.nr_changes)));
    const std::span out(reinterpret_cast<event *>(argument.events),
                        argument.max);
    const auto rings = queue.range(argument.ring);
    const bool mapped = argument.flags & KEVENT_GET_MAPPED;
    const bool relative = !(argument.flags & KEVENT_GET_ABSTIME);
    const auto deadline = argument.timeout <= 0 || !relative
                              ? argument.timeout
                              : time_ + argument.timeout;
    const auto eased =
        argument.min_wait != 0
            ? time_ + static_cast<std::int64_t>(argument.min_wait)
            : INT64_MAX;
    unsigned stored = 0;
    for (;;) {
        refresh(queue);
        auto room = out.subspan(stored);
        const auto in_ring = backlog(rings);
        const auto half = std::min<std::size_t>(in_ring, room.size() / 2);
        const auto level =
            sweep(rings, room.first(mapped ? room.size() : room.size() - half));
        stored += level;
        if (!mapped)
            stored += collect(rings, out.subspan(stored));
        argument.nr = stored;
        const auto have = mapped ? stored + in_ring : stored;
        if (level != 0 || have >= (time_ < eased ? argument.min : 1) ||
            argument.timeout == 0)
            return static_cast<int>(stored);
        if (interrupted_.exchange(false))
            return stored != 0 ? static_cast<int>(stored) : -EINTR;
        if (!sleep(guard, queue, deadline, eased))
            return static_cast<int>(stored);
    }
}

// --- ioctls

int fake_kernel::set_up(fake_queue &queue, kevent_setup &setup) {
    if (!queue.rings.empty())
        return -EBUSY;
    const auto rings =
        setup.nr_rings != 0
            ? setup.nr_rings
            : std::min<unsigned>(nodes_, KEVENT_MAX_DEFAULT_RINGS);
    if (rings > KEVENT_MAX_RINGS)
        return -EINVAL;
    if (setup.entries == 0)
        setup.entries = static_cast<__u32>(
            std::bit_floor(default_bytes / rings / sizeof(event) / 2));
    if (!std::has_single_bit(setup.entries) ||
        setup.entries > KEVENT_MAX_ENTRIES)
        return -EINVAL;
    setup.nr_rings = rings;
    setup.ring_bytes = static_cast<__u32>(
        pages(sizeof(kevent_ring) + setup.entries * sizeof(event)));
    setup.claim_bytes = page;
    queue.setup = setup;
    queue.ring_area = allocate(std::size_t{rings} * setup.ring_bytes);
    queue.claim_area = allocate(std::size_t{rings} * setup.claim_bytes);
    const auto *named = reinterpret_cast<const __u32 *>(setup.nodes);
    for (unsigned i = 0; i < rings; i++) {
        auto *header = queue.header(i);
        header->magic = KEVENT_MAGIC;
        header->header_len = sizeof(*header);
        header->index = i;
        header->nr_rings = rings;
        header->node = named != nullptr ? named[i] : i % nodes_;
        header->entries = setup.entries;
        header->slots_offset = sizeof(*header);
        for (unsigned node = 0; node < KEVENT_MAX_NODES; node++)
            header->ring_of_node[node] = static_cast<__u8>(node % rings);
        queue.rings.emplace_back(header,
                                 reinterpret_cast<kevent_claim *>(
                                     queue.claim_area.get() + i * page));
    }
    return 0;
}

int fake_kernel::info(fake_queue &queue, kevent_setup &setup) {
    const auto nodes = setup.nodes;
    setup = queue.setup;
    setup.nodes = nodes;
    return 0;
}

int fake_kernel::ioctl(int fd, unsigned long request, void *argument) noexcept {
    do_once(meanwhile);
    const int answered = answer(fd, request, argument);
    do_once(afterwards);
    return answered;
}

int fake_kernel::answer(int fd, unsigned long request, void *argument) {
    lock guard(lock_);
    const auto found = queues_.find(fd);
    if (found == queues_.end())
        return -EBADF;
    const auto queue = found->second; // a closer does not take it from us
    if (const auto failure = failures_[request])
        return -failure;
    if (request == KEVENT_IOC_SETUP)
        return set_up(*queue, *static_cast<kevent_setup *>(argument));
    if (queue->rings.empty())
        return -EBADFD;
    if (request == KEVENT_IOC_INFO)
        return info(*queue, *static_cast<kevent_setup *>(argument));
    if (request == KEVENT_IOC_CHANGE) {
        change_calls++;
        auto &changes = *static_cast<kevent_changes *>(argument);
        changes.done = static_cast<__u32>(change_all(
            *queue, std::span(reinterpret_cast<change *>(changes.changes),
                              changes.nr)));
        return static_cast<int>(changes.done);
    }
    if (request == KEVENT_IOC_GETEVENTS) {
        get_calls++;
        time_ += cost_;
        return get(guard, *queue, *static_cast<kevent_get *>(argument));
    }
    if (request == KEVENT_IOC_TRIGGER) {
        const auto &what = *static_cast<kevent_trigger *>(argument);
        change entry =
            kevent::trigger(what.id, static_cast<std::int64_t>(what.value));
        entry.flags = what.flags;
        return change_one(*queue, entry);
    }
    if (request == KEVENT_IOC_BUFFERS)
        return register_buffers(*queue,
                                *static_cast<kevent_buffers *>(argument));
    return -ENOTTY;
}

} // namespace kevent::test
