// SPDX-License-Identifier: MIT
#include "response.hpp"

#include "http.hpp"

#include <fmt/format.h>
#include <iterator>

namespace httpd {

namespace {
bool has_body(unsigned status) {
    return status != 304;
}

/// Formatted once a second.
const std::string &date_now() {
    thread_local std::time_t last = -1;
    thread_local std::string text;
    if (const auto now = std::time(nullptr); now != last) {
        last = now;
        text = http_date(now);
    }
    return text;
}
} // namespace

response error_page(unsigned status) {
    response page;
    page.status = status;
    page.type = "text/html; charset=utf-8";
    page.text = fmt::format("<!DOCTYPE html>\n<title>{0} {1}</title>\n"
                            "<h1>{0} {1}</h1>\n",
                            status, reason(status));
    if (status == 405)
        page.fields = "Allow: GET, HEAD\r\n";
    if (status == 503)
        page.fields = "Retry-After: 1\r\n";
    return page;
}

std::string head_of(const response &what, bool keep_alive) {
    std::string out;
    out.reserve(512);
    auto to = std::back_inserter(out);
    fmt::format_to(to, "HTTP/1.1 {} {}\r\nServer: kevent-httpd\r\nDate: {}\r\n",
                   what.status, reason(what.status), date_now());
    if (has_body(what.status))
        fmt::format_to(to, "Content-Length: {}\r\n", what.length());
    if (!what.type.empty())
        fmt::format_to(to, "Content-Type: {}\r\n", what.type);
    if (what.modified)
        fmt::format_to(to, "Last-Modified: {}\r\n", http_date(*what.modified));
    fmt::format_to(to, "{}Connection: {}\r\n\r\n", what.fields,
                   keep_alive ? "keep-alive" : "close");
    return out;
}

} // namespace httpd
