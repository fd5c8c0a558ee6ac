// SPDX-License-Identifier: MIT
/// @file
/// How kevent-httpd, kevent-cp and kevent-balance end when their command line
/// says so.
#pragma once

#include <CLI/CLI.hpp>

namespace httpd {

/// Prints help, or with the program's name what is wrong; returns the exit
/// status: 0 or 2.
inline int end_with_usage(CLI::App &app, const CLI::ParseError &end) {
    app.failure_message([](const CLI::App *of, const CLI::Error &wrong) {
        return of->get_name() + ": " + CLI::FailureMessage::simple(of, wrong);
    });
    return app.exit(end) == 0 ? 0 : 2;
}

} // namespace httpd
