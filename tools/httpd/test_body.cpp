// SPDX-License-Identifier: MIT
#include "body.hpp"
#include "test_support.hpp"

#include <algorithm>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <string>

namespace httpd {
namespace {

constexpr auto size = buffer_pool::size;

class Body : public ::testing::Test {
protected:
    Body() {
        for (std::size_t i = 0; text_.size() < 5 * size / 2; i++)
            text_ += std::to_string(i);
        tree_.write("file", text_);
    }

    [[nodiscard]] descriptor open() const {
        return descriptor(::open((tree_.root() / "file").c_str(), O_RDONLY));
    }

    void begin(body &sent) const { sent.begin(open(), {0, text_.size()}); }

    static ssize_t make(const file_read &what) {
        return ::pread(what.file, what.room.data(), what.room.size(),
                       static_cast<off_t>(what.offset));
    }

    /// Makes the next read; false: there is none.
    static bool read(body &sent) {
        const auto next = sent.next_read();
        EXPECT_TRUE(!next || sent.filled(make(*next)));
        return next.has_value();
    }

    /// Takes up to @p most bytes of what can be sent.
    static std::string take(body &from, std::size_t most = SIZE_MAX) {
        const auto ready = from.ready();
        std::string taken(ready.data(), std::min(most, ready.size()));
        from.sent(taken.size());
        return taken;
    }

    tree tree_;
    std::string text_;
    buffer_pool pool_{8};
    body sent_{pool_};
};

TEST_F(Body, PassesThroughInPieces) {
    for (const std::size_t most : {size_t{1000}, size_t{100'000}}) {
        begin(sent_);
        std::string got;
        while (!sent_.over()) {
            read(sent_);
            EXPECT_LE(pool_.used(), 2u);
            got += take(sent_, most);
        }
        EXPECT_TRUE(got == text_);
        EXPECT_EQ(pool_.used(), 0u);
        EXPECT_FALSE(sent_.next_read());
    }
}

TEST_F(Body, SendsAPart) {
    sent_.begin(open(), {size - 10, 20});
    EXPECT_TRUE(read(sent_));
    EXPECT_EQ(take(sent_), text_.substr(size - 10, 20));
    EXPECT_TRUE(sent_.over());
}

TEST_F(Body, AnEmptyPartIsOver) {
    sent_.begin(open(), {5, 0});
    EXPECT_TRUE(sent_.over());
    EXPECT_FALSE(sent_.starving());
    EXPECT_FALSE(sent_.next_read());
}

TEST_F(Body, ReadsOnePieceAhead) {
    begin(sent_);
    EXPECT_TRUE(sent_.starving());
    EXPECT_TRUE(read(sent_));
    EXPECT_FALSE(sent_.starving());
    const auto second = sent_.next_read();
    ASSERT_TRUE(second);
    EXPECT_FALSE(sent_.next_read());
    // The first is sent before the second has come.
    auto got = take(sent_);
    EXPECT_TRUE(sent_.ready().empty());
    EXPECT_FALSE(sent_.starving());
    EXPECT_TRUE(sent_.filled(make(*second)));
    got += take(sent_);
    EXPECT_TRUE(got == text_.substr(0, 2 * size));
}

TEST_F(Body, ReadsOnAfterAShortRead) {
    begin(sent_);
    const auto first = sent_.next_read();
    make(*first);
    EXPECT_TRUE(sent_.filled(100));
    EXPECT_EQ(take(sent_), text_.substr(0, 100));
    EXPECT_TRUE(read(sent_));
    EXPECT_EQ(take(sent_, 100), text_.substr(100, 100));
}

TEST_F(Body, FailsWithTheRead) {
    for (const ssize_t result : {0, -1}) {
        begin(sent_);
        sent_.next_read();
        EXPECT_FALSE(sent_.filled(result));
        EXPECT_FALSE(sent_.reading());
        sent_.drop();
        EXPECT_TRUE(sent_.over());
        EXPECT_EQ(pool_.used(), 0u);
    }
}

TEST_F(Body, AsksAgainForWhatWasPutBack) {
    begin(sent_);
    sent_.next_read();
    sent_.put_back();
    EXPECT_TRUE(sent_.starving());
    EXPECT_EQ(pool_.used(), 0u);
    EXPECT_TRUE(read(sent_));
    EXPECT_TRUE(take(sent_) == text_.substr(0, size));
}

TEST_F(Body, LosesNothingWhenItSurrenders) {
    begin(sent_);
    read(sent_);
    read(sent_);
    auto got = take(sent_, 100);
    EXPECT_TRUE(sent_.has_spare());
    sent_.surrender();
    EXPECT_EQ(pool_.used(), 0u);
    EXPECT_TRUE(sent_.starving());
    while (read(sent_) || !sent_.over())
        got += take(sent_);
    EXPECT_TRUE(got == text_);
}

TEST_F(Body, KeepsWhatIsBeingRead) {
    begin(sent_);
    read(sent_);
    sent_.next_read();
    EXPECT_FALSE(sent_.has_spare());
    sent_.put_back();
    EXPECT_TRUE(sent_.has_spare());
}

TEST_F(Body, DoesNotReadAheadWhenMemoryIsScarce) {
    buffer_pool few(2);
    body one(few), other(few), third(few);
    for (auto *each : {&one, &other, &third})
        begin(*each);
    EXPECT_TRUE(read(one));
    EXPECT_FALSE(read(one));
    EXPECT_TRUE(read(other));
    EXPECT_FALSE(read(third));
    EXPECT_TRUE(third.starving());
    one.drop();
    EXPECT_TRUE(read(third));
}

} // namespace
} // namespace httpd
