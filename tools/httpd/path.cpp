// SPDX-License-Identifier: MIT
#include "path.hpp"

#include <charconv>
#include <fmt/format.h>

namespace httpd {

namespace {
std::optional<char> decode_byte(std::string_view digits) {
    unsigned char byte = 0;
    const char *end = digits.data() + digits.size();
    const auto read = std::from_chars(digits.data(), end, byte, 16);
    if (digits.size() != 2 || read.ec != std::errc() || read.ptr != end ||
        byte == 0)
        return std::nullopt;
    return static_cast<char>(byte);
}

std::optional<std::string> percent_decode(std::string_view text) {
    std::string out;
    out.reserve(text.size());
    for (std::size_t i = 0; i < text.size(); i++) {
        if (text[i] != '%') {
            out += text[i];
            continue;
        }
        const auto byte = decode_byte(text.substr(i + 1, 2));
        if (!byte)
            return std::nullopt;
        out += *byte;
        i += 2;
    }
    return out;
}

/// "http://host/path" becomes "/path".
std::string_view without_authority(std::string_view target) {
    const auto scheme = target.find("://");
    if (target.starts_with('/') || scheme == std::string_view::npos)
        return target;
    const auto slash = target.find('/', scheme + 3);
    return slash == std::string_view::npos ? "/" : target.substr(slash);
}

bool stays_as_it_is(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (c >= '0' && c <= '9') ||
           std::string_view("-._~/").find(c) != std::string_view::npos;
}
} // namespace

std::optional<std::string> path_of(std::string_view target) {
    target = without_authority(target);
    if (!target.starts_with('/'))
        return std::nullopt;
    auto path = percent_decode(target.substr(0, target.find_first_of("?#")));
    if (!path)
        return std::nullopt;
    path->erase(0, path->find_first_not_of('/'));
    return path->empty() ? "." : path;
}

std::string percent_encode(std::string_view path) {
    std::string out;
    for (const char c : path)
        if (stays_as_it_is(c))
            out += c;
        else
            out += fmt::format("%{:02X}", static_cast<unsigned char>(c));
    return out;
}

std::string html_escape(std::string_view text) {
    std::string out;
    for (const char c : text)
        switch (c) {
        case '&':
            out += "&amp;";
            break;
        case '<':
            out += "&lt;";
            break;
        case '>':
            out += "&gt;";
            break;
        case '"':
            out += "&quot;";
            break;
        case '\'':
            out += "&#39;";
            break;
        default:
            out += c;
        }
    return out;
}

} // namespace httpd
