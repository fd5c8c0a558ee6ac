// SPDX-License-Identifier: MIT
/// @file
/// A queue: the descriptor and its mapped rings.
#pragma once

#include <kevent/kernel.hpp>
#include <kevent/request.hpp>
#include <kevent/result.hpp>
#include <kevent/ring_view.hpp>
#include <kevent/source.hpp>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>

#include <linux/kevent.h>

namespace kevent {

/// What a new queue looks like; see struct kevent_setup.
struct queue_options {
    std::uint32_t rings = 0; ///< 0: one for each node that can have one
    std::uint32_t entries =
        0; ///< slots of each ring, a power of two; 0: default
    std::span<const std::uint32_t> nodes = {}; ///< one for each ring, or none
};

/// How queue::get() collects.
struct get_options {
    std::uint32_t ring = KEVENT_RING_ANY; ///< an index, LOCAL or ANY
    std::uint32_t min = 1;   ///< events to wait for; 0: do not wait
    nanoseconds timeout{-1}; ///< relative; 0: no wait; -1: no limit
    nanoseconds min_wait{0}; ///< after that, one is enough
};

/// An open queue with its rings mapped.  Move-only; closes and unmaps when it
/// is destroyed.
///
/// After construction nothing in it changes, so every function may be called
/// from any number of threads at once.  Collectors, balancers, loops and
/// reclaimers refer to the queue itself: do not move it under them.  A
/// moved-from queue may be destroyed or assigned to, nothing else.
///
/// Every function that can fail is noexcept and returns a result; its value()
/// throws std::system_error instead.
class queue {
public:
    queue() noexcept = default;
    queue(queue &&other) noexcept { swap(other); }
    queue &operator=(queue &&other) noexcept {
        queue(std::move(other)).swap(*this);
        return *this;
    }
    ~queue();

    /// Opens the device, makes the rings and maps them.
    ///
    /// @p system outlives the queue.  Errors: of open(2), KEVENT_IOC_SETUP and
    /// mmap(2); those of adopt().
    static result<queue> open(const queue_options &options = {},
                              kernel &system = device::instance()) noexcept;

    /// Takes ownership of a descriptor of a queue that has been set up (one
    /// that was inherited or came over a unix socket) and maps the rings.  On
    /// failure the descriptor remains the caller's.
    ///
    /// EBADFD: not set up.  ENOTSUP: an unknown incompat bit.  EPROTO: not a
    /// queue's memory.  Others: of mmap(2).
    static result<queue> adopt(int fd,
                               kernel &system = device::instance()) noexcept;

    /// The descriptor; the queue keeps it.  It can be polled, watched, passed
    /// on.
    [[nodiscard]] int fd() const noexcept { return fd_; }

    /// The seam that the queue was opened with.
    [[nodiscard]] kernel &system() const noexcept { return *system_; }

    /// Number of rings.
    [[nodiscard]] unsigned size() const noexcept { return setup_.nr_rings; }

    /// A ring; @p index is below size().
    [[nodiscard]] ring_view ring(unsigned index) const noexcept {
        return rings_[index];
    }

    /// Index of the ring nearest to the CPU that the caller runs on.
    [[nodiscard]] unsigned local_ring() const noexcept;

    /// Index of the ring nearest to a NUMA node.
    [[nodiscard]] unsigned nearest_ring(unsigned node) const noexcept {
        return rings_[0].nearest(node);
    }

    /// Makes changes, in order, each with its own result in the array.  Returns
    /// how many were tried; fewer than asked for after a fatal signal.
    ///
    /// Errors: of KEVENT_IOC_CHANGE.  At most KEVENT_MAX_CHANGES at a time.
    result<unsigned> change(std::span<kevent::change> entries) const noexcept;

    /// Makes one change.  Returns its result (0 or more), or its errno.
    result<int> change(kevent::change &entry) const noexcept;
    /// The same, for an entry whose id the caller does not want back.
    result<int> change(kevent::change &&entry) const noexcept {
        return change(entry);
    }

