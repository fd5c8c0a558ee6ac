// SPDX-License-Identifier: MIT
#include "simulated_kernel.hpp"

#include <cerrno>

namespace balance {

simulated_kernel::simulated_kernel(unsigned nodes, unsigned entries)
    : nodes_(nodes),
      entries_(entries),
      ring_words_((sizeof(kevent_ring) + entries * sizeof(kevent::event)) / 8),
      memory_(nodes),
      rings_(nodes * ring_words_),
      claims_(nodes),
      waiting_(nodes) {
    for (unsigned i = 0; i < nodes; i++) {
        auto &ring = header(i);
        ring.magic = KEVENT_MAGIC;
        ring.header_len = sizeof(kevent_ring);
        ring.index = ring.node = i;
        ring.nr_rings = nodes;
        ring.entries = entries;
        ring.slots_offset = sizeof(kevent_ring);
        for (unsigned node = 0; node < nodes; node++)
            ring.ring_of_node[node] = static_cast<__u8>(node);
    }
}

int simulated_kernel::ioctl(int, unsigned long request,
                            void *argument) noexcept {
    if (request == KEVENT_IOC_SETUP)
        return 0;
    if (request != KEVENT_IOC_INFO)
        return -ENOTTY;
    auto &setup = *static_cast<kevent_setup *>(argument);
    setup.nr_rings = nodes_;
    setup.entries = entries_;
    setup.ring_bytes = static_cast<__u32>(ring_words_ * 8);
    setup.claim_bytes = sizeof(kevent_claim);
    return 0;
}

void *simulated_kernel::map(int, std::uint64_t, std::size_t, bool writable,
                            int &error) noexcept {
    error = 0;
    if (writable)
        return claims_.data();
    return rings_.data();
}

void simulated_kernel::post(kevent_ring &ring, std::uint64_t cookie) {
    auto *slots = reinterpret_cast<kevent::event *>(&ring + 1);
    auto &slot = slots[ring.tail++ % entries_];
    slot = {};
    slot.cookie = cookie;
    slot.kind = KEVENT_KIND_READ;
}

void simulated_kernel::complete(unsigned ring, std::uint64_t cookie) {
    waiting_[ring].push_back(cookie);
    drain(ring);
}

/// What waits for room is in flight still, as in the module.
void simulated_kernel::drain(unsigned ring) {
    auto &head = header(ring);
    auto &waiting = waiting_[ring];
    while (!waiting.empty() && head.tail - claim(ring).head < entries_) {
        post(head, waiting.front());
        waiting.pop_front();
        head.requests--;
    }
    head.pending = static_cast<__u32>(waiting.size());
}

} // namespace balance
