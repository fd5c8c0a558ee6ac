// SPDX-License-Identifier: MIT
#include "fake_kernel.hpp"

#include <kevent/queue.hpp>

#include <gtest/gtest.h>

#include <array>
#include <string>
#include <vector>

namespace kevent::test {
namespace {

template <class T>
std::uint64_t address(const T *object) {
    return reinterpret_cast<std::uintptr_t>(object);
}

TEST(Request, UsesTheFieldsOfItsRow) {
    std::array<std::byte, 16> buffer{};
    const change entry = read(5, buffer, 4096).home(3).cookie(8).link();
    EXPECT_EQ(entry.op, KEVENT_OP_SUBMIT);
    EXPECT_EQ(entry.kind, KEVENT_KIND_READ);
    EXPECT_EQ(entry.fd, 5);
    EXPECT_EQ(entry.addr, address(buffer.data()));
    EXPECT_EQ(entry.len, 16U);
    EXPECT_EQ(entry.offset, 4096U);
    EXPECT_EQ(entry.ring, 3U);
    EXPECT_EQ(entry.cookie, 8U);
    EXPECT_EQ(entry.flags, std::uint32_t{KEVENT_LINK});
    EXPECT_EQ(entry.rw_flags, 0U);
    EXPECT_EQ(entry.buffer, 0U);
    EXPECT_EQ(entry.id, 0U);
}

TEST(Request, OfAnArrayCountsItsEntries) {
    const std::array<iovec, 3> parts{};
    const change in = readv(5, parts, 7);
    EXPECT_EQ(in.kind, KEVENT_KIND_READV);
    EXPECT_EQ(in.addr, address(parts.data()));
    EXPECT_EQ(in.len, 3U);
    EXPECT_EQ(in.offset, 7U);
    const change out = writev(5, parts).rw_flags(RWF_DSYNC | RWF_APPEND);
    EXPECT_EQ(out.kind, KEVENT_KIND_WRITEV);
    EXPECT_EQ(out.rw_flags, std::uint32_t{RWF_DSYNC | RWF_APPEND});
}

TEST(Request, KindsWithoutABufferLeaveItsFieldsAlone) {
    for (const change entry : {fsync(5), fdatasync(5)}) {
        EXPECT_EQ(entry.fd, 5);
        EXPECT_EQ(entry.addr, 0U);
        EXPECT_EQ(entry.len, 0U);
    }
    const change entry = nop(-3);
    EXPECT_EQ(entry.fd, 0);
    EXPECT_EQ(static_cast<std::int64_t>(entry.value), -3);
}

TEST(Request, NamesARegisteredBuffer) {
    std::array<std::byte, 16> memory{};
    const change entry = write(5, memory).buffer(7);
    EXPECT_EQ(entry.buffer, 7U);
    EXPECT_EQ(entry.addr, address(memory.data()));
}

TEST(Request, KnowsItsBuffer) {
    std::array<std::byte, 16> buffer{};
    const std::array parts{iovec{nullptr, 3}, iovec{nullptr, 4}};
    EXPECT_EQ(read(5, buffer).buffer(), buffer.data());
    EXPECT_EQ(read(5, buffer).bytes(), 16U);
    EXPECT_EQ(writev(5, parts).bytes(), 7U);
    EXPECT_EQ(fsync(5).bytes() + nop(77).bytes(), 0U);
    EXPECT_EQ(readv(5, parts).buffer(), nullptr);
    EXPECT_EQ(fsync(5).buffer(), nullptr);
    EXPECT_EQ(nop(77).buffer(), nullptr);
}

TEST(Request, AsksForNoMoreThanTheFieldHolds) {
    const change entry = write(5, nullptr, std::size_t{1} << 40);
    EXPECT_EQ(entry.len, UINT32_MAX);
}

TEST(Request, CancelNamesAnIdOrAFile) {
    EXPECT_EQ(cancel(12).op, KEVENT_OP_CANCEL);
    EXPECT_EQ(cancel(12).id, 12U);
    EXPECT_EQ(cancel(12).flags, 0U);
    EXPECT_EQ(cancel_file(5).fd, 5);
    EXPECT_EQ(cancel_file(5).flags, std::uint32_t{KEVENT_CANCEL_FILE});
}

class Requests : public ::testing::Test {
public:
    fake_kernel system;
    queue rings = queue::open({.rings = 2, .entries = 8}, system).value();
    int fd = system.make_store("hello, world");
    std::array<char, 8> buffer{};
    std::span<std::byte> bytes = std::as_writable_bytes(std::span(buffer));
    std::array<event, 16> events{};