    /// Adds a source.  Returns its id.
    result<std::uint64_t> add(const source &what) const noexcept;

    /// Submits a request.  Returns its id; by then its event may have come.
    /// Chains of linked requests go through change().
    result<std::uint64_t> submit(const request &what) const noexcept;
    /// The same.
    result<std::uint64_t> add(const request &what) const noexcept {
        return submit(what);
    }

    /// Pins memory for requests that name it by request::buffer(), once instead
    /// of with each: gives it the numbers from @p first on, in order.  It stays
    /// pinned, and counts as locked memory, even where it is unmapped, until
    /// its number is given to other memory, or to none (an empty span), and no
    /// request uses it any more.
    ///
    /// Returns how many numbers were given; where that is less than asked for,
    /// a call for the rest tells why.  Errors: of KEVENT_IOC_BUFFERS.
    result<unsigned>
    register_buffers(std::span<const std::span<std::byte>> memory,
                     std::uint32_t first = 1) const noexcept;

    /// Cancels a request; EALREADY and ENOENT: it was too late.
    result<int> cancel(std::uint64_t id) const noexcept {
        return change(kevent::cancel(id));
    }
    /// Cancels all requests on the file that @p fd names.  Returns how many
    /// were in time.
    result<int> cancel_file(int fd) const noexcept {
        return change(kevent::cancel_file(fd));
    }

    /// Gives a source new settings.
    result<int> modify(std::uint64_t id,
                       const source &settings) const noexcept {
        return change(settings.modify(id));
    }

    /// Removes a source; no event of it is posted afterwards.  Returns whether
    /// an unclaimed entry of it remains (KEVENT_UNCLAIMED) or not (0).
    result<int> remove(std::uint64_t id) const noexcept {
        return change(kevent::remove(id));
    }
    /// Removes a source, then closes @p fd, which must name its file.
    result<int> remove_and_close(std::uint64_t id, int fd) const noexcept {
        return change(kevent::remove_and_close(id, fd));
    }
    /// Enables a source.
    result<int> enable(std::uint64_t id) const noexcept {
        return change(kevent::enable(id));
    }
    /// Disables a source.
    result<int> disable(std::uint64_t id) const noexcept {
        return change(kevent::disable(id));
    }
    /// Triggers a user event.
    result<int> trigger(std::uint64_t id,
                        std::int64_t value = 1) const noexcept;
    /// Takes back a level timer or level user event.
    result<int> acknowledge(std::uint64_t id) const noexcept {
        return change(kevent::acknowledge(id));
    }

    /// Collects ring and level events by the ioctl alone.  Returns how many
    /// were stored; fewer than options.min after the timeout or a signal.
    ///
    /// EINTR: a signal came before any event.  Others: of KEVENT_IOC_GETEVENTS.
    result<unsigned> get(std::span<event> out,
                         const get_options &options = {}) const noexcept;

    /// KEVENT_IOC_GETEVENTS as it is; size is filled in.
    result<unsigned> get(kevent_get &argument) const noexcept;

private:
    queue(int fd, kernel &system) noexcept : system_(&system), fd_(fd) {}

    void swap(queue &other) noexcept;
    result<void> set_up(const queue_options &options) noexcept;
    result<void> map() noexcept;
    result<void> map_areas() noexcept;
    result<void> view() noexcept;
    void unmap() noexcept;
    [[nodiscard]] std::size_t rings_bytes() const noexcept {
        return std::size_t{setup_.nr_rings} * setup_.ring_bytes;
    }
    [[nodiscard]] std::size_t claims_bytes() const noexcept {
        return std::size_t{setup_.nr_rings} * setup_.claim_bytes;
    }

    // Constant after construction.
    kernel *system_ = nullptr;
    int fd_ = -1;
    kevent_setup setup_{};
    std::byte *ring_area_ = nullptr;
    std::byte *claim_area_ = nullptr;
    std::array<ring_view, KEVENT_MAX_RINGS> rings_{};
};

} // namespace kevent
