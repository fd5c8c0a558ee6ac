// SPDX-License-Identifier: MIT
#include "fake_kernel.hpp"

#include <kevent/queue.hpp>

#include <gtest/gtest.h>

#include <concepts>
#include <type_traits>
#include <utility>

namespace kevent::test {
namespace {

static_assert(std::is_nothrow_move_constructible_v<queue>);
static_assert(std::is_nothrow_move_assignable_v<queue>);
static_assert(!std::copyable<queue>);

/// The code of the std::system_error that is thrown; none when it is not.
template <class F>
std::error_code thrown(F call) {
    try {
        call();
    } catch (const std::system_error &error) {
        return error.code();
    }
    return {};
}

TEST(Result, ValueThrowsTheErrno) {
    const result<void> failed = errno_code(ENOSPC);
    EXPECT_EQ(thrown([&] { failed.value(); }), std::errc::no_space_on_device);
    result<std::uint64_t> none = errno_code(ENOSPC);
    EXPECT_EQ(thrown([&] { none.value(); }), errno_code(ENOSPC));
    EXPECT_EQ(thrown([&] { std::move(none).value(); }), errno_code(ENOSPC));
}

TEST(Queue, LeavesNothingBehind) {
    fake_kernel system;
    {
        const auto rings = queue::open({}, system).value();
        EXPECT_EQ(system.alive(), 3U); // the descriptor and two mappings
    }
    EXPECT_EQ(system.alive(), 0U);
}

TEST(Queue, MovesWithoutClosing) {
    fake_kernel system;
    auto first = queue::open({}, system).value();
    const int fd = first.fd();
    queue second(std::move(first));
    EXPECT_EQ(second.fd(), fd);
    EXPECT_TRUE(second.add(user_event().home(0)));
    EXPECT_EQ(system.alive(), 3U);
}

TEST(Queue, MoveAssignmentClosesTheOldOne) {
    fake_kernel system;
    auto first = queue::open({}, system).value();
    first = queue::open({}, system).value();
    EXPECT_EQ(system.alive(), 3U);
}

TEST(Queue, HasTheGeometryAskedFor) {
    fake_kernel system(4);
    const std::uint32_t nodes[] = {3, 1};
    const auto rings =
        queue::open({.rings = 2, .entries = 16, .nodes = nodes}, system)
            .value();
    ASSERT_EQ(rings.size(), 2U);
    EXPECT_EQ(rings.ring(0).node(), 3U);
    EXPECT_EQ(rings.ring(1).node(), 1U);
    EXPECT_EQ(rings.ring(1).entries(), 16U);
    EXPECT_EQ(rings.ring(1).index(), 1U);
}

TEST(Queue, WantsANodeForEachRing) {
    fake_kernel system;
    const std::uint32_t nodes[] = {0};
    EXPECT_EQ(queue::open({.rings = 2, .nodes = nodes}, system).error(),
              errno_code(EINVAL));
    EXPECT_EQ(system.alive(), 0U);
}

TEST(Queue, IsNotMadeWhereTheDeviceCannotBeOpened) {
    fake_kernel system;
    system.fail_open(EMFILE);
    EXPECT_EQ(queue::open({}, system).error(), errno_code(EMFILE));
    EXPECT_EQ(system.alive(), 0U);
    system.fail_open(0);
    EXPECT_TRUE(queue::open({}, system));
}

TEST(Queue, AFailedSetupClosesTheDescriptor) {
    fake_kernel system;
    system.fail(KEVENT_IOC_SETUP, ENODEV);
    EXPECT_EQ(queue::open({}, system).error(), errno_code(ENODEV));
    EXPECT_EQ(system.alive(), 0U);
}

TEST(Queue, AFailedMappingLeavesNothingBehind) {
    for (auto area : {KEVENT_MMAP_RINGS, KEVENT_MMAP_CLAIMS}) {
        fake_kernel system;
        system.fail(static_cast<unsigned long>(area), ENOMEM);
        EXPECT_EQ(queue::open({}, system).error(), errno_code(ENOMEM));
        EXPECT_EQ(system.alive(), 0U);
    }
}

TEST(Queue, AdoptMapsAQueueThatIsSetUp) {
    fake_kernel system;
    const int fd = system.open();
    kevent_setup setup{};
    setup.size = sizeof(setup);
    ASSERT_EQ(system.ioctl(fd, KEVENT_IOC_SETUP, &setup), 0);
    const auto rings = queue::adopt(fd, system).value();
    EXPECT_EQ(rings.fd(), fd);
    EXPECT_EQ(rings.size(), 2U);
}

TEST(Queue, AFailedAdoptLeavesTheDescriptorAlone) {
    fake_kernel system;
    const int fd = system.open();
    EXPECT_EQ(queue::adopt(fd, system).error(), errno_code(EBADFD));
    EXPECT_EQ(system.close(fd), 0);
}

TEST(Queue, RefusesRingsThatItDoesNotUnderstand) {
    fake_kernel system;
    const auto rings = queue::open({}, system).value();
    system.header(rings.fd(), 1).incompat = 1;
    EXPECT_EQ(queue::adopt(rings.fd(), system).error(), errno_code(ENOTSUP));
}

TEST(Queue, RefusesAQueueThatItDoesNotUnderstand) {
    fake_kernel system;
    const auto rings = queue::open({}, system).value();
    auto &setup = system.setup(rings.fd());
    const auto whole = setup;
    setup.incompat = ~KEVENT_INCOMPAT;
    EXPECT_EQ(queue::adopt(rings.fd(), system).error(), errno_code(ENOTSUP));
    for (const unsigned count : {0, KEVENT_MAX_RINGS + 1}) {
        setup = whole;
        setup.nr_rings = count;
        EXPECT_EQ(queue::adopt(rings.fd(), system).error(), errno_code(EPROTO));
    }
    setup = whole;
    EXPECT_EQ(system.alive(), 3U);
    EXPECT_TRUE(rings.add(user_event()));
}

TEST(Queue, ErrorsOfTheCallAreReturned) {
    fake_kernel system;
    const auto rings = queue::open({}, system).value();
    system.fail(KEVENT_IOC_CHANGE, EFAULT);
    EXPECT_EQ(rings.add(user_event()).error(), errno_code(EFAULT));
    system.fail(KEVENT_IOC_GETEVENTS, EINTR);
    event out[1];
    EXPECT_EQ(rings.get(out).error(), errno_code(EINTR));
}

TEST(Queue, LocalRingFollowsTheCpu) {
    fake_kernel system(4);
    const auto rings = queue::open({.rings = 4}, system).value();
    for (int node : {2, 0, 3}) {
        system.run_on(node);
        EXPECT_EQ(rings.local_ring(), static_cast<unsigned>(node));
    }
}

TEST(Source, UsesTheFieldsOfItsRow) {
    const change file = watch(5, EPOLLIN).level().home(3).cookie(8);
    EXPECT_EQ(file.op, KEVENT_OP_ADD);
    EXPECT_EQ(file.fd, 5);
    EXPECT_EQ(file.ring, 3U);
    EXPECT_EQ(file.cookie, 8U);
    EXPECT_EQ(file.flags, std::uint32_t{KEVENT_LEVEL});
}

TEST(Source, ModifyLeavesFileAndRingAlone) {
    const auto entry = watch(5, EPOLLIN).home(3).modify(12);
    EXPECT_EQ(entry.op, KEVENT_OP_MODIFY);
    EXPECT_EQ(entry.id, 12U);
    EXPECT_EQ(entry.fd, 0);
    EXPECT_EQ(entry.ring, 0U);
}

TEST(Source, AtIsAbsolute) {
    const change entry = at(nanoseconds{77}, CLOCK_REALTIME);
    EXPECT_EQ(entry.flags, std::uint32_t{KEVENT_ABSTIME});
    EXPECT_EQ(entry.value, 77U);
    EXPECT_EQ(entry.fd, CLOCK_REALTIME);
}

} // namespace
} // namespace kevent::test
