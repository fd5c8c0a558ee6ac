// SPDX-License-Identifier: MIT
#include "options.hpp"

#include "usage.hpp"

#include <CLI/CLI.hpp>

namespace httpd {

namespace {
void describe(CLI::App &app, options &wanted) {
    app.add_option("ROOT", wanted.root, "Directory to serve")
        ->required()
        ->check(CLI::ExistingDirectory);
    app.add_option("-a,--address", wanted.address,
                   "Numeric address to listen on")
        ->capture_default_str();
    app.add_option("-p,--port", wanted.port, "Port; 0: any that is free")
        ->check(CLI::Range(0, 65535))
        ->capture_default_str();
    app.add_option("-t,--threads", wanted.threads,
                   "Threads, each with a ring of its own; 0: one for each node")
        ->check(CLI::Range(0, 64))
        ->capture_default_str();
    app.add_option("--policy", wanted.policy,
                   "How connections are spread over the rings: local, "
                   "round_robin, least_loaded, two_choices, least_work, ...")
        ->capture_default_str();
    app.add_option("--entries", wanted.entries,
                   "Slots of a ring, a power of two; 0: default")
        ->capture_default_str();
    app.add_option("--connections", wanted.connections,
                   "Connections at a time; 0: as many as descriptors allow")
        ->capture_default_str();
    app.add_option("--buffers", wanted.buffers,
                   "MiB for the pieces of files that are being sent")
        ->check(CLI::Range(1, 1 << 20))
        ->capture_default_str();
    app.add_option("--idle-timeout", wanted.idle_seconds,
                   "Seconds without progress after which a connection ends; "
                   "0: never")
        ->check(CLI::IsMember({0.0}) | CLI::Range(0.05, 86400.0))
        ->capture_default_str();
    app.add_option("--drain-timeout", wanted.drain_seconds,
                   "Seconds that SIGTERM leaves for responses to be finished")
        ->check(CLI::Range(0.0, 86400.0))
        ->capture_default_str();
    app.add_option("--stats", wanted.stats,
                   "File for statistics, written at the end and on SIGUSR1 "
                   "(default: standard output)");
}
} // namespace

std::optional<options> parse_options(int argc, char **argv, int &status) {
    options wanted;
    CLI::App app("Serves a directory over HTTP/1.1, on kevent.",
                 "kevent-httpd");
    describe(app, wanted);
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError &end) {
        status = end_with_usage(app, end);
        return std::nullopt;
    }
    return wanted;
}

} // namespace httpd
