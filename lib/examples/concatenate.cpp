// SPDX-License-Identifier: MIT
// Concatenates files to standard output, as cat(1) does: all are opened and
// read ahead at once, and written one after the other. c++ -std=c++20
// concatenate.cpp $(pkg-config --cflags --libs kevent)
#include <kevent/kevent.hpp>

#include <cstdio>
#include <fcntl.h>
#include <system_error>
#include <unistd.h>
#include <vector>

using bytes = std::vector<std::byte>;

kevent::task<bytes> contents(const char *path) {
    const int file = ::open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        throw std::system_error(errno, std::generic_category(), path);
    bytes all;
    for (std::size_t size = 0, got = 1; got != 0; size += got) {
        all.resize(size + 65536);
        got = (co_await kevent::read(file, std::span(all).subspan(size), size))
                  .value();
        all.resize(size + got);
    }
    ::close(file);
    co_return all;
}

kevent::task<> concatenate(std::span<char *> paths) {
    std::vector<kevent::task<bytes>> files;
    for (const char *path : paths)
        files.push_back(contents(path));
    for (const auto &file : co_await when_all(std::move(files)))
        for (std::span<const std::byte> rest = file; !rest.empty();) {
            auto part = kevent::write(STDOUT_FILENO, rest);
            auto done = co_await part.rw_flags(RWF_APPEND);
            rest = rest.subspan(done.value());
        }
}

int main(int count, char **arguments) try {
    auto queue = kevent::queue::open().value();
    kevent::loop(queue).run(concatenate({arguments + 1, arguments + count}));
} catch (const std::exception &error) {
    std::fprintf(stderr, "concatenate: %s\n", error.what());
    return 1;
}
