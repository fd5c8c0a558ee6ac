// SPDX-License-Identifier: MIT
/// @file
/// The one seam for all system calls.
#pragma once

#include <cstddef>
#include <cstdint>

namespace kevent {

/// What the library asks of the operating system.
///
/// Each function returns 0 or more, or -errno; none throws.  All may be called
/// from any thread at any time.  A kernel outlives every queue opened with it.
class kernel {
public:
    virtual ~kernel() = default;

    /// open(2) of the device: a new descriptor, close-on-exec.
    virtual int open() noexcept = 0;

    /// close(2).
    virtual int close(int fd) noexcept = 0;

    /// ioctl(2) with one of the KEVENT_IOC_ numbers and its argument.
    virtual int ioctl(int fd, unsigned long request,
                      void *argument) noexcept = 0;

    /// mmap(2), shared, of @p bytes from @p offset.  The address, or null with
    /// -errno in @p error.
    virtual void *map(int fd, std::uint64_t offset, std::size_t bytes,
                      bool writable, int &error) noexcept = 0;

    /// munmap(2).
    virtual int unmap(void *address, std::size_t bytes) noexcept = 0;

    /// The NUMA node of the CPU that the caller runs on.
    virtual int cpu_node() noexcept = 0;

    /// The NUMA node of the page at @p address; -ENOENT when the page has not
    /// been touched yet.
    virtual int memory_node(const void *address) noexcept = 0;

    /// CLOCK_MONOTONIC, nanoseconds.
    virtual std::int64_t now() noexcept = 0;
};

/// The kernel that the program runs on.  Has no state; thread-safe.
class device final : public kernel {
public:
    /// The one that queues use unless they are given another.
    static device &instance() noexcept;

    int open() noexcept override;
    int close(int fd) noexcept override;
    int ioctl(int fd, unsigned long request, void *argument) noexcept override;
    void *map(int fd, std::uint64_t offset, std::size_t bytes, bool writable,
              int &error) noexcept override;
    int unmap(void *address, std::size_t bytes) noexcept override;
    int cpu_node() noexcept override;
    int memory_node(const void *address) noexcept override;
    std::int64_t now() noexcept override;
};

} // namespace kevent
