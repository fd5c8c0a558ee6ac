// SPDX-License-Identifier: MIT
/// @file
/// The contract of linux/kevent.h in ordinary memory, behind the library's
/// seam.
///
/// What it leaves out: that close() of a watched file is noticed (drop() does
/// that), limits, signal masks, and which of several waiters wakes (it wakes
/// all, and each looks).
#pragma once

#include "fake_ring.hpp"

#include <kevent/kernel.hpp>
#include <kevent/request.hpp>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace kevent::test {

/// What becomes of a request that could be done at once.
enum class hold {
    none,
    waiting, ///< waits, and can be cancelled
    busy,    ///< waits, as in a device: cancelling comes too late
};

/// A file of the fake: what poll(2) would say of it, and what is in it.
struct fake_file {
    std::uint32_t ready = 0;
    bool positions = false; ///< else a stream, which can only be read
    std::string contents;
    hold held = hold::none;
    int error = 0; ///< requests fail with that errno
    unsigned syncs = 0;
};

/// A source or request.
struct fake_source {
    change settings{};
    std::uint64_t id = 0;
    std::shared_ptr<fake_file> file;
    bool enabled = false;

    // The newest entry in the ring.
    bool posted = false;
    std::uint64_t position = 0;
    std::uint32_t posted_bits = 0;

    // What has not gone into the ring yet.
    bool waiting = false;
    std::uint32_t bits = 0;
    bool gathered = false;
    std::int64_t value = 0;

    bool listed = false;     // of a level source: on the ring's ready list
    bool counted = false;    // of a level source: in the hint
    bool poll_again = false; // in need_enter
    std::int64_t expiry = 0; // of a timer; 0: not armed

    // Of a request.
    std::vector<iovec> buffers;
    std::uint16_t flags = 0;
    fake_source *next = nullptr; // in its chain
    bool linked = false;         // it is not its turn yet
    bool cancelled = false;
    bool ended = false;
    std::int64_t outcome = 0;

    [[nodiscard]] bool request() const {
        return settings.kind >= KEVENT_KIND_NOP;
    }
    /// Bytes asked for.
    [[nodiscard]] std::size_t length() const {
        std::size_t sum = 0;
        for (const auto &each : buffers)
            sum += each.iov_len;
        return sum;
    }
    [[nodiscard]] bool level() const { return settings.flags & KEVENT_LEVEL; }
    [[nodiscard]] bool is(std::uint16_t kind) const {
        return settings.kind == kind;
    }
    /// The EPOLL bits that are ready now and wanted.
    [[nodiscard]] std::uint32_t poll(std::uint32_t ready) const {
        return ready & (settings.events | EPOLLERR | EPOLLHUP);
    }
};

struct fake_queue;

/// The fake.  Time is simulated: it stands still but for advance(), the cost of
/// ioctls and waits, which jump to the next timer or their end.  A wait without
/// either waits for another thread.  Thread-safe.
class fake_kernel final : public kernel {
public:
    explicit fake_kernel(unsigned nodes = 2) : nodes_(nodes) {}

    int open() noexcept override;
    int close(int fd) noexcept override;
    int ioctl(int fd, unsigned long request, void *argument) noexcept override;
    void *map(int fd, std::uint64_t offset, std::size_t bytes, bool writable,
              int &error) noexcept override;
    int unmap(void *address, std::size_t bytes) noexcept override;
    int cpu_node() noexcept override { return node_; }
    int memory_node(const void *address) noexcept override;
    std::int64_t now() noexcept override;

    /// A new file and a descriptor of it.
    int make_file(std::uint32_t ready = 0);
    /// The file becomes ready and wakes its waiters with these bits as the key.
    void announce(int fd, std::uint32_t bits);
    /// The file becomes ready and wakes its waiters without a key.
    void announce_without_key(int fd, std::uint32_t bits);
    /// The file is no longer ready for these; what was in a stream is gone.
    void settle(int fd, std::uint32_t bits);

    /// Nobody else has the file open any more: its sources go, each with a
    /// CLOSED event.
    void drop(int fd);

    /// A new file with positions, and a descriptor of it.
    int make_store(std::string contents);
    /// What a file holds.
    std::string contents(int fd);
    /// How often a file was synced.
    unsigned syncs(int fd);
    /// Bytes arrive in a stream.
    void feed(int fd, std::string_view bytes);
    /// From now on requests on the file are held.
    void hold_requests(int fd, hold how);
    /// Those that are held now go on, up to @p count, oldest first.
    void release(int fd, unsigned count = ~0U);
    /// Requests on the file fail with that errno (positive), or not (0).
    void fail_requests(int fd, int error);
    /// More in flight are refused with EAGAIN.
    void limit_requests(std::size_t most) { most_requests_ = most; }
    /// Requests whose event has not been posted.
    std::size_t in_flight(int fd);

