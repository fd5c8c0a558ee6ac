// SPDX-License-Identifier: MIT
#include "names.hpp"
#include "options.hpp"
#include "pieces.hpp"
#include "progress.hpp"
#include "tree.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <fmt/format.h>
#include <vector>

namespace cp {

// GoogleTest prints them.
static void PrintTo(const extent &one, std::ostream *out) {
    *out << fmt::format("[{}, {})", one.begin, one.end);
}

namespace {

std::vector<extent> all_of(pieces from) {
    std::vector<extent> all;
    while (auto next = from.next())
        all.push_back(*next);
    return all;
}

/// A file that has these data.
pieces::finder has(std::vector<extent> data, std::uint64_t size) {
    return [=](std::uint64_t from) {
        for (const auto &each : data)
            if (each.end > from)
                return extent{std::max(each.begin, from), each.end};
        return extent{size, size};
    };
}

using extents = std::vector<extent>;

TEST(Pieces, OfAFileWithoutHoles) {
    EXPECT_EQ(all_of(pieces(0, 10)), extents());
    EXPECT_EQ(all_of(pieces(1, 10)), (extents{{0, 1}}));
    EXPECT_EQ(all_of(pieces(10, 10)), (extents{{0, 10}}));
    EXPECT_EQ(all_of(pieces(25, 10)), (extents{{0, 10}, {10, 20}, {20, 25}}));
}

TEST(Pieces, LeaveHolesOut) {
    pieces some(100, 10, 1, has({{15, 32}, {60, 61}}, 100));
    EXPECT_EQ(all_of(some), (extents{{15, 20}, {20, 30}, {30, 32}, {60, 61}}));
    while (some.next()) {
    }
    EXPECT_EQ(some.holes(), 100U - 18);
    EXPECT_EQ(some.next(), std::nullopt);
}

TEST(Pieces, OfHolesAlone) {
    pieces none(100, 10, 1, has({}, 100));
    EXPECT_EQ(none.next(), std::nullopt);
    EXPECT_EQ(none.holes(), 100U);
}

TEST(Pieces, AreWidenedToTheAlignmentAndNeverOverlap) {
    EXPECT_EQ(all_of(pieces(98, 32, 8, has({{5, 9}, {12, 20}, {90, 98}}, 98))),
              (extents{{0, 16}, {16, 24}, {88, 96}, {96, 98}}));
}

TEST(Pieces, PassErrorsOn) {
    pieces bad(10, 10, 1, [](std::uint64_t) -> extent {
        throw std::system_error(EIO, std::generic_category());
    });
    EXPECT_THROW(bad.next(), std::system_error);
}

TEST(Pieces, CoverAllDataOnceForEveryStep) {
    const extents data{{3, 17}, {40, 41}, {64, 128}, {130, 199}};
    for (std::uint64_t step = 1; step < 70; step++) {
        std::uint64_t at = 0;
        std::uint64_t sum = 0;
        for (const auto &each : all_of(pieces(200, step, 1, has(data, 200)))) {
            EXPECT_GE(each.begin, at);
            EXPECT_LT(each.begin, each.end);
            EXPECT_LE(each.end - each.begin, step);
            sum += each.end - each.begin;
            at = each.end;
        }
        EXPECT_EQ(sum, 14U + 1 + 64 + 69);
    }
}

TEST(Names, LastComponent) {
    EXPECT_EQ(last_name("a"), "a");
    EXPECT_EQ(last_name("a/b//"), "b");
    EXPECT_EQ(last_name("/b"), "b");
    for (const char *none : {"/", "//", ".", "..", "a/.", "a/../", "./"})
        EXPECT_EQ(last_name(none), "") << none;
    EXPECT_EQ(last_name("..."), "...");
}

target where(const char *source, const char *destination, bool directory) {
    return target_of(source, destination, directory);
}

void is(const target &one, const char *parent, const char *name) {
    EXPECT_EQ(one.parent, parent);
    EXPECT_EQ(one.name, name);
}

TEST(Names, Targets) {
    is(where("a/b", "c", true), "c", "b");
    is(where("a/b/", "c/", true), "c/", "b");
    is(where("a/b", "c", false), ".", "c");
    is(where("a/b", "x/c/", false), "x", "c");
    is(where("a/b", "/c", false), "/", "c");
    is(where("a/.", "x/c", true), "x", "c");
    is(where("..", "/", true), "/", ".");
    is(where(".", "c/..", true), "c/..", ".");
}

TEST(Names, Joined) {
    EXPECT_EQ(joined("a", "b"), "a/b");
    EXPECT_EQ(joined("a/", "b"), "a/b");
    EXPECT_EQ(joined("/", "b"), "/b");
    EXPECT_EQ(joined(".", "b"), "b");
    EXPECT_EQ(joined("", "/x/b"), "/x/b");
}

TEST(Names, OfPlaces) {
    auto top = std::make_shared<place>(place{nullptr, "a/b", "/c"});
    const place below{std::make_shared<place>(place{top, "d", "d"}), "e", "e"};
    EXPECT_EQ(top->source(), "a/b");
    EXPECT_EQ(below.source(), "a/b/d/e");
    EXPECT_EQ(below.destination(), "/c/d/e");
}

TEST(Names, DepthFitsTheDescriptors) {
    EXPECT_EQ(affordable_depth(64, 1 << 20), 64U);
    EXPECT_EQ(affordable_depth(64, 2 * walker::max_open + 64 + 40), 10U);
    EXPECT_EQ(affordable_depth(64, 10), 1U);
}

TEST(Progress, Sizes) {
    EXPECT_EQ(human(0), "0 B");
    EXPECT_EQ(human(1023), "1023 B");
    EXPECT_EQ(human(1536), "1.5 KiB");
    EXPECT_EQ(human((1 << 20) - 1), "1.0 MiB");
    EXPECT_EQ(human(UINT64_MAX), "16.0 EiB");
}

TEST(Progress, Times) {
    EXPECT_EQ(clock(0), "0:00");
    EXPECT_EQ(clock(59.6), "1:00");
    EXPECT_EQ(clock(3599.4), "59:59");
    EXPECT_EQ(clock(3723), "1:02:03");
    EXPECT_EQ(clock(1e300), "999:00:00");
}

TEST(Progress, RateFollowsTheLastSeconds) {
    meter one;
    one.sample(0, 0);
    EXPECT_EQ(one.rate(), 0);
    one.sample(0.1, 100);
    EXPECT_NEAR(one.rate(), 1000, 1e-6);
    for (unsigned i = 2; i < 10; i++)
        one.sample(i / 10.0, i * 100);
    EXPECT_NEAR(one.rate(), 1000, 1e-6);
    for (unsigned i = 0; i < 400; i++)
        one.sample(1 + i / 10.0, 900 + i * 10);
    EXPECT_NEAR(one.rate(), 100, 1);
    one.sample(2, 0); // a clock that stands still
    EXPECT_NEAR(one.rate(), 100, 1);
}

progress half() {
    progress now;
    now.bytes = 50;
    now.files = 1;
    now.rate = 10;
    now.counted = true;
    now.total_bytes = 100;
    now.total_files = 2;
    return now;
}

TEST(Progress, TimeLeft) {
    auto now = half();
    EXPECT_EQ(time_left(now), 5);
    now.rate = 0;
    EXPECT_EQ(time_left(now), std::nullopt);
    now.bytes = 120; // it grew
    EXPECT_EQ(time_left(now), 0);
    now.counted = false;
    EXPECT_EQ(time_left(now), std::nullopt);
}

TEST(Progress, LineFitsTheTerminal) {
    auto now = half();
    now.errors = 3;
    const auto wide = line_of(now, 200);
    EXPECT_EQ(wide.find("[==================="), 0U) << wide;
    EXPECT_NE(wide.find(" 50%"), std::string::npos) << wide;
    EXPECT_NE(wide.find("50 B/100 B  1/2 files  10 B/s  ETA 0:05  3 failed"),
              std::string::npos)
        << wide;
    for (unsigned columns = 0; columns < 200; columns++) {
        EXPECT_LE(line_of(now, columns).size(), columns == 0 ? 0 : columns - 1);
        EXPECT_LE(line_of({}, columns).size(), columns == 0 ? 0 : columns - 1);
    }
}

TEST(Progress, LineWithoutTotals) {
    progress now;
    now.files = 7;
    EXPECT_EQ(line_of(now, 80), "0 B  7 files  0 B/s");
}

TEST(Progress, NothingToCopyIsAllOfIt) {
    progress now;
    now.counted = true;
    EXPECT_NE(line_of(now, 120).find("100%"), std::string::npos);
}

std::optional<options> parsed(std::vector<std::string> words, int &status) {
    std::vector<char *> all;
    words.insert(words.begin(), "kevent-cp");
    for (auto &word : words)
        all.push_back(word.data());
    return parse_options(static_cast<int>(all.size()), all.data(), status);
}

TEST(Options, SourcesAndDestination) {
    int status = 0;
    const auto wanted = parsed(
        {"--buffer", "64k", "a", "--depth=8", "b", "-n", "c", "--threads=9"},
        status);
    ASSERT_TRUE(wanted);
    EXPECT_EQ(wanted->sources, (std::vector<std::string>{"a", "b"}));
    EXPECT_EQ(wanted->destination, "c");
    EXPECT_EQ(wanted->buffer, 64U << 10);
    EXPECT_EQ(wanted->threads, 8U);
    EXPECT_TRUE(wanted->no_clobber);
    EXPECT_TRUE(wanted->progress);
}

TEST(Options, Refused) {
    using words = std::vector<std::string>;
    for (const auto &bad :
         {words{}, words{"a"}, words{"a", ""},
          words{"--buffer", "5000", "a", "b"}, words{"--depth", "0", "a", "b"},
          words{"--nonsense", "a", "b"}}) {
        int status = 0;
        EXPECT_FALSE(parsed(bad, status));
        EXPECT_EQ(status, 2);
    }
}

} // namespace
} // namespace cp
