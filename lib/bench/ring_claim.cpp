// SPDX-License-Identifier: MIT
// What a ring with a head word costs against one with an owner word in each
// slot (the tp_status of packet rings): producers fill under a lock, as the
// kernel does for its coalescing test, and consumers take batches.
//
// Counters: events per second, and the claims (atomic read-modify-writes of
// consumers) for each event.
#include <kevent/ring_view.hpp>

#include <benchmark/benchmark.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <thread>
#include <vector>

namespace {

using kevent::event;

constexpr unsigned entries = 256;

/// Stands for the ring's spinlock.
class spinlock {
public:
    void lock() noexcept {
        while (word_.exchange(true, std::memory_order_acquire))
            while (word_.load(std::memory_order_relaxed))
                std::this_thread::yield();
    }
    void unlock() noexcept { word_.store(false, std::memory_order_release); }

private:
    std::atomic<bool> word_{false};
};

using slot = std::array<std::atomic<std::uint64_t>, 4>;

void write(slot &into, std::uint64_t cookie) noexcept {
    for (auto &word : into)
        word.store(cookie, std::memory_order_relaxed);
}

void read(const slot &from, event &into) noexcept {
    std::uint64_t words[4];
    for (unsigned i = 0; i < 4; i++)
        words[i] = from[i].load(std::memory_order_relaxed);
    std::memcpy(&into, words, sizeof(into));
}

/// One head, one tail: a claim takes a batch.
class head_ring {
public:
    head_ring() {
        header_.magic = KEVENT_MAGIC;
        header_.header_len = sizeof(header_);
        header_.entries = entries;
        header_.slots_offset = offsetof(head_ring, slots_);
        view_ = kevent::ring_view::at(&header_, sizeof(*this), &claim_).value();
    }
    head_ring(const head_ring &) = delete;
    head_ring &operator=(const head_ring &) = delete;

    /// Under the producers' lock.
    bool put(std::uint64_t cookie) noexcept {
        const auto head =
            std::atomic_ref(claim_.head).load(std::memory_order_acquire);
        if (tail_ - head == entries)
            return false;
        write(slots_[tail_ % entries], cookie);
        std::atomic_ref(header_.tail).store(++tail_, std::memory_order_release);
        return true;
    }

    unsigned take(std::span<event> out, std::uint64_t &claims) noexcept {
        const auto count = view_.collect(out);
        claims += count != 0;
        return count;
    }

private:
    alignas(64) kevent_ring header_{};
    std::array<slot, entries> slots_{};
    alignas(64) kevent_claim claim_{};
    alignas(64) std::uint64_t tail_ = 0;
    kevent::ring_view view_;
};

/// A turn word in each slot: 2n when free for its n-th event, 2n + 1 when it
/// holds it.  Consumers claim slot by slot; a position of their own tells them
/// where to begin.
class owner_ring {
public:
    owner_ring() {
        for (auto &each : owners_)
            each.store(0, std::memory_order_relaxed);
    }

    bool put(std::uint64_t cookie) noexcept {
        const auto index = tail_ % entries;
        const auto turn = tail_ / entries * 2;
        if (owners_[index].load(std::memory_order_acquire) != turn)
            return false;
        write(slots_[index], cookie);
        owners_[index].store(turn + 1, std::memory_order_release);
        tail_++;
        return true;
    }

    unsigned take(std::span<event> out, std::uint64_t &claims) noexcept {
        unsigned count = 0;
        auto position = first_.load(std::memory_order_relaxed);
        while (count < out.size() && step(position, out[count], count))
            claims++;
        // All may lag: a hint for where to begin.
        first_.store(position, std::memory_order_relaxed);
        if (count != 0)
            std::atomic_thread_fence(std::memory_order_seq_cst);
        return count;
    }

private:
    /// Takes or passes the slot at @p position; false when it holds nothing
    /// yet.
    bool step(std::uint64_t &position, event &out, unsigned &count) noexcept {
        auto &owner = owners_[position % entries];
        auto holds = position / entries * 2 + 1;
        const auto seen = owner.load(std::memory_order_acquire);
        if (seen < holds)
            return false;
        if (seen == holds) {
            read(slots_[position % entries], out);
            if (owner.compare_exchange_strong(holds, holds + 1,
                                              std::memory_order_acq_rel))
                count++;
        }
        position++;
        return true;
    }

