// SPDX-License-Identifier: MIT
#include "connection.hpp"
#include "files.hpp"
#include "test_support.hpp"

#include <algorithm>
#include <array>
#include <gtest/gtest.h>
#include <poll.h>
#include <string>
#include <sys/socket.h>
#include <utility>
#include <vector>

namespace httpd {
namespace {

using next = connection::next;

constexpr const char *get_a = "GET /a HTTP/1.1\r\nHost: h\r\n\r\n";

class Connection : public ::testing::Test {
protected:
    Connection()
        : Connection(std::filesystem::temp_directory_path(), make_pair()) {}

    Connection(const std::filesystem::path &where, std::array<int, 2> ends)
        : tree_(where),
          ours_(ends[0]),
          theirs_(ends[1]),
          talk_(ours_.get(), pages_, traffic_, pool_) {
        tree_.write("a", "hello");
        tree_.write("big", std::string(3 << 20, 'b'));
    }

    static std::array<int, 2> make_pair() {
        std::array<int, 2> ends{};
        EXPECT_EQ(
            ::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends.data()),
            0);
        return ends;
    }

    /// Makes the reads that it wants.
    next read_on(next what) {
        while (what != next::close) {
            const auto wanted = talk_.next_read();
            if (!wanted)
                break;
            what = talk_.filled(::pread(wanted->file, wanted->room.data(),
                                        wanted->room.size(),
                                        static_cast<off_t>(wanted->offset)));
        }
        return what;
    }
    next ready(bool hangup) { return read_on(talk_.ready(hangup)); }
    next advance() { return read_on(talk_.advance()); }
    /// As its owner does, with each event.
    next wind_down() {
        auto what = talk_.wind_down();
        while (read_on(what) == next::wait && !talk_.file().over() &&
               talk_.awaits() == 0)
            what = talk_.wind_down();
        return what == next::wait ? talk_.wind_down() : what;
    }

    void say(const std::string &text) const {
        EXPECT_EQ(::send(theirs_.get(), text.data(), text.size(), 0),
                  static_cast<ssize_t>(text.size()));
    }

    /// What has arrived; ends_ says whether that was the end.
    std::string hear() {
        std::string all;
        char buffer[65536];
        for (;;) {
            const auto got = ::recv(theirs_.get(), buffer, sizeof(buffer), 0);
            ends_ = got == 0;
            if (got <= 0)
                return all;
            all.append(buffer, static_cast<std::size_t>(got));
        }
    }

    static std::size_t count(const std::string &text, const std::string &part) {
        std::size_t found = 0;
        for (auto at = text.find(part); at != std::string::npos;
             at = text.find(part, at + 1))
            found++;
        return found;
    }

