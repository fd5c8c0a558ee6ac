// SPDX-License-Identifier: MIT
// The policies over the real rings: run inside the VM, on at least two nodes.
#include <kevent/balancer.hpp>

#include <gtest/gtest.h>

#include <linux/mempolicy.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <random>
#include <vector>

namespace kevent::test {
namespace {

/// A CPU of each node.
std::map<unsigned, int> cpus_by_node() {
    std::map<unsigned, int> found;
    cpu_set_t before;
    sched_getaffinity(0, sizeof(before), &before);
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        cpu_set_t one;
        CPU_ZERO(&one);
        CPU_SET(cpu, &one);
        if (CPU_ISSET(cpu, &before) &&
            sched_setaffinity(0, sizeof(one), &one) == 0)
            found[static_cast<unsigned>(device::instance().cpu_node())] = cpu;
    }
    sched_setaffinity(0, sizeof(before), &before);
    return found;
}

void run_on(int cpu) {
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    ASSERT_EQ(sched_setaffinity(0, sizeof(one), &one), 0);
}

/// A page on a node, touched.
void *page_on(unsigned node) {
    void *page = mmap(nullptr, 4096, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    const unsigned long mask = 1UL << node;
    syscall(SYS_mbind, page, 4096, MPOL_BIND, &mask, 64, 0);
    *static_cast<char *>(page) = 1;
    return page;
}

class DeviceBalancer : public ::testing::TestWithParam<unsigned> {
public:
    queue rings = queue::open({.rings = GetParam(), .entries = 16}).value();
    std::vector<unsigned> counts = std::vector<unsigned>(rings.size());

    unsigned total() const { return rings.size() * 20; }

    /// Places sources while the thread's CPU is drawn with 1/k weights.
    template <class P>
    void place_sources(balancer<P> chooser) {
        const auto cpus = cpus_by_node();
        std::vector<double> weights;
        for (std::size_t i = 0; i < cpus.size(); i++)
            weights.push_back(1.0 / static_cast<double>(i + 1));
        std::minstd_rand random(3);
        std::discrete_distribution<int> draw(weights.begin(), weights.end());
        for (unsigned i = 0; i < total(); i++) {
            run_on(std::next(cpus.begin(), draw(random))->second);
            const auto ring = chooser.home();
            rings.add(user_event().home(ring)).value();
            counts[ring]++;
        }
    }
    unsigned spread() const {
        const auto [low, high] =
            std::minmax_element(counts.begin(), counts.end());
        return *high - *low;
    }
};

TEST_P(DeviceBalancer, TheMachineHasTwoNodes) {
    EXPECT_GE(cpus_by_node().size(), 2U);
}

TEST_P(DeviceBalancer, LocalIsARingOfTheNode) {
    balancer<local> chooser(rings);
    for (const auto &[node, cpu] : cpus_by_node()) {
        run_on(cpu);
        EXPECT_EQ(rings.ring(chooser.home()).node(), node);
    }
}

TEST_P(DeviceBalancer, RoundRobinIsEven) {
    place_sources(balancer<round_robin>(rings));
    EXPECT_EQ(spread(), 0U);
}

TEST_P(DeviceBalancer, LeastLoadedIsEven) {
    place_sources(balancer<least_loaded>(rings));
    EXPECT_LE(spread(), 1U);
}

TEST_P(DeviceBalancer, TwoChoicesIsNearlyEven) {
    place_sources(balancer<two_choices>(rings));
    EXPECT_LE(*std::max_element(counts.begin(), counts.end()), 20U + 4U);
}

TEST_P(DeviceBalancer, LeastLoadedAvoidsABacklog) {
    for (int i = 0; i < 10; i++)
        rings.add(nop().home(0)).value();
    balancer<least_loaded> chooser(rings);
    for (unsigned i = 1; i < rings.size(); i++) {
        const auto ring = chooser.home();
        EXPECT_NE(ring, 0U);
        rings.add(nop().home(ring)).value();
    }
}

TEST_P(DeviceBalancer, LeastWorkIsEven) {
    ring_work work;
    place_sources(balancer(rings, least_work(work)));
    EXPECT_LE(spread(), 1U);
}

TEST_P(DeviceBalancer, BufferNodeIsARingOfTheMemorysNode) {
    balancer<buffer_node> chooser(rings);
    for (const auto &each : cpus_by_node()) {
        void *page = page_on(each.first);
        EXPECT_EQ(rings.ring(chooser.home({.buffer = page})).node(),
                  each.first);
        munmap(page, 4096);
    }
}

TEST_P(DeviceBalancer, PinnedStays) {
    place_sources(balancer(rings, pinned(1)));
    EXPECT_EQ(counts[1], total());
}

INSTANTIATE_TEST_SUITE_P(Rings, DeviceBalancer, ::testing::Values(2U, 8U, 64U),
                         ::testing::PrintToStringParamName());

} // namespace
} // namespace kevent::test
