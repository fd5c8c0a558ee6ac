// SPDX-License-Identifier: MIT
#include "pieces.hpp"

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <unistd.h>
#include <utility>

namespace cp {

pieces::pieces(std::uint64_t size, std::uint64_t step, std::uint64_t align,
               finder find)
    : size_(size),
      step_(step),
      align_(align),
      find_(std::move(find)) {
    if (!find_)
        data_ = {0, size};
}

void pieces::find() {
    const auto found = find_(at_);
    data_.begin = std::max(at_, rounded_down(found.begin, align_));
    data_.end = std::min(size_, rounded_up(found.end, align_));
    const auto begin = std::min(data_.begin, size_);
    holes_ += begin - at_;
    at_ = begin;
}

std::optional<extent> pieces::next() {
    if (at_ < size_ && at_ >= data_.end)
        find();
    if (at_ >= size_ || at_ >= data_.end)
        return std::nullopt;
    const auto begin = at_;
    at_ = std::min(data_.end, rounded_down(begin, step_) + step_);
    return extent{begin, at_};
}

pieces::finder data_of(int fd, std::uint64_t size) {
    return [fd, size](std::uint64_t from) -> extent {
        const auto begin = ::lseek(fd, static_cast<off_t>(from), SEEK_DATA);
        if (begin < 0 && errno == ENXIO)
            return {size, size};
        if (begin < 0 && (errno == EINVAL || errno == EOPNOTSUPP))
            return {from, size};
        const auto end = begin < 0 ? begin : ::lseek(fd, begin, SEEK_HOLE);
        if (end < 0)
            throw std::system_error(errno, std::generic_category());
        return {static_cast<std::uint64_t>(begin),
                static_cast<std::uint64_t>(end)};
    };
}

} // namespace cp
