// SPDX-License-Identifier: MIT
#include "body.hpp"

#include <algorithm>
#include <sys/uio.h>
#include <utility>

namespace httpd {

ssize_t read_cached(const file_read &what) noexcept {
    const iovec room{what.room.data(), what.room.size()};
    return ::preadv2(what.file, &room, 1, static_cast<off_t>(what.offset),
                     RWF_NOWAIT);
}

void body::begin(descriptor file, extent part) noexcept {
    next_ = part.first;
    left_ = part.length;
    end_ = part.first + part.length;
    if (left_ != 0)
        file_ = std::move(file);
}

void body::sent(std::size_t bytes) noexcept {
    left_ -= bytes;
    front_.left = front_.left.subspan(bytes);
    if (front_.left.empty())
        front_ = reading() ? piece() : std::exchange(back_, {});
    if (left_ == 0)
        file_.reset();
}

/// To read ahead is worth a second buffer only if there are many.
std::optional<file_read> body::next_read() noexcept {
    if (reading() || back_.memory || next_ == end_ ||
        (front_.memory && !memory_->plenty()))
        return std::nullopt;
    back_.memory = memory_->take();
    if (!back_.memory)
        return std::nullopt;
    asked_ = std::min<std::uint64_t>(end_ - next_, buffer_pool::size);
    back_.left = {back_.memory.get(), asked_};
    return file_read{file_.get(), back_.left, next_};
}

/// A file that has become shorter ends early: nothing is made up.
bool body::filled(ssize_t result) noexcept {
    if (result <= 0) {
        put_back();
        return false;
    }
    asked_ = 0;
    const auto bytes = static_cast<std::size_t>(result);
    next_ += bytes;
    back_.left = back_.left.first(bytes);
    if (!front_.memory)
        front_ = std::exchange(back_, {});
    return true;
}

void body::put_back() noexcept {
    asked_ = 0;
    back_ = {};
}

void body::surrender() noexcept {
    front_ = {};
    back_ = {};
    next_ = end_ - left_;
}

void body::drop() noexcept {
    begin({}, {});
    surrender();
    file_.reset();
}

} // namespace httpd