    std::vector<event> collect() {
        const auto count =
            rings.get(events, {.min = 0, .timeout = nanoseconds{0}}).value();
        return {events.begin(), events.begin() + count};
    }
    request reading(std::uint64_t offset = 0) {
        return read(fd, buffer.data(), buffer.size(), offset).home(0);
    }
};

TEST_F(Requests, SubmitReturnsTheIdOfTheEvent) {
    const auto id = rings.submit(reading(7).cookie(4)).value();
    const auto all = collect();
    ASSERT_EQ(all.size(), 1U);
    EXPECT_EQ(all[0].id, id);
    EXPECT_EQ(all[0].cookie, 4U);
    EXPECT_EQ(all[0].result, 5);
    EXPECT_EQ(std::string(buffer.data(), 5), "world");
}

TEST_F(Requests, ARefusedEntryHasNoEvent) {
    EXPECT_EQ(rings.submit(fsync(77)).error(), errno_code(EBADF));
    system.limit_requests(0);
    EXPECT_EQ(rings.submit(reading()).error(), errno_code(EAGAIN));
    EXPECT_TRUE(collect().empty());
}

TEST_F(Requests, ACancelledRequestHasItsEvent) {
    system.hold_requests(fd, hold::waiting);
    const auto id = rings.submit(reading()).value();
    EXPECT_EQ(rings.ring(0).requests(), 1U);
    EXPECT_EQ(rings.cancel(id).value(), 0);
    EXPECT_EQ(collect().at(0).result, -ECANCELED);
    EXPECT_EQ(rings.cancel(id).error(), errno_code(ENOENT));
    EXPECT_EQ(rings.ring(0).requests(), 0U);
}

TEST_F(Requests, OneThatADeviceHasIsNotCancelled) {
    system.hold_requests(fd, hold::busy);
    const auto id = rings.submit(reading()).value();
    EXPECT_EQ(rings.cancel(id).error(), errno_code(EALREADY));
    EXPECT_TRUE(collect().empty());
    system.release(fd);
    EXPECT_EQ(collect().at(0).result, 8);
}

TEST_F(Requests, AllOfAFileAreCancelled) {
    const int other = system.make_store("x");
    for (const int file : {fd, other})
        system.hold_requests(file, hold::waiting);
    for (int i = 0; i < 3; i++)
        rings.submit(reading()).value();
    rings.submit(fsync(other).home(0)).value();
    EXPECT_EQ(rings.cancel_file(fd).value(), 3);
    EXPECT_EQ(collect().size(), 3U);
    EXPECT_EQ(system.in_flight(other), 1U);
    EXPECT_EQ(rings.cancel_file(99).error(), errno_code(EBADF));
}

TEST_F(Requests, ABufferHasTheNumbersFromTheFirst) {
    const std::array parts{bytes.first(4), bytes.last(4)};
    EXPECT_EQ(rings.register_buffers(parts, 3).value(), 2U);
    const auto first = read(fd, bytes.first(4)).home(0);
    EXPECT_TRUE(rings.submit(request(first).buffer(3)));
    EXPECT_EQ(std::string(buffer.data(), 4), "hell");
    for (const unsigned other : {1U, 2U, 4U, 5U})
        EXPECT_EQ(rings.submit(request(first).buffer(other)).error(),
                  errno_code(EFAULT));
    EXPECT_EQ(rings.submit(reading().buffer(3)).error(), errno_code(EFAULT));
    EXPECT_EQ(rings.submit(fsync(fd).buffer(3)).error(), errno_code(EINVAL));
    EXPECT_EQ(collect().size(), 1U);
}

TEST_F(Requests, AnEmptySpanLeavesTheNumberToNothing) {
    std::array parts{bytes};
    EXPECT_EQ(rings.register_buffers(parts).value(), 1U);
    EXPECT_TRUE(rings.submit(reading().buffer(1)));
    parts[0] = {};
    EXPECT_EQ(rings.register_buffers(parts).value(), 1U);
    EXPECT_EQ(rings.submit(reading().buffer(1)).error(), errno_code(EFAULT));
}

TEST_F(Requests, ManyBuffersAreRegistered) {
    const std::vector<std::span<std::byte>> many(1000, bytes);
    EXPECT_EQ(rings.register_buffers(many, 2).value(), 1000U);
    for (const unsigned number : {2U, 65U, 66U, 1001U})
        EXPECT_TRUE(rings.submit(reading().buffer(number)));
    for (const unsigned number : {1U, 1002U})
        EXPECT_FALSE(rings.submit(reading().buffer(number)));
}

TEST_F(Requests, ABufferThatCannotBeRegisteredEndsTheCall) {
    for (const unsigned good : {1U, 63U, 64U, 65U, 128U}) {
        std::vector<std::span<std::byte>> many(200, bytes);
        many[good] = {static_cast<std::byte *>(nullptr), 1};
        EXPECT_EQ(rings.register_buffers(many).value(), good);
        EXPECT_EQ(
            rings.register_buffers(std::span(many).subspan(good), 1 + good)
                .error(),
            errno_code(EFAULT));
    }
    EXPECT_EQ(rings.register_buffers({}).value(), 0U);
    EXPECT_EQ(rings.register_buffers({}, 0).error(), errno_code(EINVAL));
    system.fail(KEVENT_IOC_BUFFERS, ENOMEM);
    EXPECT_EQ(rings.register_buffers({}).error(), errno_code(ENOMEM));
}

TEST_F(Requests, AChainStopsAtAShortTransfer) {
    std::array<change, 3> chain = {reading(8).cookie(1).link(),
                                   nop().home(0).cookie(2).link(),
                                   nop().home(0).cookie(3)};
    EXPECT_EQ(rings.change(std::span(chain)).value(), 3U);
    const auto all = collect();
    ASSERT_EQ(all.size(), 3U);
    EXPECT_EQ(all[0].result, 4);
    EXPECT_EQ(all[1].result, -ECANCELED);
    EXPECT_EQ(all[2].result, -ECANCELED);
}

} // namespace
} // namespace kevent::test
