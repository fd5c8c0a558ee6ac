// SPDX-License-Identifier: MIT
/// @file
/// What a server has done, in numbers.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace httpd {

/// What one thread sent.  Written by that thread alone.
struct traffic {
    std::uint64_t requests = 0;
    std::uint64_t bytes = 0;
    std::array<std::uint64_t, 6> by_class{}; ///< [2]: 200 to 299, and so on

    void count(unsigned status) noexcept {
        requests++;
        by_class[status / 100 % by_class.size()]++;
    }
};

/// What happened to connections.
struct connection_counts {
    std::uint64_t accepted = 0;  ///< by this thread
    std::uint64_t refused = 0;   ///< accepted, but no source could be added
    std::uint64_t adopted = 0;   ///< placed on this thread's ring
    std::uint64_t closed = 0;    ///< of those adopted
    std::uint64_t timed_out = 0; ///< of those closed
    std::uint64_t paused = 0;    ///< times that descriptors ran out
    std::uint64_t stalled = 0; ///< timed out beside a ready socket: lost edges
};

/// What happened to reads of files.
struct read_counts {
    std::uint64_t made = 0;      ///< and ended
    std::uint64_t cached = 0;    ///< of those: ended during submission
    std::uint64_t failed = 0;    ///< of those: with an error, or with nothing
    std::uint64_t abandoned = 0; ///< of those: the connection had ended
    std::uint64_t refused = 0;   ///< tried while too many were in flight
    std::uint64_t starved = 0;   ///< times that a read waited for a buffer
};

/// One ring, as the thread that collects from it sees it, at one moment.
struct ring_counts {
    unsigned index = 0;
    unsigned node = 0;
    std::uint64_t posted = 0;       ///< how far the tail has come
    std::uint64_t claimed = 0;      ///< how far the head has come
    std::uint64_t ring_events = 0;  ///< collected from the mapped ring
    std::uint64_t level_events = 0; ///< collected by the ioctl
    std::uint64_t ioctls = 0;       ///< made to collect
    std::uint64_t sleeps = 0;       ///< of those: waited
    std::uint64_t pending = 0;

    /// Posted, but neither collected nor waiting to be.
    [[nodiscard]] std::int64_t lost() const noexcept {
        return static_cast<std::int64_t>(claimed - ring_events);
    }
};

/// One thread's numbers.
struct snapshot {
    traffic sent;
    connection_counts connections;
    read_counts reads;
    ring_counts ring;
};

/// Ioctls that the whole process made.
struct ioctl_counts {
    std::uint64_t collects = 0;
    std::uint64_t changes = 0;
    std::uint64_t submits = 0; ///< of the changes: arrays of requests
};

/// Numbers of all threads, as JSON.
std::string to_json(const std::vector<snapshot> &threads,
                    const ioctl_counts &made);

} // namespace httpd