    void advance(nanoseconds time);
    /// The next wait ends with EINTR.
    void interrupt() { interrupted_ = true; }
    /// Where the callers' CPUs are from now on.
    void run_on(int node) { node_ = node; }
    /// Where memory_node() finds this address.
    void place(const void *address, int node) { places_[address] = node; }
    /// Simulated time that each GETEVENTS takes.
    void set_cost(nanoseconds cost) { cost_ = cost.count(); }
    /// The ioctls of that number (or mappings of that offset) fail with @p
    /// error (positive) until 0.
    void fail(unsigned long request, int error);
    /// Opening fails with @p error (positive) until 0.
    void fail_open(int error) { open_error_ = error; }
    /// The memory of the queue's rings, to be damaged.
    kevent_ring &header(int fd, unsigned ring);
    /// What KEVENT_IOC_INFO says of the queue, to be damaged.
    kevent_setup &setup(int fd);

    /// What another thread does just before the next ioctl, or look at the
    /// clock; null: nothing.  For tests of one thread.
    const std::function<void()> *meanwhile = nullptr;
    /// The same, just after the next ioctl.
    const std::function<void()> *afterwards = nullptr;

    // How often the library asked.
    std::atomic<unsigned> get_calls{0};
    std::atomic<unsigned> change_calls{0};
    std::atomic<unsigned> changes_made{0};
    std::atomic<unsigned> clock_reads{0};
    /// Descriptors and mappings that exist.
    [[nodiscard]] std::size_t alive();

private:
    using lock = std::unique_lock<std::mutex>;

    int answer(int fd, unsigned long request, void *argument);
    int set_up(fake_queue &queue, kevent_setup &setup);
    int info(fake_queue &queue, kevent_setup &setup);
    int change_all(fake_queue &queue, std::span<change> entries);
    int change_one(fake_queue &queue, change &entry);
    int add(fake_queue &queue, change &entry);
    int submit(fake_queue &queue, change &entry, fake_source *&before);
    int register_buffers(fake_queue &queue, kevent_buffers &argument);
    int prepare(fake_source &request) const;
    std::optional<std::int64_t> perform(fake_source &request);
    void start(fake_queue &queue, fake_source &request, std::uint16_t way);
    void end(fake_queue &queue, fake_source &request, std::int64_t value,
             std::uint16_t way);
    int cancel(fake_queue &queue, const change &entry);
    int cancel_file(fake_queue &queue, const change &entry);
    void go_on(const fake_file &file, unsigned count);
    int change_source(fake_queue &queue, change &entry, fake_source &source);
    int modify(fake_queue &queue, const change &entry, fake_source &source);
    int remove(fake_queue &queue, const change &entry, fake_source &source);
    int trigger(fake_queue &queue, const change &entry, fake_source &source);
    int acknowledge(fake_queue &queue, fake_source &source);

    int get(lock &guard, fake_queue &queue, kevent_get &argument);
    bool sleep(lock &guard, fake_queue &queue, std::int64_t deadline,
               std::int64_t eased);
    void refresh(fake_queue &queue);
    void expire(fake_queue &queue);
    void enable(fake_queue &queue, fake_source &source);
    void arm(fake_queue &queue, fake_source &source);
    void wake_all(const fake_file &file, std::uint32_t bits, bool keyed);
    std::uint32_t home_of(const fake_queue &queue, std::uint32_t ring) const;

    // Constant after construction.
    const unsigned nodes_;

    // Under the lock.
    std::mutex lock_;
    std::condition_variable changed_;
    int next_fd_ = 1000;
    std::map<int, std::shared_ptr<fake_file>> files_;
    std::map<int, std::shared_ptr<fake_queue>> queues_;
    std::map<void *, std::shared_ptr<fake_queue>> mappings_;
    std::map<unsigned long, int> failures_;
    std::map<const void *, int> places_;
    std::int64_t time_ = 1'000'000'000;

    std::atomic<std::size_t> most_requests_{SIZE_MAX};
    std::atomic<std::int64_t> cost_{0};
    std::atomic<int> node_{0};
    std::atomic<int> open_error_{0};
    std::atomic<bool> interrupted_{false};
};

} // namespace kevent::test
