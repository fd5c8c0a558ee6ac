// SPDX-License-Identifier: MIT
#include "options.hpp"

#include <httpd/usage.hpp>

#include <CLI/CLI.hpp>

namespace cp {

namespace {
void describe(CLI::App &app, options &wanted, std::vector<std::string> &paths) {
    app.add_option("PATHS", paths, "SOURCE... DEST")
        ->required()
        ->expected(2, -1);
    app.add_flag("-n,--no-clobber", wanted.no_clobber,
                 "Leave alone what exists at the destination");
    app.add_flag(
        "--direct", wanted.direct,
        "Go past the page cache (O_DIRECT), where the file system can");
    app.add_flag("--sync", wanted.sync,
                 "Each file is on the device before it gets its name");
    app.add_option("--depth", wanted.depth, "Requests in flight")
        ->check(CLI::Range(1, 4096))
        ->capture_default_str();
    app.add_option("--buffer", wanted.buffer,
                   "Bytes of a request, a multiple of 4096; 64k, 1M")
        ->transform(CLI::AsSizeValue(false))
        ->check(CLI::Range(std::uint64_t{page}, std::uint64_t{64} << 20))
        ->capture_default_str();
    app.add_option(
           "--threads", wanted.threads,
           "Threads, each with a loop; they share the requests in flight")
        ->check(CLI::Range(1, 64))
        ->capture_default_str();
    app.add_option("--rings", wanted.rings,
                   "Rings that all threads share; 0: each has one to itself")
        ->check(CLI::Range(0, 64))
        ->capture_default_str();
    app.add_flag("--progress,!--no-progress", wanted.progress,
                 "Show a bar if standard error is a terminal (default)");
    app.add_flag("--stats", wanted.stats,
                 "Say at the end what was done, and how");
}
} // namespace

std::optional<options> parse_options(int argc, char **argv, int &status) {
    options wanted;
    std::vector<std::string> paths;
    CLI::App app(
        "Copies files and trees, with everything that belongs to them, "
        "many at a time.",
        "kevent-cp");
    describe(app, wanted, paths);
    try {
        app.parse(argc, argv);
        for (const auto &path : paths)
            if (path.empty())
                throw CLI::ValidationError("PATHS", "an empty path");
        if (wanted.buffer % page != 0)
            throw CLI::ValidationError("--buffer", "not a multiple of 4096");
    } catch (const CLI::ParseError &end) {
        status = httpd::end_with_usage(app, end);
        return std::nullopt;
    }
    wanted.destination = paths.back();
    paths.pop_back();
    wanted.sources = std::move(paths);
    wanted.threads = std::min(wanted.threads, wanted.depth);
    return wanted;
}

} // namespace cp