    tree tree_;
    const site pages_{tree_.root().string()};
    traffic traffic_;
    buffer_pool pool_{8};
    descriptor ours_;
    descriptor theirs_;
    connection talk_;
    bool ends_ = false;
};

TEST_F(Connection, AnswersAndWaits) {
    say(get_a);
    EXPECT_EQ(ready(false), next::wait);
    EXPECT_TRUE(hear().ends_with("\r\n\r\nhello"));
    EXPECT_TRUE(talk_.moved());
    EXPECT_FALSE(talk_.moved());
    EXPECT_EQ(traffic_.requests, 1u);
}

TEST_F(Connection, PutsPiecesTogether) {
    for (const char c : std::string(get_a)) {
        say(std::string(1, c));
        EXPECT_EQ(ready(false), next::wait);
    }
    EXPECT_TRUE(hear().ends_with("hello"));
}

TEST_F(Connection, HalfARequestIsNoProgress) {
    say("GET /a HT");
    EXPECT_EQ(ready(false), next::wait);
    EXPECT_FALSE(talk_.moved());
}

TEST_F(Connection, AnswersPipelinedRequestsInOrder) {
    std::string many;
    for (int i = 0; i < 20; i++)
        many += i % 2 ? get_a : "HEAD /none HTTP/1.1\r\nHost: h\r\n\r\n";
    say(many);
    auto what = ready(false);
    while (what == next::again)
        what = advance();
    EXPECT_EQ(what, next::wait);
    const auto heard = hear();
    EXPECT_EQ(count(heard, "HTTP/1.1 404"), 10u);
    EXPECT_EQ(count(heard, "hello"), 10u);
    EXPECT_LT(heard.find("404"), heard.find("hello"));
}

TEST_F(Connection, SendsNoBodyForHead) {
    say("HEAD /a HTTP/1.1\r\nHost: h\r\n\r\n");
    EXPECT_EQ(ready(false), next::wait);
    const auto heard = hear();
    EXPECT_NE(heard.find("Content-Length: 5\r\n"), std::string::npos);
    EXPECT_TRUE(heard.ends_with("\r\n\r\n"));
}

TEST_F(Connection, SendsALargeFileAsThePeerTakesIt) {
    say("GET /big HTTP/1.1\r\nHost: h\r\n\r\n");
    std::string heard;
    auto what = ready(false);
    bool blocked = false;
    for (int i = 0; i < 100000 && heard.size() < 3u << 20; i++) {
        blocked |= what == next::wait && talk_.sending();
        heard += hear();
        what = what == next::again ? advance() : ready(false);
    }
    EXPECT_TRUE(blocked);
    EXPECT_EQ(count(heard.substr(heard.find("\r\n\r\n") + 4), "b"), 3u << 20);
    EXPECT_EQ(what, next::wait);
}

TEST_F(Connection, ClosesWhenAsked) {
    say("GET /a HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    EXPECT_EQ(ready(false), next::close);
    EXPECT_NE(hear().find("Connection: close"), std::string::npos);
}

TEST_F(Connection, AnswersBeforeItHeedsTheEnd) {
    say(get_a);
    ::shutdown(theirs_.get(), SHUT_WR);
    EXPECT_EQ(ready(true), next::close);
    EXPECT_TRUE(hear().ends_with("hello"));
}

TEST_F(Connection, LingersAfterGarbage) {
    say("garbage\r\n\r\nmore");
    EXPECT_EQ(ready(false), next::linger);
    EXPECT_TRUE(hear().starts_with("HTTP/1.1 400"));
    EXPECT_TRUE(ends_);
    say("still more");
    EXPECT_EQ(ready(false), next::linger);
    theirs_.reset();
    EXPECT_EQ(ready(true), next::close);
}

TEST_F(Connection, LingersForABodyThatNobodyReads) {
    say("GET /a HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc");
    EXPECT_EQ(ready(false), next::linger);
    const auto heard = hear();
    EXPECT_TRUE(heard.ends_with("hello"));
    EXPECT_NE(heard.find("Connection: close"), std::string::npos);
}

TEST_F(Connection, LimitsTheHead) {
    say("GET / HTTP/1.1\r\nHost: h\r\nX: " + std::string(head_limit, 'x'));
    EXPECT_EQ(ready(false), next::linger);
    EXPECT_TRUE(hear().starts_with("HTTP/1.1 431"));
}

TEST_F(Connection, SaysThatARequestCameTooSlowly) {
    talk_.time_out();
    EXPECT_EQ(hear(), "");
    say("GET /a");
    EXPECT_EQ(ready(false), next::wait);
    talk_.time_out();
    EXPECT_TRUE(hear().starts_with("HTTP/1.1 408"));
}

TEST_F(Connection, WindsDown) {
    EXPECT_EQ(wind_down(), next::close);
}

TEST_F(Connection, AnswersWhatWasAskedWhenItWindsDown) {
    say(get_a);
    EXPECT_EQ(wind_down(), next::close);
    const auto heard = hear();
    EXPECT_TRUE(heard.ends_with("hello"));
    EXPECT_NE(heard.find("Connection: close"), std::string::npos);
}

TEST_F(Connection, FinishesAResponseWhenItWindsDown) {
    say("GET /big HTTP/1.1\r\nHost: h\r\n\r\n");
    auto what = ready(false);
    what = wind_down();
    std::string heard;
    for (int i = 0; i < 100000 && what != next::close; i++) {
        heard += hear();
        what = ready(false);
    }
    heard += hear();
    EXPECT_EQ(what, next::close);
    EXPECT_EQ(count(heard.substr(heard.find("\r\n\r\n") + 4), "b"), 3u << 20);
}

TEST_F(Connection, GivesUpOnAFileThatShrinks) {
    say("GET /big HTTP/1.1\r\nHost: h\r\n\r\n");
    auto what = ready(false);
    std::filesystem::resize_file(tree_.root() / "big", 100);
    for (int i = 0; i < 1000 && what != next::close; i++) {
        hear();
        what = ready(false);
    }
    EXPECT_EQ(what, next::close);
}

TEST_F(Connection, ReadsWhatIsCachedItself) {
    say("GET /big HTTP/1.1\r\nHost: h\r\n\r\n");
    EXPECT_EQ(talk_.ready(false), next::wait);
    EXPECT_EQ(talk_.awaits(), POLLOUT);
    EXPECT_FALSE(talk_.next_read());
}

TEST_F(Connection, WaitsForABuffer) {
    std::vector<buffer_pool::buffer> all;
    while (auto buffer = pool_.take())
        all.push_back(std::move(buffer));
    say(get_a);
    EXPECT_EQ(talk_.ready(false), next::wait);
    EXPECT_TRUE(talk_.file().starving());
    EXPECT_FALSE(talk_.next_read());
    all.clear();
    EXPECT_TRUE(talk_.next_read());
    EXPECT_EQ(talk_.filled(5), next::wait);
}

/// A file system in memory cannot tell whether a read would wait.
class ConnectionWithSlowFiles : public Connection {
protected:
    ConnectionWithSlowFiles() : Connection("/dev/shm", make_pair()) {}
};

TEST_F(ConnectionWithSlowFiles, WaitsForItsFile) {
    say(get_a);
    EXPECT_EQ(talk_.ready(false), next::wait);
    EXPECT_EQ(talk_.awaits(), 0);
    const auto wanted = talk_.next_read();
    ASSERT_TRUE(wanted);
    EXPECT_EQ(talk_.ready(false), next::wait);
    EXPECT_EQ(hear(), "");
    std::copy_n("olleh", 5, wanted->room.data());
    EXPECT_EQ(talk_.filled(5), next::wait);
    EXPECT_TRUE(hear().ends_with("\r\n\r\nolleh"));
    EXPECT_EQ(talk_.awaits(), POLLIN);
}

TEST_F(ConnectionWithSlowFiles, ReadsAheadOnlyWhatIsSlow) {
    say("GET /big HTTP/1.1\r\nHost: h\r\n\r\n");
    EXPECT_EQ(talk_.ready(false), next::wait);
    for (int i = 0; i < 100 && talk_.awaits() == 0; i++) {
        const auto wanted = talk_.next_read();
        ASSERT_TRUE(wanted);
        talk_.filled(static_cast<ssize_t>(wanted->room.size()));
    }
    EXPECT_EQ(talk_.awaits(), POLLOUT);
    EXPECT_TRUE(talk_.next_read());
}

TEST_F(ConnectionWithSlowFiles, ClosesWhenAReadFails) {
    say(get_a);
    EXPECT_EQ(talk_.ready(false), next::wait);
    ASSERT_TRUE(talk_.next_read());
    EXPECT_EQ(talk_.filled(-1), next::close);
}

} // namespace
} // namespace httpd
