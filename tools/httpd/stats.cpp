// SPDX-License-Identifier: MIT
#include "stats.hpp"

#include <algorithm>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace httpd {

namespace {
using nlohmann::ordered_json;

template <class Of>
std::uint64_t sum(const std::vector<snapshot> &threads, Of of) {
    std::uint64_t total = 0;
    for (const auto &each : threads)
        total += static_cast<std::uint64_t>(of(each));
    return total;
}

ordered_json ring_json(const snapshot &thread) {
    const auto &ring = thread.ring;
    return {{"index", ring.index},
            {"node", ring.node},
            {"requests", thread.sent.requests},
            {"connections", thread.connections.adopted},
            {"events", ring.ring_events + ring.level_events},
            {"ring_events", ring.ring_events},
            {"level_events", ring.level_events},
            {"ioctls", ring.ioctls},
            {"sleeps", ring.sleeps},
            {"posted", ring.posted},
            {"unclaimed", ring.posted - ring.claimed},
            {"pending", ring.pending},
            {"lost", ring.lost()}};
}

ordered_json status_json(const std::vector<snapshot> &threads) {
    ordered_json out;
    for (unsigned i = 2; i < 6; i++)
        out[fmt::format("{}xx", i)] =
            sum(threads, [i](auto &t) { return t.sent.by_class[i]; });
    return out;
}

ordered_json connections_json(const std::vector<snapshot> &threads) {
    const auto count = [&](auto member) {
        return sum(threads, [=](auto &t) { return t.connections.*member; });
    };
    using c = connection_counts;
    const auto adopted = count(&c::adopted);
    return {{"accepted", count(&c::accepted)},
            {"refused", count(&c::refused)},
            {"adopted", adopted},
            {"closed", count(&c::closed)},
            {"open", adopted - count(&c::closed)},
            {"timed_out", count(&c::timed_out)},
            {"paused", count(&c::paused)},
            {"stalled", count(&c::stalled)}};
}

ordered_json reads_json(const std::vector<snapshot> &threads) {
    const auto count = [&](auto member) {
        return sum(threads, [=](auto &t) { return t.reads.*member; });
    };
    using r = read_counts;
    return {
        {"made", count(&r::made)},       {"cached", count(&r::cached)},
        {"failed", count(&r::failed)},   {"abandoned", count(&r::abandoned)},
        {"refused", count(&r::refused)}, {"starved", count(&r::starved)}};
}

/// Each ring's own account, and edges that never came at all.
std::uint64_t lost(const std::vector<snapshot> &threads) {
    return sum(threads, [](auto &t) { return std::abs(t.ring.lost()); }) +
           sum(threads, [](auto &t) { return t.connections.stalled; });
}
} // namespace

std::string to_json(const std::vector<snapshot> &threads,
                    const ioctl_counts &made) {
    const auto from_rings =
        sum(threads, [](auto &t) { return t.ring.ring_events; });
    const auto by_ioctl =
        sum(threads, [](auto &t) { return t.ring.level_events; });
    const auto events = from_rings + by_ioctl;
    const auto ioctls = made.collects + made.changes;
    ordered_json out{
        {"requests", sum(threads, [](auto &t) { return t.sent.requests; })},
        {"bytes", sum(threads, [](auto &t) { return t.sent.bytes; })},
        {"status", status_json(threads)},
        {"connections", connections_json(threads)},
        {"reads", reads_json(threads)},
        {"events", events},
        {"ring_events", from_rings},
        {"level_events", by_ioctl},
        {"ioctls", ioctls},
        {"ioctls_collect", made.collects},
        {"ioctls_change", made.changes},
        {"ioctls_submit", made.submits},
        {"ioctls_per_1000_events",
         1000.0 * static_cast<double>(ioctls) /
             static_cast<double>(std::max<std::uint64_t>(events, 1))},
        {"pending", sum(threads, [](auto &t) { return t.ring.pending; })},
        {"lost", lost(threads)}};
    for (const auto &each : threads)
        out["rings"].push_back(ring_json(each));
    return out.dump(2) + "\n";
}

} // namespace httpd