    std::array<slot, entries> slots_{};
    std::array<std::atomic<std::uint64_t>, entries> owners_;
    alignas(64) std::atomic<std::uint64_t> first_{0};
    alignas(64) std::uint64_t tail_ = 0;
};

/// Producers run for as long as the benchmark; the benchmark's thread and,
/// where asked for, one more consume.
template <class Ring>
class workload {
public:
    workload(unsigned producers, unsigned consumers) {
        for (unsigned i = 0; i < producers; i++)
            threads_.emplace_back([this] { produce(); });
        for (unsigned i = 1; i < consumers; i++)
            threads_.emplace_back([this] { consume(); });
    }
    workload(const workload &) = delete;
    workload &operator=(const workload &) = delete;
    ~workload() {
        done_ = true;
        for (auto &each : threads_)
            each.join();
    }

    Ring &ring() { return *ring_; }
    std::uint64_t helped() const { return helped_; }

private:
    void produce() {
        for (std::uint64_t i = 0; !done_; i++) {
            lock_.lock();
            const bool put = ring_->put(i);
            lock_.unlock();
            if (!put)
                std::this_thread::yield();
        }
    }
    void consume() {
        std::array<event, 32> out;
        std::uint64_t claims = 0;
        while (!done_)
            if (const auto count = ring_->take(out, claims))
                helped_ += count;
            else
                std::this_thread::yield();
    }

    std::unique_ptr<Ring> ring_ = std::make_unique<Ring>();
    spinlock lock_;
    std::atomic<bool> done_{false};
    std::atomic<std::uint64_t> helped_{0};
    std::vector<std::thread> threads_;
};

/// range: producers, consumers, batch.
template <class Ring>
void contended(benchmark::State &state) {
    workload<Ring> load(static_cast<unsigned>(state.range(0)),
                        static_cast<unsigned>(state.range(1)));
    std::vector<event> out(static_cast<std::size_t>(state.range(2)));
    std::uint64_t taken = 0;
    std::uint64_t claims = 0;
    for (auto _ : state) {
        const auto count = load.ring().take(out, claims);
        taken += count;
        if (count == 0)
            std::this_thread::yield();
    }
    const auto all = static_cast<double>(taken + load.helped());
    state.counters["events/s"] =
        benchmark::Counter(all, benchmark::Counter::kIsRate);
    state.counters["claims/event"] =
        static_cast<double>(claims) /
        static_cast<double>(taken != 0 ? taken : 1);
}

/// One thread fills a batch and takes it: what the instructions cost alone.
template <class Ring>
void alone(benchmark::State &state) {
    auto ring = std::make_unique<Ring>();
    std::vector<event> out(static_cast<std::size_t>(state.range(0)));
    std::uint64_t claims = 0;
    for (auto _ : state) {
        for (std::size_t i = 0; i < out.size(); i++)
            ring->put(i);
        benchmark::DoNotOptimize(ring->take(out, claims));
    }
    state.SetItemsProcessed(state.iterations() * state.range(0));
}

void shapes(benchmark::internal::Benchmark *bench) {
    bench->ArgNames({"producers", "consumers", "batch"})->UseRealTime();
    for (const int producers : {1, 2, 4})
        for (const int consumers : {1, 2})
            for (const int batch : {1, 32})
                bench->Args({producers, consumers, batch});
}

BENCHMARK(alone<head_ring>)->ArgName("batch")->Arg(1)->Arg(8)->Arg(64);
BENCHMARK(alone<owner_ring>)->ArgName("batch")->Arg(1)->Arg(8)->Arg(64);
BENCHMARK(contended<head_ring>)->Apply(shapes);
BENCHMARK(contended<owner_ring>)->Apply(shapes);

} // namespace

BENCHMARK_MAIN();
