// SPDX-License-Identifier: MIT
#include "progress.hpp"

#include <algorithm>
#include <cmath>
#include <fmt/format.h>

namespace cp {

std::string human(std::uint64_t bytes) {
    static constexpr const char *units[] = {"B",   "KiB", "MiB", "GiB",
                                            "TiB", "PiB", "EiB"};
    auto value = static_cast<double>(bytes);
    unsigned unit = 0;
    // Not "1024.0 KiB": what would be rounded to it is the next unit's.
    for (; value >= (unit == 0 ? 1024 : 1023.95); unit++)
        value /= 1024;
    return unit == 0 ? fmt::format("{} B", bytes)
                     : fmt::format("{:.1f} {}", value, units[unit]);
}

std::string clock(double seconds) {
    const auto all = std::llround(std::clamp(seconds, 0.0, 3600.0 * 999));
    const auto minutes = all / 60 % 60;
    return all < 3600
               ? fmt::format("{}:{:02}", minutes, all % 60)
               : fmt::format("{}:{:02}:{:02}", all / 3600, minutes, all % 60);
}

/// A moving average of the samples' rates, each with its time as weight.  The
/// first ones are not averaged with the zero before them.
void meter::sample(double now, std::uint64_t bytes) {
    const auto took = before_ ? now - *before_ : 0;
    if (before_ && took <= 0)
        return;
    if (before_) {
        const auto share = 1 - std::exp(-took / memory);
        weight_ += share * (1 - weight_);
        const auto latest = static_cast<double>(bytes - bytes_) / took;
        rate_ += (latest - rate_) * share / weight_;
    }
    before_ = now;
    bytes_ = bytes;
}

std::optional<double> time_left(const progress &now) {
    if (!now.counted)
        return std::nullopt;
    if (now.bytes >= now.total_bytes)
        return 0;
    if (now.rate < 1)
        return std::nullopt;
    return static_cast<double>(now.total_bytes - now.bytes) / now.rate;
}

namespace {
std::string bar(double share, unsigned columns) {
    const auto full =
        static_cast<unsigned>(std::clamp(share, 0.0, 1.0) * (columns - 2));
    return fmt::format("[{:=<{}}{:<{}}]", "", full, "", columns - 2 - full);
}

double share_of(const progress &now) {
    const auto done = [](std::uint64_t part, std::uint64_t whole) {
        return static_cast<double>(part) / static_cast<double>(whole);
    };
    if (now.total_bytes != 0)
        return done(now.bytes, now.total_bytes);
    return now.total_files == 0 ? 1 : done(now.files, now.total_files);
}
} // namespace

std::string line_of(const progress &now, unsigned columns) {
    const auto rate = human(static_cast<std::uint64_t>(now.rate)) + "/s";
    const auto failed =
        now.errors == 0 ? "" : fmt::format("  {} failed", now.errors);
    std::string text;
    if (!now.counted) {
        text = fmt::format("{}  {} files  {}{}", human(now.bytes), now.files,
                           rate, failed);
    } else {
        const auto share = std::min(share_of(now), 1.0);
        const auto left = time_left(now);
        text = fmt::format("{:3}%  {}/{}  {}/{} files  {}  ETA {}{}",
                           static_cast<int>(share * 100), human(now.bytes),
                           human(now.total_bytes), now.files, now.total_files,
                           rate, left ? clock(*left) : "-:--", failed);
        // A bar, if there is room for one that says something.
        if (columns >= text.size() + 13)
            text = bar(share, std::min<unsigned>(
                                  40, columns - 2 -
                                          static_cast<unsigned>(text.size()))) +
                   " " + text;
    }
    // The last column stays free: some terminals would go to the next line.
    text.resize(
        std::min<std::size_t>(text.size(), columns > 1 ? columns - 1 : 0));
    return text;
}

} // namespace cp
