// SPDX-License-Identifier: MIT
#include "report.hpp"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

namespace cp {

namespace {
// One write for each change of the screen: no flicker.
void put(const std::string &text) {
    static_cast<void>(!::write(STDERR_FILENO, text.data(), text.size()));
}
constexpr const char *erased = "\r\x1b[K";
} // namespace

void reporter::failed(const std::string &path, const std::string &why) {
    failures_++;
    const std::lock_guard guard(lock_);
    put(fmt::format("{}kevent-cp: {}: {}\n{}", shown_.empty() ? "" : erased,
                    path, why, shown_));
}

void reporter::draw(const progress &now) {
    if (!bar_)
        return;
    winsize size{};
    const bool known = ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0;
    auto line = line_of(now, known && size.ws_col != 0 ? size.ws_col : 80);
    const std::lock_guard guard(lock_);
    if (line == shown_)
        return;
    shown_ = std::move(line);
    put(fmt::format("\r{}\x1b[K", shown_));
}

void reporter::erase() {
    const std::lock_guard guard(lock_);
    if (!shown_.empty())
        put(erased);
    shown_.clear();
}

} // namespace cp
