// SPDX-License-Identifier: MIT
#include "kevent_server.hpp"
#include "options.hpp"

#include <cstdio>
#include <exception>
#include <fmt/format.h>

int main(int argc, char **argv) {
    int status = 0;
    const auto wanted = httpd::parse_options(argc, argv, status);
    if (!wanted)
        return status;
    try {
        httpd::kevent_server server(*wanted);
        fmt::print("kevent-httpd: http://{}:{}/ on {} threads\n",
                   wanted->address, server.port(), server.threads());
        std::fflush(stdout);
        server.run();
    } catch (const std::exception &error) {
        fmt::print(stderr, "kevent-httpd: {}\n", error.what());
        return 1;
    }
    return 0;
}
