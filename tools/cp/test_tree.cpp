// SPDX-License-Identifier: MIT
// The walk, on a file system of the machine that the tests run on.
#include "tree.hpp"

#include <gtest/gtest.h>

#include <cstdlib>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <set>

namespace cp {
namespace {

namespace fs = std::filesystem;

class Walk : public testing::Test {
protected:
    Walk() {
        std::string name = "/tmp/cp-tests-XXXXXX";
        top_ = ::mkdtemp(name.data());
        fs::create_directories(top_ / "a");
        ::setenv("LC_ALL", "C", 1);
    }
    ~Walk() override { fs::remove_all(top_); }

    void file(const fs::path &name) { std::ofstream(top_ / name) << "x"; }
    [[nodiscard]] std::string path(const char *name) const {
        return (top_ / name).string();
    }

    /// The next, and before it the directories that are finished.
    std::optional<entry> next_of(walker &all) {
        for (;;) {
            auto each = all.next();
            const auto ended = each ? nullptr : all.finished();
            if (!ended)
                return each;
            finished_++;
        }
    }
    /// All there is, each dealt with at once; the destinations.
    std::set<std::string> walk(const char *from, const char *to) {
        walker all({path(from)}, path(to), report_, counts_);
        std::set<std::string> found;
        while (auto each = next_of(all)) {
            found.insert(fs::relative(each->destination(), top_));
            all.leave(std::move(each->in));
        }
        return found;
    }

    fs::path top_;
    reporter report_{false};
    counters counts_;
    unsigned finished_ = 0;
};

using names = std::set<std::string>;

TEST_F(Walk, MakesDirectoriesAndFindsTheRest) {
    fs::create_directories(top_ / "a/b/c");
    file("a/1");
    file("a/b/2");
    fs::create_symlink("b", top_ / "a/link");
    EXPECT_EQ(walk("a", "z"), (names{"z/1", "z/b/2", "z/link"}));
    EXPECT_TRUE(fs::is_directory(top_ / "z/b/c"));
    EXPECT_EQ(finished_, 3U);
    EXPECT_EQ(counts_.directories, 3U);
    EXPECT_EQ(report_.failures(), 0U);
}

TEST_F(Walk, GoesIntoADirectoryThatExists) {
    file("a/1");
    fs::create_directory(top_ / "z");
    EXPECT_EQ(walk("a", "z"), names{"z/a/1"});
    EXPECT_EQ(walk("a/.", "z"), names{"z/1"});
    EXPECT_EQ(walk("a/1", "z"), names{"z/1"});
    EXPECT_EQ(walk("a/1", "y"), names{"y"});
}

TEST_F(Walk, NotIntoItself) {
    file("a/1");
    fs::create_directories(top_ / "a/b");
    fs::create_symlink("a/b", top_ / "link");
    unsigned failures = 0;
    for (const char *to : {"a", "a/b", "a/b/c", "a/new", "link", "."}) {
        EXPECT_EQ(walk("a", to), names()) << to;
        EXPECT_EQ(report_.failures(), ++failures) << to;
    }
    EXPECT_FALSE(fs::exists(top_ / "a/new"));
    EXPECT_FALSE(fs::exists(top_ / "a/b/c"));
}

TEST_F(Walk, MergesButReplacesNothing) {
    file("a/1");
    fs::create_directories(top_ / "a/b");
    fs::create_directories(top_ / "a/c");
    file("a/b/2");
    file("a/c/3");
    fs::create_directories(top_ / "z/a/b");
    file("z/a/c");
    EXPECT_EQ(walk("a", "z"), (names{"z/a/1", "z/a/b/2"}));
    EXPECT_EQ(report_.failures(), 1U); // c
}

TEST_F(Walk, DoesNotFollowALinkToADirectoryWithin) {
    fs::create_directories(top_ / "a/b");
    file("a/b/2");
    fs::create_directories(top_ / "z/a");
    fs::create_directories(top_ / "elsewhere");
    fs::create_symlink("../../elsewhere", top_ / "z/a/b");
    EXPECT_EQ(walk("a", "z"), names());
    EXPECT_EQ(report_.failures(), 1U);
    EXPECT_TRUE(fs::is_empty(top_ / "elsewhere"));
}

TEST_F(Walk, SaysWhatIsMissing) {
    EXPECT_EQ(walk("none", "z"), names());
    EXPECT_EQ(walk("a", "no/such/place"), names());
    EXPECT_EQ(report_.failures(), 2U);
}

unsigned open_files() {
    unsigned count = 0;
    for (const auto &each : fs::directory_iterator("/proc/self/fd"))
        count += each.exists() ? 1 : 0;
    return count;
}

TEST_F(Walk, HoldsFewDirectoriesOpenInADeepTree) {
    constexpr unsigned depth = 300;
    int at = ::open(path("a").c_str(), O_RDONLY | O_DIRECTORY);
    for (unsigned i = 0; i < depth; i++) {
        ASSERT_EQ(::mkdirat(at, "d", 0755), 0);
        for (const char *each : {"1", "2", "zz"})
            ::close(::openat(at, each, O_CREAT | O_WRONLY, 0644));
        const int next = ::openat(at, "d", O_RDONLY | O_DIRECTORY);
        ::close(at);
        at = next;
    }
    ::close(at);
    const auto before = open_files();
    walker all({path("a")}, path("z"), report_, counts_);
    std::set<std::string> found;
    unsigned most = 0;
    std::vector<entry> held; // some are still in work when the next are found
    while (auto each = next_of(all)) {
        found.insert(each->destination());
        held.push_back(std::move(*each));
        if (held.size() > 10) {
            all.leave(std::move(held.front().in));
            held.erase(held.begin());
        }
        most = std::max(most, open_files() - before);
    }
    for (auto &each : held)
        all.leave(std::move(each.in));
    EXPECT_FALSE(next_of(all));
    EXPECT_EQ(found.size(), 3 * depth);
    EXPECT_EQ(finished_, depth + 1);
    EXPECT_EQ(report_.failures(), 0U);
    EXPECT_LE(most, 2 * (walker::max_open + 11) + 4);
}

} // namespace
} // namespace cp
