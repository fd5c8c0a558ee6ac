// SPDX-License-Identifier: MIT
/// @file
/// A kernel that counts the library's system calls.
#pragma once

#include <kevent/kernel.hpp>

#include <atomic>
#include <cstdint>

#include <linux/kevent.h>

namespace httpd {

/// Passes everything on to the device, and counts ioctls.  Thread-safe.
class counting_kernel final : public kevent::kernel {
public:
    [[nodiscard]] std::uint64_t collects() const noexcept { return collects_; }
    [[nodiscard]] std::uint64_t changes() const noexcept { return changes_; }
    /// Of the changes: arrays of requests.
    [[nodiscard]] std::uint64_t submits() const noexcept { return submits_; }

    int open() noexcept override { return device_.open(); }
    int close(int fd) noexcept override { return device_.close(fd); }
    int ioctl(int fd, unsigned long request, void *argument) noexcept override {
        auto &counter = request == KEVENT_IOC_GETEVENTS ? collects_ : changes_;
        counter.fetch_add(1, std::memory_order_relaxed);
        if (request == KEVENT_IOC_CHANGE && submits(argument))
            submits_.fetch_add(1, std::memory_order_relaxed);
        return device_.ioctl(fd, request, argument);
    }
    void *map(int fd, std::uint64_t offset, std::size_t bytes, bool writable,
              int &error) noexcept override {
        return device_.map(fd, offset, bytes, writable, error);
    }
    int unmap(void *address, std::size_t bytes) noexcept override {
        return device_.unmap(address, bytes);
    }
    int cpu_node() noexcept override { return device_.cpu_node(); }
    int memory_node(const void *address) noexcept override {
        return device_.memory_node(address);
    }
    std::int64_t now() noexcept override { return device_.now(); }

private:
    static bool submits(const void *argument) noexcept {
        const auto *made = static_cast<const kevent_changes *>(argument);
        return made->nr != 0 &&
               reinterpret_cast<const struct ::kevent_change *>(made->changes)
                       ->op == KEVENT_OP_SUBMIT;
    }

    kevent::device &device_ = kevent::device::instance();
    std::atomic<std::uint64_t> collects_{0};
    std::atomic<std::uint64_t> changes_{0};
    std::atomic<std::uint64_t> submits_{0};
};

} // namespace httpd
