// SPDX-License-Identifier: MIT
/// @file
/// The command line.
#pragma once

#include <chrono>
#include <optional>
#include <string>

namespace httpd {

/// What a server is told.
struct options {
    std::string root;
    std::string address = "127.0.0.1";
    unsigned port = 8080;
    unsigned threads = 0; ///< 0: one for each node
    std::string policy = "least_loaded";
    unsigned entries = 0;     ///< of a ring; 0: default
    unsigned connections = 0; ///< at once; 0: as many as descriptors allow
    unsigned buffers = 64;    ///< MiB, for pieces of files
    double idle_seconds = 30;
    double drain_seconds = 10;
    std::string stats; ///< a file, or empty: standard output

    [[nodiscard]] std::chrono::nanoseconds idle() const {
        return nanoseconds(idle_seconds);
    }
    [[nodiscard]] std::chrono::nanoseconds drain() const {
        return nanoseconds(drain_seconds);
    }

private:
    static std::chrono::nanoseconds nanoseconds(double seconds) {
        return std::chrono::nanoseconds{
            static_cast<std::int64_t>(seconds * 1e9)};
    }
};

/// Reads the command line.  Nothing if the program is to end, with @p status.
std::optional<options> parse_options(int argc, char **argv, int &status);

} // namespace httpd
