// SPDX-License-Identifier: MIT
#include <kevent/kernel.hpp>

#include <cerrno>
#include <ctime>
#include <fcntl.h>
#include <linux/kevent.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace kevent {

namespace {
int checked(long answer) noexcept {
    return answer < 0 ? -errno : static_cast<int>(answer);
}
} // namespace

device &device::instance() noexcept {
    static device one;
    return one;
}

int device::open() noexcept {
    return checked(::open(KEVENT_DEVICE, O_RDWR | O_CLOEXEC));
}

int device::close(int fd) noexcept {
    return checked(::close(fd));
}

int device::ioctl(int fd, unsigned long request, void *argument) noexcept {
    return checked(::ioctl(fd, request, argument));
}

void *device::map(int fd, std::uint64_t offset, std::size_t bytes,
                  bool writable, int &error) noexcept {
    const int protection = writable ? PROT_READ | PROT_WRITE : PROT_READ;
    void *address = ::mmap(nullptr, bytes, protection, MAP_SHARED, fd,
                           static_cast<off_t>(offset));
    error = address == MAP_FAILED ? -errno : 0;
    return address == MAP_FAILED ? nullptr : address;
}

int device::unmap(void *address, std::size_t bytes) noexcept {
    return checked(::munmap(address, bytes));
}

int device::cpu_node() noexcept {
    unsigned cpu = 0;
    unsigned node = 0;
    const int failed = checked(::getcpu(&cpu, &node));
    return failed ? failed : static_cast<int>(node);
}

int device::memory_node(const void *address) noexcept {
    // move_pages(2) without a target only asks, and faults nothing in.
    const void *page = address;
    int node = -ENOENT;
    const int failed =
        checked(::syscall(SYS_move_pages, 0, 1UL, &page, nullptr, &node, 0));
    return failed < 0 ? failed : node;
}

std::int64_t device::now() noexcept {
    timespec time{};
    ::clock_gettime(CLOCK_MONOTONIC, &time);
    return std::int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

} // namespace kevent
