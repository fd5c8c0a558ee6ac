// SPDX-License-Identifier: MIT
#include "path.hpp"
#include "range.hpp"

#include <gtest/gtest.h>
#include <string>

namespace httpd {
namespace {

TEST(Path, IsRelativeToTheRoot) {
    EXPECT_EQ(path_of("/"), ".");
    EXPECT_EQ(path_of("//"), ".");
    EXPECT_EQ(path_of("/a/b"), "a/b");
    EXPECT_EQ(path_of("//a//b/"), "a//b/");
}

TEST(Path, IsDecoded) {
    EXPECT_EQ(path_of("/a%20b%2fc%C3%A4"), "a b/c\xc3\xa4");
    EXPECT_EQ(path_of("/a+b"), "a+b");
    EXPECT_EQ(path_of("/%2e%2e/x"), "../x"); // opening it refuses
}

TEST(Path, LeavesTheQueryAside) {
    EXPECT_EQ(path_of("/a?b=/c"), "a");
    EXPECT_EQ(path_of("/a%3fb"), "a?b");
}

TEST(Path, TakesAbsoluteTargets) {
    EXPECT_EQ(path_of("http://host:80/a"), "a");
    EXPECT_EQ(path_of("http://host"), ".");
}

TEST(Path, RefusesMalformedOnes) {
    for (const char *target :
         {"", "*", "a", "host:443", "/%", "/%4", "/%zz", "/a%00b", "/%+1"})
        EXPECT_EQ(path_of(target), std::nullopt) << target;
}

TEST(Encoding, ReversesDecoding) {
    std::string all;
    for (int c = 1; c < 256; c++)
        all += static_cast<char>(c);
    EXPECT_EQ(path_of("/x" + percent_encode(all)), "x" + all);
    EXPECT_EQ(percent_encode("a/b c"), "a/b%20c");
}

TEST(Escape, LeavesNoMarkup) {
    EXPECT_EQ(html_escape("<a b=\"c\">&'"),
              "&lt;a b=&quot;c&quot;&gt;&amp;&#39;");
}

range part(std::uint64_t first, std::uint64_t length) {
    return {range::kind::part, {first, length}};
}
const range all{range::kind::all, {}};
const range beyond{range::kind::unsatisfiable, {}};

TEST(Range, HasThreeForms) {
    EXPECT_EQ(parse_range("bytes=0-0", 10), part(0, 1));
    EXPECT_EQ(parse_range("bytes=2-4", 10), part(2, 3));
    EXPECT_EQ(parse_range("bytes=2-", 10), part(2, 8));
    EXPECT_EQ(parse_range("bytes=-3", 10), part(7, 3));
}

TEST(Range, EndsWithTheFile) {
    EXPECT_EQ(parse_range("bytes=8-99", 10), part(8, 2));
    EXPECT_EQ(parse_range("bytes=-99", 10), part(0, 10));
    EXPECT_EQ(parse_range("bytes=0-18446744073709551615", 10), part(0, 10));
}

TEST(Range, CannotLieBeyondTheEnd) {
    EXPECT_EQ(parse_range("bytes=10-", 10), beyond);
    EXPECT_EQ(parse_range("bytes=10-11", 10), beyond);
    EXPECT_EQ(parse_range("bytes=-0", 10), beyond);
    EXPECT_EQ(parse_range("bytes=0-0", 0), beyond);
    EXPECT_EQ(parse_range("bytes=-1", 0), beyond);
}

TEST(Range, IsIgnoredIfItIsNotUnderstood) {
    for (const char *field :
         {"", "bytes", "bytes=", "bytes=-", "bytes=a-b", "bytes=4-2",
          "lines=1-2", "bytes=0-1,3-4", "bytes=1-2x", "bytes= 1-2",
          "bytes=99999999999999999999-", "bytes=--1"})
        EXPECT_EQ(parse_range(field, 10), all) << field;
}

} // namespace
} // namespace httpd
