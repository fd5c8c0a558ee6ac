// SPDX-License-Identifier: MIT
// The parts of the library that need no kernel: collection of a full ring by ring_view
// and by collector, and the choice of a ring by each policy.
//
// The time is for a batch or a choice; events per second count single events.  A ring is
// full again when its head is moved back: no producer is in the figures.
#include "fake_kernel.hpp"

#include <kevent/balancer.hpp>
#include <kevent/collector.hpp>

#include <benchmark/benchmark.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace kevent {
namespace {

constexpr unsigned entries = 256;

/// A fake kernel that says where it mapped the claim words.
class open_kernel final : public kernel {
public:
    explicit open_kernel(unsigned nodes) : fake_(nodes) {}

    int open() noexcept override { return fake_.open(); }
    int close(int fd) noexcept override { return fake_.close(fd); }
    int ioctl(int fd, unsigned long request, void *argument) noexcept override {
        return fake_.ioctl(fd, request, argument);
    }
    void *map(int fd, std::uint64_t offset, std::size_t bytes, bool writable,
              int &error) noexcept override {
        void *address = fake_.map(fd, offset, bytes, writable, error);
        if (offset == KEVENT_MMAP_CLAIMS)
            claim_ = static_cast<kevent_claim *>(address);
        return address;
    }
    int unmap(void *address, std::size_t bytes) noexcept override {
        return fake_.unmap(address, bytes);
    }
    int cpu_node() noexcept override { return fake_.cpu_node(); }
    int memory_node(const void *address) noexcept override {
        return fake_.memory_node(address);
    }
    std::int64_t now() noexcept override { return fake_.now(); }

    /// All that ring 0 ever had is unclaimed again.
    void refill() noexcept {
        std::atomic_ref(claim_->head).store(0, std::memory_order_release);
    }

private:
    test::fake_kernel fake_;
    kevent_claim *claim_ = nullptr;
};

/// A queue whose ring 0 is full.
struct full_queue {
    explicit full_queue(unsigned nodes = 1)
        : system(nodes),
          rings(queue::open({.rings = nodes, .entries = entries}, system).value()) {
        for (unsigned i = 0; i < entries; i++) {
            auto source = user_event().cookie(i).home(0);
            rings.trigger(rings.add(source).value()).value();
        }
    }

    open_kernel system;
    queue rings;
};

/// Collects in batches of the argument until the ring is empty.
template <class Collect>
void empty_the_ring(benchmark::State &state, full_queue &full, Collect collect) {
    std::vector<event> out(static_cast<std::size_t>(state.range(0)));
    unsigned left = 0;
    for (auto _ : state) {
        if (left < out.size()) {
            full.system.refill();
            left = entries;
        }
        if (collect(out) != out.size())
            state.SkipWithError("not as many events as there are");
        left -= static_cast<unsigned>(out.size());
        benchmark::DoNotOptimize(out.data());
    }
    state.SetItemsProcessed(state.iterations() * state.range(0));
}

void ring_view_collect(benchmark::State &state) {
    full_queue full;
    auto view = full.rings.ring(0);
    empty_the_ring(state, full,
                   [&](std::span<event> out) { return view.collect(out); });
}
BENCHMARK(ring_view_collect)->RangeMultiplier(4)->Range(1, entries);

void collector_collect(benchmark::State &state) {
    full_queue full;
    collector collects(full.rings, {.ring = 0});
    empty_the_ring(state, full, [&](std::span<event> out) {
        return collects.collect(out, nanoseconds{0}).value();
    });
}
BENCHMARK(collector_collect)->RangeMultiplier(4)->Range(1, entries);

/// A home for each of many requests, over as many nodes as the argument says.
void choose(benchmark::State &state, const std::string &name) {
    full_queue full(static_cast<unsigned>(state.range(0)));
    ring_work work;
    balancer chooses(full.rings, any_policy::named(name, &work).value());
    for (auto _ : state) {
        const unsigned ring = chooses.home();
        if (name == "least_work")
            work.done(ring, 1);
        benchmark::DoNotOptimize(ring);
    }
}
BENCHMARK_CAPTURE(choose, pinned, "pinned")->Arg(2)->Arg(8)->Arg(64);
BENCHMARK_CAPTURE(choose, local, "local")->Arg(2)->Arg(8)->Arg(64);
BENCHMARK_CAPTURE(choose, round_robin, "round_robin")->Arg(2)->Arg(8)->Arg(64);
BENCHMARK_CAPTURE(choose, two_choices, "two_choices")->Arg(2)->Arg(8)->Arg(64);
BENCHMARK_CAPTURE(choose, least_loaded, "least_loaded")->Arg(2)->Arg(8)->Arg(64);
BENCHMARK_CAPTURE(choose, least_work, "least_work")->Arg(2)->Arg(8)->Arg(64);

} // namespace
} // namespace kevent

BENCHMARK_MAIN();
