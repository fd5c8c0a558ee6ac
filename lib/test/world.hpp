// SPDX-License-Identifier: MIT
/// @file
/// The two worlds that the conformance tests run in.
#pragma once

#include "fake_kernel.hpp"

#include <kevent/kevent.hpp>

#include <fcntl.h>
#include <string>
#include <sys/mman.h>
#include <thread>
#include <unistd.h>

namespace kevent::test {

/// Everything simulated.
class fake_world {
public:
    kernel &system() { return kernel_; }
    /// A file that can become readable and hang up.
    int make_file() { return kernel_.make_file(); }
    /// By one byte.
    void make_readable(int fd) { kernel_.feed(fd, "x"); }
    void drain(int fd) { kernel_.settle(fd, EPOLLIN); }
    void hang_up(int fd) { kernel_.announce_without_key(fd, EPOLLHUP); }
    /// A file with positions.
    int make_store(const std::string &contents) {
        return kernel_.make_store(contents);
    }
    std::string contents(int fd) { return kernel_.contents(fd); }
    void pass(nanoseconds time) { kernel_.advance(time); }

private:
    fake_kernel kernel_;
};

/// The module, pipes and files.
class device_world {
public:
    device_world() = default;
    device_world(const device_world &) = delete;
    device_world &operator=(const device_world &) = delete;
    ~device_world() {
        for (const auto &each : writers_) {
            ::close(each.first);
            if (each.second >= 0)
                ::close(each.second);
        }
        for (const int store : stores_)
            ::close(store);
    }

    kernel &system() { return device::instance(); }
    int make_file() {
        int ends[2] = {-1, -1};
        if (::pipe2(ends, O_NONBLOCK | O_CLOEXEC) != 0)
            std::abort();
        writers_[ends[0]] = ends[1];
        return ends[0];
    }
    void make_readable(int fd) {
        if (::write(writers_.at(fd), "x", 1) != 1)
            std::abort();
    }
    void drain(int fd) {
        char buffer[512];
        while (::read(fd, buffer, sizeof(buffer)) > 0)
            continue;
    }
    void hang_up(int fd) { ::close(std::exchange(writers_.at(fd), -1)); }
    int make_store(const std::string &contents) {
        int fd = ::open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
        if (fd < 0)
            fd = ::memfd_create("store", MFD_CLOEXEC);
        const auto size = static_cast<ssize_t>(contents.size());
        if (fd < 0 || ::pwrite(fd, contents.data(), contents.size(), 0) != size)
            std::abort();
        stores_.push_back(fd);
        return fd;
    }
    std::string contents(int fd) {
        std::string all(65536, 0);
        const auto size = ::pread(fd, all.data(), all.size(), 0);
        all.resize(size < 0 ? 0 : static_cast<std::size_t>(size));
        return all;
    }
    void pass(nanoseconds time) { std::this_thread::sleep_for(time); }

private:
    std::map<int, int> writers_;
    std::vector<int> stores_;
};

} // namespace kevent::test
