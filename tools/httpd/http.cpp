// SPDX-License-Identifier: MIT
#include "http.hpp"

#include <boost/beast/http/basic_parser.hpp>
#include <boost/beast/http/field.hpp>
#include <boost/beast/http/status.hpp>
#include <boost/beast/http/verb.hpp>

#include <array>
#include <functional>

namespace httpd {

namespace {
namespace beast = boost::beast::http;
using boost::beast::error_code;
using boost::beast::string_view;

/// The longest target; leaves room for other fields.
constexpr std::size_t target_limit = 4096;

std::string_view view(string_view text) {
    return {text.data(), text.size()};
}

unsigned status_of(beast::verb method) {
    if (method == beast::verb::get || method == beast::verb::head)
        return 200;
    return method == beast::verb::unknown ? 501 : 405;
}

/// Fills a request; stores nothing else, and no body.
class head_parser final : public beast::basic_parser<true> {
public:
    explicit head_parser(std::string_view input) : input_(input) {
        header_limit(head_limit + 1); // the buffer's size is the limit
        eager(false);
    }

    /// After a complete head.
    request take() {
        what_.keep_alive = keep_alive();
        what_.has_body = chunked() || content_length().value_or(0) != 0;
        if (hosts_ > 1 || (hosts_ == 0 && version_ == 11))
            what_.status = 400;
        return what_;
    }

private:
    void on_request_impl(beast::verb method, string_view, string_view target,
                         int version, error_code &) override {
        what_.status = status_of(method);
        what_.head = method == beast::verb::head;
        what_.target = view(target);
        version_ = version;
        if (target.size() > target_limit)
            what_.status = 414;
    }

    void on_field_impl(beast::field name, string_view, string_view value,
                       error_code &error) override {
        // A folded value is a temporary copy; servers may refuse those.
        if (!value.empty() && !lies_in_input(value.data()))
            error = beast::error::bad_value;
        else if (name == beast::field::host)
            hosts_++;
        else if (name == beast::field::range)
            what_.range = view(value);
        else if (name == beast::field::if_range)
            what_.if_range = view(value);
        else if (name == beast::field::if_modified_since)
            what_.if_modified_since = view(value);
    }

    bool lies_in_input(const char *at) const {
        const std::less<> before;
        return !before(at, input_.data()) &&
               before(at, input_.data() + input_.size());
    }

    void on_response_impl(int, string_view, int, error_code &) override {}
    void on_header_impl(error_code &) override {}
    void on_body_init_impl(const boost::optional<std::uint64_t> &,
                           error_code &) override {}
    std::size_t on_body_impl(string_view, error_code &) override { return 0; }
    void on_chunk_header_impl(std::uint64_t, string_view,
                              error_code &) override {}
    std::size_t on_chunk_body_impl(std::uint64_t, string_view,
                                   error_code &) override {
        return 0;
    }
    void on_finish_impl(error_code &) override {}

    std::string_view input_;
    request what_;
    int version_ = 0;
    unsigned hosts_ = 0;
};

parsed bad(unsigned status) {
    parsed answer;
    answer.found = parsed::state::bad;
    answer.what.status = status;
    return answer;
}

/// The input fills the buffer: which part of it is too long?
parsed too_long(std::string_view input) {
    return bad(input.find('\n') == std::string_view::npos ? 414 : 431);
}

unsigned status_of(const error_code &error) {
    if (error == beast::error::bad_version)
        return 505;
    return error == beast::error::body_limit ? 413 : 400;
}
} // namespace

parsed parse(std::string_view input) {
    head_parser parser(input);
    error_code error;
    const auto length = parser.put(
        boost::asio::const_buffer(input.data(), input.size()), error);
    if (error == beast::error::header_limit)
        return too_long(input);
    if (error && error != beast::error::need_more)
        return bad(status_of(error));
    if (!parser.is_header_done())
        return input.size() < head_limit ? parsed{} : too_long(input);
    return {parsed::state::complete, length, parser.take()};
}

std::string_view reason(unsigned status) {
    return view(beast::obsolete_reason(beast::int_to_status(status)));
}

std::string http_date(std::time_t time) {
    std::tm parts{};
    ::gmtime_r(&time, &parts);
    std::array<char, 64> text{};
    const auto length = std::strftime(text.data(), text.size(),
                                      "%a, %d %b %Y %H:%M:%S GMT", &parts);
    return {text.data(), length};
}

std::optional<std::time_t> parse_date(std::string_view text) {
    const std::string copy(text);
    for (const char *format :
         {"%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT",
          "%a %b %d %H:%M:%S %Y"}) {
        std::tm parts{};
        const char *end = ::strptime(copy.c_str(), format, &parts);
        if (end != nullptr && *end == '\0')
            return ::timegm(&parts);
    }
    return std::nullopt;
}

} // namespace httpd
