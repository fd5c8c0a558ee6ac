// SPDX-License-Identifier: MIT
// The library and a program of it, compiled with -fno-exceptions -fno-rtti.
#include "fake_kernel.hpp"

#include <kevent/kevent.hpp>

#include <array>
#include <cstdio>

#if defined(__cpp_exceptions)
#error "compile this with -fno-exceptions"
#endif

namespace {

int check(bool held, const char *what) {
    if (!held)
        std::fprintf(stderr, "not ok: %s\n", what);
    return held ? 0 : 1;
}

int run(kevent::kernel &system) {
    auto queue = kevent::queue::open({.rings = 2}, system);
    if (!queue)
        return check(false, "open");
    kevent::balancer<kevent::round_robin> balancer(*queue);
    auto what = kevent::nop(3);
    const auto id = queue->submit(what.home(balancer.home()));
    kevent::collector collector(*queue);
    std::array<kevent::event, 4> events{};
    const auto count = collector.collect(events);
    return check(static_cast<bool>(id), "submit") +
           check(count && *count == 1, "collect") +
           check(events[0].result == 3, "result") +
           check(queue->remove(99).error() ==
                     std::errc::no_such_file_or_directory,
                 "error");
}

kevent::task<int> copied(int from, int to) {
    std::array<std::byte, 8> buffer;
    const auto got = co_await kevent::read(from, buffer);
    const auto put = co_await kevent::write(to, std::span(buffer).first(*got));
    co_return put ? static_cast<int>(*put) : -put.error().value();
}

int run_task(kevent::test::fake_kernel &system) {
    auto queue = kevent::queue::open({}, system);
    if (!queue)
        return check(false, "open");
    const int from = system.make_store("hello");
    const int to = system.make_store("");
    kevent::loop loop(*queue);
    return check(loop.run(copied(from, to)) == 5, "task") +
           check(loop.run(copied(from, -1)) == -EBADF, "error of a task") +
           check(system.contents(to) == "hello", "copy");
}

} // namespace

int main() {
    kevent::test::fake_kernel system;
    return run(system) + run_task(system);
}
