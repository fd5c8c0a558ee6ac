// SPDX-License-Identifier: MIT
#include "files.hpp"
#include "test_support.hpp"

#include <gtest/gtest.h>
#include <string>
#include <sys/stat.h>
#include <vector>

namespace httpd {
namespace {

class Site : public ::testing::Test {
protected:
    Site() {
        tree_.write("a.txt", "0123456789");
        tree_.write("empty", "");
        tree_.write("with/index.html", "<p>here");
        tree_.write("without/b c&.md", "x");
        tree_.write("without/.hidden", "x");
        tree_.write("../secret", "secret");
        std::filesystem::create_symlink("../secret", tree_.root() / "out");
        std::filesystem::create_symlink("/etc/passwd", tree_.root() / "abs");
        std::filesystem::create_symlink("a.txt", tree_.root() / "in");
        ::mkfifo((tree_.root() / "fifo").c_str(), 0666);
    }

    response get(std::string_view target) const {
        request what;
        what.target = target;
        return pages_.answer(what);
    }

    response get_range(std::string_view range,
                       std::string_view if_range = "") const {
        request what;
        what.target = "/a.txt";
        what.range = range;
        what.if_range = if_range;
        return pages_.answer(what);
    }

    static std::string body(const response &made) {
        if (!made.file)
            return made.text;
        std::string out(made.part.length, '\0');
        const auto got = ::pread(made.file.get(), out.data(), out.size(),
                                 static_cast<off_t>(made.part.first));
        EXPECT_EQ(got, static_cast<ssize_t>(out.size()));
        return out;
    }

    tree tree_;
    const site pages_{tree_.root().string()};
};

TEST_F(Site, ServesAFile) {
    const auto made = get("/a.txt");
    EXPECT_EQ(made.status, 200u);
    EXPECT_EQ(body(made), "0123456789");
    EXPECT_EQ(made.type, "text/plain; charset=utf-8");
    EXPECT_TRUE(made.modified);
    EXPECT_NE(made.fields.find("Accept-Ranges: bytes"), std::string::npos);
    EXPECT_EQ(body(get("/empty")), "");
}

TEST_F(Site, SaysWhatIsNotThere) {
    EXPECT_EQ(get("/nothing").status, 404u);
    EXPECT_EQ(get("/a.txt/").status, 404u);
    EXPECT_EQ(get("/" + std::string(3000, 'a')).status, 404u);
}

TEST_F(Site, NeverLeavesTheRoot) {
    for (const char *target :
         {"/../secret", "/%2e%2e/secret", "/with/../../secret", "/out", "/abs",
          "/..", "/with/..%2f..%2fsecret", "http://h/../secret"}) {
        const auto made = get(target);
        EXPECT_EQ(made.status, 403u) << target;
        EXPECT_EQ(body(made).find("secret"), std::string::npos) << target;
    }
    EXPECT_EQ(body(get("/in")), "0123456789");
    EXPECT_EQ(body(get("/with/../a.txt")), "0123456789");
}

TEST_F(Site, ServesNothingButFilesAndDirectories) {
    EXPECT_EQ(get("/fifo").status, 403u);
}

TEST_F(Site, RefusesMalformedTargets) {
    EXPECT_EQ(get("/%zz").status, 400u);
    EXPECT_EQ(get("*").status, 400u);
}

TEST_F(Site, PassesOnWhatTheParserSaid) {
    request what;
    what.status = 405;
    const auto made = pages_.answer(what);
    EXPECT_EQ(made.status, 405u);
    EXPECT_EQ(made.fields, "Allow: GET, HEAD\r\n");
}

TEST_F(Site, PrefersAnIndex) {
    const auto made = get("/with/");
    EXPECT_EQ(body(made), "<p>here");
    EXPECT_EQ(made.type, "text/html; charset=utf-8");
}

TEST_F(Site, ListsADirectory) {
    const auto text = body(get("/without/"));
    EXPECT_NE(text.find("<a href=\"./b%20c%26.md\">b c&amp;.md</a>"),
              std::string::npos)
        << text;
    EXPECT_NE(text.find("../"), std::string::npos);
    EXPECT_EQ(text.find("hidden"), std::string::npos);
    EXPECT_EQ(body(get("/")).find("../"), std::string::npos);
    EXPECT_NE(body(get("/")).find("without/"), std::string::npos);
}

TEST_F(Site, SendsDirectoriesToTheirSlash) {
    const auto made = get("/without");
    EXPECT_EQ(made.status, 301u);
    EXPECT_EQ(made.fields, "Location: /without/\r\n");
    EXPECT_EQ(get("//without").fields, "Location: /without/\r\n");
}

TEST_F(Site, AnswersRanges) {
    const auto made = get_range("bytes=2-4");
    EXPECT_EQ(made.status, 206u);
    EXPECT_EQ(body(made), "234");
    EXPECT_NE(made.fields.find("Content-Range: bytes 2-4/10\r\n"),
              std::string::npos);
    EXPECT_EQ(get_range("bytes=0-1,4-5").status, 200u);
    const auto beyond = get_range("bytes=10-");
    EXPECT_EQ(beyond.status, 416u);
    EXPECT_EQ(beyond.fields, "Content-Range: bytes */10\r\n");
}

TEST_F(Site, HeedsIfRange) {
    const auto date = http_date(*get("/a.txt").modified);
    EXPECT_EQ(get_range("bytes=2-4", date).status, 206u);
    EXPECT_EQ(get_range("bytes=2-4", http_date(1)).status, 200u);
    EXPECT_EQ(get_range("bytes=2-4", "\"tag\"").status, 200u);
}

TEST_F(Site, KnowsWhatHasNotChanged) {
    const auto modified = *get("/a.txt").modified;
    const auto status = [&](const std::string &since) {
        request what;
        what.target = "/a.txt";
        what.if_modified_since = since;
        return pages_.answer(what).status;
    };
    EXPECT_EQ(status(http_date(modified)), 304u);
    EXPECT_EQ(status(http_date(modified - 1)), 200u);
    EXPECT_EQ(status("rubbish"), 200u);
}

TEST(Types, ComeFromNames) {
    EXPECT_EQ(type_of("a.b/copyright"), "text/plain; charset=utf-8");
    EXPECT_EQ(type_of("a/changelog.gz"), "application/gzip");
    EXPECT_EQ(type_of("a.unknown"), "application/octet-stream");
}

} // namespace
} // namespace httpd
