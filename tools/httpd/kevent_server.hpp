// SPDX-License-Identifier: MIT
/// @file
/// A server on kevent.
#pragma once

#include "files.hpp"
#include "kevent_counting.hpp"
#include "kevent_worker.hpp"
#include "options.hpp"

#include <kevent/kevent.hpp>

#include <csignal>
#include <cstdint>
#include <optional>

namespace httpd {

/// Serves a directory: a thread for each ring, until SIGTERM or SIGINT.
/// SIGUSR1 writes statistics.
class kevent_server {
public:
    /// Listens from here on.  Blocks the signals that it handles in the calling
    /// thread, and SIGPIPE in the process.  Throws std::system_error.
    explicit kevent_server(const options &wanted);
    ~kevent_server();

    [[nodiscard]] unsigned port() const noexcept { return port_; }
    [[nodiscard]] unsigned threads() const noexcept { return rings_.size(); }

    /// Returns when a signal has ended it, and all is written.
    void run();

private:
    void make_workers();
    void watch_signals();
    void on_signals();
    void stop() noexcept;
    void write_statistics() const;

    counting_kernel kernel_;
    const options wanted_;
    const site pages_;
    const kevent::queue rings_;
    kevent::reclaimer reclaim_;
    kevent_world world_;
    unsigned port_ = 0;
    descriptor signals_;
    std::optional<callback> on_signal_;
};

} // namespace httpd
