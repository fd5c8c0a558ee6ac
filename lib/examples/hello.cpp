// SPDX-License-Identifier: MIT
// Prints a line each second until one comes from standard input (a terminal, a
// pipe or a socket).  c++ -std=c++20 hello.cpp $(pkg-config --cflags --libs
// kevent)
#include <kevent/kevent.hpp>

#include <cstdio>
#include <exception>
#include <system_error>
#include <unistd.h>

int main() try {
    using namespace std::chrono_literals;
    auto queue = kevent::queue::open();
    if (!queue)
        throw std::system_error(queue.error(), KEVENT_DEVICE);
    kevent::collector collector(*queue);

    auto input = kevent::watch(STDIN_FILENO, EPOLLIN).level().cookie(1);
    if (auto id = queue->add(input); !id)
        throw std::system_error(id.error(), "cannot watch standard input");
    queue->add(kevent::every(1s).cookie(2)).value();

    long long seconds = 0;
    for (kevent::event events[16];;) {
        auto count = collector.collect(events).value();
        for (auto &event : std::span(events, count)) {
            if (event.cookie == 1)
                return 0;
            seconds += event.result;
            std::printf("%lld s\n", seconds);
            std::fflush(stdout);
        }
    }
} catch (const std::exception &error) {
    std::fprintf(stderr, "hello: %s\n", error.what());
    return 1;
}
