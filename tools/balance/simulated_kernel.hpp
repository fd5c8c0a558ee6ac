// SPDX-License-Identifier: MIT
/// @file
/// The library's seam over rings in memory, whose words a simulation writes.
#pragma once

#include <kevent/queue.hpp>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <span>
#include <vector>

namespace balance {

/// A machine whose node i has ring i, of one queue.  Belongs to one thread.
class simulated_kernel final : public kevent::kernel {
public:
    simulated_kernel(unsigned nodes, unsigned entries);

    /// The CPU that home rings are chosen on is on this node from now on.
    void run_on(unsigned node) { node_ = static_cast<int>(node); }
    /// An address whose page is on this node.
    [[nodiscard]] const void *memory_of(unsigned node) const {
        return &memory_[node];
    }

    /// A request enters the kernel.
    void submit(unsigned ring) { header(ring).requests++; }
    /// A request is finished: its event goes into the ring, or waits for room.
    void complete(unsigned ring, std::uint64_t cookie);
    /// Moves what waits into the ring, as KEVENT_IOC_GETEVENTS does.
    void drain(unsigned ring);

    int open() noexcept override { return 3; }
    int close(int) noexcept override { return 0; }
    int ioctl(int fd, unsigned long request, void *argument) noexcept override;
    void *map(int fd, std::uint64_t offset, std::size_t bytes, bool writable,
              int &error) noexcept override;
    int unmap(void *, std::size_t) noexcept override { return 0; }
    int cpu_node() noexcept override { return node_; }
    int memory_node(const void *address) noexcept override {
        return static_cast<int>(static_cast<const char *>(address) -
                                memory_.data());
    }
    std::int64_t now() noexcept override { return 0; }

private:
    kevent_ring &header(unsigned ring) {
        return *reinterpret_cast<kevent_ring *>(rings_.data() +
                                                ring * ring_words_);
    }
    kevent_claim &claim(unsigned ring) { return claims_[ring]; }
    void post(kevent_ring &ring, std::uint64_t cookie);

    unsigned nodes_;
    unsigned entries_;
    std::size_t ring_words_;
    int node_ = 0;
    std::vector<char> memory_;
    std::vector<std::uint64_t> rings_;
    std::vector<kevent_claim> claims_;
    std::vector<std::deque<std::uint64_t>> waiting_;
};

} // namespace balance
