// SPDX-License-Identifier: MIT
#include "range.hpp"

#include <algorithm>
#include <charconv>
#include <optional>

namespace httpd {

namespace {
std::optional<std::uint64_t> number(std::string_view text) {
    std::uint64_t value = 0;
    const char *end = text.data() + text.size();
    const auto read = std::from_chars(text.data(), end, value);
    if (text.empty() || read.ec != std::errc() || read.ptr != end)
        return std::nullopt;
    return value;
}

range part(std::uint64_t first, std::uint64_t last, std::uint64_t size) {
    if (first >= size)
        return {range::kind::unsatisfiable, {}};
    return {range::kind::part, {first, std::min(last, size - 1) - first + 1}};
}

range suffix(std::uint64_t length, std::uint64_t size) {
    if (length == 0)
        return {range::kind::unsatisfiable, {}};
    return part(size - std::min(length, size), UINT64_MAX, size);
}
} // namespace

range parse_range(std::string_view field, std::uint64_t size) {
    constexpr std::string_view unit = "bytes=";
    const auto dash = field.find('-');
    if (!field.starts_with(unit) || dash == std::string_view::npos)
        return {};
    const auto before = field.substr(unit.size(), dash - unit.size());
    const auto after = field.substr(dash + 1);
    const auto first = number(before);
    const auto last = number(after);
    if (before.empty() && last)
        return suffix(*last, size);
    if (first && after.empty())
        return part(*first, UINT64_MAX, size);
    if (first && last && *first <= *last)
        return part(*first, *last, size);
    return {};
}

} // namespace httpd
