// SPDX-License-Identifier: MIT
/// @file
/// How a file is copied: in what pieces, and what is left out.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>

namespace cp {

/// Bytes of a file, from begin up to end.
struct extent {
    std::uint64_t begin;
    std::uint64_t end;
    bool operator==(const extent &) const = default;
};

constexpr std::uint64_t rounded_down(std::uint64_t at, std::uint64_t align) {
    return at - at % align;
}
constexpr std::uint64_t rounded_up(std::uint64_t at, std::uint64_t align) {
    return rounded_down(at + align - 1, align);
}

/// Deals out the data of a file, from its beginning, in pieces that end at
/// multiples of the step.  What lies between the data is never touched: it
/// stays a hole.  Used by one thread at a time.
class pieces {
public:
    /// Finds the first data at or after a position; {size, size}: no more.
    /// Throws what stands in its way.
    using finder = std::function<extent(std::uint64_t)>;

    pieces() = default;
    /// Without @p find all is data.  @p align: extents begin and end at its
    /// multiples, or at the end of the file.
    pieces(std::uint64_t size, std::uint64_t step, std::uint64_t align = 1,
           finder find = {});

    /// The next; nothing at the end.
    std::optional<extent> next();

    /// Bytes of holes passed so far.
    [[nodiscard]] std::uint64_t holes() const { return holes_; }

private:
    void find();

    std::uint64_t size_ = 0;
    std::uint64_t step_ = 1;
    std::uint64_t align_ = 1;
    finder find_;
    extent data_{0, 0};
    std::uint64_t at_ = 0;
    std::uint64_t holes_ = 0;
};

/// The finder of an open file: SEEK_DATA and SEEK_HOLE.  A file system that
/// knows no holes has none.
pieces::finder data_of(int fd, std::uint64_t size);

} // namespace cp
