// SPDX-License-Identifier: MIT
/// @file
/// A document tree that goes away with the test.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

namespace httpd {

class tree {
public:
    explicit tree(const std::filesystem::path &where =
                      std::filesystem::temp_directory_path()) {
        std::string name = (where / "httpd-XXXXXX").string();
        base_ = ::mkdtemp(name.data());
        std::filesystem::create_directory(root());
    }
    tree(const tree &) = delete;
    tree &operator=(const tree &) = delete;
    ~tree() { std::filesystem::remove_all(base_); }

    /// What is served; there is room for secrets beside it.
    [[nodiscard]] std::filesystem::path root() const { return base_ / "root"; }

    void write(const std::string &name, const std::string &text) const {
        const auto path = root() / name;
        std::filesystem::create_directories(path.parent_path());
        std::ofstream(path, std::ios::binary) << text;
    }

private:
    std::filesystem::path base_;
};

} // namespace httpd
