// SPDX-License-Identifier: MIT
#include "deadlines.hpp"
#include "patience.hpp"
#include "stats.hpp"
#include "timetable.hpp"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace httpd {
namespace {

struct item : link {
    instant touched = 0;
    bool lingers = false;
};

TEST(Deadlines, ComeInTheOrderOfTheLastTouch) {
    deadlines<item> list(10);
    item a;
    item b;
    EXPECT_EQ(list.next(), std::nullopt);
    list.touch(a, 1);
    list.touch(b, 2);
    list.touch(a, 3);
    EXPECT_EQ(list.next(), 12);
    EXPECT_EQ(list.overdue(11), nullptr);
    EXPECT_EQ(list.overdue(12), &b);
    b.unlink();
    EXPECT_EQ(list.overdue(13), &a);
}

TEST(Deadlines, ForgetWhatIsDestroyed) {
    deadlines<item> list(1);
    {
        item gone;
        list.touch(gone, 0);
    }
    EXPECT_EQ(list.next(), std::nullopt);
}

TEST(Deadlines, VisitEachOnceThoughItComesBackOrLeaves) {
    deadlines<item> list(1);
    item items[3];
    for (auto &each : items)
        list.touch(each, 0);
    int visits = 0;
    list.for_each([&](item &each) {
        visits++;
        if (&each == &items[1])
            each.unlink();
        else
            list.touch(each, 5);
    });
    EXPECT_EQ(visits, 3);
    EXPECT_FALSE(items[1].is_linked());
    EXPECT_EQ(list.next(), 6);
}

constexpr instant second = 1'000'000'000;

TEST(Timetable, GivesNoTimeToThoseWhoDoNotMoveOn) {
    timetable<item> times(second);
    item a;
    EXPECT_TRUE(times.rest(a, false));
    EXPECT_FALSE(times.rest(a, false));
    EXPECT_TRUE(times.rest(a, true));
    EXPECT_EQ(times.next(), a.touched + second);
    EXPECT_EQ(times.overdue(), nullptr);
}

TEST(Timetable, FindsThoseWhoHaveHadTheirTime) {
    timetable<item> times(1);
    item a;
    times.rest(a, true);
    while (times.overdue() == nullptr)
        continue;
    EXPECT_EQ(times.overdue(), &a);
}

TEST(Timetable, MayGiveAnyTimeButToThoseWhoLinger) {
    timetable<item> times(0);
    item a;
    times.rest(a, true);
    EXPECT_EQ(times.next(), std::nullopt);
    EXPECT_EQ(times.overdue(), nullptr);
    item b;
    times.linger(b);
    const auto end = times.next();
    EXPECT_NE(end, std::nullopt);
    times.begin_turn();
    times.linger(b);
    EXPECT_EQ(times.next(), end);
}

TEST(Timetable, LetsEachHaveATurn) {
    timetable<item> times(second);
    item a;
    item b;
    times.rest(a, true);
    times.queue(a);
    times.queue(b);
    EXPECT_TRUE(times.busy());
    int turns = 0;
    times.take_turns([&](item &who) {
        turns++;
        if (&who == &a)
            times.queue(who);
    });
    EXPECT_EQ(turns, 2);
    EXPECT_TRUE(times.busy());
    EXPECT_FALSE(b.is_linked());
    EXPECT_EQ(times.next(), std::nullopt);
}

TEST(Patience, GrowsWhileItPaysAndShrinksElse) {
    patience tries;
    const auto least = tries.tries();
    for (int i = 0; i < 10; i++)
        tries.paid();
    EXPECT_EQ(tries.tries(), 64u);
    for (int i = 0; i < 100; i++)
        tries.in_vain();
    EXPECT_EQ(tries.tries(), least);
}

snapshot thread(std::uint64_t posted, std::uint64_t claimed,
                std::uint64_t collected) {
    snapshot made;
    made.ring.posted = posted;
    made.ring.claimed = claimed;
    made.ring.ring_events = collected;
    return made;
}

TEST(Statistics, CountWhatWasLost) {
    const auto lost = [](const std::vector<snapshot> &threads) {
        return nlohmann::json::parse(to_json(threads, {0, 0, 0}))["lost"]
            .get<int>();
    };
    EXPECT_EQ(lost({thread(10, 10, 10), thread(9, 7, 7)}), 0);
    EXPECT_EQ(lost({thread(10, 10, 8), thread(9, 7, 8)}), 3);
    auto stalled = thread(0, 0, 0);
    stalled.connections.stalled = 2;
    EXPECT_EQ(lost({stalled}), 2);
}

TEST(Statistics, AddUpThreads) {
    auto one = thread(100, 90, 90);
    one.ring.level_events = 10;
    one.sent.count(200);
    one.sent.count(404);
    const auto all =
        nlohmann::json::parse(to_json({one, thread(100, 100, 100)}, {9, 1, 0}));
    EXPECT_EQ(all["events"], 200);
    EXPECT_EQ(all["ioctls_per_1000_events"], 50.0);
    EXPECT_EQ(all["requests"], 2);
    EXPECT_EQ(all["status"]["4xx"], 1);
    EXPECT_EQ(all["rings"][0]["unclaimed"], 10);
}

} // namespace
} // namespace httpd
