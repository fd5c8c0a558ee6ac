// SPDX-License-Identifier: MIT
#include "http.hpp"
#include "response.hpp"

#include <gtest/gtest.h>
#include <string>

namespace httpd {
namespace {

parsed parse_with(const std::string &line, const std::string &fields = "") {
    static std::string input; // the answer's views point into it
    input = line + "\r\nHost: a\r\n" + fields + "\r\n";
    return parse(input);
}

TEST(Parse, TakesOneRequestAndLeavesTheRest) {
    const std::string first = "GET /a?b HTTP/1.1\r\nHost: h\r\n\r\n";
    const std::string input = first + "GET /c";
    const auto found = parse(input);
    EXPECT_EQ(found.found, parsed::state::complete);
    EXPECT_EQ(found.length, first.size());
    EXPECT_EQ(found.what.target, "/a?b");
    EXPECT_EQ(found.what.status, 200u);
    EXPECT_FALSE(found.what.head);
    EXPECT_TRUE(found.what.keep_alive);
    EXPECT_FALSE(found.what.has_body);
}

TEST(Parse, WaitsForTheWholeHeadWhereverItIsCut) {
    const std::string whole = "HEAD / HTTP/1.1\r\nHost: h\r\nRange: x\r\n\r\n";
    for (std::size_t i = 1; i < whole.size(); i++)
        EXPECT_EQ(parse(whole.substr(0, i)).found, parsed::state::incomplete)
            << i;
    EXPECT_EQ(parse(whole).found, parsed::state::complete);
}

TEST(Parse, FindsTheFieldsThatMatter) {
    const auto found = parse_with(
        "HEAD / HTTP/1.1", "range: bytes=0-1\r\nIF-RANGE: d\r\n"
                           "If-Modified-Since: e\r\nConnection: close\r\n");
    EXPECT_TRUE(found.what.head);
    EXPECT_EQ(found.what.range, "bytes=0-1");
    EXPECT_EQ(found.what.if_range, "d");
    EXPECT_EQ(found.what.if_modified_since, "e");
    EXPECT_FALSE(found.what.keep_alive);
}

TEST(Parse, KeepsHttp10AliveOnlyWhenAsked) {
    EXPECT_FALSE(parse_with("GET / HTTP/1.0").what.keep_alive);
    EXPECT_TRUE(parse_with("GET / HTTP/1.0", "Connection: keep-alive\r\n")
                    .what.keep_alive);
}

TEST(Parse, SeesBodies) {
    EXPECT_TRUE(
        parse_with("GET / HTTP/1.1", "Content-Length: 1\r\n").what.has_body);
    EXPECT_FALSE(
        parse_with("GET / HTTP/1.1", "Content-Length: 0\r\n").what.has_body);
    EXPECT_TRUE(parse_with("GET / HTTP/1.1", "Transfer-Encoding: chunked\r\n")
                    .what.has_body);
}

TEST(Parse, DemandsOneHost) {
    EXPECT_EQ(parse("GET / HTTP/1.1\r\n\r\n").what.status, 400u);
    EXPECT_EQ(parse("GET / HTTP/1.0\r\n\r\n").what.status, 200u);
    EXPECT_EQ(parse_with("GET / HTTP/1.1", "Host: b\r\n").what.status, 400u);
}

TEST(Parse, TellsUnknownMethodsFromUnwantedOnes) {
    EXPECT_EQ(parse_with("POST / HTTP/1.1").what.status, 405u);
    EXPECT_EQ(parse_with("DELETE / HTTP/1.1").what.status, 405u);
    EXPECT_EQ(parse_with("BREW / HTTP/1.1").what.status, 501u);
}

unsigned status_of_bad(const std::string &input) {
    const auto found = parse(input);
    EXPECT_EQ(found.found, parsed::state::bad) << input.substr(0, 40);
    return found.what.status;
}

TEST(Parse, RefusesGarbage) {
    EXPECT_EQ(status_of_bad(std::string("\x16\x03\x01\0\xfa", 5) +
                            std::string(100, '\xff') + "\r\n\r\n"),
              400u);
    EXPECT_EQ(status_of_bad("GET\r\n\r\n"), 400u);
    EXPECT_EQ(status_of_bad("GET / HTTP/1.1\r\nno colon\r\n\r\n"), 400u);
    EXPECT_EQ(status_of_bad("GET / HTTP/1.1\r\nHost : h\r\n\r\n"), 400u);
    EXPECT_EQ(status_of_bad("GET / HTTP/1.1\r\nHost: h\r\n"
                            "Content-Length: x\r\n\r\n"),
              400u);
    EXPECT_EQ(status_of_bad("GET / HTTP/1.1\r\nHost: h\r\n"
                            "Range: a\r\n b\r\n\r\n"),
              400u); // folded
}

TEST(Parse, KnowsOneMajorVersion) {
    EXPECT_EQ(status_of_bad("GET / HTTP/2.0\r\n\r\n"), 505u);
}

TEST(Parse, LimitsTargetAndHead) {
    EXPECT_EQ(status_of_bad("GET /" + std::string(head_limit, 'a')), 414u);
    EXPECT_EQ(
        parse_with("GET /" + std::string(5000, 'a') + " HTTP/1.1").what.status,
        414u);
    auto much = "GET / HTTP/1.1\r\nX: " + std::string(head_limit, 'a');
    much.resize(head_limit);
    EXPECT_EQ(status_of_bad(much), 431u);
}

TEST(Dates, GoThereAndBack) {
    EXPECT_EQ(http_date(784111777), "Sun, 06 Nov 1994 08:49:37 GMT");
    for (const char *text :
         {"Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT",
          "Sun Nov  6 08:49:37 1994"})
        EXPECT_EQ(parse_date(text), 784111777) << text;
    EXPECT_EQ(parse_date("yesterday"), std::nullopt);
    EXPECT_EQ(parse_date("Sun, 06 Nov 1994 08:49:37 GMT;"), std::nullopt);
}

TEST(Head, SaysWhatFollows) {
    auto page = error_page(405);
    const auto head = head_of(page, true);
    EXPECT_TRUE(head.starts_with("HTTP/1.1 405 Method Not Allowed\r\n"));
    EXPECT_NE(head.find("\r\nAllow: GET, HEAD\r\n"), std::string::npos);
    EXPECT_NE(head.find("\r\nConnection: keep-alive\r\n"), std::string::npos);
    EXPECT_NE(head.find("\r\nContent-Length: " +
                        std::to_string(page.text.size()) + "\r\n"),
              std::string::npos);
    EXPECT_TRUE(head.ends_with("\r\n\r\n"));
}

TEST(Head, OfNotModifiedHasNoLength) {
    response same;
    same.status = 304;
    EXPECT_EQ(head_of(same, false).find("Content-Length"), std::string::npos);
}

} // namespace
} // namespace httpd
